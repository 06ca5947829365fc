//! Forms that are signed well and still do not say what they must, and evidence of which there is too much. Shows R-TRUST:
//! what is not understood in full is no signature, and bounds are errors that name themselves.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of this crate is test code")]

mod support;

use berth_registry_core::Digest;
use berth_trust::{Artifact, Authority, Bounds, Facts, Policy, Quorum, Requirement, kind};
use rstest::rstest;
use serde_json::{Value, json};
use support::{
    about, judge,
    pen::{Pen, artifact_of},
    requiring,
};

fn subject() -> Digest {
    Digest::sha256(b"image")
}

fn signed_by(pen: &Pen) -> Policy {
    let authority: Authority = pen.authority("release");
    requiring(vec![Requirement::Signature(Quorum::new(1, vec![authority], None).unwrap())])
}

fn reason(artifacts: Vec<Artifact>) -> String {
    judge(&signed_by(&Pen::new(1)), &about(&subject(), artifacts)).reason().to_owned()
}

fn critical(change: impl FnOnce(&mut Value)) -> Value {
    let mut payload = json!({"critical": {
        "identity": {"docker-reference": "evil.io/other"},
        "image": {"docker-manifest-digest": subject()},
        "type": "cosign container image signature",
    }, "optional": {"anything": 1}});
    change(&mut payload);
    payload
}

/// The reference is no basis for trust, all else that is critical must be understood.
#[rstest]
#[case::as_it_is(critical(|_| ()), "Admitted")]
#[case::new_type(critical(|it| it["critical"]["type"] = "https://sigstore.dev/cosign/sign/v1".into()), "Admitted")]
#[case::other_type(critical(|it| it["critical"]["type"] = "revocation".into()), "MalformedEvidence")]
#[case::no_type(critical(|it| drop(it["critical"].as_object_mut().unwrap().remove("type"))), "MalformedEvidence")]
#[case::more(critical(|it| it["critical"]["expires"] = 1.into()), "MalformedEvidence")]
#[case::more_of_the_image(critical(|it| it["critical"]["image"]["not"] = true.into()), "MalformedEvidence")]
#[case::other_digest(critical(|it| it["critical"]["image"]["docker-manifest-digest"] = json!(Digest::sha256(b""))), "OtherDigest")]
#[case::no_digest(critical(|it| it["critical"]["image"]["docker-manifest-digest"] = "latest".into()), "MalformedEvidence")]
fn what_is_critical_is_understood(#[case] payload: Value, #[case] expected: &str) {
    assert_eq!(reason(vec![Pen::new(1).simple(&payload)]), expected);
}

/// A bundle stands alone in its manifest; classic layers may be many.
#[test]
fn one_bundle_a_manifest() {
    let pen = Pen::new(1);
    let bundle = |subject: &Digest| {
        let artifact = pen.signs(subject);
        String::from_utf8(artifact.layers.into_values().next().unwrap()).unwrap()
    };
    let (one, other, empty) = (bundle(&subject()), bundle(&Digest::sha256(b"another")), json!({}));
    let [one, other] = [&one, &other].map(|text| (kind::BUNDLE, text.as_str(), &empty));
    assert_eq!(reason(vec![artifact_of(&[one])]), "Admitted");
    assert_eq!(reason(vec![artifact_of(&[one, other])]), "MalformedEvidence");
    assert_eq!(reason(vec![artifact_of(&[other, one])]), "MalformedEvidence");
    assert_eq!(reason(vec![artifact_of(&[one, ("text/plain", "notes", &empty)])]), "Admitted");
}

/// CVE-2023-46737, CVE-2024-29902, CVE-2024-29903: neither many artifacts nor many layers of one.
#[rstest]
#[case::artifacts(100, 1, true)]
#[case::too_many_artifacts(101, 1, false)]
#[case::layers(1, 100, true)]
#[case::too_many_layers(1, 101, false)]
#[case::together(51, 2, false)]
fn evidence_is_bounded(#[case] artifacts: usize, #[case] layers: usize, #[case] bearable: bool) {
    let artifacts = (0..artifacts).map(|n| {
        let texts: Vec<_> = (0..layers).map(|m| format!("{n} {m}")).collect();
        let empty = json!({});
        artifact_of(&texts.iter().map(|text| (kind::ENVELOPE, text.as_str(), &empty)).collect::<Vec<_>>())
    });
    let evidence = about(&subject(), artifacts.collect());
    let facts = Facts::establish(&evidence, signed_by(&Pen::new(1)).anchors(), &Bounds::default());
    assert_eq!(facts.is_ok(), bearable, "{facts:?}");
}

/// Also what turns out to hold no statement at all.
#[test]
fn artifacts_are_counted_before_they_are_read() {
    let empty = json!({});
    let others = (0..101).map(|n| artifact_of(&[("text/plain", n.to_string().as_str(), &empty)]));
    assert_eq!(reason(others.collect()), "TooMuchEvidence");
}
