//! Who may write to a registry, a log and a timestamp authority, and has no key, can have an old signature seen again
//! today: in another shard of the log, or in the other form that every ECDSA signature has. That makes nothing newer.

use std::time::Duration;

use berth_registry_core::Digest;
use berth_trust::{
    Authority as Trusted, Bounds, By, Facts, Matcher, Quorum, Requirement, kind, sigstore::TrustRoot,
};
use jiff::{SignedDuration, Timestamp};
use rstest::rstest;
use serde_json::{Value, json};

use crate::{
    forge::{Authority, Kind, Log, NOW, Secret, trust_root},
    logs::{Logged, Signed},
    support::{
        about, image,
        pen::{SIGNATURE, artifact, statement},
        requiring,
    },
};

const VULN: &str = "https://cosign.sigstore.dev/attestation/vuln/v1";
const MAX_AGE: Duration = Duration::from_hours(72);

fn seen() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

/// Scanned so many hours before the log saw it.
fn scanned(hours: i64) -> Value {
    json!({"metadata": {"scanFinishedOn": (seen() - SignedDuration::from_hours(hours)).to_string()}})
}

/// What becomes of a statement that a log saw, so many hours later, if it may be three days old.
fn judged(
    kind: &str,
    predicate: &Value,
    by: By,
    secret: &Secret,
    certificate: Option<&[u8]>,
    log: &Log,
    hours: i64,
) -> String {
    let subject = Digest::sha256(b"image");
    let signed = Signed::over(statement(&subject, kind, predicate), Logged::Dsse, secret, certificate);
    let entry = log.add(&signed.entry(Logged::Dsse, "sha256")).bundled();
    let evidence = about(&subject, vec![artifact(kind::BUNDLE, &signed.bundle(&[entry]), &json!({}))]);
    let authority = Trusted { name: "scanner".to_owned(), by, valid_until: None };
    let quorum = Quorum::new(1, vec![authority], Some(MAX_AGE)).unwrap();
    let policy = requiring(vec![match kind {
        SIGNATURE => Requirement::Signature(quorum),
        _ => Requirement::Attestation { predicate_type: kind.to_owned(), quorum, conditions: Vec::new() },
    }]);
    let facts = Facts::establish(&evidence, policy.anchors(), &Bounds::default()).unwrap();
    let now = seen() + SignedDuration::from_hours(hours);
    policy.verdict(&image(), &facts, now).verdict.reason().to_owned()
}

#[rstest]
#[case::fresh(VULN, scanned(1), "Admitted")]
#[case::renewed(VULN, scanned(72), "TooOld")]
#[case::dated_ahead(VULN, scanned(-2), "Admitted")]
#[case::silent("https://example.com/review/v1", json!({}), "NoSigningTime")]
#[case::signature(SIGNATURE, json!({}), "NoSigningTime")]
fn a_log_makes_no_statement_by_key_newer(#[case] kind: &str, #[case] predicate: Value, #[case] reason: &str) {
    let (secret, log) = (Secret::new(Kind::P256), Log::new(Secret::new(Kind::P256)));
    let root = TrustRoot::parse(trust_root(&[&log]).to_string().as_bytes()).unwrap();
    let by = || By::Key { key: secret.key(), log: Some(root.clone()) };
    assert_eq!(judged(kind, &predicate, by(), &secret, None, &log, 1), reason);
    // What was dated ahead was there at the latest when the log saw it.
    let later = if reason == "NoSigningTime" { reason } else { "TooOld" };
    assert_eq!(judged(kind, &predicate, by(), &secret, None, &log, 72), later);
}

/// A certificate for ten minutes holds a signature to them, so the log's time will do.
#[rstest]
fn a_keyless_signature_is_of_its_moment(#[values(SIGNATURE, VULN)] kind: &str) {
    let (secret, log, authority) =
        (Secret::new(Kind::P256), Log::new(Secret::new(Kind::P256)), Authority::new());
    let mut document = trust_root(&[&log]);
    document["certificateAuthorities"] = json!([authority.trusted()]);
    let root = TrustRoot::parse(document.to_string().as_bytes()).unwrap();
    let certificate = authority.issue(&secret, &[]);
    let by = || By::Keyless {
        root: root.clone(),
        issuer: Matcher::exact("https://issuer.example").unwrap(),
        subject: Matcher::exact("alice@example.com").unwrap(),
    };
    for (hours, reason) in [(71, "Admitted"), (72, "TooOld")] {
        assert_eq!(judged(kind, &json!({}), by(), &secret, Some(&certificate), &log, hours), reason);
    }
}
