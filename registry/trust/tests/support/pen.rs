//! A signer of the tests: writes signatures and attestations as cosign does, about anything and with any content.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use berth_registry_core::Digest;
use berth_trust::{Artifact, Authority, By, PublicKey, kind};
use serde_json::{Value, json};

pub(crate) struct Pen(Ed25519KeyPair);

pub(crate) const SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";

impl Pen {
    /// The same number is the same key.
    pub(crate) fn new(number: u8) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[number; 32]).unwrap())
    }

    pub(crate) fn key(&self) -> PublicKey {
        let prefix = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        let spki = STANDARD.encode([&prefix[..], self.0.public_key().as_ref()].concat());
        PublicKey::from_pem(&format!("-----BEGIN PUBLIC KEY-----\n{spki}\n-----END PUBLIC KEY-----\n"))
            .unwrap()
    }

    pub(crate) fn authority(&self, name: &str) -> Authority {
        Authority { name: name.to_owned(), by: By::Key { key: self.key(), log: None }, valid_until: None }
    }

    pub(crate) fn envelope(&self, payload: &str) -> Value {
        let kind = "application/vnd.in-toto+json";
        let message = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
        let sig = STANDARD.encode(self.0.sign(message.as_bytes()));
        json!({"payload": STANDARD.encode(payload), "payloadType": kind, "signatures": [{"sig": sig}]})
    }

    /// A bundle beside the image.
    pub(crate) fn bundle(&self, payload: &str) -> Artifact {
        let bundle = json!({
            "mediaType": kind::BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": "x"}},
            "dsseEnvelope": self.envelope(payload),
        });
        artifact(kind::BUNDLE, &bundle.to_string(), &json!({}))
    }

    /// A signature in a bundle.
    pub(crate) fn signs(&self, subject: &Digest) -> Artifact {
        self.bundle(&statement(subject, SIGNATURE, &json!({})))
    }

    /// An attestation in a bundle.
    pub(crate) fn attests(&self, subject: &Digest, kind: &str, predicate: &Value) -> Artifact {
        self.bundle(&statement(subject, kind, predicate))
    }

    /// A classic attestation.
    pub(crate) fn attests_classic(&self, subject: &Digest, kind: &str, predicate: &Value) -> Artifact {
        let envelope = self.envelope(&statement(subject, kind, predicate)).to_string();
        artifact(kind::ENVELOPE, &envelope, &json!({"predicateType": kind}))
    }

    /// A classic signature.
    pub(crate) fn signs_classic(&self, subject: &Digest) -> Artifact {
        self.simple(&json!({"critical": {
            "identity": {"docker-reference": "r.svc/team/app"},
            "image": {"docker-manifest-digest": subject},
            "type": "cosign container image signature",
        }, "optional": null}))
    }

    /// A classic signature over anything.
    pub(crate) fn simple(&self, payload: &Value) -> Artifact {
        let payload = payload.to_string();
        let signature = STANDARD.encode(self.0.sign(payload.as_bytes()));
        artifact(kind::SIMPLE_SIGNING, &payload, &json!({"dev.cosignproject.cosign/signature": signature}))
    }
}

/// An in-toto statement.
pub(crate) fn statement(subject: &Digest, kind: &str, predicate: &Value) -> String {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "x", "digest": {(subject.algorithm().as_str()): subject.hex()}}],
        "predicateType": kind,
        "predicate": predicate,
    })
    .to_string()
}

/// A manifest with one layer.
pub(crate) fn artifact(media_type: &str, layer: &str, annotations: &Value) -> Artifact {
    artifact_of(&[(media_type, layer, annotations)])
}

/// A manifest with layers: media type, content, annotations.
pub(crate) fn artifact_of(layers: &[(&str, &str, &Value)]) -> Artifact {
    let descriptors: Vec<_> = layers
        .iter()
        .map(|(media_type, layer, annotations)| {
            let digest = Digest::sha256(layer.as_bytes());
            json!({"mediaType": media_type, "digest": digest, "size": layer.len(), "annotations": annotations})
        })
        .collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::sha256(b"{}"), "size": 2},
        "layers": descriptors,
    });
    let layers =
        layers.iter().map(|(_, layer, _)| (Digest::sha256(layer.as_bytes()), layer.as_bytes().to_vec()));
    Artifact { manifest: manifest.to_string().into_bytes(), layers: layers.collect() }
}
