//! A signature that is to be, written as JWS or as COSE.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use berth_registry_core::{Digest, manifest::OCI_MANIFEST};
use berth_trust::notary::{ByNotary, COSE, JWS, NotaryStore, Refused, Target, verify};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Party, cbor};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Jws,
    Cose,
}

/// Content of an envelope. Attributes have their JWS names and are translated for COSE.
#[derive(Clone)]
pub(crate) struct Draft {
    pub(crate) protected: Value,
    pub(crate) payload: Vec<u8>,
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) timestamp: Option<Vec<u8>>,
    /// Labels and values in CBOR that COSE headers hold as well.
    pub(crate) more_protected: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) more_unprotected: Vec<(Vec<u8>, Vec<u8>)>,
}

pub(crate) const IMAGE: &[u8] = b"the image";

impl Draft {
    /// A good one, signed on the first of June 2025.
    pub(crate) fn new(signer: &Party) -> Self {
        let artifact = json!({
            "mediaType": OCI_MANIFEST, "digest": Digest::sha256(IMAGE).to_string(), "size": IMAGE.len(),
        });
        Self {
            protected: json!({
                "alg": "ES256",
                "crit": ["io.cncf.notary.signingScheme"],
                "cty": "application/vnd.cncf.notary.payload.v1+json",
                "io.cncf.notary.signingScheme": "notary.x509",
                "io.cncf.notary.signingTime": "2025-06-01T00:00:00Z",
            }),
            payload: json!({ "targetArtifact": artifact }).to_string().into_bytes(),
            chain: signer.chain.clone(),
            timestamp: None,
            more_protected: Vec::new(),
            more_unprotected: Vec::new(),
        }
    }

    /// The bytes that a signature is over.
    fn message(&self, form: Form) -> Vec<u8> {
        match form {
            Form::Jws => {
                let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
                format!("{}.{}", encode(self.protected.to_string().as_bytes()), encode(&self.payload))
                    .into_bytes()
            }
            Form::Cose => cbor::array(&[
                cbor::text("Signature1"),
                cbor::bytes(&self.cose_protected()),
                cbor::bytes(b""),
                cbor::bytes(&self.payload),
            ]),
        }
    }

    fn cose_protected(&self) -> Vec<u8> {
        let mut entries: Vec<_> = self
            .protected
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| {
                let value = match (name.as_str(), value) {
                    ("alg", Value::String(name)) => cbor::int(match name.as_str() {
                        "ES256" => -7,
                        "ES384" => -35,
                        "PS256" => -37,
                        "RS256" => -257,
                        "HS256" => 5,
                        _ => 0,
                    }),
                    (name, Value::String(time)) if name.ends_with("Time") || name.ends_with("expiry") => {
                        cbor::tag(1, &cbor::int(time.parse::<Timestamp>().unwrap().as_second()))
                    }
                    (_, value) => cbor::from_json(value),
                };
                let label = match name.as_str() {
                    "alg" => cbor::int(1),
                    "crit" => cbor::int(2),
                    "cty" => cbor::int(3),
                    name => cbor::text(name),
                };
                (label, value)
            })
            .collect();
        entries.extend_from_slice(&self.more_protected);
        cbor::map(&entries)
    }

    pub(crate) fn sign(&self, form: Form, signer: &Party) -> Vec<u8> {
        self.envelope(form, &self.signature(form, signer))
    }

    pub(crate) fn signature(&self, form: Form, signer: &Party) -> Vec<u8> {
        signer.sign_fixed(&self.message(form))
    }

    pub(crate) fn envelope(&self, form: Form, signature: &[u8]) -> Vec<u8> {
        match form {
            Form::Jws => {
                let x5c: Vec<String> = self.chain.iter().map(|der| STANDARD.encode(der)).collect();
                let mut header = json!({ "x5c": x5c, "io.cncf.notary.signingAgent": "forger" });
                if let Some(token) = &self.timestamp {
                    header["io.cncf.notary.timestampSignature"] = STANDARD.encode(token).into();
                }
                json!({
                    "protected": URL_SAFE_NO_PAD.encode(self.protected.to_string()),
                    "payload": URL_SAFE_NO_PAD.encode(&self.payload),
                    "header": header,
                    "signature": URL_SAFE_NO_PAD.encode(signature),
                })
                .to_string()
                .into_bytes()
            }
            Form::Cose => {
                let mut unprotected = self.more_unprotected.clone();
                if !self.chain.is_empty() {
                    let chain: Vec<Vec<u8>> = self.chain.iter().map(|der| cbor::bytes(der)).collect();
                    unprotected.push((cbor::int(33), cbor::array(&chain)));
                }
                if let Some(token) = &self.timestamp {
                    unprotected.push((cbor::text("io.cncf.notary.timestampSignature"), cbor::bytes(token)));
                }
                let parts = [
                    cbor::bytes(&self.cose_protected()),
                    cbor::map(&unprotected),
                    cbor::bytes(&self.payload),
                    cbor::bytes(signature),
                ];
                cbor::tag(18, &cbor::array(&parts))
            }
        }
    }

    /// Signs and verifies.
    pub(crate) fn verify(
        &self,
        form: Form,
        signer: &Party,
        store: &NotaryStore,
    ) -> Result<ByNotary, Refused> {
        verify_bytes(form, &self.sign(form, signer), store)
    }
}

/// Verifies an envelope as one for [`IMAGE`].
pub(crate) fn verify_bytes(form: Form, envelope: &[u8], store: &NotaryStore) -> Result<ByNotary, Refused> {
    let media_type = match form {
        Form::Jws => JWS,
        Form::Cose => COSE,
    };
    let digest = Digest::sha256(IMAGE);
    let target = Target { media_type: OCI_MANIFEST, digest: &digest, size: IMAGE.len() as u64 };
    verify(store, media_type, envelope, target)
}
