//! The sigstore bundle v0.3: a DSSE envelope with one signature around an in-toto statement that names the image's
//! digest. Attestations come in the same form; only the predicate type of the *verified* statement tells them apart.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use berth_registry_core::Digest;
use serde::Deserialize;

use crate::{
    bounds::MAX_PAYLOAD,
    evidence::kind,
    facts::{Claims, Signed},
    json,
};

/// The predicate type of an image signature. Any other statement is not a signature.
const IMAGE_SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENTS: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];

/// A payload of the largest size in base64, twice over for the other fields.
const MAX_BUNDLE: usize = MAX_PAYLOAD * 4;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    dsse_envelope: Option<Envelope>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

/// Reads a bundle: its signature and the bytes that it signs. The payload is not looked at before it is verified.
pub(crate) fn read(bytes: &[u8]) -> Result<Signed, String> {
    let bundle: Bundle = json::read(bytes, MAX_BUNDLE)?;
    if !kind::is_bundle(&bundle.media_type) {
        return Err(format!("its mediaType {:?} is no bundle that is understood", clip(&bundle.media_type)));
    }
    let envelope = bundle.dsse_envelope.ok_or("it holds no dsseEnvelope")?;
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(format!("its payloadType is {:?}, not {PAYLOAD_TYPE}", clip(&envelope.payload_type)));
    }
    let [signature] = envelope.signatures.as_slice() else {
        return Err(format!(
            "its envelope holds {} signatures, and exactly one is allowed",
            envelope.signatures.len()
        ));
    };
    let signature = base64(&signature.sig).map_err(|e| format!("its signature {e}"))?;
    let payload = base64(&envelope.payload).map_err(|e| format!("its payload {e}"))?;
    if payload.len() > MAX_PAYLOAD {
        return Err(format!("its payload has {} bytes, more than the limit of {MAX_PAYLOAD}", payload.len()));
    }
    Ok(Signed { message: pre_authentication(PAYLOAD_TYPE, &payload), payload, signature })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    version: String,
    subject: Vec<Subject>,
    predicate_type: String,
}

#[derive(Deserialize)]
struct Subject {
    digest: SubjectDigest,
}

#[derive(Deserialize)]
struct SubjectDigest {
    sha256: Option<String>,
    sha512: Option<String>,
}

/// What a verified payload says.
pub(crate) fn claims(payload: &[u8]) -> Result<Claims, String> {
    let statement: Statement = json::read(payload, MAX_PAYLOAD)?;
    if !STATEMENTS.contains(&statement.version.as_str()) {
        return Err(format!("its _type is {:?}, no in-toto statement", clip(&statement.version)));
    }
    let mut subjects = Vec::new();
    for SubjectDigest { sha256, sha512 } in statement.subject.into_iter().map(|subject| subject.digest) {
        for (algorithm, hex) in [("sha256", sha256), ("sha512", sha512)] {
            let Some(hex) = hex else { continue };
            let digest: Digest =
                format!("{algorithm}:{hex}").parse().map_err(|e| format!("its subject: {e}"))?;
            subjects.push(digest);
        }
    }
    Ok(Claims {
        subjects,
        is_signature: statement.predicate_type == IMAGE_SIGNATURE,
        kind: statement.predicate_type,
    })
}

/// DSSE's pre-authentication encoding: type and payload, each with its length before it.
fn pre_authentication(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// Standard base64 with padding.
pub(crate) fn base64(text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|e| format!("is no base64: {e}"))
}

/// Keeps messages short when the input is hostile.
pub(crate) fn clip(text: &str) -> String {
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The example of the DSSE specification.
    #[test]
    fn encodes_as_specified() {
        let encoded = pre_authentication("http://example.com/HelloWorld", b"hello world");
        assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn spellings_of_the_media_type() {
        for spelling in [
            "application/vnd.dev.sigstore.bundle.v0.3+json",
            "application/vnd.dev.sigstore.bundle+json;version=0.3",
            "application/vnd.dev.sigstore.bundle+json; version=0.2",
        ] {
            assert!(kind::is_bundle(spelling), "{spelling}");
        }
        for other in ["", "application/vnd.dev.sigstore.bundle.v0.4+json", "application/json"] {
            assert!(!kind::is_bundle(other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = (read(&bytes), claims(&bytes), crate::classic::claims(&bytes));
        }

        #[test]
        fn arbitrary_fields_never_panic(payload in ".{0,40}", kind in ".{0,40}", sig in ".{0,40}") {
            let bundle = serde_json::json!({
                "mediaType": kind::BUNDLE,
                "dsseEnvelope": {"payload": payload, "payloadType": kind, "signatures": [{"sig": sig}]}
            });
            prop_assert!(read(bundle.to_string().as_bytes()).is_err());
        }
    }
}
