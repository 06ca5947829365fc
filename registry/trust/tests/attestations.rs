//! Attestations: by whom, of which type, under which conditions. Shows R-TRUST: only what was signed says what it is, and
//! what a trusted signer says against an image is not undone by anything that is laid beside it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of this crate is test code")]

mod support;

use berth_registry_core::Digest;
use berth_trust::{Condition, Policy, Requirement};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};
use support::{
    about, evidence, findings, judge,
    pen::{Pen, SIGNATURE, artifact, statement},
    quorum, requiring, signature,
};

const REVIEW: &str = "https://example.com/review/v1";
const VULN: &str = "https://cosign.sigstore.dev/attestation/vuln/v1";

fn attestation(kind: &str, authorities: &[&str], conditions: &[&str]) -> Requirement {
    let conditions = conditions.iter().map(|text| Condition::compile(text).unwrap()).collect();
    Requirement::Attestation { predicate_type: kind.to_owned(), quorum: quorum(1, authorities), conditions }
}

fn by(pens: &[&Pen], threshold: usize, conditions: &[&str]) -> Policy {
    let named = pens.iter().zip('a'..).map(|(pen, name)| pen.authority(&name.to_string())).collect();
    let quorum = berth_trust::Quorum::new(threshold, named, None).unwrap();
    let conditions = conditions.iter().map(|text| Condition::compile(text).unwrap()).collect();
    requiring(vec![Requirement::Attestation { predicate_type: REVIEW.to_owned(), quorum, conditions }])
}

#[rstest]
#[case("attested", REVIEW, &["p256"], &[], "Admitted")]
#[case("attested", REVIEW, &["other"], &[], "UnknownSigner")]
#[case("attested", VULN, &["p256"], &[], "OtherPredicateType")]
#[case("attested-classic", REVIEW, &["p256"], &["predicate.approved", "predicateType.contains('review')"], "Admitted")]
#[case("attested-classic", REVIEW, &["p256"], &["!predicate.approved"], "ConditionNotMet")]
#[case("attested-classic", REVIEW, &["p256"], &["predicate.missing == 1"], "ConditionNotMet")]
#[case("attested-classic", REVIEW, &["other"], &[], "UnknownSigner")]
#[case("attested-classic", VULN, &["other"], &["predicate.scanner.result.all(r, r.severity != 'CRITICAL')"], "Admitted")]
#[case("attested-classic", VULN, &["other"], &["size(predicate.scanner.result) == 0"], "ConditionNotMet")]
#[case("attested-bundle", VULN, &["p256"], &["predicate.scanner.uri == 'trivy'"], "Admitted")]
#[case("attested-bundle", REVIEW, &["p256"], &[], "OtherPredicateType")]
#[case("bundle-p256", REVIEW, &["p256"], &[], "Unattested")]
#[case("unsigned", REVIEW, &["p256"], &[], "Unattested")]
fn what_cosign_attests(
    #[case] name: &str,
    #[case] kind: &str,
    #[case] authorities: &[&str],
    #[case] conditions: &[&str],
    #[case] reason: &str,
) {
    let policy = requiring(vec![attestation(kind, authorities, conditions)]);
    assert_eq!(judge(&policy, &evidence(name)).reason(), reason);
}

#[test]
fn a_signature_and_an_attestation_are_two_requirements() {
    let both = requiring(vec![signature(1, &["p256"]), attestation(VULN, &["p256"], &[])]);
    assert_eq!(judge(&both, &evidence("attested-bundle")).reason(), "Admitted");
    assert_eq!(judge(&both, &evidence("bundle-p256")).reason(), "Unattested");
    assert_eq!(judge(&both, &evidence("attested")).reason(), "NotASignature");
}

/// CVE-2022-35929: the type is the signed one; none of that type is a failure, whatever an annotation calls it.
#[test]
fn the_type_is_read_from_what_was_signed() {
    let (pen, subject) = (Pen::new(1), Digest::sha256(b"image"));
    let envelope = pen.envelope(&statement(&subject, "https://example.com/other", &json!({}))).to_string();
    let artifact = artifact(berth_trust::kind::ENVELOPE, &envelope, &json!({"predicateType": REVIEW}));
    let policy = by(&[&pen], 1, &[]);
    assert_eq!(judge(&policy, &about(&subject, vec![artifact])).reason(), "OtherPredicateType");
    // An image signature is no attestation, even of the type that signatures have.
    let quorum = berth_trust::Quorum::new(1, vec![pen.authority("a")], None).unwrap();
    let odd = Requirement::Attestation { predicate_type: SIGNATURE.to_owned(), quorum, conditions: vec![] };
    let signed = about(&subject, vec![pen.signs(&subject)]);
    assert_eq!(judge(&requiring(vec![odd]), &signed).reason(), "Unattested");
}

#[rstest]
#[case::other_subject(Digest::sha256(b"another"), "OtherDigest")]
#[case::this_subject(Digest::sha256(b"image"), "Admitted")]
#[case::long_subject(berth_registry_core::Algorithm::Sha512.digest(b"image"), "OtherDigest")]
fn an_attestation_is_about_what_it_names(#[case] named: Digest, #[case] reason: &str) {
    let (pen, subject) = (Pen::new(1), Digest::sha256(b"image"));
    for artifact in [pen.attests(&named, REVIEW, &json!({})), pen.attests_classic(&named, REVIEW, &json!({}))]
    {
        assert_eq!(judge(&by(&[&pen], 1, &[]), &about(&subject, vec![artifact])).reason(), reason);
    }
}

#[test]
fn two_attestations_by_one_key_are_one() {
    let (pen, other, subject) = (Pen::new(1), Pen::new(2), Digest::sha256(b"image"));
    let policy = by(&[&pen, &other], 2, &[]);
    let mut beside = vec![
        pen.attests(&subject, REVIEW, &json!({"n": 1})),
        pen.attests_classic(&subject, REVIEW, &json!({"n": 2})),
    ];
    assert_eq!(judge(&policy, &about(&subject, beside.clone())).reason(), "ThresholdNotMet");
    beside.push(other.attests(&subject, REVIEW, &json!({})));
    assert_eq!(judge(&policy, &about(&subject, beside)).reason(), "Admitted");
}

/// Any trusted attestation that speaks against the image is enough; one that nobody trusts says nothing.
#[test]
fn what_speaks_against_an_image_is_not_outvoted() {
    let (pen, other, stranger) = (Pen::new(1), Pen::new(2), Pen::new(3));
    let subject = Digest::sha256(b"image");
    let policy = by(&[&pen, &other], 1, &["predicate.approved"]);
    let says = |pen: &Pen, approved: bool| pen.attests(&subject, REVIEW, &json!({"approved": approved}));
    let judge = |beside: Vec<_>| judge(&policy, &about(&subject, beside));
    assert_eq!(judge(vec![says(&pen, true)]).reason(), "Admitted");
    assert_eq!(judge(vec![says(&pen, true), says(&stranger, false)]).reason(), "Admitted");
    for against in [&pen, &other] {
        let verdict = judge(vec![says(&pen, true), says(&other, true), says(against, false)]);
        assert_eq!(verdict.reason(), "ConditionNotMet");
        let words = verdict.explain(&support::image(), Some(&subject));
        assert!(words.contains("predicate.approved") && !words.contains("cosign attest"), "{words}");
    }
}

#[test]
fn a_predicate_of_any_shape_is_no_way_past() {
    let (pen, subject) = (Pen::new(1), Digest::sha256(b"image"));
    let policy = by(&[&pen], 1, &["predicate.approved == true"]);
    for predicate in
        [json!(null), json!(1), json!([]), json!({}), json!({"approved": "true"}), json!({"approved": 1})]
    {
        let beside = about(&subject, vec![pen.attests(&subject, REVIEW, &predicate)]);
        assert_eq!(judge(&policy, &beside).reason(), "ConditionNotMet", "{predicate}");
    }
    let missing = json!({"_type": "https://in-toto.io/Statement/v1", "predicateType": REVIEW,
        "subject": [{"digest": {"sha256": subject.hex()}}]});
    let beside = about(&subject, vec![pen.bundle(&missing.to_string())]);
    assert_eq!(judge(&policy, &beside).reason(), "ConditionNotMet");
}

#[rstest]
#[case::duplicate_type(r#"{"_type":"https://in-toto.io/Statement/v1","predicateType":"x","predicateType":"https://example.com/review/v1","subject":[{"digest":{"sha256":"6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d"}}],"predicate":{}}"#)]
#[case::duplicate_in_predicate(r#"{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://example.com/review/v1","subject":[{"digest":{"sha256":"6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d"}}],"predicate":{"a":1,"a":2}}"#)]
#[case::no_subject(r#"{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://example.com/review/v1","subject":[],"predicate":{}}"#)]
#[case::other_version(r#"{"_type":"https://in-toto.io/Statement/v2","predicateType":"https://example.com/review/v1","subject":[{"digest":{"sha256":"6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d"}}],"predicate":{}}"#)]
#[case::no_object("[]")]
fn signed_nonsense_is_malformed(#[case] payload: &str) {
    let (pen, subject) = (Pen::new(1), Digest::sha256(b"image"));
    let beside = about(&subject, vec![pen.bundle(payload)]);
    let verdict = judge(&by(&[&pen], 1, &[]), &beside);
    assert_eq!(verdict.reason(), "MalformedEvidence", "{:?}", findings(&verdict));
    // Nobody else's business: to a policy that does not know the signer it is just by somebody else.
    assert_eq!(judge(&by(&[&Pen::new(2)], 1, &[]), &beside).reason(), "UnknownSigner");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is laid beside an image that is forbidden, it stays forbidden.
    #[test]
    fn more_evidence_never_lifts_what_forbids(
        extra in proptest::collection::vec((1_u8..5, any::<bool>(), any::<bool>(), 0_u8..3), 0..4),
        threshold in 1_usize..3,
    ) {
        let (a, b, subject) = (Pen::new(1), Pen::new(2), Digest::sha256(b"image"));
        let policy = by(&[&a, &b], threshold, &["predicate.approved"]);
        let forbids = a.attests(&subject, REVIEW, &json!({"approved": false}));
        let mut beside = vec![forbids];
        for (pen, approved, classic, kind) in extra {
            let pen = Pen::new(pen);
            let predicate: Value = json!({"approved": approved});
            let kind = [REVIEW, VULN, SIGNATURE][usize::from(kind)];
            beside.insert(0, if classic {
                pen.attests_classic(&subject, kind, &predicate)
            } else {
                pen.attests(&subject, kind, &predicate)
            });
        }
        let verdict = judge(&policy, &about(&subject, beside));
        prop_assert_eq!(verdict.reason(), "ConditionNotMet");
    }
}
