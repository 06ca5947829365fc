//! DSSE envelopes around in-toto statements: what attestations are, and image signatures in bundles. Both name the
//! image's digest; only the predicate type of the *verified* statement tells them apart.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use berth_registry_core::Digest;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    bounds::{MAX_PAYLOAD, clip},
    facts::Says,
    json,
    signed::{Claims, Signed},
};

/// The predicate type of an image signature. Any other statement is an attestation.
pub(crate) const IMAGE_SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENTS: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];

/// A payload of the largest size in base64, twice over for the other fields.
pub(crate) const MAX_ENVELOPE: usize = MAX_PAYLOAD * 4;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    sig: String,
}

/// Reads an envelope that is a layer of its own, as in cosign's classic attestations.
pub(crate) fn read(bytes: &[u8]) -> Result<Signed, String> {
    json::read::<Envelope>(bytes, MAX_ENVELOPE)?.signed()
}

impl Envelope {
    /// Its signature and the bytes that it signs. The payload is not looked at before it is verified.
    pub(crate) fn signed(self) -> Result<Signed, String> {
        if self.payload_type != PAYLOAD_TYPE {
            return Err(format!("its payloadType is {:?}, not {PAYLOAD_TYPE}", clip(&self.payload_type)));
        }
        let [signature] = self.signatures.as_slice() else {
            let count = self.signatures.len();
            return Err(format!("its envelope holds {count} signatures, and exactly one is allowed"));
        };
        let signature = base64(&signature.sig).map_err(|e| format!("its signature {e}"))?;
        let payload = base64(&self.payload).map_err(|e| format!("its payload {e}"))?;
        if payload.len() > MAX_PAYLOAD {
            let size = payload.len();
            return Err(format!("its payload has {size} bytes, more than the limit of {MAX_PAYLOAD}"));
        }
        Ok(Signed { message: pre_authentication(PAYLOAD_TYPE, &payload), payload, signature, claims })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    version: String,
    subject: Vec<Subject>,
    predicate_type: String,
    predicate: Option<Box<RawValue>>,
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

/// What a verified statement says.
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
    let predicate_type = statement.predicate_type;
    let predicate = statement.predicate.as_deref().map_or("null", RawValue::get);
    Ok(if predicate_type == IMAGE_SIGNATURE {
        Claims { subjects, says: Says::Signature, claimed: None }
    } else {
        let claimed = made_at(&predicate_type, predicate);
        let says = Says::Attestation { predicate_type, predicate: predicate.to_owned() };
        Claims { subjects, says, claimed }
    })
}

/// Where predicates of well-known types, by how the type begins, say when they were made.
const TIMES: [(&str, &str); 9] = [
    ("https://cosign.sigstore.dev/attestation/vuln/", "/metadata/scanFinishedOn"),
    ("https://cosign.sigstore.dev/attestation/v1", "/Timestamp"),
    ("https://in-toto.io/attestation/vulns", "/metadata/scanFinishedOn"),
    ("https://slsa.dev/provenance/v0.", "/metadata/buildFinishedOn"),
    ("https://slsa.dev/provenance/v1", "/runDetails/metadata/finishedOn"),
    ("https://slsa.dev/verification_summary/", "/timeVerified"),
    ("https://cyclonedx.org/bom", "/metadata/timestamp"),
    ("https://spdx.dev/Document", "/creationInfo/created"),
    ("https://openvex.dev/ns", "/timestamp"),
];

/// The signer's own word on when an attestation was made, if its type has a place for it.
fn made_at(predicate_type: &str, predicate: &str) -> Option<Timestamp> {
    let (_, pointer) = TIMES.iter().find(|(start, _)| predicate_type.starts_with(start))?;
    let predicate: serde_json::Value = serde_json::from_str(predicate).ok()?;
    predicate.pointer(pointer)?.as_str()?.parse().ok()
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    /// The example of the DSSE specification.
    #[test]
    fn encodes_as_specified() {
        let encoded = pre_authentication("http://example.com/HelloWorld", b"hello world");
        assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[rstest]
    #[case(
        "https://cosign.sigstore.dev/attestation/vuln/v1",
        r#"{"metadata":{"scanFinishedOn":"2026-01-02T03:04:05Z"}}"#,
        true
    )]
    #[case(
        "https://cosign.sigstore.dev/attestation/v1",
        r#"{"Data":"x","Timestamp":"2026-01-02T03:04:05Z"}"#,
        true
    )]
    #[case(
        "https://slsa.dev/provenance/v0.2",
        r#"{"metadata":{"buildFinishedOn":"2026-01-02T03:04:05Z"}}"#,
        true
    )]
    #[case(
        "https://slsa.dev/provenance/v1",
        r#"{"runDetails":{"metadata":{"finishedOn":"2026-01-02T04:04:05+01:00"}}}"#,
        true
    )]
    #[case(
        "https://slsa.dev/provenance/v1",
        r#"{"metadata":{"buildFinishedOn":"2026-01-02T03:04:05Z"}}"#,
        false
    )]
    #[case("https://slsa.dev/provenance/v1", r#"{"runDetails":{"metadata":{"finishedOn":1}}}"#, false)]
    #[case("https://example.com/review/v1", r#"{"timestamp":"2026-01-02T03:04:05Z"}"#, false)]
    #[case("https://cyclonedx.org/bom/v1.4", "null", false)]
    fn predicates_say_when_they_were_made(#[case] kind: &str, #[case] predicate: &str, #[case] known: bool) {
        let expected = known.then(|| "2026-01-02T03:04:05Z".parse::<Timestamp>().unwrap());
        assert_eq!(made_at(kind, predicate), expected);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(read(&bytes).is_err() && claims(&bytes).is_err());
        }

        #[test]
        fn arbitrary_fields_never_panic(payload in ".{0,40}", kind in ".{0,40}", sig in ".{0,40}") {
            let envelope = serde_json::json!({
                "payload": payload, "payloadType": kind, "signatures": [{"sig": sig}]
            });
            prop_assert!(read(envelope.to_string().as_bytes()).is_err());
        }
    }
}
