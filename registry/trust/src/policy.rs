//! Policies: which images they speak about, and whose signatures they want. A policy that could never be met, or that
//! counts a key twice, cannot be built.

use std::collections::{BTreeMap, BTreeSet};

use berth_registry_core::{ImageReference, Pattern};

use crate::{
    facts::{Facts, Outcome},
    key::{KeyId, PublicKey},
    verdict::{Finding, Verdict},
};

/// Somebody whose signature counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// For messages; unique within the requirement.
    pub name: String,
    /// How the signature is recognised.
    pub key: PublicKey,
}

/// At least `threshold` different keys of these authorities have signed the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureRequirement {
    threshold: usize,
    authorities: Vec<Authority>,
}

/// A requirement that makes no sense; the message says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    /// Nobody could sign.
    #[error("a signature requirement needs at least one authority")]
    NoAuthorities,
    /// Two authorities of one name.
    #[error("two authorities are named {0:?}: names must differ")]
    DuplicateAuthority(String),
    /// Nothing would be asked.
    #[error("threshold must be at least 1")]
    ZeroThreshold,
    /// Nothing could meet it.
    #[error("threshold {threshold} can never be met: the authorities have {keys} different keys")]
    ThresholdTooHigh {
        /// As asked.
        threshold: usize,
        /// Distinct keys.
        keys: usize,
    },
    /// A policy without requirements would admit everything while looking strict.
    #[error("a policy needs at least one requirement")]
    NoRequirements,
}

impl SignatureRequirement {
    /// A requirement of `threshold` different keys.
    pub fn new(threshold: usize, mut authorities: Vec<Authority>) -> Result<Self, InvalidPolicy> {
        if authorities.is_empty() {
            return Err(InvalidPolicy::NoAuthorities);
        }
        if threshold == 0 {
            return Err(InvalidPolicy::ZeroThreshold);
        }
        authorities.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some([twice, _]) = authorities.array_windows().find(|[a, b]| a.name == b.name) {
            return Err(InvalidPolicy::DuplicateAuthority(twice.name.clone()));
        }
        let keys = crate::key::ids(authorities.iter().map(|authority| &authority.key)).len();
        if threshold > keys {
            return Err(InvalidPolicy::ThresholdTooHigh { threshold, keys });
        }
        Ok(Self { threshold, authorities })
    }

    /// Who signed, or what was found instead.
    fn judge(&self, facts: &Facts) -> Result<BTreeSet<String>, BTreeSet<Finding>> {
        // Two authorities with the same key are one signer with two names.
        let mut names: BTreeMap<&KeyId, Vec<&str>> = BTreeMap::new();
        for Authority { name, key } in &self.authorities {
            names.entry(key.id()).or_default().push(name);
        }
        let signers = facts.signers();
        let joined = |names: &[&str]| names.join(" or ");
        let (signed, missing): (Vec<_>, Vec<_>) = names.iter().partition(|(id, _)| signers.contains(**id));
        let signed: BTreeSet<String> = signed.into_iter().map(|(_, names)| joined(names)).collect();
        let missing: BTreeSet<String> = missing.into_iter().map(|(_, names)| joined(names)).collect();
        if signed.len() >= self.threshold {
            return Ok(signed);
        }
        let mut findings = BTreeSet::new();
        let mut others = 0;
        for signature in facts.signatures() {
            match &signature.outcome {
                Outcome::Good(key) if names.contains_key(key) => {}
                Outcome::OtherDigest(key, digest) => {
                    if let Some(names) = names.get(key) {
                        let (authority, digest) = (joined(names), digest.clone());
                        findings.insert(Finding::SignatureForOtherDigest { authority, digest });
                    } else {
                        others += 1;
                    }
                }
                Outcome::NotASignature(key, kind) => {
                    if let Some(names) = names.get(key) {
                        let (authority, kind) = (joined(names), kind.clone());
                        findings.insert(Finding::NotASignature { authority, kind });
                    } else {
                        others += 1;
                    }
                }
                Outcome::Malformed(cause) => {
                    findings.insert(Finding::MalformedEvidence { cause: cause.clone() });
                }
                Outcome::Good(_) | Outcome::UnknownKey => others += 1,
            }
        }
        if others > 0 {
            findings.insert(Finding::SignedByOtherKey { count: others, wanted: missing.clone() });
        }
        if !signed.is_empty() {
            let threshold = self.threshold;
            findings.insert(Finding::ThresholdNotMet { threshold, signed, missing });
        } else if findings.is_empty() {
            findings.insert(Finding::Unsigned { wanted: missing });
        }
        Err(findings)
    }
}

/// A policy over images. How strictly its verdict is applied is not its business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    images: Vec<Pattern>,
    requirements: Vec<SignatureRequirement>,
}

impl Policy {
    /// A policy for images whose `host/repository` matches one of `images` (none: no image); all requirements must hold.
    pub fn new(images: Vec<Pattern>, requirements: Vec<SignatureRequirement>) -> Result<Self, InvalidPolicy> {
        if requirements.is_empty() {
            Err(InvalidPolicy::NoRequirements)
        } else {
            Ok(Self { images, requirements })
        }
    }

    /// Whether this policy speaks about an image; by its normalised name, never by tag or spelling.
    pub fn applies_to(&self, image: &ImageReference) -> bool {
        let name = image.name();
        self.images.iter().any(|pattern| pattern.matches(&name))
    }

    /// Every key that facts must be established with for this policy.
    pub fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.requirements
            .iter()
            .flat_map(|requirement| &requirement.authorities)
            .map(|authority| &authority.key)
    }

    /// The verdict on the digest that the facts are about.
    pub fn verdict(&self, facts: &Facts) -> Verdict {
        if !facts.covers(self.keys()) {
            return Verdict::CouldNotCheck {
                reason: "FactsOutdated".to_owned(),
                message: "the signatures were not checked with the keys of this policy yet".to_owned(),
            };
        }
        let mut signed_by = BTreeSet::new();
        let mut findings = BTreeSet::new();
        for requirement in &self.requirements {
            match requirement.judge(facts) {
                Ok(names) => signed_by.extend(names),
                Err(found) => findings.extend(found),
            }
        }
        if findings.is_empty() { Verdict::Admit { signed_by } } else { Verdict::Deny { findings } }
    }
}
