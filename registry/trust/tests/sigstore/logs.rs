//! Every kind of log entry, by every kind of key, in logs with every kind of key: each counts, and each is bound to the
//! content, the signature and the key. An entry that is wrong in one thing is in the log all the same, so nothing but
//! that binding tells it from a good one.

use std::collections::BTreeMap;

use berth_registry_core::{Descriptor, Digest};
use berth_trust::{
    kind,
    sigstore::{Presented, TrustRoot},
};
use rstest::rstest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use crate::{
    forge::{Kind, Log, Secret, base64, hex, pem, trust_root},
    material::outcome,
    support::pen::{SIGNATURE, statement},
};

/// The kinds of entries, with the form in which a signature comes with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logged {
    /// A bundle in Rekor v1.
    Dsse,
    /// A bundle in Rekor v2.
    Tiled,
    /// A classic signature.
    Hashed,
    /// A classic attestation by cosign before 2.2.
    IntotoV1,
    /// A bundle by early sigstore-js.
    IntotoV2,
}

/// What is signed, and what it takes to have it logged.
#[derive(Clone)]
pub(crate) struct Signed {
    payload: String,
    signature: Vec<u8>,
    verifier: Verifier,
}

const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const CERTIFICATE: &str = "x509Certificate";

/// PEM and DER of the certificate or key, and how Rekor v2 calls it.
pub(crate) type Verifier = (String, Vec<u8>, &'static str);

pub(crate) fn verifier(secret: &Secret, certificate: Option<&[u8]>) -> Verifier {
    match certificate {
        Some(der) => (pem("CERTIFICATE", der), der.to_vec(), CERTIFICATE),
        None => (secret.pem(), secret.spki().to_vec(), "publicKey"),
    }
}

impl Signed {
    /// An image signature by a key, or by a certificate for it.
    pub(crate) fn new(logged: Logged, secret: &Secret, certificate: Option<&[u8]>) -> Self {
        let image = Digest::sha256(b"image");
        Self::over(statement(&image, SIGNATURE, &json!({})), logged, secret, certificate)
    }

    /// A signature over anything.
    pub(crate) fn over(payload: String, logged: Logged, secret: &Secret, certificate: Option<&[u8]>) -> Self {
        let signature = secret.sign(message(logged, &payload).as_bytes());
        Self { payload, signature, verifier: verifier(secret, certificate) }
    }

    /// As if another had made it.
    pub(crate) fn with(self, verifier: Verifier) -> Self {
        Self { verifier, ..self }
    }

    pub(crate) fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// The envelope, as cosign writes one.
    fn envelope(&self) -> Value {
        json!({
            "payloadType": PAYLOAD_TYPE, "payload": base64(&self.payload),
            "signatures": [{"keyid": "", "sig": base64(&self.signature)}],
        })
    }

    /// What the log writes down.
    pub(crate) fn entry(&self, logged: Logged, hash: &str) -> Value {
        let (pem, der, name) = &self.verifier;
        let message = message(logged, &self.payload);
        let digest = |bytes: &[u8]| match hash {
            "sha384" => Sha384::digest(bytes).to_vec(),
            "sha512" => Sha512::digest(bytes).to_vec(),
            _ => Sha256::digest(bytes).to_vec(),
        };
        let named = |bytes: &[u8]| json!({"algorithm": hash, "value": hex(digest(bytes))});
        let payload_hash = named(self.payload.as_bytes());
        let signature = base64(&self.signature);
        let (kind, version, spec) = match logged {
            Logged::Dsse => {
                let signatures = json!([{"signature": signature, "verifier": base64(pem)}]);
                ("dsse", "0.0.1", json!({"payloadHash": payload_hash, "signatures": signatures}))
            }
            Logged::Hashed => {
                let signature = json!({"content": signature, "publicKey": {"content": base64(pem)}});
                let spec = json!({"data": {"hash": named(message.as_bytes())}, "signature": signature});
                ("hashedrekord", "0.0.1", spec)
            }
            Logged::Tiled => {
                let algorithm = hash.replace("sha", "SHA2_");
                let data = json!({"algorithm": algorithm, "digest": base64(digest(message.as_bytes()))});
                let verifier = json!({*name: {"rawBytes": base64(der)}, "keyDetails": "UNREAD"});
                let signature = json!({"content": signature, "verifier": verifier});
                let spec = json!({"hashedRekordV002": {"data": data, "signature": signature}});
                ("hashedrekord", "0.0.2", spec)
            }
            Logged::IntotoV1 => {
                let content = json!({"hash": named(self.envelope().to_string().as_bytes())});
                ("intoto", "0.0.1", json!({"content": content, "publicKey": base64(pem)}))
            }
            Logged::IntotoV2 => {
                let signatures = json!([{"sig": base64(signature), "publicKey": base64(pem)}]);
                let envelope = json!({"payloadType": PAYLOAD_TYPE, "signatures": signatures});
                ("intoto", "0.0.2", json!({"content": {"envelope": envelope, "payloadHash": payload_hash}}))
            }
        };
        json!({"kind": kind, "apiVersion": version, "spec": spec})
    }

    /// With the log's answer to this entry. Entries of the second version say no time, so one of the first comes along.
    pub(crate) fn presented(&self, logged: Logged, log: &Log, entry: &Value) -> Presented {
        let entry = log.add(entry);
        if matches!(logged, Logged::Hashed | Logged::IntotoV1) {
            let (media_type, bytes) = match logged {
                Logged::Hashed => (kind::SIMPLE_SIGNING, self.payload.clone()),
                _ => (kind::ENVELOPE, self.envelope().to_string()),
            };
            let mut annotations = BTreeMap::from([
                ("dev.cosignproject.cosign/signature", base64(&self.signature)),
                ("dev.sigstore.cosign/bundle", entry.annotation()),
            ]);
            if self.verifier.2 == CERTIFICATE {
                annotations.insert("dev.sigstore.cosign/certificate", self.verifier.0.clone());
            }
            let layer: Descriptor = serde_json::from_value(json!({
                "mediaType": media_type, "size": bytes.len(), "digest": Digest::sha256(bytes.as_bytes()),
                "annotations": annotations,
            }))
            .unwrap();
            return Presented::classic(&layer, bytes.as_bytes()).unwrap();
        }
        let mut entries = vec![entry.bundled()];
        if logged == Logged::Tiled {
            entries.push(log.add(&self.entry(Logged::Dsse, "sha256")).bundled());
        }
        Presented::bundle(self.bundle(&entries).as_bytes()).unwrap()
    }

    /// With these entries.
    pub(crate) fn bundle(&self, entries: &[Value]) -> String {
        let (_, der, name) = &self.verifier;
        let mut material = json!({"tlogEntries": entries});
        match *name {
            CERTIFICATE => material["certificate"] = json!({"rawBytes": base64(der)}),
            _ => material["publicKey"] = json!({"hint": "x"}),
        }
        json!({
            "mediaType": kind::BUNDLE, "verificationMaterial": material, "dsseEnvelope": self.envelope(),
        })
        .to_string()
    }
}

/// The bytes that a signature is over.
fn message(logged: Logged, payload: &str) -> String {
    match logged {
        Logged::Hashed => payload.to_owned(),
        _ => format!("DSSEv1 {} {PAYLOAD_TYPE} {} {payload}", PAYLOAD_TYPE.len(), payload.len()),
    }
}

pub(crate) fn root(logs: &[&Log]) -> TrustRoot {
    TrustRoot::parse(trust_root(logs).to_string().as_bytes()).unwrap()
}

fn log(kind: Kind) -> Log {
    Log::new(Secret::new(kind))
}

/// R-SIG: what cosign and its kin have written down, by key.
#[rstest]
fn every_kind_of_entry_by_every_kind_of_key(
    #[values(Logged::Dsse, Logged::Tiled, Logged::Hashed, Logged::IntotoV1, Logged::IntotoV2)] logged: Logged,
    #[values(
        (Kind::P256, "sha256"), (Kind::P384, "sha384"), (Kind::P384, "sha256"), (Kind::P521, "sha512"),
        (Kind::P521WithSha256, "sha256"), (Kind::Ed25519, "sha256"), (Kind::Ed25519ph, "sha512"), (Kind::Rsa, "sha256")
    )]
    (by, hash): (Kind, &str),
) {
    let (secret, log) = (Secret::new(by), log(Kind::P256));
    let signed = Signed::new(logged, &secret, None);
    let presented = signed.presented(logged, &log, &signed.entry(logged, hash));
    assert_eq!(outcome(presented.proven(&root(&[&log]), &secret.key())), "counts");
    assert_ne!(outcome(presented.proven(&root(&[&log]), &Secret::new(by).key())), "counts");
}

/// Logs sign tree heads and promises with keys of every kind; nobody else's log will do.
#[rstest]
fn logs_with_every_kind_of_key(
    #[values(Kind::P256, Kind::P384, Kind::P521, Kind::P521WithSha256, Kind::Ed25519, Kind::Rsa)] by: Kind,
    #[values(Logged::Dsse, Logged::Hashed)] logged: Logged,
) {
    let (secret, ours, other) = (Secret::new(Kind::P256), log(by), log(by));
    let signed = Signed::new(logged, &secret, None);
    let presented = signed.presented(logged, &ours, &signed.entry(logged, "sha256"));
    let proven = |logs: &[&Log]| outcome(presented.proven(&root(logs), &secret.key()));
    assert_eq!(proven(&[&ours]), "counts");
    assert_eq!(proven(&[&other, &ours]), "counts");
    assert_eq!(proven(&[&other]), "UnknownLog");
    // Another's key under the name of ours.
    let mut impostor = trust_root(&[&other]);
    impostor["tlogs"][0]["logId"] = trust_root(&[&ours])["tlogs"][0]["logId"].clone();
    let impostor = TrustRoot::parse(impostor.to_string().as_bytes()).unwrap();
    assert_eq!(outcome(presented.proven(&impostor, &secret.key())), "BadLogProof");
}

/// CVE-2022-36056, CVE-2026-22703: each of content, signature and key, altered in the entry alone.
#[rstest]
#[case(Logged::Dsse, "/spec/payloadHash/value")]
#[case(Logged::Dsse, "/spec/signatures/0/signature")]
#[case(Logged::Dsse, "/spec/signatures/0/verifier")]
#[case(Logged::Hashed, "/spec/data/hash/value")]
#[case(Logged::Hashed, "/spec/signature/content")]
#[case(Logged::Hashed, "/spec/signature/publicKey/content")]
#[case(Logged::Tiled, "/spec/hashedRekordV002/data/digest")]
#[case(Logged::Tiled, "/spec/hashedRekordV002/signature/content")]
#[case(Logged::Tiled, "/spec/hashedRekordV002/signature/verifier/publicKey/rawBytes")]
#[case(Logged::IntotoV1, "/spec/content/hash/value")]
#[case(Logged::IntotoV1, "/spec/publicKey")]
#[case(Logged::IntotoV2, "/spec/content/payloadHash/value")]
#[case(Logged::IntotoV2, "/spec/content/envelope/signatures/0/sig")]
#[case(Logged::IntotoV2, "/spec/content/envelope/signatures/0/publicKey")]
fn an_entry_is_bound_to_content_signature_and_key(#[case] logged: Logged, #[case] member: &str) {
    let (secret, log) = (Secret::new(Kind::P256), log(Kind::P256));
    // Two good signatures by one key, and one by another, so that whatever is put in place is well-formed.
    let (ours, again) = (Signed::new(logged, &secret, None), Signed::new(logged, &secret, None));
    let other = Signed { payload: r#"{"another":"content"}"#.to_owned(), ..again };
    let other = Signed { verifier: Signed::new(logged, &Secret::new(Kind::P256), None).verifier, ..other };
    let proven = |entry: &Value| proven(&ours, logged, &log, entry, &secret);
    let mut entry = ours.entry(logged, "sha256");
    assert_eq!(proven(&entry), "counts");
    let theirs = other.entry(logged, "sha256");
    *entry.pointer_mut(member).unwrap() = theirs.pointer(member).unwrap().clone();
    assert_ne!(entry, ours.entry(logged, "sha256"));
    assert_eq!(proven(&entry), "OtherLogEntry");
}

fn proven(signed: &Signed, logged: Logged, log: &Log, entry: &Value, secret: &Secret) -> &'static str {
    outcome(signed.presented(logged, log, entry).proven(&root(&[log]), &secret.key()))
}

/// What is not read is refused in words, and never passed over.
#[rstest]
#[case(Logged::Dsse, "/spec/payloadHash/algorithm", "md5".into(), "Unsupported")]
#[case(Logged::Dsse, "/spec/payloadHash/value", "0g".into(), "Malformed")]
#[case(Logged::Dsse, "/spec/payloadHash/algorithm", "sha512".into(), "OtherLogEntry")]
#[case(Logged::Dsse, "/spec/signatures", json!([]), "OtherLogEntry")]
#[case(Logged::Dsse, "/spec/signatures/0/verifier", base64("no PEM").into(), "Malformed")]
#[case(Logged::Hashed, "/kind", "rekord".into(), "Unsupported")]
#[case(Logged::Hashed, "/apiVersion", "0.0.3".into(), "Unsupported")]
#[case(Logged::Hashed, "/spec/data", Value::Null, "Malformed")]
#[case(Logged::Tiled, "/spec/hashedRekordV002/data/algorithm", "SHA3_256".into(), "Unsupported")]
#[case(Logged::Tiled, "/spec/hashedRekordV002/signature/verifier/publicKey", Value::Null, "Malformed")]
#[case(Logged::IntotoV2, "/spec/content/envelope/signatures/0/sig", base64("no base64").into(), "Malformed")]
fn what_is_not_read_is_refused(
    #[case] logged: Logged,
    #[case] member: &str,
    #[case] with: Value,
    #[case] expected: &str,
) {
    let (secret, log) = (Secret::new(Kind::P256), log(Kind::P256));
    let signed = Signed::new(logged, &secret, None);
    let mut entry = signed.entry(logged, "sha256");
    *entry.pointer_mut(member).unwrap() = with;
    assert_eq!(proven(&signed, logged, &log, &entry, &secret), expected);
}

/// An entry of one form of signature is not that of another, and `intoto` 0.0.1 needs the envelope as it was uploaded.
#[rstest]
#[case(Logged::Hashed, Logged::Dsse, "OtherLogEntry")]
#[case(Logged::Hashed, Logged::IntotoV1, "OtherLogEntry")]
// Which says no time.
#[case(Logged::Dsse, Logged::Tiled, "NoProvenTime")]
#[case(Logged::Dsse, Logged::IntotoV2, "counts")]
fn an_entry_of_another_kind(#[case] logged: Logged, #[case] other: Logged, #[case] expected: &str) {
    let (secret, log) = (Secret::new(Kind::P256), log(Kind::P256));
    let signed = Signed::new(logged, &secret, None);
    let presented = signed.presented(logged, &log, &signed.entry(other, "sha256"));
    assert_eq!(outcome(presented.proven(&root(&[&log]), &secret.key())), expected);
}

/// A log that hashes its tree with something else is refused with the trust root, as sigstore's own clients do.
#[test]
fn logs_hash_with_sha_256() {
    let mut document = trust_root(&[&log(Kind::P256)]);
    document["tlogs"][0]["hashAlgorithm"] = "SHA2_512".into();
    let error = TrustRoot::parse(document.to_string().as_bytes()).unwrap_err();
    assert!(error.to_string().contains("hashes with SHA2_512, and only SHA2_256 is read"), "{error}");
}
