//! Policies: which images they speak about, what such an image must show, and who is excepted until when. A policy that
//! could never be met, or that asks for nothing, cannot be built.

use std::{collections::BTreeSet, str::FromStr};

use berth_registry_core::{
    Digest, ImageReference, Pattern, digest::InvalidDigest, pattern::InvalidPattern, policy::Unmatched,
};
use jiff::Timestamp;

use crate::{
    anchor::Anchors,
    bounds::clip,
    clock::Clock,
    condition::Condition,
    facts::{Facts, Says},
    quorum::{Meaning, Quorum},
    verdict::{Cure, Finding, Ground, Judgement, Verdict, Way, What},
};

/// A policy that makes no sense; the message says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    /// Nobody could sign.
    #[error("a requirement needs at least one authority")]
    NoAuthorities,
    /// Two authorities of one name.
    #[error("two authorities are named {0:?}: names must differ")]
    DuplicateAuthority(String),
    /// Nothing would be asked.
    #[error("threshold must be at least 1")]
    ZeroThreshold,
    /// Nothing could meet it.
    #[error("threshold {threshold} can never be met: the authorities stand for {signers} different signers")]
    ThresholdTooHigh {
        /// As asked.
        threshold: usize,
        /// Distinct signers.
        signers: usize,
    },
    /// The Notary Project has signatures only.
    #[error("the authority {0:?} signs with notation, which has no attestations: require its signature")]
    NotationAttests(String),
    /// A policy without requirements would admit everything while looking strict.
    #[error("a policy needs at least one requirement, or it must deny what it does not list")]
    NoRequirements,
}

/// Why a policy cannot judge facts: they were established without its anchors, or are about another digest.
pub const FACTS_OUTDATED: &str = "FactsOutdated";

/// One thing that an image must show.
#[derive(Clone, Debug)]
pub enum Requirement {
    /// It is signed.
    Signature(Quorum),
    /// Something is attested about it.
    Attestation {
        /// What kind of thing; compared with what was signed, never with an annotation.
        predicate_type: String,
        /// By whom.
        quorum: Quorum,
        /// What must hold of it; one that does not forbids the image, whatever else is attested.
        conditions: Vec<Condition>,
    },
    /// The object names it by digest.
    Digest,
}

/// Images by name, optionally down to one digest: `host/repo/**` or `host/repo@sha256:…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagePattern {
    name: Pattern,
    digest: Option<Digest>,
}

/// A text that is no [`ImagePattern`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidImagePattern {
    /// The part before the `@`.
    #[error(transparent)]
    Name(#[from] InvalidPattern),
    /// The part after it.
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
}

impl FromStr for ImagePattern {
    type Err = InvalidImagePattern;

    fn from_str(text: &str) -> Result<Self, InvalidImagePattern> {
        let (name, digest) = text.split_once('@').map_or((text, None), |(name, digest)| (name, Some(digest)));
        Ok(Self { name: name.parse()?, digest: digest.map(str::parse).transpose()? })
    }
}

/// Somebody answers for some images, until a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Which images.
    pub images: Vec<ImagePattern>,
    /// Why.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// From then on it is no more.
    pub expires: Timestamp,
}

/// A policy over images. How strictly its verdict is applied is not its business.
#[derive(Clone, Debug)]
pub struct Policy {
    images: Vec<Pattern>,
    unmatched: Unmatched,
    requirements: Vec<Requirement>,
    exceptions: Vec<Exception>,
    anchors: Anchors,
}

impl Policy {
    /// A policy for images whose `host/repository` matches one of `images` (none: no image); all requirements must hold.
    pub fn new(
        images: Vec<Pattern>,
        unmatched: Unmatched,
        requirements: Vec<Requirement>,
        exceptions: Vec<Exception>,
    ) -> Result<Self, InvalidPolicy> {
        if requirements.is_empty() && unmatched == Unmatched::Allow {
            return Err(InvalidPolicy::NoRequirements);
        }
        let attests = requirements.iter().filter_map(|requirement| match requirement {
            Requirement::Attestation { quorum, .. } => Some(quorum.authorities()),
            Requirement::Signature(_) | Requirement::Digest => None,
        });
        if let Some(authority) = attests.flatten().find(|authority| authority.by.way() == Way::Notation) {
            return Err(InvalidPolicy::NotationAttests(authority.name.clone()));
        }
        let quorums = requirements.iter().filter_map(|requirement| match requirement {
            Requirement::Signature(quorum) | Requirement::Attestation { quorum, .. } => Some(quorum),
            Requirement::Digest => None,
        });
        let anchors = quorums.flat_map(Quorum::anchors).collect();
        Ok(Self { images, unmatched, requirements, exceptions, anchors })
    }

    /// Whether this policy speaks about an image; by its normalised name, never by tag or spelling.
    pub fn applies_to(&self, image: &ImageReference) -> bool {
        self.unmatched == Unmatched::Deny || self.lists(&image.name())
    }

    fn lists(&self, name: &str) -> bool {
        self.images.iter().any(|pattern| pattern.matches(name))
    }

    /// Every anchor that facts must be established with for this policy.
    pub fn anchors(&self) -> &Anchors {
        &self.anchors
    }

    /// The judgement, if it takes no evidence: an exception holds, the image is not listed, or nothing is asked of it
    /// but its name. `digest` is what the image's tag was resolved to, if that is known.
    pub fn settled(
        &self,
        image: &ImageReference,
        digest: Option<&Digest>,
        now: Timestamp,
    ) -> Option<Judgement> {
        let clock = Clock::at(now);
        let digest = image.digest.as_ref().or(digest);
        let verdict = self.without_evidence(image, digest, &clock)?;
        Some(Judgement { verdict, until: clock.next() })
    }

    /// The verdict on an image, as the object names it, whose digest the facts are about.
    pub fn verdict(&self, image: &ImageReference, facts: &Facts, now: Timestamp) -> Judgement {
        let clock = Clock::at(now);
        let verdict = if image.digest.as_ref().is_some_and(|digest| digest != facts.subject()) {
            Verdict::could_not_check(FACTS_OUTDATED, "what is known is about another digest", true)
        } else if let Some(verdict) = self.without_evidence(image, Some(facts.subject()), &clock) {
            verdict
        } else if facts.covers(&self.anchors) {
            self.judge(image, Some(facts.subject()), Some(facts), &clock)
        } else {
            let message = "the evidence was not looked at with the keys of this policy yet";
            Verdict::could_not_check(FACTS_OUTDATED, message, true)
        };
        Judgement { verdict, until: clock.next() }
    }

    /// The part of the facts that this policy's verdicts rest on, small enough to be kept with a decision: the same
    /// verdicts, without the predicates that no condition reads.
    pub fn relevant(&self, facts: &Facts) -> Facts {
        let read = |says: &Says| {
            let Says::Attestation { predicate_type: kind, .. } = says else { return true };
            self.requirements.iter().any(|requirement| {
                matches!(requirement, Requirement::Attestation { predicate_type, conditions, .. }
                    if predicate_type == kind && !conditions.is_empty())
            })
        };
        facts.with_predicates(&self.anchors, read)
    }

    fn without_evidence(
        &self,
        image: &ImageReference,
        digest: Option<&Digest>,
        clock: &Clock,
    ) -> Option<Verdict> {
        let name = image.name();
        let listed = self.lists(&name);
        if !listed && self.unmatched == Unmatched::Allow {
            return Some(Verdict::Admit { grounds: BTreeSet::new() });
        }
        let live = self.exceptions(&name, digest).filter(|exception| !clock.reached(exception.expires));
        let longest = live.max_by_key(|it| (it.expires, it.owner.as_str(), it.reason.as_str()));
        if let Some(Exception { reason, owner, expires, .. }) = longest.cloned() {
            return Some(Verdict::Excepted { reason, owner, expires });
        }
        let by_digest = |pattern: &ImagePattern| pattern.digest.is_some() && pattern.name.matches(&name);
        if digest.is_none() && self.exceptions.iter().flat_map(|it| &it.images).any(by_digest) {
            return None;
        }
        if !listed {
            let (finding, cure) = (Finding::NotListed { images: self.shown_images() }, Cure::UseListed);
            return Some(self.deny(&name, digest, clock, [finding].into(), [cure].into()));
        }
        let by_name = self.requirements.iter().all(|requirement| matches!(requirement, Requirement::Digest));
        by_name.then(|| self.judge(image, digest, None, clock))
    }

    fn judge(
        &self,
        image: &ImageReference,
        digest: Option<&Digest>,
        facts: Option<&Facts>,
        clock: &Clock,
    ) -> Verdict {
        let (mut grounds, mut findings, mut cures) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for requirement in &self.requirements {
            let (what, quorum, conditions) = match requirement {
                Requirement::Digest if image.digest.is_some() => {
                    grounds.insert(Ground::NamedByDigest);
                    continue;
                }
                Requirement::Digest => {
                    findings.insert(Finding::NotNamedByDigest);
                    cures.insert(Cure::Pin);
                    continue;
                }
                Requirement::Signature(quorum) => (What::Signature, quorum, [].as_slice()),
                Requirement::Attestation { predicate_type, quorum, conditions } => {
                    (What::Attestation(predicate_type.clone()), quorum, conditions.as_slice())
                }
            };
            let Some(facts) = facts else {
                return Verdict::could_not_check("NoEvidence", "no evidence was looked at", true);
            };
            match quorum.judge(&what, facts, clock, |says| meaning(&what, conditions, says)) {
                Ok(by) => grounds.extend(by),
                Err(missing) => {
                    findings.extend(missing.findings);
                    if missing.forbidden {
                        cures.insert(Cure::Rebuild);
                    } else {
                        let ways = quorum.authorities().iter().map(|authority| authority.by.way());
                        cures.extend(ways.map(|way| Cure::state(&what, way)));
                    }
                }
            }
        }
        if findings.is_empty() {
            Verdict::Admit { grounds }
        } else {
            self.deny(&image.name(), digest, clock, findings, cures)
        }
    }

    /// A denial also says which exceptions are over, for somebody counted on them.
    fn deny(
        &self,
        name: &str,
        digest: Option<&Digest>,
        clock: &Clock,
        mut findings: BTreeSet<Finding>,
        cures: BTreeSet<Cure>,
    ) -> Verdict {
        let over = self.exceptions(name, digest).filter(|exception| clock.reached(exception.expires));
        findings.extend(over.map(|exception| Finding::ExceptionExpired {
            owner: exception.owner.clone(),
            expired: exception.expires,
        }));
        Verdict::Deny { findings, cures }
    }

    /// The exceptions for an image, whether they still hold or not.
    fn exceptions(&self, name: &str, digest: Option<&Digest>) -> impl Iterator<Item = &Exception> {
        self.exceptions.iter().filter(move |exception| {
            exception.images.iter().any(|pattern| {
                pattern.name.matches(name)
                    && pattern.digest.as_ref().is_none_or(|wanted| Some(wanted) == digest)
            })
        })
    }

    fn shown_images(&self) -> BTreeSet<String> {
        self.images.iter().map(ToString::to_string).collect()
    }
}

/// What a statement means to a requirement.
fn meaning(what: &What, conditions: &[Condition], says: &Says) -> Meaning {
    match (what, says) {
        (What::Signature, Says::Signature) => Meaning::Wanted,
        (What::Attestation(_), Says::Signature) => Meaning::Unrelated,
        (What::Attestation(wanted), Says::Attestation { predicate_type, predicate })
            if wanted == predicate_type =>
        {
            let failed = conditions.iter().find_map(|condition| {
                let cause =
                    condition.holds(predicate_type, predicate).map(|holds| (!holds).then(String::new));
                let cause = cause.unwrap_or_else(|why| Some(format!(" ({why})")))?;
                Some(Meaning::Forbids { condition: condition.as_str().to_owned(), cause })
            });
            failed.unwrap_or(Meaning::Wanted)
        }
        (_, Says::Attestation { predicate_type, .. }) => Meaning::Other(clip(predicate_type)),
    }
}
