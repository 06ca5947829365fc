//! Authorities: whose word counts, until when, and how many of them have to give it. Counted are pairs of an authority
//! and a signer, each used once: two signatures by one key are one, and so are two names for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    anchor::{Anchor, AnchorId},
    clock::Clock,
    facts::{Cause, Facts, Says, Signer, Statement},
    key::PublicKey,
    policy::InvalidPolicy,
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
    Key(PublicKey),
}

/// What tells signers apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Who<'a> {
    Key(&'a AnchorId),
}

impl Signer {
    fn who(&self) -> Who<'_> {
        match self {
            Self::Key(key) => Who::Key(key),
        }
    }
}

impl By {
    /// What statements have to be verified with for this authority.
    pub(crate) fn anchors(&self) -> impl Iterator<Item = Anchor> {
        match self {
            Self::Key(key) => [Anchor::Key(key.clone())].into_iter(),
        }
    }

    fn recognises(&self, signer: &Signer) -> bool {
        match (self, signer) {
            (Self::Key(key), Signer::Key(id)) => key.id() == id,
        }
    }

    /// The one signer that it can stand for, if there is but one.
    fn only(&self) -> Option<Who<'_>> {
        match self {
            Self::Key(key) => Some(Who::Key(key.id())),
        }
    }

    /// How such an authority signs.
    fn way(&self) -> Way {
        match self {
            Self::Key(_) => Way::Key,
        }
    }
}

/// How far a signer's clock may be ahead of ours.
const SKEW: Duration = Duration::from_secs(5 * 60);

impl Authority {
    /// Whether a statement that it made counts now.
    fn accepts(
        &self,
        statement: &Statement,
        max_age: Option<Duration>,
        clock: &Clock,
    ) -> Result<(), Finding> {
        let authority = self.name.clone();
        if let Some(end) = self.valid_until.filter(|end| clock.reached(*end)) {
            return Err(Finding::AuthorityEnded { authority, end });
        }
        let Some(max_age) = max_age else { return Ok(()) };
        let Some(signed) = statement.claimed else { return Err(Finding::NoSigningTime { authority }) };
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
        Ok(Self { threshold, authorities, max_age })
    }

    pub(crate) fn anchors(&self) -> impl Iterator<Item = Anchor> {
        self.authorities.iter().flat_map(|authority| authority.by.anchors())
    }

    pub(crate) fn ways(&self) -> BTreeSet<Way> {
        self.authorities.iter().map(|authority| authority.by.way()).collect()
    }

    /// Who said what is wanted, or what was found instead.
    pub(crate) fn judge(
        &self,
        what: &What,
        facts: &Facts,
        clock: &Clock,
        meaning: impl Fn(&Says) -> Meaning,
    ) -> Result<BTreeSet<Ground>, NoQuorum> {
        let mut able: BTreeMap<Who<'_>, BTreeSet<usize>> = BTreeMap::new();
        let mut findings = BTreeSet::new();
        let mut forbidden = BTreeSet::new();
        let mut others: BTreeSet<_> = facts.places().collect();
        for statement in facts.statements() {
            let recognised = self.recognised(&statement.by);
            for (index, authority) in recognised {
                others.remove(&statement.at);
                let accepted = authority.accepts(statement, self.max_age, clock);
                let (authority, what) = (authority.name.clone(), what.clone());
                match (meaning(&statement.says), accepted) {
                    (Meaning::Wanted, Ok(())) => {
                        able.entry(statement.by.who()).or_default().insert(index);
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
        if distinct(&able.values().collect::<Vec<_>>()) >= self.threshold {
            let name = |able: &BTreeSet<usize>| self.names(able).collect::<Vec<_>>().join(" or ");
            return Ok(able
                .values()
                .map(|able| Ground::Stated { what: what.clone(), by: name(able) })
                .collect());
        }
        for refusal in facts.refusals() {
            match &refusal.cause {
                Cause::OtherDigest { by, about } => {
                    for (_, authority) in self.recognised(by) {
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
                Cause::UnknownSigner => {}
            }
        }
        let all = (0..self.authorities.len()).collect();
        let heard: BTreeSet<usize> = able.values().flatten().copied().collect();
        let signed: BTreeSet<_> = self.names(&heard).map(str::to_owned).collect();
        let wanted: BTreeSet<_> = self.names(&(&all - &heard)).map(str::to_owned).collect();
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

    fn recognised(&self, signer: &Signer) -> impl Iterator<Item = (usize, &Authority)> {
        self.authorities.iter().enumerate().filter(|(_, authority)| authority.by.recognises(signer))
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
