//! What a policy says without looking at signatures, and until when any verdict stands. Shows R-TRUST: exceptions name an
//! owner and end, lists and digests are asked of the name alone, and nothing changes before it was said to.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of this crate is test code")]

mod support;

use std::time::Duration;

use berth_registry_core::{Digest, ImageReference};
use berth_trust::{Authority, Exception, Facts, Policy, Quorum, Requirement, Unmatched, Verdict};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;
use support::{about, facts, pen::Pen, requiring, signature};

const VULN: &str = "https://cosign.sigstore.dev/attestation/vuln/v1";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn image(text: &str) -> ImageReference {
    text.parse().unwrap()
}

fn subject() -> Digest {
    Digest::sha256(b"image")
}

fn exception(images: &[&str], owner: &str, expires: &str) -> Exception {
    let images = images.iter().map(|text| text.parse().unwrap()).collect();
    Exception { images, reason: "in a hurry".into(), owner: owner.into(), expires: at(expires) }
}

fn policy(unmatched: Unmatched, requirements: Vec<Requirement>, exceptions: Vec<Exception>) -> Policy {
    Policy::new(vec!["r.svc/team/**".parse().unwrap()], unmatched, requirements, exceptions).unwrap()
}

/// Facts about an image beside which there is nothing.
fn nothing(policy: &Policy) -> Facts {
    facts(policy, &about(&subject(), Vec::new()))
}

#[rstest]
#[case::listed("r.svc/team/app:v1", "Admitted")]
#[case::other_host("evil.io/team/app:v1", "NotListed")]
#[case::other_path("r.svc/app:v1", "NotListed")]
fn a_list_of_allowed_images(#[case] name: &str, #[case] reason: &str) {
    let policy = policy(Unmatched::Deny, Vec::new(), Vec::new());
    assert!(policy.applies_to(&image(name)));
    let settled = policy.settled(&image(name), None, at("2026-01-01T00:00:00Z")).unwrap();
    assert_eq!((settled.verdict.reason(), settled.until), (reason, None));
    assert_eq!(policy.verdict(&image(name), &nothing(&policy), at("2026-01-01T00:00:00Z")), settled);
}

#[rstest]
#[case("r.svc/team/app:v1", "NotNamedByDigest")]
#[case("r.svc/team/app", "NotNamedByDigest")]
#[case("r.svc/team/app@sha256:6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d", "Admitted")]
#[case(
    "r.svc/team/app:v1@sha256:6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d",
    "Admitted"
)]
fn an_image_named_by_digest(#[case] name: &str, #[case] reason: &str) {
    assert_eq!(subject().hex(), "6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d");
    let now = at("2026-01-01T00:00:00Z");
    let alone = policy(Unmatched::Allow, vec![Requirement::Digest], Vec::new());
    let verdict = alone.settled(&image(name), None, now).unwrap().verdict;
    assert_eq!(verdict.reason(), reason);
    // With other requirements it takes evidence, and all must hold.
    let both = policy(Unmatched::Allow, vec![Requirement::Digest, signature(1, &["p256"])], Vec::new());
    assert_eq!(both.settled(&image(name), None, now), None);
    let expected = if reason == "Admitted" { "Unsigned" } else { reason };
    assert_eq!(both.verdict(&image(name), &nothing(&both), now).verdict.reason(), expected);
}

/// CVE-2022-47633: facts about one digest say nothing about an image that names another.
#[test]
fn facts_are_about_their_digest() {
    let policy = policy(Unmatched::Allow, vec![signature(1, &["p256"])], Vec::new());
    let other = format!("r.svc/team/app:v1@{}", Digest::sha256(b"another"));
    let verdict = policy.verdict(&image(&other), &nothing(&policy), at("2026-01-01T00:00:00Z")).verdict;
    assert!(matches!(verdict, Verdict::CouldNotCheck { transient: true, .. }), "{verdict:?}");
}

#[test]
fn what_is_not_governed_is_let_alone() {
    let policy = policy(Unmatched::Allow, vec![signature(1, &["p256"])], Vec::new());
    let (other, now) = (image("other.svc/app:v1"), at("2026-01-01T00:00:00Z"));
    assert!(!policy.applies_to(&other));
    assert_eq!(policy.settled(&other, None, now).unwrap().verdict, Verdict::Admit { grounds: [].into() });
}

#[rstest]
#[case::matches(&["r.svc/team/**"], "2026-02-01T00:00:00Z", "Excepted", Some("2026-02-01T00:00:00Z"))]
#[case::by_digest(&["r.svc/team/app@sha256:6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d"], "2026-02-01T00:00:00Z", "Excepted", Some("2026-02-01T00:00:00Z"))]
#[case::other_digest(&["r.svc/team/app@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"], "2026-02-01T00:00:00Z", "Unsigned", None)]
#[case::other_name(&["r.svc/team/other"], "2026-02-01T00:00:00Z", "Unsigned", None)]
#[case::over(&["r.svc/team/**"], "2026-01-01T00:00:00Z", "Unsigned", None)]
fn exceptions(
    #[case] images: &[&str],
    #[case] expires: &str,
    #[case] reason: &str,
    #[case] until: Option<&str>,
) {
    let exceptions = vec![exception(images, "ops", expires)];
    let policy = policy(Unmatched::Allow, vec![signature(1, &["p256"])], exceptions);
    let (app, now) = (image("r.svc/team/app:v1"), at("2026-01-01T00:00:00Z"));
    let judgement = policy.verdict(&app, &nothing(&policy), now);
    assert_eq!((judgement.verdict.reason(), judgement.until), (reason, until.map(at)));
    // What is settled with the digest is what is found with the facts; without it, nothing is claimed that it could change.
    let settled = policy.settled(&app, Some(&subject()), now);
    assert_eq!(settled, (reason == "Excepted").then_some(judgement.clone()));
    let early = policy.settled(&app, None, now);
    assert!(early.is_none_or(|early| early == judgement));
    let words = judgement.verdict.explain(&app, Some(&subject()));
    match judgement.verdict {
        Verdict::Excepted { .. } => assert!(words.contains("ops") && words.contains("in a hurry"), "{words}"),
        _ => assert_eq!(
            words.contains("the exception of ops ended"),
            expires == "2026-01-01T00:00:00Z",
            "{words}"
        ),
    }
}

#[test]
fn the_exception_that_holds_longest_counts() {
    let all = ["**"];
    let exceptions = vec![
        exception(&all, "a", "2026-02-01T00:00:00Z"),
        exception(&all, "b", "2026-03-01T00:00:00Z"),
        exception(&all, "c", "2026-02-15T00:00:00Z"),
    ];
    for exceptions in [exceptions.clone(), exceptions.into_iter().rev().collect()] {
        let policy = policy(Unmatched::Allow, vec![signature(1, &["p256"])], exceptions);
        let settled = policy.settled(&image("r.svc/team/app"), None, at("2026-01-01T00:00:00Z")).unwrap();
        assert!(matches!(settled.verdict, Verdict::Excepted { owner, .. } if owner == "b"));
    }
}

/// An exception for one digest is found out only with the digest, also where the name alone would be denied.
#[test]
fn a_name_is_not_denied_while_its_digest_could_be_excepted() {
    let exact = format!("evil.io/app@{}", subject());
    let policy =
        policy(Unmatched::Deny, Vec::new(), vec![exception(&[&exact], "ops", "2026-02-01T00:00:00Z")]);
    let (app, now) = (image("evil.io/app:v1"), at("2026-01-01T00:00:00Z"));
    assert_eq!(policy.settled(&app, None, now), None);
    assert_eq!(policy.settled(&app, Some(&subject()), now).unwrap().verdict.reason(), "Excepted");
    let other = Digest::sha256(b"another");
    assert_eq!(policy.settled(&app, Some(&other), now).unwrap().verdict.reason(), "NotListed");
}

/// Age goes by the scanner's own word where nothing better is there; without any word it counts for nothing.
#[rstest]
#[case::fresh(json!({"metadata": {"scanFinishedOn": "2026-01-01T00:00:00Z"}}), "2026-01-07T23:59:59Z", "Admitted")]
#[case::too_old(json!({"metadata": {"scanFinishedOn": "2026-01-01T00:00:00Z"}}), "2026-01-08T00:00:00Z", "TooOld")]
#[case::future(json!({"metadata": {"scanFinishedOn": "2026-02-01T00:00:00Z"}}), "2026-01-08T00:00:00Z", "SignedInFuture")]
#[case::silent(json!({}), "2026-01-08T00:00:00Z", "NoSigningTime")]
#[case::nonsense(json!({"metadata": {"scanFinishedOn": "yesterday"}}), "2026-01-08T00:00:00Z", "NoSigningTime")]
fn attestations_grow_old(#[case] predicate: serde_json::Value, #[case] now: &str, #[case] reason: &str) {
    let pen = Pen::new(1);
    let quorum = Quorum::new(1, vec![pen.authority("scanner")], Some(Duration::from_hours(7 * 24))).unwrap();
    let policy =
        requiring(vec![Requirement::Attestation { predicate_type: VULN.into(), quorum, conditions: vec![] }]);
    let evidence = about(&subject(), vec![pen.attests(&subject(), VULN, &predicate)]);
    assert_eq!(support::judgement(&policy, &evidence, at(now)).verdict.reason(), reason);
}

/// Without a log nothing proves that a key signed before it was withdrawn.
#[test]
fn a_key_ends() {
    let (pen, end) = (Pen::new(1), at("2026-01-01T00:00:00Z"));
    let authority = Authority { valid_until: Some(end), ..pen.authority("old") };
    let policy = requiring(vec![Requirement::Signature(Quorum::new(1, vec![authority], None).unwrap())]);
    let evidence = about(&subject(), vec![pen.signs(&subject()), pen.signs_classic(&subject())]);
    let before = support::judgement(&policy, &evidence, end - SignedDuration::from_secs(1));
    assert_eq!((before.verdict.reason(), before.until), ("Admitted", Some(end)));
    let after = support::judgement(&policy, &evidence, end);
    assert_eq!((after.verdict.reason(), after.until), ("AuthorityEnded", None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Nothing changes before the instant that a judgement names, and words and findings neither.
    #[test]
    fn a_verdict_stands_until_it_says(
        ends in proptest::collection::vec(proptest::option::of(0_i64..40), 2),
        scans in proptest::collection::vec((0_u8..2, 0_i64..40), 0..3),
        exceptions in proptest::collection::vec(0_i64..40, 0..2),
        age in proptest::option::of(1_u64..20),
        now in 0_i64..40,
        later in 0_i64..40,
    ) {
        let start = at("2026-01-01T00:00:00Z");
        let day = |n: i64| start + SignedDuration::from_hours(24 * n);
        let authorities = ends.iter().zip(0_u8..).map(|(end, n)| {
            Authority { valid_until: end.map(day), ..Pen::new(n).authority(&n.to_string()) }
        });
        let max_age = age.map(|days| Duration::from_hours(24 * days));
        let quorum = Quorum::new(1, authorities.collect(), max_age).unwrap();
        let excepted = exceptions.iter().map(|end| exception(&["**"], "ops", &day(*end).to_string()));
        let policy = Policy::new(
            vec!["**".parse().unwrap()],
            Unmatched::Allow,
            vec![Requirement::Attestation { predicate_type: VULN.into(), quorum, conditions: vec![] }],
            excepted.collect(),
        ).unwrap();
        let beside = scans.iter().map(|(pen, made)| {
            let predicate = json!({"metadata": {"scanFinishedOn": day(*made).to_string()}});
            Pen::new(*pen).attests(&subject(), VULN, &predicate)
        });
        let facts = facts(&policy, &about(&subject(), beside.collect()));
        let judge = |now| policy.verdict(&support::image(), &facts, now);
        let judgement = judge(day(now));
        let end = judgement.until.unwrap_or(Timestamp::MAX);
        prop_assert!(end > day(now));
        for instant in [day(now + later), end - SignedDuration::from_nanos(1)] {
            if instant >= day(now) && instant < end {
                prop_assert_eq!(&judge(instant).verdict, &judgement.verdict);
            }
        }
    }
}
