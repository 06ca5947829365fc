//! Who signed, by all that can show it: identities and Notary Project certificates, up to the verdict. Shows R-TRUST: a
//! name counts only with the anchor that vouches for it, and a time only with the anchor that proves it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of this crate is test code")]

mod support;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use berth_registry_core::Digest;
use berth_trust::{
    Anchor, Anchors, Artifact, Authority, Bounds, By, Described, Evidence, Facts, InvalidPolicy, Matcher,
    Policy, Quorum, Requirement, Signer, Unmatched,
    notary::{Identities, NotaryStore},
    sigstore::TrustRoot,
};
use jiff::{SignedDuration, Timestamp};
use rstest::rstest;
use serde_json::{Value, json};
use sigstore_verify::trust_root::{
    SIGSTORE_PRODUCTION_TRUSTED_ROOT as PUBLIC, SIGSTORE_STAGING_TRUSTED_ROOT as STAGING,
};
use support::{about, facts, file, image, judge, judgement, now, pen::Pen, pen::artifact, policy, requiring};

const ACTIONS: &str = "https://token.actions.githubusercontent.com";
const WORKFLOW: &str =
    "https://github.com/prefix-dev/sigstore-example/.github/workflows/action.yaml@refs/heads/main";
const CONDA: &str = "https://schemas.conda.org/attestations-publish-1.schema.json";
/// When `github-actions` was signed.
const SIGNED: &str = "2025-09-01T12:13:59Z";

/// Laid beside the artifact that it is about.
fn keyless(name: &str) -> Evidence {
    let bundle = file(&format!("../corpus/sigstore/public/{name}.json"));
    let document: Value = serde_json::from_str(&bundle).unwrap();
    let payload = STANDARD.decode(document["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
    let statement: Value = serde_json::from_slice(&payload).unwrap();
    let hex = statement["subject"][0]["digest"]["sha256"].as_str().unwrap();
    let subject: Digest = format!("sha256:{hex}").parse().unwrap();
    about(&subject, vec![artifact(berth_trust::kind::BUNDLE, &bundle, &json!({}))])
}

fn root(text: &str) -> TrustRoot {
    TrustRoot::parse(text.as_bytes()).unwrap()
}

fn identity(trusted: &str, issuer: &str, subject: &str) -> Authority {
    let (issuer, subject) = (Matcher::exact(issuer).unwrap(), Matcher::regex(subject).unwrap());
    let by = By::Keyless { root: root(trusted), issuer, subject };
    Authority { name: "ci".to_owned(), by, valid_until: None }
}

fn attested(authorities: Vec<Authority>, max_age: Option<SignedDuration>) -> Policy {
    let max_age = max_age.map(SignedDuration::unsigned_abs);
    let quorum = Quorum::new(1, authorities, max_age).unwrap();
    requiring(vec![Requirement::Attestation { predicate_type: CONDA.to_owned(), quorum, conditions: vec![] }])
}

#[rstest]
#[case::exact(PUBLIC, ACTIONS, WORKFLOW, "Admitted")]
#[case::pattern(PUBLIC, ACTIONS, "https://github.com/prefix-dev/.*", "Admitted")]
#[case::half_a_pattern(PUBLIC, ACTIONS, "https://github.com/prefix-dev/", "OtherSigner")]
#[case::other_subject(PUBLIC, ACTIONS, "https://github.com/acme/.*", "OtherSigner")]
#[case::other_issuer(PUBLIC, "https://accounts.google.com", WORKFLOW, "OtherSigner")]
#[case::other_instance(STAGING, ACTIONS, WORKFLOW, "SignatureRefused")]
fn an_identity_counts_with_its_issuer_and_its_root(
    #[case] trusted: &str,
    #[case] issuer: &str,
    #[case] subject: &str,
    #[case] reason: &str,
) {
    let policy = attested(vec![identity(trusted, issuer, subject)], None);
    let verdict = judge(&policy, &keyless("github-actions"));
    assert_eq!(verdict.reason(), reason, "{}", verdict.explain(&image(), None));
}

#[test]
fn a_keyless_signature_is_about_what_it_names() {
    let mut moved = keyless("github-actions");
    moved.subject = Digest::sha256(b"another image");
    assert_eq!(judge(&attested(vec![identity(PUBLIC, ACTIONS, ".*")], None), &moved).reason(), "OtherDigest");
}

/// Rotation and age go by the proven time; what is judged now says how long it holds.
#[rstest]
#[case::for_good(None, None, "2026-01-01T00:00:00Z", "Admitted", None)]
#[case::ended_later(Some("2025-10-01T00:00:00Z"), None, "2026-01-01T00:00:00Z", "Admitted", None)]
#[case::ends_later(Some("2026-02-01T00:00:00Z"), None, "2026-01-01T00:00:00Z", "Admitted", None)]
#[case::ended_before(Some(SIGNED), None, "2026-01-01T00:00:00Z", "AuthorityEnded", None)]
#[case::fresh(None, Some(48), "2025-09-03T12:13:58Z", "Admitted", Some("2025-09-03T12:13:59Z"))]
#[case::too_old(None, Some(48), "2025-09-03T12:13:59Z", "TooOld", None)]
#[case::from_the_future(
    None,
    Some(48),
    "2025-09-01T12:00:00Z",
    "SignedInFuture",
    Some("2025-09-01T12:08:59Z")
)]
fn time_is_what_is_proven(
    #[case] valid_until: Option<&str>,
    #[case] hours: Option<i64>,
    #[case] now: &str,
    #[case] reason: &str,
    #[case] until: Option<&str>,
) {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let authority = Authority { valid_until: valid_until.map(at), ..identity(PUBLIC, ACTIONS, ".*") };
    let policy = attested(vec![authority], hours.map(SignedDuration::from_hours));
    let judgement = judgement(&policy, &keyless("github-actions"), at(now));
    assert_eq!((judgement.verdict.reason(), judgement.until), (reason, until.map(at)));
}

fn store(name: &str) -> NotaryStore {
    NotaryStore::new(&file(&format!("../corpus/notary/{name}.pem"))).unwrap()
}

fn notary(name: &str) -> Evidence {
    let vector: Value = serde_json::from_str(&file(&format!("../corpus/notary/{name}.json"))).unwrap();
    let manifest = vector["manifest"].as_str().unwrap();
    let envelope = STANDARD.decode(vector["envelope"].as_str().unwrap()).unwrap();
    let artifact = Artifact {
        manifest: manifest.as_bytes().to_vec(),
        layers: [(Digest::sha256(&envelope), envelope)].into(),
    };
    let described = Described {
        media_type: vector["image"]["mediaType"].as_str().unwrap().to_owned(),
        size: vector["image"]["size"].as_u64().unwrap(),
    };
    let subject = vector["image"]["digest"].as_str().unwrap().parse().unwrap();
    Evidence { described: Some(described), ..about(&subject, vec![artifact]) }
}

fn certified(store: NotaryStore, identities: &str) -> Authority {
    let identities = Identities::parse([identities]).unwrap();
    Authority { name: "release".to_owned(), by: By::Notary { store, identities }, valid_until: None }
}

fn signed(authority: Authority) -> Policy {
    requiring(vec![Requirement::Signature(Quorum::new(1, vec![authority], None).unwrap())])
}

/// The signer's own time of signing.
fn claimed(policy: &Policy, evidence: &Evidence) -> Timestamp {
    facts(policy, evidence).statements().next().unwrap().claimed.unwrap()
}

#[rstest]
#[case::jws("es256-jws", "root-ec", "*", "Admitted")]
#[case::cose("ps2048-cose", "root-rsa", "*", "Admitted")]
#[case::other_root("es256-jws", "root-rsa", "*", "SignatureRefused")]
#[case::other_name("es256-jws", "root-ec", "x509.subject: C=US, ST=WA, O=nobody", "OtherSigner")]
fn a_certificate_counts_with_its_store(
    #[case] name: &str,
    #[case] roots: &str,
    #[case] identities: &str,
    #[case] reason: &str,
) {
    let evidence = notary(name);
    let anyone = signed(certified(store(if name.starts_with("es") { "root-ec" } else { "root-rsa" }), "*"));
    let now = claimed(&anyone, &evidence);
    let policy = signed(certified(store(roots), identities));
    let verdict = judgement(&policy, &evidence, now).verdict;
    assert_eq!(verdict.reason(), reason, "{}", verdict.explain(&image(), None));
}

/// CVE-2023-33959: the whole descriptor is compared, and it is that of the manifest that was fetched.
#[test]
fn a_certificate_signs_the_whole_descriptor() {
    let policy = signed(certified(store("root-ec"), "*"));
    let reason = |change: &dyn Fn(&mut Evidence)| {
        let mut evidence = notary("es256-jws");
        change(&mut evidence);
        judge(&policy, &evidence).reason().to_owned()
    };
    assert_eq!(reason(&|it| it.described = None), "SignatureRefused");
    assert_eq!(reason(&|it| it.described.as_mut().unwrap().size += 1), "SignatureRefused");
    assert_eq!(reason(&|it| it.described.as_mut().unwrap().media_type.push('x')), "SignatureRefused");
    assert_eq!(reason(&|it| it.subject = Digest::sha256(b"another")), "SignatureRefused");
}

/// CVE-2024-23332: a signature expires when its signer says so, and with its certificates if nothing proves its time.
#[test]
fn a_certificate_counts_while_it_is_valid() {
    let policy = signed(certified(store("root-ec"), "*"));
    let evidence = notary("es256-jws");
    let statement = facts(&policy, &evidence).statements().next().unwrap().clone();
    let valid = statement.valid.unwrap();
    let instant = SignedDuration::from_nanos(1);
    for (now, reason, until) in [
        (valid.from - instant, "CertificateNotValid", Some(valid.from)),
        (valid.from, "Admitted", Some(valid.until + instant)),
        (valid.until, "Admitted", Some(valid.until + instant)),
        (valid.until + instant, "CertificateNotValid", None),
    ] {
        let judgement = judgement(&policy, &evidence, now);
        assert_eq!((judgement.verdict.reason(), judgement.until), (reason, until));
    }

    let expiring = notary("expiring-jws");
    let end = facts(&policy, &expiring).statements().next().unwrap().expires.unwrap();
    assert_eq!(judgement(&policy, &expiring, end - instant).verdict.reason(), "Admitted");
    assert!(judgement(&policy, &expiring, end - instant).until.is_some_and(|until| until <= end));
    assert_eq!(judgement(&policy, &expiring, end).verdict.reason(), "Expired");
}

/// A timestamp by an authority of the store outlives the certificates; without that authority it proves nothing.
#[test]
fn a_timestamp_outlives_the_certificates() {
    let evidence = notary("timestamped-jws");
    let alone = signed(certified(store("root-ec"), "*"));
    let timestamps = file("../corpus/notary/tsa-root.pem");
    let trusting = store("root-ec").with_timestamp_authorities(&timestamps).unwrap();
    let later = claimed(&alone, &evidence) + SignedDuration::from_hours(24 * 365 * 200);
    assert_eq!(judgement(&alone, &evidence, later).verdict.reason(), "CertificateNotValid");
    let policy = signed(certified(trusting, "*"));
    assert_eq!(judgement(&policy, &evidence, later).verdict.reason(), "Admitted");
}

#[test]
fn notation_cannot_attest() {
    let quorum = Quorum::new(1, vec![certified(store("root-ec"), "*")], None).unwrap();
    let requirement = Requirement::Attestation { predicate_type: CONDA.into(), quorum, conditions: vec![] };
    let error = Policy::new(Vec::new(), Unmatched::Deny, vec![requirement], Vec::new()).unwrap_err();
    assert_eq!(error, InvalidPolicy::NotationAttests("release".to_owned()));
}

/// CVE-2026-49834: one identity is one, whatever it signed, and however many authorities it fits.
#[test]
fn one_identity_counts_once() {
    let named =
        |name: &str, subject: &str| Authority { name: name.into(), ..identity(PUBLIC, ACTIONS, subject) };
    let two = vec![named("any", ".*"), named("workflow", WORKFLOW)];
    let quorum = Quorum::new(2, two, None).unwrap();
    let policy = requiring(vec![Requirement::Attestation {
        predicate_type: CONDA.into(),
        quorum,
        conditions: vec![],
    }]);
    let mut evidence = keyless("github-actions");
    let text = String::from_utf8(evidence.artifacts[0].layers.values().next().unwrap().clone()).unwrap();
    evidence.artifacts.push(artifact(berth_trust::kind::BUNDLE, &format!("{text} "), &json!({})));
    assert_eq!(facts(&policy, &evidence).statements().count(), 2);
    assert_eq!(judge(&policy, &evidence).reason(), "ThresholdNotMet");
}

/// All of the evidence and all of the anchors at once.
fn everything() -> (Evidence, Vec<Policy>) {
    let (pen, other) = (Pen::new(1), Pen::new(2));
    let Evidence { subject, mut artifacts, .. } = keyless("github-actions");
    artifacts.push(pen.signs(&subject));
    artifacts.push(other.attests(&subject, CONDA, &json!({"a": 1})));
    artifacts.push(other.signs(&Digest::sha256(b"another")));
    artifacts.push(pen.bundle("nonsense"));
    artifacts.extend(notary("es256-jws").artifacts);
    artifacts.push(Artifact { manifest: b"{".to_vec(), layers: [].into() });
    let by_key = |pen: &Pen| signed(pen.authority("a"));
    let policies = vec![
        by_key(&pen),
        by_key(&other),
        attested(vec![identity(PUBLIC, ACTIONS, ".*")], None),
        attested(vec![identity(STAGING, ACTIONS, ".*")], None),
        attested(vec![other.authority("b")], None),
        signed(certified(store("root-ec"), "*")),
        policy(1, &["p256"]),
    ];
    (about(&subject, artifacts), policies)
}

/// Facts are shared by policies of many tenants: what others trust changes no verdict, not even its words.
#[test]
fn the_anchors_of_others_change_no_verdict() {
    let (evidence, policies) = everything();
    let all: Anchors = policies.iter().flat_map(|policy| policy.anchors().clone()).collect();
    let shared = Facts::establish(&evidence, &all, &Bounds::default()).unwrap();
    for policy in &policies {
        let alone = policy.verdict(&image(), &facts(policy, &evidence), now());
        assert_eq!(policy.verdict(&image(), &shared, now()), alone);
        assert!(shared.covers(policy.anchors()));
    }
}

/// What is stored gives the same verdicts, byte for byte.
#[test]
fn facts_survive_being_stored() {
    let (mut evidence, policies) = everything();
    let notary = notary("expiring-jws");
    let all: Anchors = policies.iter().flat_map(|policy| policy.anchors().clone()).collect();
    for evidence in [&evidence.clone(), &notary, {
        evidence.artifacts.reverse();
        &evidence
    }] {
        let facts = Facts::establish(evidence, &all, &Bounds::default()).unwrap();
        let stored = serde_json::to_string(&facts).unwrap();
        let read: Facts = serde_json::from_str(&stored).unwrap();
        assert_eq!((&read, serde_json::to_string(&read).unwrap()), (&facts, stored));
        for policy in &policies {
            let [before, after] = [&facts, &read].map(|facts| policy.verdict(&image(), facts, now()));
            assert_eq!(serde_json::to_vec(&before).unwrap(), serde_json::to_vec(&after).unwrap());
        }
    }
}

#[test]
fn signers_are_told_apart_by_who_they_are() {
    let policy = attested(vec![identity(PUBLIC, ACTIONS, ".*")], None);
    let facts = facts(&policy, &keyless("github-actions"));
    let statement = facts.statements().next().unwrap();
    let expected = Signer::Identity {
        root: Anchor::Sigstore(root(PUBLIC)).id(),
        issuer: ACTIONS.into(),
        subject: WORKFLOW.into(),
    };
    assert_eq!(statement.by, expected);
    let proven: Vec<_> = statement.proven.values().map(ToString::to_string).collect();
    assert_eq!(proven, [SIGNED]);
}
