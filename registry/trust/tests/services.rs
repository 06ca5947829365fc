//! What cosign made with certificates, logs and timestamps of our own (`corpus/sigstore`), up to the verdict. Shows
//! R-TRUST: each kind of authority recognises its own signatures and no others, and a time counts for those alone who trust
//! who proves it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of this crate is test code")]

mod support;

use berth_trust::{
    Authority, Bounds, By, Evidence, Facts, Matcher, Policy, PublicKey, Quorum, Requirement,
    sigstore::{CertificateAuthorities, TrustRoot},
};
use jiff::{SignedDuration, Timestamp};
use rstest::rstest;
use serde_json::{Value, json};
use sigstore_verify::trust_root::SIGSTORE_PRODUCTION_TRUSTED_ROOT as PUBLIC;
use support::{facts, file, image, judge, requiring};

fn own(name: &str) -> String {
    file(&format!("../corpus/sigstore/{name}"))
}

fn beside(name: &str) -> Evidence {
    support::evidence(&format!("../corpus/sigstore/{name}"))
}

fn ours() -> TrustRoot {
    TrustRoot::parse(own("trusted_root.json").as_bytes()).unwrap()
}

fn theirs() -> TrustRoot {
    TrustRoot::parse(PUBLIC.as_bytes()).unwrap()
}

fn key(log: Option<TrustRoot>) -> By {
    key_of("p256", log)
}

fn key_of(curve: &str, log: Option<TrustRoot>) -> By {
    By::Key { key: PublicKey::from_pem(&own(&format!("{curve}.pub"))).unwrap(), log }
}

fn alice() -> By {
    let issuer = Matcher::exact("https://issuer.example").unwrap();
    By::Keyless { root: ours(), issuer, subject: Matcher::exact("alice@example.com").unwrap() }
}

fn certificate(subject: &str, log: Option<TrustRoot>) -> By {
    // cosign puts no intermediates into bundles, so the authorities bring them.
    let chain = own("own.pem") + &own("own-intermediate.pem");
    let authorities = CertificateAuthorities::from_pem(&chain).unwrap();
    By::Certificate { authorities, subject: Matcher::regex(subject).unwrap(), log }
}

fn authority(by: By) -> Authority {
    Authority { name: "release".to_owned(), by, valid_until: None }
}

fn signed(authority: Authority) -> Policy {
    requiring(vec![Requirement::Signature(Quorum::new(1, vec![authority], None).unwrap())])
}

/// When the certificates of these signatures are valid.
fn within(facts: &Facts) -> Timestamp {
    let valid = facts.statements().find_map(|statement| statement.valid);
    valid.map_or_else(support::now, |valid| valid.from)
}

#[rstest]
#[case("keyless-v1", alice(), "Admitted")]
#[case("keyless-v2", alice(), "Admitted")]
#[case("keyless-classic", alice(), "Admitted")]
#[case("keyless-classic-time", alice(), "Admitted")]
#[case("keyless-user-name", alice(), "OtherSigner")]
#[case("keyless-no-sct", alice(), "SignatureRefused")]
#[case("keyless-expired", alice(), "SignatureRefused")]
#[case("keyless-attested", alice(), "NotASignature")]
#[case("keyless-attested-classic", alice(), "NotASignature")]
#[case("key-p256-v1", alice(), "UnknownSigner")]
#[case("key-p256-classic", alice(), "UnknownSigner")]
#[case("certificate", alice(), "SignatureRefused")]
#[case("key-p256-v1", key(None), "Admitted")]
#[case("key-p256-v1", key(Some(ours())), "Admitted")]
#[case("key-p256-v1", key(Some(theirs())), "NotProven")]
#[case("key-p256-v2", key(Some(ours())), "Admitted")]
#[case("key-p256-time", key(Some(ours())), "Admitted")]
#[case("key-p256-classic", key(Some(ours())), "Admitted")]
#[case("key-p256-classic", key(Some(theirs())), "NotProven")]
#[case("key-p256-classic-time", key(Some(ours())), "Admitted")]
#[case("key-p384-classic", key(Some(ours())), "UnknownSigner")]
#[case("key-p384-classic", key_of("p384", Some(ours())), "Admitted")]
#[case("keyless-v1", key(Some(ours())), "UnknownSigner")]
#[case("certificate", certificate(".*", None), "Admitted")]
#[case("certificate", certificate(".*", Some(ours())), "NotProven")]
#[case("certificate", certificate("nobody", None), "OtherSigner")]
#[case("certificate-classic", certificate(".*", None), "Admitted")]
#[case("certificate-v1", certificate(".*", Some(ours())), "Admitted")]
#[case("certificate-v1", certificate(".*", Some(theirs())), "NotProven")]
#[case("certificate-classic-v1", certificate(".*", Some(ours())), "Admitted")]
#[case("keyless-v1", certificate(".*", None), "SignatureRefused")]
#[case("key-p256-v1", certificate(".*", None), "UnknownSigner")]
fn who_signed(#[case] name: &str, #[case] by: By, #[case] reason: &str) {
    let (policy, evidence) = (signed(authority(by)), beside(name));
    let facts = facts(&policy, &evidence);
    let verdict = policy.verdict(&image(), &facts, within(&facts)).verdict;
    assert_eq!(verdict.reason(), reason, "{}", verdict.explain(&image(), Some(&evidence.subject)));
}

/// A key or a certificate that ended goes on counting for what was provably signed before.
#[rstest]
#[case("key-p256-v1", key(Some(ours())))]
#[case("key-p256-classic-time", key(Some(ours())))]
#[case("certificate-v1", certificate(".*", Some(ours())))]
fn what_was_signed_before_the_end_counts(#[case] name: &str, #[case] by: By) {
    let evidence = beside(name);
    let policy = |valid_until| signed(Authority { valid_until, ..authority(by.clone()) });
    let statement = facts(&policy(None), &evidence).statements().next().unwrap().clone();
    let proven = *statement.proven.values().next().unwrap();
    let much_later = proven + SignedDuration::from_hours(24 * 365 * 100);
    let second = SignedDuration::from_secs(1);
    for (end, reason) in [(proven, "AuthorityEnded"), (proven + second, "Admitted")] {
        let judgement = support::judgement(&policy(Some(end)), &evidence, much_later);
        assert_eq!((judgement.verdict.reason(), judgement.until), (reason, None));
    }
    // Without the log, nobody knows.
    let alone = match by {
        By::Key { key, .. } => By::Key { key, log: None },
        By::Certificate { authorities, subject, .. } => By::Certificate { authorities, subject, log: None },
        other => other,
    };
    let alone = signed(Authority { valid_until: Some(proven + second), ..authority(alone) });
    assert!(!support::judgement(&alone, &evidence, much_later).verdict.is_admitted());
}

/// CVE-2022-36056, CVE-2026-22703: the log entry of another signature by the same key proves nothing about this one, and
/// damage to it is not taken for its absence.
#[test]
fn a_log_entry_is_bound_to_its_signature() {
    let policy = signed(authority(key(Some(ours()))));
    let other: Value = {
        let other = beside("key-p256-v2");
        let layer = other.artifacts[0].layers.values().next().unwrap().clone();
        serde_json::from_slice(&layer).unwrap()
    };
    let reason = |change: &dyn Fn(&mut Value)| {
        let mut evidence = beside("key-p256-v1");
        support::rewrite(&mut evidence, |text| {
            let mut bundle: Value = serde_json::from_str(text).unwrap();
            change(&mut bundle["verificationMaterial"]);
            bundle.to_string()
        });
        judge(&policy, &evidence).reason().to_owned()
    };
    assert_eq!(reason(&|_| ()), "Admitted");
    assert_eq!(
        reason(&|it| it["tlogEntries"] = other["verificationMaterial"]["tlogEntries"].clone()),
        "NotProven"
    );
    assert_eq!(reason(&|it| it["tlogEntries"] = json!([])), "NotProven");
    assert_eq!(reason(&|it| it["tlogEntries"][0]["integratedTime"] = "1".into()), "NotProven");
    assert_eq!(reason(&|it| it["tlogEntries"][0]["logIndex"] = "1".into()), "NotProven");
}

/// Facts that were established for everybody at once give each policy the verdict that it would come to alone.
#[rstest]
fn the_anchors_of_others_change_no_verdict(
    #[values(
        "keyless-v1",
        "keyless-classic-time",
        "keyless-no-sct",
        "key-p256-v1",
        "key-p256-classic",
        "certificate-v1"
    )]
    name: &str,
) {
    let all = [
        alice(),
        key(None),
        key(Some(ours())),
        key(Some(theirs())),
        certificate(".*", None),
        certificate(".*", Some(ours())),
        certificate("nobody", Some(theirs())),
    ];
    let policies = all.map(|by| signed(authority(by)));
    let anchors = policies.iter().flat_map(|policy| policy.anchors().clone()).collect();
    let evidence = beside(name);
    let shared = Facts::establish(&evidence, &anchors, &Bounds::default()).unwrap();
    let now = within(&shared);
    for policy in &policies {
        let alone = policy.verdict(&image(), &facts(policy, &evidence), now);
        assert_eq!(policy.verdict(&image(), &shared, now), alone);
        assert_eq!(policy.verdict(&image(), &policy.relevant(&shared), now), alone);
    }
}

/// Who signs with a certificate signs attestations, too, and cosign says how.
#[test]
fn words_for_what_is_missing() {
    let mut lines = Vec::new();
    for (by, name) in [
        (key(None), "key"),
        (key(Some(ours())), "key and log"),
        (alice(), "keyless"),
        (certificate(".*", None), "certificate"),
    ] {
        let quorum = || Quorum::new(1, vec![authority(by.clone())], None).unwrap();
        let predicate_type = "https://slsa.dev/provenance/v1".to_owned();
        let policy = requiring(vec![
            Requirement::Signature(quorum()),
            Requirement::Attestation { predicate_type, quorum: quorum(), conditions: Vec::new() },
            Requirement::Digest,
        ]);
        let mut empty = beside("keyless-v1");
        empty.artifacts.clear();
        let line = judge(&policy, &empty).explain(&image(), Some(&empty.subject));
        lines.push(format!("{name}\n  {}", line.replace(empty.subject.hex(), "SUBJECT")));
    }
    insta::assert_snapshot!(lines.join("\n"));
}
