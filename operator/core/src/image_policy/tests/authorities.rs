//! Authorities of each kind: what is read, what is refused and where, and whom they recognise (R-OPR-6, R-SIG-2, R-SIG-3,
//! R-SIG-5). Certificates and trust roots are those of the corpus of `berth-trust`.

use berth_registry_core::ImageReference;
use berth_trust::{
    Facts,
    notary::NotaryStore,
    sigstore::{CertificateAuthorities, TrustRoot},
};
use jiff::Timestamp;

use super::*;

const ROOT_JSON: &str = include_str!("../../../../../registry/trust/tests/corpus/sigstore/trusted_root.json");
const OWN: &str = include_str!("../../../../../registry/trust/tests/corpus/sigstore/own.pem");
const NOTARY: &str = include_str!("../../../../../registry/trust/tests/corpus/notary/root-ec.pem");
const TIMESTAMPS: &str = include_str!("../../../../../registry/trust/tests/corpus/notary/tsa-root.pem");

const SUBJECT: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const ISSUER: &str = "https://issuer.example.com";
const NOW: &str = "2026-06-01T13:00:00Z";

fn material(values: &[(&str, &str)]) -> Material {
    Material::Found(values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
}

/// One Secret with everything, one with everything wrong, one with a private key under each name.
fn all_secrets() -> Vec<(&'static str, Material)> {
    const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let all = |[key, root, ca, tsa]: [&str; 4]| {
        material(&[(PUBLIC_KEY, key), (TRUST_ROOT, root), (AUTHORITIES, ca), (TIMESTAMP_AUTHORITIES, tsa)])
    };
    vec![
        ("sigstore", all([RELEASE, ROOT_JSON, OWN, TIMESTAMPS])),
        ("notary", all([RELEASE, ROOT_JSON, NOTARY, TIMESTAMPS])),
        ("wrong", all(["no key", "{}", "no certificate", "no certificate"])),
        ("private", all([PRIVATE; 4])),
        ("empty", material(&[])),
    ]
}

fn key() -> Value {
    json!({"name": "a", "key": {"secretName": "sigstore", "trustRoot": {"secretName": "sigstore"}}})
}

fn keyless() -> Value {
    json!({"name": "a", "keyless": {"issuer": ISSUER, "subject": "ci@example.com", "trustRoot": {"secretName": "sigstore"}}})
}

fn certificate() -> Value {
    json!({"name": "a", "certificate": {
        "authorities": {"secretName": "sigstore"}, "subject": "ci@example.com", "trustRoot": {"secretName": "sigstore"},
    }})
}

fn notation() -> Value {
    json!({"name": "a", "notation": {
        "trustStore": {"secretName": "notary"}, "identities": ["x509.subject: C=US, ST=WA, O=acme"],
        "timestampAuthorities": {"secretName": "notary"},
    }})
}

#[rstest]
#[case::key(key(), &["sigstore"])]
#[case::keyless(keyless(), &["sigstore"])]
#[case::certificate(certificate(), &["sigstore"])]
#[case::notation(notation(), &["notary"])]
fn each_kind_is_read_with_its_secrets(#[case] authority: Value, #[case] secrets: &[&str]) {
    let spec = policy_with(&json!([authority]), None);
    let parsed: ImagePolicySpec = serde_json::from_value(spec.clone()).unwrap();
    assert_eq!(super::secrets(&parsed), secrets.iter().copied().collect());
    rules(spec, &all_secrets()).policy.unwrap();
}

#[test]
fn secrets_of_every_field_are_asked_for() {
    let from = |name: &str| json!({"secretName": name});
    let authorities = json!([
        {"name": "a", "key": {"secretName": "s1", "trustRoot": from("s2")}},
        {"name": "b", "keyless": {"issuer": "i", "subject": "s", "trustRoot": from("s3")}},
        {"name": "c", "certificate": {"authorities": from("s4"), "subject": "s", "trustRoot": from("s5")}},
        {"name": "d", "notation": {"trustStore": from("s6"), "identities": ["*"], "timestampAuthorities": from("s7")}},
    ]);
    let mut spec = policy_with(&authorities, None);
    let attestation = json!({"attestation": {"predicateType": "t", "authorities": [secret("a", "s8")]}});
    spec["require"].as_array_mut().unwrap().push(attestation);
    let spec: ImagePolicySpec = serde_json::from_value(spec).unwrap();
    let names: Vec<_> = super::secrets(&spec).into_iter().collect();
    assert_eq!(names, ["s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8"]);
}

/// Each line: the authority, a field of it, what is written there instead, the reason, and the path that is named.
#[rstest]
#[case(key(), "/key/trustRoot/secretName", json!("wrong"), "TrustRootInvalid", "key.trustRoot.secretName")]
#[case(key(), "/key/trustRoot/secretName", json!("empty"), "TrustRootInvalid", "key.trustRoot.secretName")]
#[case(key(), "/key/trustRoot/secretName", json!("private"), "TrustRootInvalid", "key.trustRoot.secretName")]
#[case(key(), "/key/secretName", json!("private"), "KeyInvalid", "key.secretName")]
#[case(keyless(), "/keyless/trustRoot/secretName", json!("wrong"), "TrustRootInvalid", "keyless.trustRoot.secretName")]
#[case(keyless(), "/keyless/trustRoot/secretName", json!("gone"), "SecretNotFound", "keyless.trustRoot.secretName")]
#[case(keyless(), "/keyless/issuer", json!(""), "SpecInvalid", "keyless.issuer")]
#[case(keyless(), "/keyless/subject", Value::Null, "SpecInvalid", "keyless")]
#[case(keyless(), "/keyless/issuerRegex", json!(".*"), "SpecInvalid", "keyless")]
#[case(keyless(), "/keyless/subjectRegex", json!(".*"), "SpecInvalid", "keyless")]
#[case(certificate(), "/certificate/authorities/secretName", json!("wrong"), "CertificatesInvalid", "certificate.authorities.secretName")]
#[case(certificate(), "/certificate/authorities/secretName", json!("private"), "CertificatesInvalid", "certificate.authorities.secretName")]
#[case(certificate(), "/certificate/authorities/secretName", json!("empty"), "CertificatesInvalid", "certificate.authorities.secretName")]
#[case(certificate(), "/certificate/authorities", json!({"pem": "-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n"}), "CertificatesInvalid", "certificate.authorities.pem")]
#[case(certificate(), "/certificate/authorities", json!({}), "SpecInvalid", "certificate.authorities")]
#[case(certificate(), "/certificate/trustRoot/secretName", json!("wrong"), "TrustRootInvalid", "certificate.trustRoot.secretName")]
#[case(certificate(), "/certificate/subject", Value::Null, "SpecInvalid", "certificate")]
#[case(certificate(), "/certificate/subjectRegex", json!("["), "SpecInvalid", "certificate")]
#[case(notation(), "/notation/trustStore/secretName", json!("wrong"), "CertificatesInvalid", "notation.trustStore.secretName")]
#[case(notation(), "/notation/trustStore/secretName", json!("private"), "CertificatesInvalid", "notation.trustStore.secretName")]
#[case(notation(), "/notation/timestampAuthorities/secretName", json!("wrong"), "CertificatesInvalid", "notation.timestampAuthorities.secretName")]
#[case(notation(), "/notation/timestampAuthorities/secretName", json!("private"), "CertificatesInvalid", "notation.timestampAuthorities.secretName")]
#[case(notation(), "/notation/identities", json!([]), "SpecInvalid", "notation.identities")]
#[case(notation(), "/notation/identities", json!(["O=acme"]), "SpecInvalid", "notation.identities")]
#[case(notation(), "/key", json!({"pem": RELEASE}), "SpecInvalid", "")]
#[case(json!({"name": "a"}), "/name", json!("a"), "SpecInvalid", "")]
fn what_is_wrong_is_named(
    #[case] mut authority: Value,
    #[case] field: &str,
    #[case] value: Value,
    #[case] reason: &str,
    #[case] path: &str,
) {
    let (parent, name) = field.rsplit_once('/').unwrap();
    authority.pointer_mut(parent).unwrap()[name] = value;
    let error = rules(policy_with(&json!([authority]), None), &all_secrets()).policy.unwrap_err();
    assert_eq!(error.reason(), reason, "{error}");
    let dot = if path.is_empty() { "" } else { "." };
    let expected = format!("spec.require[0].signature.authorities[0]{dot}{path}: ");
    assert!(error.to_string().starts_with(&expected), "{error}");
    assert!(!error.to_string().contains("AAAA"), "nothing private is repeated: {error}");
}

#[rstest]
#[case(key(), "/key")]
#[case(keyless(), "/keyless")]
#[case(keyless(), "/keyless/trustRoot")]
#[case(certificate(), "/certificate")]
#[case(certificate(), "/certificate/authorities")]
#[case(notation(), "/notation")]
fn unknown_fields_of_authorities(#[case] mut authority: Value, #[case] at: &str) {
    authority.pointer_mut(at).unwrap()["insecureIgnoreLog"] = json!(true);
    let error =
        serde_json::from_value::<ImagePolicySpec>(policy_with(&json!([authority]), None)).unwrap_err();
    assert!(error.to_string().contains("unknown field `insecureIgnoreLog`"), "{error}");
}

/// Signed an hour ago by this signer, as every anchor of the policy has seen it; the root of the sigstore instance proves
/// the time if `proven`.
fn facts(signer: &Value, proven: bool) -> Facts {
    let root = TrustRoot::parse(ROOT_JSON.as_bytes()).unwrap().id().to_string();
    let anchors = json!([
        berth_trust::PublicKey::from_pem(RELEASE).unwrap().id(),
        root,
        CertificateAuthorities::from_pem(OWN).unwrap().id().to_string(),
        NotaryStore::new(NOTARY).unwrap().with_timestamp_authorities(TIMESTAMPS).unwrap().id().to_string(),
    ]);
    let mut statement = json!({
        "at": {"manifest": SUBJECT}, "form": "bundle", "about": SUBJECT, "by": signer, "says": "signature",
    });
    if proven {
        statement["proven"] = json!({root: "2026-06-01T12:00:00Z"});
    }
    serde_json::from_value(
        json!({"subject": SUBJECT, "anchors": anchors, "refusals": [], "statements": [statement]}),
    )
    .unwrap()
}

fn identity(issuer: &str, subject: &str) -> Value {
    let root = TrustRoot::parse(ROOT_JSON.as_bytes()).unwrap().id().to_string();
    json!({"identity": {"root": root, "issuer": issuer, "subject": subject}})
}

fn owner(subject: &str) -> Value {
    let authorities = CertificateAuthorities::from_pem(OWN).unwrap().id().to_string();
    json!({"certificate": {"authorities": authorities, "subject": subject, "fingerprint": SUBJECT}})
}

fn notary(subject: &str) -> Value {
    let store =
        NotaryStore::new(NOTARY).unwrap().with_timestamp_authorities(TIMESTAMPS).unwrap().id().to_string();
    json!({"notary": {"store": store, "subject": subject, "fingerprint": SUBJECT}})
}

fn holder() -> Value {
    json!({"key": berth_trust::PublicKey::from_pem(RELEASE).unwrap().id()})
}

fn changed(mut authority: Value, field: &str, value: Value) -> Value {
    let (parent, name) = field.rsplit_once('/').unwrap();
    authority.pointer_mut(parent).unwrap()[name] = value;
    authority
}

fn without(mut authority: Value, parent: &str, field: &str) -> Value {
    authority.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(field).unwrap();
    authority
}

/// Whom each field lets in, and whom not: the negative of every line stands beside it.
#[rstest]
#[case::key_logged(key(), holder(), true, "Admitted")]
#[case::key_not_logged(key(), holder(), false, "NotProven")]
#[case::key_without_log(without(key(), "/key", "trustRoot"), holder(), false, "Admitted")]
#[case::key_ended_after(changed(key(), "/validUntil", json!("2026-06-01T12:30:00Z")), holder(), true, "Admitted")]
#[case::key_ended_before(changed(key(), "/validUntil", json!("2026-06-01T11:30:00Z")), holder(), true, "AuthorityEnded")]
#[case::keyless(keyless(), identity(ISSUER, "ci@example.com"), true, "Admitted")]
#[case::issuer(keyless(), identity("https://evil.example.com", "ci@example.com"), true, "OtherSigner")]
#[case::subject(keyless(), identity(ISSUER, "eve@example.com"), true, "OtherSigner")]
#[case::by_key(keyless(), holder(), true, "UnknownSigner")]
#[case::issuer_regex(without(changed(keyless(), "/keyless/issuerRegex", json!("https://[a-z]+\\.example\\.com")), "/keyless", "issuer"), identity(ISSUER, "ci@example.com"), true, "Admitted")]
#[case::issuer_regex_within(without(changed(keyless(), "/keyless/issuerRegex", json!("issuer")), "/keyless", "issuer"), identity(ISSUER, "ci@example.com"), true, "OtherSigner")]
#[case::subject_regex(without(changed(keyless(), "/keyless/subjectRegex", json!(".*@example.com")), "/keyless", "subject"), identity(ISSUER, "dev@example.com"), true, "Admitted")]
#[case::subject_regex_beyond(without(changed(keyless(), "/keyless/subjectRegex", json!(".*@example.com")), "/keyless", "subject"), identity(ISSUER, "dev@example.com.evil.io"), true, "OtherSigner")]
#[case::keyless_ended(changed(keyless(), "/validUntil", json!("2026-06-01T11:30:00Z")), identity(ISSUER, "ci@example.com"), true, "AuthorityEnded")]
#[case::certificate(certificate(), owner("ci@example.com"), true, "Admitted")]
#[case::certificate_not_logged(certificate(), owner("ci@example.com"), false, "NotProven")]
#[case::certificate_subject(certificate(), owner("eve@example.com"), true, "OtherSigner")]
#[case::certificate_regex(without(changed(certificate(), "/certificate/subjectRegex", json!("ci@.*")), "/certificate", "subject"), owner("ci@example.com"), true, "Admitted")]
#[case::certificate_regex_beyond(without(changed(certificate(), "/certificate/subjectRegex", json!("ci@.*")), "/certificate", "subject"), owner("xci@example.com"), true, "OtherSigner")]
#[case::notation(notation(), notary("CN=ci,O=acme,ST=WA,C=US"), false, "Admitted")]
#[case::notation_other(notation(), notary("CN=ci,O=evil,ST=WA,C=US"), false, "OtherSigner")]
#[case::notation_anybody(changed(notation(), "/notation/identities", json!(["*"])), notary("CN=ci,O=evil,ST=WA,C=US"), false, "Admitted")]
#[case::other_timestamps(
    without(notation(), "/notation", "timestampAuthorities"),
    notary("CN=ci,O=acme,ST=WA,C=US"),
    false,
    "FactsOutdated"
)]
fn whom_an_authority_recognises(
    #[case] authority: Value,
    #[case] signer: Value,
    #[case] proven: bool,
    #[case] reason: &str,
) {
    let policy = rules(policy_with(&json!([authority]), None), &all_secrets()).policy.unwrap();
    let image: ImageReference = format!("r.io/app@{SUBJECT}").parse().unwrap();
    let now: Timestamp = NOW.parse().unwrap();
    let verdict = policy.verdict(&image, &facts(&signer, proven), now).verdict;
    assert_eq!(verdict.reason(), reason, "{verdict:?}");
}

/// R-OPR-8: what the samples say can be applied, once the Secrets that they name are there.
#[test]
fn samples_are_in_order() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/samples");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let policies =
        files.filter(|file| file.file_name().unwrap().to_str().unwrap().starts_with("image-policy"));
    let everything = [
        (PUBLIC_KEY, RELEASE),
        (TRUST_ROOT, ROOT_JSON),
        (AUTHORITIES, NOTARY),
        (TIMESTAMP_AUTHORITIES, TIMESTAMPS),
    ];
    let mut count = 0;
    for file in policies {
        for text in std::fs::read_to_string(&file).unwrap().split("\n---\n") {
            let policy: berth_crds::ImagePolicy = serde_yaml::from_str(text).unwrap();
            let named = super::secrets(&policy.spec).into_iter();
            let secrets: Vec<_> = named.map(|name| (name, material(&everything))).collect();
            let rules = rules(serde_json::to_value(&policy.spec).unwrap(), &secrets);
            rules.policy.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            count += 1;
        }
    }
    assert!(count > 6);
}
