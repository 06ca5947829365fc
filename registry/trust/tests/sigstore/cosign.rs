//! What cosign 3 made against services of our own, in bundles and in its classic formats, with identities, keys and
//! certificates; and the same with something wrong.

use std::{collections::BTreeMap, sync::LazyLock};

use berth_registry_core::{Descriptor, Digest, Manifest};
use berth_trust::{
    PublicKey, kind,
    sigstore::{CertificateAuthorities, Presented, Refused, TrustRoot},
};
use proptest::prelude::*;
use rstest::rstest;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::material::{GITHUB, PUBLIC, STAGING, damage, file, outcome, root, root_with};

static ROOT: LazyLock<String> = LazyLock::new(|| file("trusted_root.json"));
static TRUSTED: LazyLock<TrustRoot> = LazyLock::new(|| root(&ROOT));

#[derive(Deserialize)]
struct Vector {
    subject: Digest,
    artifacts: Vec<Artifact>,
}

#[derive(Deserialize)]
struct Artifact {
    manifest: String,
    layers: BTreeMap<Digest, String>,
}

/// A signature as it lies in the registry, to be changed at will.
#[derive(Clone)]
struct Found {
    layer: Descriptor,
    text: String,
}

/// The only signature in a vector.
fn found(name: &str) -> Found {
    let Vector { artifacts, .. } = serde_json::from_str(&file(&format!("{name}.json"))).unwrap();
    let [Artifact { manifest, layers }] = artifacts.as_slice() else { panic!("{name}: {}", artifacts.len()) };
    let manifest = Manifest::parse(None, manifest.as_bytes()).unwrap();
    let [layer] = manifest.layers.as_slice() else { panic!("{name}: {}", manifest.layers.len()) };
    Found { layer: layer.clone(), text: layers[&layer.digest].clone() }
}

impl Found {
    fn presented(&self) -> Result<Presented, Refused> {
        if kind::is_bundle(&self.layer.media_type) {
            Presented::bundle(self.text.as_bytes())
        } else {
            Presented::classic(&self.layer, self.text.as_bytes())
        }
    }

    fn keyless(&self, root: &TrustRoot) -> &'static str {
        outcome(self.presented().and_then(|presented| presented.keyless(root)))
    }

    /// With the bundle changed.
    fn with(&self, change: impl FnOnce(&mut Value)) -> Self {
        let mut document = serde_json::from_str(&self.text).unwrap();
        change(&mut document);
        Self { text: document.to_string(), ..self.clone() }
    }

    /// With an annotation set, or taken away.
    fn annotated(&self, name: &str, value: Option<&str>) -> Self {
        let mut found = self.clone();
        match value {
            Some(value) => found.layer.annotations.insert(name.to_owned(), value.to_owned()),
            None => found.layer.annotations.remove(name),
        };
        found
    }

    fn annotation(&self, name: &str) -> &str {
        &self.layer.annotations[name]
    }

    fn material(&self, name: &str) -> Value {
        serde_json::from_str::<Value>(&self.text).unwrap()["verificationMaterial"][name].clone()
    }
}

fn key(name: &str) -> PublicKey {
    PublicKey::from_pem(&file(&format!("{name}.pub"))).unwrap()
}

fn own() -> CertificateAuthorities {
    CertificateAuthorities::from_pem(&file("own.pem")).unwrap()
}

fn without(member: &str) -> TrustRoot {
    root_with(&ROOT, |root| root[member] = json!([])).unwrap()
}

#[rstest]
#[case("keyless-v1", "alice@example.com")]
#[case("keyless-v1-time", "alice@example.com")]
#[case("keyless-v2", "alice@example.com")]
#[case("keyless-classic", "alice@example.com")]
#[case("keyless-classic-time", "alice@example.com")]
#[case("keyless-attested", "alice@example.com")]
#[case("keyless-attested-classic", "alice@example.com")]
// The issuer only in the extension of old.
#[case("keyless-old-issuer", "alice@example.com")]
// A name that is neither mail address nor URL.
#[case("keyless-user-name", "alice!example.com")]
fn what_cosign_signs_with_an_identity_counts(#[case] name: &str, #[case] subject: &str) {
    let presented = found(name).presented().unwrap();
    let keyless = presented.keyless(&TRUSTED).unwrap();
    assert_eq!((keyless.issuer.as_str(), keyless.subject.as_str()), ("https://issuer.example", subject));
    // What is verified is what cosign was told to sign.
    let Vector { subject, .. } = serde_json::from_str(&file(&format!("{name}.json"))).unwrap();
    assert!(String::from_utf8_lossy(presented.payload()).contains(subject.hex()));
    // It is nobody's key's, and no certificate of our own.
    assert_eq!(outcome(presented.proven(&TRUSTED, &key("p256"))), "BadSignature");
    assert_eq!(outcome(presented.by_certificate(&own(), None)), "UntrustedCertificate");
}

#[rstest]
// CVE-2026-24122: the intermediate, or the root, had expired when the certificate was issued and used.
#[case("expired-intermediate", "UntrustedCertificate")]
#[case("expired-root", "UntrustedCertificate")]
#[case("expired", "NotValidThen")]
#[case("no-sct", "NotInCertificateLog")]
#[case("two-names", "NoIdentity")]
#[case("no-issuer", "NoIdentity")]
// The new extension is malformed; that the old one would do is no matter.
#[case("bad-issuer", "Malformed")]
#[case("no-usage", "UntrustedCertificate")]
#[case("no-purpose", "UntrustedCertificate")]
#[case("server-purpose", "UntrustedCertificate")]
fn what_is_wrong_with_the_certificate_is_said(#[case] variant: &str, #[case] expected: &str) {
    assert_eq!(found(&format!("keyless-{variant}")).keyless(&TRUSTED), expected);
}

/// CVE-2026-24122: the dates of the authorities' own certificates.
#[rstest]
#[case("keyless-expired-intermediate", 1)]
#[case("keyless-expired-root", 2)]
fn every_certificate_of_the_chain_was_valid_then(#[case] name: &str, #[case] authority: usize) {
    let only = root_with(&ROOT, |root| {
        root["certificateAuthorities"] = json!([root["certificateAuthorities"][authority]]);
    });
    assert_eq!(found(name).keyless(&only.unwrap()), "NotValidThen");
}

#[rstest]
#[case("keyless-time")]
#[case("keyless-classic-only-time")]
fn what_the_trust_root_names_is_asked_for(#[case] name: &str) {
    let found = found(name);
    assert_eq!(found.keyless(&TRUSTED), "NotLogged");
    assert_eq!(found.keyless(&without("tlogs")), "counts");
    assert_eq!(found.keyless(&without("timestampAuthorities")), "NotLogged");
    let other = root_with(&ROOT, |root| {
        root["tlogs"] = json!([]);
        root["timestampAuthorities"][0]["validFor"]["end"] =
            root["timestampAuthorities"][0]["validFor"]["start"].clone();
    });
    // That window lies before the authority's certificates.
    assert!(other.is_err());
    // Certificates of this kind are in a log, or the trust root names none.
    assert_eq!(crate::cosign::found("keyless-no-sct").keyless(&without("ctlogs")), "counts");
}

/// CVE-2022-36056, CVE-2026-22703, CVE-2022-23649: a log entry, a certificate or a timestamp of another signature of
/// the same minute, by the same authorities, for the same identity.
#[test]
fn what_belongs_to_another_signature_does_not_count() {
    let (one, other) = (found("keyless-v1"), found("keyless-old-issuer"));
    let with = |member: &str, of: &Found| {
        let value = of.material(member);
        one.with(|bundle| bundle["verificationMaterial"][member] = value).keyless(&TRUSTED)
    };
    assert_eq!(with("tlogEntries", &one), "counts");
    assert_eq!(with("tlogEntries", &other), "OtherLogEntry");
    assert_eq!(with("certificate", &other), "BadSignature");
    // Both at once: entry and certificate fit each other, but not the signature.
    let (certificate, entries) = (other.material("certificate"), other.material("tlogEntries"));
    let both = one.with(|bundle| {
        bundle["verificationMaterial"]["certificate"] = certificate;
        bundle["verificationMaterial"]["tlogEntries"] = entries;
    });
    assert_eq!(both.keyless(&TRUSTED), "BadSignature");

    let (one, other) = (found("keyless-v2"), found("keyless-v1-time"));
    let stamps = other.material("timestampVerificationData");
    let stamped = one.with(|bundle| bundle["verificationMaterial"]["timestampVerificationData"] = stamps);
    assert_eq!(stamped.keyless(&TRUSTED), "BadTimestamp");
    // A second entry that is right for somebody else.
    let second = found("keyless-v1").material("tlogEntries")[0].clone();
    let more =
        one.with(|bundle| bundle["verificationMaterial"]["tlogEntries"].as_array_mut().unwrap().push(second));
    assert_eq!(more.keyless(&TRUSTED), "OtherLogEntry");
}

const BUNDLE: &str = "dev.sigstore.cosign/bundle";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const TIMESTAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

#[test]
fn classic_annotations_are_bound_to_the_signature() {
    let (one, other) = (found("keyless-classic"), found("keyless-classic-time"));
    let with = |name: &str, value: Option<&str>| one.annotated(name, value).keyless(&TRUSTED);
    assert_eq!(with(BUNDLE, Some(one.annotation(BUNDLE))), "counts");
    assert_eq!(with(BUNDLE, Some(other.annotation(BUNDLE))), "OtherLogEntry");
    assert_eq!(with(BUNDLE, None), "NotLogged");
    assert_eq!(with(CERTIFICATE, Some(other.annotation(CERTIFICATE))), "BadSignature");
    assert_eq!(with(CERTIFICATE, None), "NoCertificate");
    assert_eq!(with(SIGNATURE, Some(other.annotation(SIGNATURE))), "BadSignature");
    assert_eq!(with(SIGNATURE, None), "Malformed");
    assert_eq!(with(TIMESTAMP, Some(other.annotation(TIMESTAMP))), "BadTimestamp");
    let altered = Found { text: one.text.replace("critical", "Critical"), ..one.clone() };
    assert_eq!(altered.keyless(&TRUSTED), "BadSignature");
    // The log's promise, and what it promises.
    let promised = |change: &dyn Fn(&mut Value)| {
        let mut bundle: Value = serde_json::from_str(one.annotation(BUNDLE)).unwrap();
        change(&mut bundle);
        with(BUNDLE, Some(&bundle.to_string()))
    };
    let time = |bundle: &Value| bundle["Payload"]["integratedTime"].as_i64().unwrap();
    assert_eq!(
        promised(&|bundle| bundle["Payload"]["integratedTime"] = (time(bundle) + 1).into()),
        "BadLogProof"
    );
    assert_eq!(promised(&|bundle| bundle["Payload"]["logIndex"] = 1.into()), "BadLogProof");
    assert_eq!(promised(&|bundle| bundle["Payload"]["logID"] = "00".repeat(32).into()), "UnknownLog");
    assert_eq!(promised(&|bundle| bundle["Payload"]["logID"] = "0g".into()), "Malformed");
    assert_eq!(promised(&|bundle| bundle["Payload"]["logID"] = "000".into()), "Malformed");
    assert_eq!(promised(&|bundle| bundle["Payload"]["body"] = "e30=".into()), "BadLogProof");
    assert_eq!(promised(&|bundle| bundle["SignedEntryTimestamp"] = "AAAA".into()), "BadLogProof");
    // More certificates than a chain has.
    let many = one.annotation(CERTIFICATE).repeat(11);
    assert_eq!(with(CERTIFICATE, Some(&many)), "TooMuch");
    assert_eq!(with(CERTIFICATE, Some("no PEM")), "Malformed");
}

#[rstest]
#[case("p256", "v1")]
#[case("p256", "v2")]
#[case("p256", "time")]
#[case("p256", "classic")]
#[case("p256", "classic-time")]
#[case("p384", "time")]
#[case("p384", "classic")]
fn the_time_of_a_signature_by_key_is_proven(#[case] by: &str, #[case] how: &str) {
    let found = found(&format!("key-{by}-{how}"));
    let presented = found.presented().unwrap();
    // cosign has the log hash with the hash of the curve.
    assert_eq!(outcome(presented.proven(&TRUSTED, &key(by))), "counts");
    let other = if by == "p256" { "p384" } else { "p256" };
    assert_ne!(outcome(presented.proven(&TRUSTED, &key(other))), "counts");
    assert_eq!(outcome(presented.keyless(&TRUSTED)), "NoCertificate");
    // Nobody else's log or timestamp authority will do.
    for foreign in [PUBLIC, STAGING, GITHUB] {
        assert_ne!(outcome(presented.proven(&root(foreign), &key(by))), "counts");
    }
}

#[test]
fn a_signature_by_key_without_proof_is_not_logged() {
    let bare = found("key-p256-v1").with(|bundle| bundle["verificationMaterial"]["tlogEntries"] = json!([]));
    let proven = |found: &Found| outcome(found.presented().unwrap().proven(&TRUSTED, &key("p256")));
    assert_eq!(proven(&bare), "NotLogged");
    let classic = found("key-p256-classic");
    assert_eq!(proven(&classic.annotated(BUNDLE, None)), "NotLogged");
    // Rekor v2 asserts no time.
    let unstamped = found("key-p256-v2")
        .with(|bundle| bundle["verificationMaterial"]["timestampVerificationData"] = json!({}));
    assert_eq!(proven(&unstamped), "NoProvenTime");
    // The entry of somebody else's signature.
    let other = found("keyless-v1").material("tlogEntries");
    let swapped = found("key-p256-v1").with(|bundle| bundle["verificationMaterial"]["tlogEntries"] = other);
    assert_eq!(proven(&swapped), "OtherLogEntry");
    let other = found("keyless-classic");
    assert_eq!(proven(&classic.annotated(BUNDLE, Some(other.annotation(BUNDLE)))), "OtherLogEntry");
}

#[rstest]
#[case("certificate", false)]
#[case("certificate-classic", false)]
#[case("certificate-v1", true)]
#[case("certificate-classic-v1", true)]
fn certificates_of_ones_own_authority_count(#[case] name: &str, #[case] logged: bool) {
    // cosign puts no intermediates into bundles, so the authorities bring them.
    let chain = file("own.pem") + &file("own-intermediate.pem");
    let authorities = CertificateAuthorities::from_pem(&chain).unwrap();
    let presented = found(name).presented().unwrap();
    let by = presented.by_certificate(&authorities, None).unwrap();
    assert_eq!((by.subject.as_str(), by.proven), ("build@example.com", None));
    // Ten years: the certificate's own, which lie in those of the authorities.
    let valid = by.valid.unwrap();
    assert!(valid.until.duration_since(valid.from) > jiff::SignedDuration::from_hours(3649 * 24));
    match presented.by_certificate(&authorities, Some(&TRUSTED)) {
        Ok(by) => assert!(logged && by.proven.is_some() && by.valid.is_none()),
        Err(refused) => assert_eq!((logged, refused.reason()), (false, "NotLogged")),
    }
    assert_eq!(
        outcome(presented.keyless(&TRUSTED)),
        if logged { "UntrustedCertificate" } else { "NotLogged" }
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Damage anywhere is noticed or without effect, and nothing panics.
    #[test]
    fn damage_never_panics(which in any::<usize>(), position in any::<usize>(), with in 1_u8.., name in "keyless-v1-time|keyless-v2|keyless-classic-time") {
        let original = found(&name);
        let before = original.presented().unwrap().keyless(&TRUSTED).unwrap();
        let damaged = if kind::is_bundle(&original.layer.media_type) {
            original.with(|bundle| damage(bundle, which, position, with))
        } else {
            let mut annotations = json!(original.layer.annotations);
            damage(&mut annotations, which, position, with);
            let mut damaged = original.clone();
            damaged.layer.annotations = serde_json::from_value(annotations).unwrap();
            damaged
        };
        if let Ok(after) = damaged.presented().and_then(|presented| presented.keyless(&TRUSTED)) {
            prop_assert_eq!(after, before);
        }
    }

    #[test]
    fn arbitrary_annotations_never_panic(bundle in ".{0,60}", certificate in ".{0,60}", stamp in ".{0,60}") {
        let found = found("keyless-classic-time");
        let found = found.annotated(BUNDLE, Some(&bundle)).annotated(CERTIFICATE, Some(&certificate)).annotated(TIMESTAMP, Some(&stamp));
        prop_assert_ne!(found.keyless(&TRUSTED), "counts");
    }
}
