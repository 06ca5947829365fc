//! What holds for every policy and all evidence. Shows R-TRUST: no order matters, a verdict names what it rests on, what
//! is kept of the facts gives the same verdict, and nothing but an authority's own word admits an image.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of this crate is test code")]

mod support;

use std::{collections::BTreeSet, sync::LazyLock};

use berth_registry_core::Digest;
use berth_trust::{
    Artifact, Authority, Condition, Exception, Facts, Ground, Judgement, Policy, Quorum, Requirement,
    Unmatched, Verdict,
};
use jiff::{SignedDuration, Timestamp};
use proptest::{prelude::*, sample::subsequence};
use serde_json::json;
use support::{about, image, now, pen::Pen};

const REVIEW: &str = "https://example.com/review/v1";
const VULN: &str = "https://cosign.sigstore.dev/attestation/vuln/v1";

static APPROVED: LazyLock<Condition> = LazyLock::new(|| Condition::compile("predicate.approved").unwrap());

fn subject() -> Digest {
    Digest::sha256(b"image")
}

/// Something that lies beside an image.
#[derive(Clone, Copy, Debug)]
struct Beside {
    pen: u8,
    classic: bool,
    what: What,
    other_image: bool,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Signature,
    Review(bool),
    Scan(i8),
}

impl Beside {
    fn artifact(self) -> Artifact {
        let pen = Pen::new(self.pen);
        let subject = if self.other_image { Digest::sha256(b"another") } else { subject() };
        let (kind, predicate) = match self.what {
            What::Signature if self.classic => return pen.signs_classic(&subject),
            What::Signature => return pen.signs(&subject),
            What::Review(approved) => (REVIEW, json!({"approved": approved})),
            What::Scan(days) => (VULN, json!({"metadata": {"scanFinishedOn": day(days).to_string()}})),
        };
        if self.classic {
            pen.attests_classic(&subject, kind, &predicate)
        } else {
            pen.attests(&subject, kind, &predicate)
        }
    }
}

fn day(n: i8) -> Timestamp {
    now() + SignedDuration::from_hours(24 * i64::from(n))
}

fn beside() -> impl Strategy<Value = Beside> {
    let what = prop_oneof![
        3 => Just(What::Signature),
        2 => any::<bool>().prop_map(What::Review),
        1 => (-20_i8..20).prop_map(What::Scan),
    ];
    (1_u8..5, any::<bool>(), what, prop::bool::weighted(0.1))
        .prop_map(|(pen, classic, what, other_image)| Beside { pen, classic, what, other_image })
}

/// Who: a name and a key, sometimes with an end.
fn authorities() -> impl Strategy<Value = Vec<(u8, u8, Option<i8>)>> {
    let authority = (1_u8..5, proptest::option::weighted(0.2, -10_i8..10));
    subsequence(vec![0_u8, 1, 2, 3], 1..=3)
        .prop_flat_map(move |names| {
            let keys = proptest::collection::vec(authority.clone(), names.len());
            (Just(names), keys)
        })
        .prop_map(|(names, keys)| {
            names.into_iter().zip(keys).map(|(name, (key, end))| (name, key, end)).collect()
        })
}

fn requirement() -> impl Strategy<Value = Requirement> {
    (authorities(), 1_usize..3, 0_u8..4, proptest::option::weighted(0.3, 1_u64..20)).prop_filter_map(
        "it can be met",
        |(authorities, threshold, kind, age)| {
            let authorities = authorities.into_iter().map(|(name, key, end)| Authority {
                valid_until: end.map(day),
                ..Pen::new(key).authority(&format!("n{name}"))
            });
            let age = age.map(|days| std::time::Duration::from_hours(24 * days));
            let quorum = Quorum::new(threshold, authorities.collect(), age.filter(|_| kind == 3)).ok()?;
            Some(match kind {
                0 | 1 => Requirement::Signature(quorum),
                2 => Requirement::Attestation {
                    predicate_type: REVIEW.into(),
                    quorum,
                    conditions: vec![APPROVED.clone()],
                },
                _ => Requirement::Attestation { predicate_type: VULN.into(), quorum, conditions: vec![] },
            })
        },
    )
}

fn exception() -> impl Strategy<Value = Exception> {
    let images = prop_oneof![Just("r.svc/team/**"), Just("r.svc/other/**")];
    (images, "[a-c]", -3_i8..10).prop_map(|(images, owner, ends)| Exception {
        images: vec![images.parse().unwrap()],
        reason: "it burns".to_owned(),
        owner,
        expires: day(ends),
    })
}

fn policy(requirements: Vec<Requirement>, exceptions: Vec<Exception>) -> Policy {
    let images = vec!["r.svc/team/**".parse().unwrap(), "r.svc/lib".parse().unwrap()];
    Policy::new(images, Unmatched::Deny, requirements, exceptions).unwrap()
}

fn facts(policy: &Policy, beside: &[Beside]) -> Facts {
    support::facts(policy, &about(&subject(), beside.iter().map(|it| it.artifact()).collect()))
}

fn judge(policy: &Policy, beside: &[Beside]) -> Judgement {
    policy.verdict(&image(), &facts(policy, beside), now())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Neither the order of the evidence, nor that of requirements and exceptions, nor that in which it was stored.
    #[test]
    fn no_order_matters(
        beside in proptest::collection::vec(beside(), 0..6),
        requirements in proptest::collection::vec(requirement(), 1..3),
        exceptions in proptest::collection::vec(exception(), 0..3),
    ) {
        let one = judge(&policy(requirements.clone(), exceptions.clone()), &beside);
        let backward = |mut items: Vec<_>| { items.reverse(); items };
        let (mut requirements, mut exceptions) = (requirements, exceptions);
        requirements.reverse();
        exceptions.reverse();
        let other = judge(&policy(requirements, exceptions), &backward(beside));
        prop_assert_eq!(one, other);
    }

    /// What is kept with a decision gives the same verdict at any time, byte for byte, stored or not.
    #[test]
    fn what_is_kept_of_the_facts_suffices(
        beside in proptest::collection::vec(beside(), 0..6),
        requirements in proptest::collection::vec(requirement(), 1..3),
        later in 0_i8..20,
    ) {
        let policy = policy(requirements, Vec::new());
        let facts = facts(&policy, &beside);
        let kept: Facts = serde_json::from_str(&serde_json::to_string(&policy.relevant(&facts)).unwrap()).unwrap();
        for now in [now(), day(later)] {
            let [whole, kept] = [&facts, &kept].map(|facts| {
                let judgement = policy.verdict(&image(), facts, now);
                let words = judgement.verdict.explain(&image(), Some(facts.subject()));
                (serde_json::to_string(&judgement).unwrap(), words)
            });
            prop_assert_eq!(whole, kept);
        }
    }

    /// An image is admitted in the names of all who signed it and may, and denied naming all who said anything else.
    #[test]
    fn a_verdict_names_what_it_rests_on(
        beside in proptest::collection::vec(beside(), 0..6),
        may in subsequence(vec![1_u8, 2, 3, 4], 1..=3),
    ) {
        let authorities = may.iter().map(|pen| Pen::new(*pen).authority(&format!("n{pen}"))).collect();
        let policy = policy(vec![Requirement::Signature(Quorum::new(1, authorities, None).unwrap())], Vec::new());
        let verdict = judge(&policy, &beside).verdict;
        let theirs = || beside.iter().filter(|it| may.contains(&it.pen));
        let signed = theirs().filter(|it| matches!(it.what, What::Signature) && !it.other_image);
        let signed: BTreeSet<_> = signed.map(|it| format!("n{}", it.pen)).collect();
        let named: BTreeSet<_> = match &verdict {
            Verdict::Admit { grounds } => grounds.iter().map(|ground| match ground {
                Ground::Stated { by, .. } => by.clone(),
                Ground::NamedByDigest => panic!("{ground:?}"),
            }).collect(),
            _ => BTreeSet::new(),
        };
        prop_assert_eq!((verdict.is_admitted(), &named), (!signed.is_empty(), &signed));
        let words = verdict.explain(&image(), None);
        let told = theirs().all(|it| words.contains(&format!("n{}", it.pen)));
        prop_assert!(told || verdict.is_admitted());
    }

    /// More signatures never turn yes into no.
    #[test]
    fn signatures_are_never_too_many(
        beside in proptest::collection::vec(beside(), 0..6),
        more in beside(),
        authorities in authorities(),
    ) {
        let authorities = authorities.iter().map(|(name, key, _)| Pen::new(*key).authority(&format!("n{name}")));
        let quorum = Quorum::new(1, authorities.collect(), None).unwrap();
        let policy = policy(vec![Requirement::Signature(quorum)], Vec::new());
        let before = judge(&policy, &beside).verdict;
        let after = judge(&policy, &[beside, vec![more]].concat()).verdict;
        prop_assert!(!before.is_admitted() || after.is_admitted());
    }
}
