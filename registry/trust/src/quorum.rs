//! Quorums: how many authorities have to say a thing. Counted are pairs of an authority and a signer, each used once: two
//! signatures by one key are one, and so are two names for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use berth_registry_core::Digest;

use crate::{
    anchor::{Anchor, AnchorId},
    authority::{Authority, By, Who},
    bounds::clip,
    clock::Clock,
    facts::{Cause, Facts, Place, Says, Signer},
    policy::InvalidPolicy,
    verdict::{Finding, Ground, What},
};

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
        for (at, finding) in self.refusals(facts) {
            others.remove(at);
            findings.insert(finding);
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

    /// What was found and does not count, as far as it concerns these authorities.
    fn refusals<'a>(&self, facts: &'a Facts) -> impl Iterator<Item = (&'a Place, Finding)> {
        facts.refusals().flat_map(|refusal| {
            let findings: Vec<_> = match &refusal.cause {
                Cause::OtherDigest { by, about } => {
                    let of = |name: &str| Finding::OtherDigest {
                        authority: name.to_owned(),
                        digest: about.clone(),
                    };
                    self.recognised(by).map(|(_, authority, _)| of(&authority.name)).collect()
                }
                Cause::Malformed { by, why }
                    if by.as_ref().is_none_or(|by| self.recognised(by).next().is_some()) =>
                {
                    vec![Finding::MalformedEvidence { cause: why.clone() }]
                }
                Cause::Refused { by, why } if self.trusts(by) => {
                    vec![Finding::SignatureRefused { cause: why.clone() }]
                }
                Cause::Malformed { .. } | Cause::Refused { .. } | Cause::UnknownSigner => Vec::new(),
            };
            findings.into_iter().map(|finding| (&refusal.at, finding))
        })
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
