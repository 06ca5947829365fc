//! What public instances issued, and what an attacker would make of it: who signed and when is proven by certificate,
//! log and timestamp together, each bound to this very signature, or the signature is refused with the cause.

use std::sync::LazyLock;

use berth_trust::sigstore::{Keyless, Presented, TrustRoot};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use crate::material::{GITHUB, PUBLIC, STAGING, damage, document, keyless, reason, root, root_with};

fn entry(document: &mut Value) -> &mut Value {
    &mut document["verificationMaterial"]["tlogEntries"][0]
}

#[rstest]
// Rekor v1: promise and inclusion proof.
#[case(
    "github-actions",
    PUBLIC,
    "https://token.actions.githubusercontent.com",
    "https://github.com/prefix-dev/sigstore-example/.github/workflows/action.yaml@refs/heads/main",
    "2025-09-01T12:13:59Z"
)]
// Rekor v2: inclusion proof and timestamp.
#[case("rekor-v2", STAGING, "https://github.com/login/oauth", "jku@goto.fi", "2026-05-26T07:42:21Z")]
// v0.1 with a chain, logged as an in-toto entry, about a digest of SHA-512.
#[case(
    "npm",
    PUBLIC,
    "https://token.actions.githubusercontent.com",
    "https://github.com/sigstore/sigstore-js/.github/workflows/release.yml@refs/heads/main",
    "2023-08-18T16:05:35Z"
)]
// The same from 2022 with a promise alone.
#[case("promise-only", PUBLIC, "https://github.com/login/oauth", "brian@dehamer.com", "2022-11-09T23:00:36Z")]
fn what_public_instances_issue_is_understood(
    #[case] name: &str,
    #[case] trusted: &str,
    #[case] issuer: &str,
    #[case] subject: &str,
    #[case] proven: &str,
) {
    let (issuer, subject) = (issuer.to_owned(), subject.to_owned());
    let expected = Keyless { issuer, subject, proven: proven.parse().unwrap() };
    let document = document(&format!("public/{name}"));
    assert_eq!(keyless(&document, &root(trusted)).unwrap(), expected);
    // Nobody else's trust root makes it count.
    for other in [PUBLIC, STAGING, GITHUB].into_iter().filter(|other| *other != trusted) {
        assert_ne!(reason(&document, &root(other)), "counts");
    }
}

/// An instance without logs, where the timestamp decides. Its certificate names no issuer.
#[test]
fn who_is_vouched_for_by_nobody_is_nobody() {
    assert_eq!(reason(&document("public/no-log"), &root(GITHUB)), "NoIdentity");
}

/// CVE-2022-36056, CVE-2022-23649, CVE-2026-22703 and their kin: each thing that the bundle holds is bound to the rest.
#[test]
fn what_is_altered_does_not_count() {
    let public = root(PUBLIC);
    let original = document("public/github-actions");
    let altered = |change: &dyn Fn(&mut Value)| {
        let mut document = original.clone();
        change(&mut document);
        reason(&document, &public)
    };
    assert_eq!(altered(&|_| ()), "counts");
    let other = document("public/npm");

    // The certificate of somebody else; their log entry; their signature.
    let certificate = &other["verificationMaterial"]["x509CertificateChain"]["certificates"][0];
    let swapped = |d: &mut Value| d["verificationMaterial"]["certificate"] = certificate.clone();
    assert_eq!(altered(&swapped), "NotValidThen");
    let entries = &other["verificationMaterial"]["tlogEntries"];
    let swapped = |d: &mut Value| d["verificationMaterial"]["tlogEntries"] = entries.clone();
    assert_eq!(altered(&swapped), "NotValidThen");
    let signatures = &other["dsseEnvelope"]["signatures"];
    assert_eq!(altered(&|d| d["dsseEnvelope"]["signatures"] = signatures.clone()), "BadSignature");
    // Another content; another type for it.
    let payload = &other["dsseEnvelope"]["payload"];
    assert_eq!(altered(&|d| d["dsseEnvelope"]["payload"] = payload.clone()), "BadSignature");
    assert_eq!(altered(&|d| d["dsseEnvelope"]["payloadType"] = "text/plain".into()), "BadSignature");
    // The time that the log asserts.
    assert_eq!(altered(&|d| entry(d)["integratedTime"] = "1756728840".into()), "BadLogProof");
    assert_eq!(altered(&|d| entry(d)["integratedTime"] = "0".into()), "NoProvenTime");
    assert_eq!(altered(&|d| entry(d)["logIndex"] = "1".into()), "BadLogProof");
    // Without the promise nothing asserts the time; without a proof v0.3 is not logged.
    let less = |d: &mut Value| drop(entry(d).as_object_mut().unwrap().remove("inclusionPromise"));
    assert_eq!(altered(&less), "NoProvenTime");
    let less = |d: &mut Value| drop(entry(d).as_object_mut().unwrap().remove("inclusionProof"));
    assert_eq!(altered(&less), "NotLogged");
    assert_eq!(altered(&|d| d["verificationMaterial"]["tlogEntries"] = json!([])), "NotLogged");
    // A tree head of another tree, a proof of another entry.
    let head = &other["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]["checkpoint"];
    let foreign = |d: &mut Value| entry(d)["inclusionProof"]["checkpoint"] = head.clone();
    assert_eq!(altered(&foreign), "BadLogProof");
    assert_eq!(altered(&|d| entry(d)["inclusionProof"]["logIndex"] = "5".into()), "BadLogProof");
    assert_eq!(altered(&|d| entry(d)["inclusionProof"]["hashes"] = json!([])), "BadLogProof");
    // The entry of a log that nobody knows.
    let log = &document("public/rekor-v2")["verificationMaterial"]["tlogEntries"][0]["logId"];
    assert_eq!(altered(&|d| entry(d)["logId"] = log.clone()), "UnknownLog");
    // A body that says something else.
    assert_eq!(altered(&|d| entry(d)["canonicalizedBody"] = "e30=".into()), "BadLogProof");
}

/// One entry that is proven does not carry a second one along.
#[test]
fn every_log_entry_is_proven() {
    let public = root(PUBLIC);
    let mut two = document("public/github-actions");
    let mut second = entry(&mut two).clone();
    let both = |two: &Value, second: &Value| {
        let mut two = two.clone();
        two["verificationMaterial"]["tlogEntries"].as_array_mut().unwrap().push(second.clone());
        reason(&two, &public)
    };
    assert_eq!(both(&two, &second), "counts");
    second.as_object_mut().unwrap().remove("inclusionProof");
    assert_eq!(both(&two, &second), "NotLogged");
    second.as_object_mut().unwrap().remove("inclusionPromise");
    assert_eq!(both(&two, &second), "BadLogProof");
}

/// Rekor v2 asserts no times of its own, so the library does not look at the window of the log.
#[rstest]
#[case(Some("2026-05-01T00:00:00Z"), None, "counts")]
#[case(Some("2026-06-01T00:00:00Z"), None, "BadLogProof")]
#[case(Some("2025-01-01T00:00:00Z"), Some("2026-05-26T07:42:20Z"), "BadLogProof")]
#[case(Some("2025-01-01T00:00:00Z"), Some("2026-05-26T07:42:21Z"), "counts")]
fn a_log_is_believed_in_its_window(
    #[case] start: Option<&str>,
    #[case] end: Option<&str>,
    #[case] expected: &str,
) {
    let staging = root_with(STAGING, |root| {
        for log in root["tlogs"].as_array_mut().unwrap() {
            log["publicKey"]["validFor"] = json!({"start": start, "end": end});
        }
    });
    assert_eq!(reason(&document("public/rekor-v2"), &staging.unwrap()), expected);
}

/// A tree head that another known log signed does not prove an entry of this one.
#[test]
fn the_tree_head_is_of_the_log_that_the_entry_names() {
    let mut document = document("public/rekor-v2");
    let staging: Value = serde_json::from_str(STAGING).unwrap();
    entry(&mut document)["logId"] = staging["tlogs"][4]["logId"].clone();
    let staging = root_with(STAGING, |root| {
        for log in root["tlogs"].as_array_mut().unwrap() {
            log["publicKey"]["validFor"] = json!({"start": "2021-01-01T00:00:00Z"});
        }
    });
    let refused = keyless(&document, &staging.unwrap()).unwrap_err();
    assert!(refused.to_string().contains("not signed by the log that the entry names"), "{refused}");
}

#[rstest]
// A Rekor v2 entry without a timestamp, or with one of an authority that nobody trusts.
#[case(|d: &mut Value| drop(d["verificationMaterial"].as_object_mut().unwrap().remove("timestampVerificationData")),
    |_: &mut Value| (), "NoProvenTime")]
#[case(|_: &mut Value| (), |r: &mut Value| r["timestampAuthorities"] = json!([]), "BadTimestamp")]
#[case(|_: &mut Value| (), |r: &mut Value| r["timestampAuthorities"][0]["validFor"]["end"] = "2026-01-01T00:00:00Z".into(),
    "BadTimestamp")]
// The windows of the authority that issued the certificate, and of the log that recorded it.
#[case(|_: &mut Value| (), |r: &mut Value| r["certificateAuthorities"] = json!([]), "UntrustedCertificate")]
#[case(|_: &mut Value| (), |r: &mut Value| {
        r["certificateAuthorities"].as_array_mut().unwrap().truncate(1);
        r["certificateAuthorities"][0]["validFor"]["end"] = "2026-01-01T00:00:00Z".into();
    }, "NotValidThen")]
#[case(|_: &mut Value| (), |r: &mut Value| for log in r["ctlogs"].as_array_mut().unwrap() {
        log["publicKey"]["validFor"] = json!({"start": "2021-01-01T00:00:00Z", "end": "2026-01-01T00:00:00Z"});
    }, "NotInCertificateLog")]
// Without certificate logs in the trust root, certificates need none.
#[case(|_: &mut Value| (), |r: &mut Value| r["ctlogs"] = json!([]), "counts")]
// Without the log that it is in, the signature is in no known log.
#[case(|_: &mut Value| (), |r: &mut Value| drop(r["tlogs"].as_array_mut().unwrap().remove(3)), "UnknownLog")]
#[case(|_: &mut Value| (), |r: &mut Value| r["tlogs"] = json!([]), "UnknownLog")]
fn every_part_of_the_trust_root_matters(
    #[case] bundle: fn(&mut Value),
    #[case] trusted: fn(&mut Value),
    #[case] expected: &str,
) {
    let mut document = document("public/rekor-v2");
    bundle(&mut document);
    assert_eq!(reason(&document, &root_with(STAGING, trusted).unwrap()), expected);
}

#[rstest]
#[case("application/vnd.dev.sigstore.bundle.v0.3+json", "counts")]
#[case("application/vnd.dev.sigstore.bundle+json;version=0.3", "counts")]
#[case("application/vnd.dev.sigstore.bundle+json; version=0.3", "counts")]
#[case("application/vnd.dev.sigstore.bundle.v0.4+json", "Malformed")]
#[case("application/json", "Malformed")]
fn spellings_of_the_bundle_type(#[case] media_type: &str, #[case] expected: &str) {
    let mut document = document("public/github-actions");
    document["mediaType"] = media_type.into();
    assert_eq!(reason(&document, &root(PUBLIC)), expected);
}

#[test]
fn what_says_nothing_or_too_much_is_refused() {
    let public = root(PUBLIC);
    let original = document("public/github-actions");
    let mut by_key = original.clone();
    let material = by_key["verificationMaterial"].as_object_mut().unwrap();
    material.remove("certificate");
    material.insert("publicKey".to_owned(), json!({"hint": "x"}));
    assert_eq!(reason(&by_key, &public), "NoCertificate");

    let mut bytes = original.clone();
    bytes.as_object_mut().unwrap().remove("dsseEnvelope");
    bytes["messageSignature"] = json!({"signature": "AAAA"});
    assert_eq!(reason(&bytes, &public), "Unsupported");

    let mut twice = original.clone();
    let signatures = twice["dsseEnvelope"]["signatures"].as_array_mut().unwrap();
    signatures.push(signatures[0].clone());
    assert_eq!(reason(&twice, &public), "Malformed");

    let mut many = original.clone();
    let first = entry(&mut many).clone();
    many["verificationMaterial"]["tlogEntries"] = vec![first; 11].into();
    assert_eq!(reason(&many, &public), "TooMuch");
    // Each signature under a tree head costs a verification.
    let mut witnessed = original.clone();
    let head = &mut entry(&mut witnessed)["inclusionProof"]["checkpoint"]["envelope"];
    *head = format!("{}{}", head.as_str().unwrap(), "\u{2014} witness AAAAAAAA\n".repeat(99)).into();
    assert_eq!(reason(&witnessed, &public), "counts");
    let head = &mut entry(&mut witnessed)["inclusionProof"]["checkpoint"]["envelope"];
    *head = format!("{}\u{2014} witness AAAAAAAA\n", head.as_str().unwrap()).into();
    assert_eq!(reason(&witnessed, &public), "TooMuch");
    let text = original.to_string().replacen('{', r#"{"mediaType":"x","#, 1);
    assert_eq!(Presented::bundle(text.as_bytes()).unwrap_err().reason(), "Malformed");
    let large = vec![b' '; 5 * 1024 * 1024];
    assert_eq!(Presented::bundle(&large).unwrap_err().reason(), "Malformed");
}

#[test]
fn a_trust_root_is_known_by_its_content() {
    let public = root(PUBLIC);
    assert_eq!(root_with(PUBLIC, |_| ()).unwrap(), public);
    assert_ne!(root(STAGING), public);
    let changed = root_with(PUBLIC, |root| {
        root["tlogs"][0]["publicKey"]["validFor"]["end"] = "2027-01-01T00:00:00Z".into();
    });
    assert_ne!(changed.unwrap().id(), public.id());
}

#[rstest]
#[case(|r: &mut Value| r["mediaType"] = "application/vnd.dev.sigstore.signingconfig.v0.2+json".into(), "signing config")]
#[case(|r: &mut Value| (r["tlogs"], r["timestampAuthorities"]) = (json!([]), json!([])), "neither a transparency log")]
#[case(|r: &mut Value| r["tlogs"] = vec![r["tlogs"][0].clone(); 101].into(), "limit of 100")]
#[case(|r: &mut Value| r["tlogs"] = vec![r["tlogs"][0].clone(); 2].into(), "duplicate")]
#[case(|r: &mut Value| r["tlogs"][0]["publicKey"]["rawBytes"] = "AAAA".into(), "unusable")]
#[case(|r: &mut Value| r["tlogs"][0]["publicKey"]["validFor"] = json!({"start": "2026-01-01T00:00:00Z", "end": "2025-01-01T00:00:00Z"}), "unusable")]
#[case(|r: &mut Value| r["certificateAuthorities"][0]["certChain"]["certificates"][0]["rawBytes"] = "AAAA".into(), "unusable")]
#[case(|r: &mut Value| r["certificateAuthorities"][0]["certChain"]["certificates"] = json!([]), "unusable")]
#[case(|r: &mut Value| {
        let chain = &mut r["certificateAuthorities"][0]["certChain"]["certificates"];
        *chain = vec![chain[0].clone(); 11].into();
    }, "limit of 10")]
#[case(|r: &mut Value| r["certificateAuthorities"][0]["validFor"] = json!({"start": "2099-01-01T00:00:00Z"}), "never valid together")]
#[case(|r: &mut Value| r["ctlogs"] = "none".into(), "no trusted_root.json")]
fn an_unusable_trust_root_says_why(#[case] change: fn(&mut Value), #[case] says: &str) {
    let error = root_with(PUBLIC, change).unwrap_err();
    assert!(error.to_string().contains(says), "{error}");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Presented::bundle(&bytes).is_err() && TrustRoot::parse(&bytes).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Damage anywhere in the signed parts is noticed, and nothing panics.
    #[test]
    fn damage_never_panics(which in any::<usize>(), position in any::<usize>(), with in 1_u8.., v2 in any::<bool>()) {
        static ROOTS: LazyLock<[TrustRoot; 2]> = LazyLock::new(|| [root(PUBLIC), root(STAGING)]);
        let name = if v2 { "public/rekor-v2" } else { "public/promise-only" };
        let trusted = &ROOTS[usize::from(v2)];
        let mut document = document(name);
        let before = keyless(&document, trusted).unwrap();
        damage(&mut document, which, position, with);
        if let Ok(after) = keyless(&document, trusted) {
            prop_assert_eq!(after, before);
        }
    }

    #[test]
    fn damaged_trust_roots_never_panic(which in any::<usize>(), position in any::<usize>(), with in 1_u8..) {
        let damaged = root_with(PUBLIC, |root| damage(root, which, position, with));
        if let Ok(damaged) = damaged {
            let _ = keyless(&document("public/promise-only"), &damaged);
        }
    }
}
