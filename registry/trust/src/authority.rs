//! Authorities: whose word counts, until when, and how many of them have to give it. Counted are pairs of an authority
//! and a signer, each used once: two signatures by one key are one, and so are two names for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use berth_registry_core::Digest;
use jiff::Timestamp;

use crate::{
    anchor::{Anchor, AnchorId},
    bounds::clip,
    clock::Clock,
    facts::{Cause, Facts, Says, Signer, Statement},
    key::PublicKey,
    matcher::Matcher,
    notary::{Identities, NotaryStore, Validity},
    policy::InvalidPolicy,
    sigstore::{CertificateAuthorities, TrustRoot},
    verdict::{Finding, Ground, Way, What},
};

/// Somebody whose word counts.
#[derive(Clone, Debug)]
pub struct Authority {
    /// For messages; unique within the requirement.
    pub name: String,
    /// How it is recognised.
    pub by: By,
    /// From then on, only what was provably signed before counts.
    pub valid_until: Option<Timestamp>,
}

/// How an authority is recognised.
#[derive(Clone, Debug)]
pub enum By {
    /// By its key.
    Key {
        /// The key.
        key: PublicKey,
        /// The instance whose log or timestamp authority must prove when it signed, if any.
        log: Option<TrustRoot>,
    },
    /// By its identity, for which this trust root's certificates, logs and timestamps hold.
    Keyless {
        /// Certificate authorities and logs.
        root: TrustRoot,
        /// Who says who it is.
        issuer: Matcher,
        /// Who it is.
        subject: Matcher,
    },
    /// By its certificate.
    Certificate {
        /// Who issues such certificates.
        authorities: CertificateAuthorities,
        /// Whose they are.
        subject: Matcher,
        /// The instance whose log or timestamp authority must prove when it signed, if any.
        log: Option<TrustRoot>,
    },
    /// By its certificate in a Notary Project signature.
    Notary {
        /// The roots that issue such certificates.
        store: NotaryStore,
        /// Whose they are.
        identities: Identities,
    },
}

/// What tells signers apart: not who vouches for them, and never the signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Who<'a> {
    Key(&'a AnchorId),
    Identity { issuer: &'a str, subject: &'a str },
    Certificate { subject: &'a str },
}

impl Signer {
    fn who(&self) -> Who<'_> {
        match self {
            Self::Key(key) => Who::Key(key),
            Self::Identity { issuer, subject, .. } => Who::Identity { issuer, subject },
            Self::Certificate { subject, .. } | Self::Notary { subject, .. } => Who::Certificate { subject },
        }
    }
}

impl By {
    /// What statements have to be verified with for this authority.
    fn anchor(&self) -> Anchor {
        match self {
            Self::Key { key, .. } => Anchor::Key(key.clone()),
            Self::Keyless { root, .. } => Anchor::Sigstore(root.clone()),
            Self::Certificate { authorities, .. } => Anchor::Authorities(authorities.clone()),
            Self::Notary { store, .. } => Anchor::Notary(store.clone()),
        }
    }

    /// The instance that has to prove when it signed.
    fn log(&self) -> Option<Anchor> {
        match self {
            Self::Key { log, .. } | Self::Certificate { log, .. } => log.clone().map(Anchor::Sigstore),
            Self::Keyless { .. } | Self::Notary { .. } => None,
        }
    }

    /// Whether a signer that was verified with the anchor of this authority is this authority.
    fn recognises(&self, signer: &Signer) -> bool {
        match (self, signer) {
            (Self::Key { .. }, Signer::Key(_)) => true,
            (Self::Keyless { issuer, subject, .. }, Signer::Identity { issuer: by, subject: who, .. }) => {
                issuer.matches(by) && subject.matches(who)
            }
            (Self::Certificate { subject, .. }, Signer::Certificate { subject: who, .. }) => {
                subject.matches(who)
            }
            (Self::Notary { identities, .. }, Signer::Notary { subject, .. }) => identities.hold(subject),
            _ => false,
        }
    }

    /// The one signer that it can stand for, if there is but one.
    fn only(&self) -> Option<Who<'_>> {
        match self {
            Self::Key { key, .. } => Some(Who::Key(key.id())),
            Self::Keyless { issuer, subject, .. } => {
                Some(Who::Identity { issuer: issuer.only()?, subject: subject.only()? })
            }
            Self::Certificate { subject, .. } => Some(Who::Certificate { subject: subject.only()? }),
            Self::Notary { .. } => None,
        }
    }

    /// How such an authority signs.
    pub(crate) fn way(&self) -> Way {
        match self {
            Self::Key { .. } => Way::Key,
            Self::Keyless { .. } => Way::Keyless,
            Self::Certificate { .. } => Way::Certificate,
            Self::Notary { .. } => Way::Notation,
        }
    }
}

/// How far a signer's clock may be ahead of ours.
const SKEW: Duration = Duration::from_mins(5);

/// The shortest time that there is.
const INSTANT: Duration = Duration::from_nanos(1);

impl Authority {
    /// Whether a statement that it made, verified with its anchor, counts now. `log` is that of [`By::log`].
    fn accepts(
        &self,
        statement: &Statement,
        log: Option<&AnchorId>,
        max_age: Option<Duration>,
        clock: &Clock,
    ) -> Result<(), Finding> {
        let authority = self.name.clone();
        if let Some(end) = statement.expires.filter(|end| clock.reached(*end)) {
            return Err(Finding::Expired { authority, end });
        }
        let proven = statement.proven.get(log.unwrap_or(statement.by.anchor())).copied();
        if let (Some(log), None) = (log, proven) {
            let cause = statement.unproven.get(log).cloned().unwrap_or_default();
            return Err(Finding::NotProven { authority, cause });
        }
        if let (None, Some(Validity { from, until })) = (proven, statement.valid) {
            let end = until.saturating_add(INSTANT).unwrap_or(Timestamp::MAX);
            if !clock.reached(from) || clock.reached(end) {
                return Err(Finding::CertificateNotValid { authority, from, end });
            }
        }
        let ended = |end: &Timestamp| proven.is_none_or(|proven| proven >= *end) && clock.reached(*end);
        if let Some(end) = self.valid_until.filter(ended) {
            return Err(Finding::AuthorityEnded { authority, end });
        }
        let Some(max_age) = max_age else { return Ok(()) };
        let Some(signed) = proven.or(statement.claimed) else {
            return Err(Finding::NoSigningTime { authority });
        };
        let begin = signed.saturating_sub(SKEW).unwrap_or(Timestamp::MIN);
        if !clock.reached(begin) {
            return Err(Finding::SignedInFuture { authority, signed });
        }
        let end = signed.saturating_add(max_age).unwrap_or(Timestamp::MAX);
        if clock.reached(end) {
            return Err(Finding::TooOld { authority, signed, end });
        }
        Ok(())
    }
}

/// At least `threshold` of these authorities, each by a signer of its own.
#[derive(Clone, Debug)]
pub struct Quorum {
    threshold: usize,
    authorities: Vec<Authority>,
    /// Of each authority, its anchor and its log.
    anchors: Vec<(AnchorId, Option<AnchorId>)>,
    max_age: Option<Duration>,
}

/// What a statement by an authority means to a requirement.
pub(crate) enum Meaning {
    /// It is what was asked for.
    Wanted,
    /// It is something else, which is no reason to complain.
    Unrelated,
    /// It is something else, and may have been meant.
    Other(String),
    /// It speaks against the image. No other statement makes up for it.
    Forbids {
        /// What does not hold.
        condition: String,
        /// In which way.
        cause: String,
    },
}

/// What one signer has to say.
#[derive(Default)]
struct Heard<'a> {
    /// The authorities that it can stand for.
    able: BTreeSet<usize>,
    /// What it spoke about.
    about: BTreeSet<&'a Digest>,
}

/// Why a quorum is not met.
pub(crate) struct NoQuorum {
    pub(crate) findings: BTreeSet<Finding>,
    /// Whether more statements could help.
    pub(crate) forbidden: bool,
}

impl Quorum {
    /// `threshold` authorities that were heard no longer than `max_age` ago.
    pub fn new(
        threshold: usize,
        mut authorities: Vec<Authority>,
        max_age: Option<Duration>,
    ) -> Result<Self, InvalidPolicy> {
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
        let only = authorities.iter().map(|authority| authority.by.only());
        let several = only.clone().filter(Option::is_none).count();
        let signers = only.flatten().collect::<BTreeSet<_>>().len() + several;
        if threshold > signers {
            return Err(InvalidPolicy::ThresholdTooHigh { threshold, signers });
        }
        let ids = |by: &By| (by.anchor().id(), by.log().map(|log| log.id()));
        let anchors = authorities.iter().map(|authority| ids(&authority.by)).collect();
        Ok(Self { threshold, authorities, anchors, max_age })
    }

    pub(crate) fn anchors(&self) -> impl Iterator<Item = Anchor> {
        self.authorities.iter().flat_map(|Authority { by, .. }| [by.anchor()].into_iter().chain(by.log()))
    }

    pub(crate) fn authorities(&self) -> &[Authority] {
        &self.authorities
    }

    /// Who said what is wanted, or what was found instead.
    pub(crate) fn judge(
        &self,
        what: &What,
        facts: &Facts,
        clock: &Clock,
        meaning: impl Fn(&Says) -> Meaning,
    ) -> Result<BTreeSet<Ground>, NoQuorum> {
        let mut heard: BTreeMap<Who<'_>, Heard<'_>> = BTreeMap::new();
        let mut findings = BTreeSet::new();
        let mut forbidden = BTreeSet::new();
        let mut others: BTreeSet<_> = facts.places().collect();
        for statement in facts.statements() {
            let mut recognised = self.recognised(&statement.by).peekable();
            if recognised.peek().is_none() && self.trusts(statement.by.anchor()) {
                others.remove(&statement.at);
                findings.insert(Finding::OtherSigner { signer: clip(&statement.by.to_string()) });
            }
            for (index, authority, log) in recognised {
                others.remove(&statement.at);
                let accepted = authority.accepts(statement, log, self.max_age, clock);
                let (authority, what) = (authority.name.clone(), what.clone());
                match (meaning(&statement.says), accepted) {
                    (Meaning::Wanted, Ok(())) => {
                        let heard = heard.entry(statement.by.who()).or_default();
                        heard.able.insert(index);
                        heard.about.insert(&statement.about);
                    }
                    (Meaning::Forbids { condition, cause }, Ok(())) => {
                        forbidden.insert(Finding::ConditionNotMet { authority, what, condition, cause });
                    }
                    (Meaning::Wanted | Meaning::Forbids { .. }, Err(finding)) => {
                        findings.insert(finding);
                    }
                    (Meaning::Other(kind), _) => {
                        findings.insert(Finding::OtherStatement { authority, kind, what });
                    }
                    (Meaning::Unrelated, _) => {}
                }
            }
        }
        if !forbidden.is_empty() {
            return Err(NoQuorum { findings: forbidden, forbidden: true });
        }
        if distinct(&heard.values().map(|heard| &heard.able).collect::<Vec<_>>()) >= self.threshold {
            return Ok(heard.values().map(|heard| self.ground(what, heard, facts.subject())).collect());
        }
        for refusal in facts.refusals() {
            match &refusal.cause {
                Cause::OtherDigest { by, about } => {
                    for (_, authority, _) in self.recognised(by) {
                        others.remove(&refusal.at);
                        let (authority, digest) = (authority.name.clone(), about.clone());
                        findings.insert(Finding::OtherDigest { authority, digest });
                    }
                }
                Cause::Malformed { by, why } => {
                    if by.as_ref().is_none_or(|by| self.recognised(by).next().is_some()) {
                        others.remove(&refusal.at);
                        findings.insert(Finding::MalformedEvidence { cause: why.clone() });
                    }
                }
                Cause::Refused { by, why } => {
                    if self.trusts(by) {
                        others.remove(&refusal.at);
                        findings.insert(Finding::SignatureRefused { cause: why.clone() });
                    }
                }
                Cause::UnknownSigner => {}
            }
        }
        let all = (0..self.authorities.len()).collect();
        let able: BTreeSet<usize> = heard.values().flat_map(|heard| &heard.able).copied().collect();
        let signed: BTreeSet<_> = self.names(&able).map(str::to_owned).collect();
        let wanted: BTreeSet<_> = self.names(&(&all - &able)).map(str::to_owned).collect();
        let (what, threshold) = (what.clone(), self.threshold);
        if !others.is_empty() {
            let (count, what, wanted) = (others.len(), what.clone(), wanted.clone());
            findings.insert(Finding::UnknownSigner { count, what, wanted });
        }
        if !signed.is_empty() {
            findings.insert(Finding::ThresholdNotMet { what, threshold, signed, missing: wanted });
        } else if findings.is_empty() {
            findings.insert(Finding::Missing { what, wanted });
        }
        Err(NoQuorum { findings, forbidden: false })
    }

    fn ground(&self, what: &What, heard: &Heard<'_>, subject: &Digest) -> Ground {
        let by = self.names(&heard.able).collect::<Vec<_>>().join(" or ");
        let index = if heard.about.contains(subject) { None } else { heard.about.first().copied().cloned() };
        Ground::Stated { what: what.clone(), by, index }
    }

    /// Whether some authority's signers are verified with this anchor.
    fn trusts(&self, id: &AnchorId) -> bool {
        self.anchors.iter().any(|(anchor, _)| anchor == id)
    }

    /// The authorities that a signer can stand for: their number, themselves, their log.
    fn recognised(&self, signer: &Signer) -> impl Iterator<Item = (usize, &Authority, Option<&AnchorId>)> {
        let authorities = self.authorities.iter().zip(&self.anchors).enumerate();
        authorities
            .filter(|(_, (it, (anchor, _)))| anchor == signer.anchor() && it.by.recognises(signer))
            .map(|(index, (authority, (_, log)))| (index, authority, log.as_ref()))
    }

    fn names(&self, of: &BTreeSet<usize>) -> impl Iterator<Item = &str> {
        let authorities = self.authorities.iter().enumerate().filter(|(index, _)| of.contains(index));
        authorities.map(|(_, authority)| authority.name.as_str())
    }
}

/// How many authorities can be given a signer of their own, at most; `able` says for each signer which authorities it
/// can stand for. A maximum matching, by augmenting paths.
fn distinct(able: &[&BTreeSet<usize>]) -> usize {
    fn place(
        signer: usize,
        able: &[&BTreeSet<usize>],
        holders: &mut BTreeMap<usize, usize>,
        tried: &mut BTreeSet<usize>,
    ) -> bool {
        able.get(signer).is_some_and(|authorities| {
            authorities.iter().any(|authority| {
                let free = tried.insert(*authority)
                    && match holders.get(authority).copied() {
                        Some(holder) => place(holder, able, holders, tried),
                        None => true,
                    };
                if free {
                    holders.insert(*authority, signer);
                }
                free
            })
        })
    }
    let mut holders = BTreeMap::new();
    (0..able.len()).filter(|signer| place(*signer, able, &mut holders, &mut BTreeSet::new())).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// Each line: which authorities each signer can stand for.
    #[rstest]
    #[case("", 0)]
    #[case("a", 1)]
    #[case("abc", 1)]
    #[case("a a", 1)]
    #[case("ab a", 2)]
    #[case("a ab b", 2)]
    #[case("ab ac a", 3)]
    fn authorities_and_signers_count_in_pairs(#[case] able: &str, #[case] expected: usize) {
        let signers = able.split_whitespace();
        let able: Vec<BTreeSet<_>> = signers.map(|able| able.bytes().map(usize::from).collect()).collect();
        assert_eq!(distinct(&able.iter().collect::<Vec<_>>()), expected);
    }
}
