//! What a transparency log wrote down, by the kinds of entries of Rekor v1 and v2: which content, which signature, whose
//! key. An entry counts only if all three are those of the signature that it came with (CVE-2022-36056, CVE-2026-22703).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::{hex, leaf, presented::Content, refused::Refused};
use crate::{
    bounds::{MAX_PAYLOAD, clip},
    json,
    key::PublicKey,
};

/// Bytes of one entry: Rekor keeps no payloads, so a certificate is the largest thing in it.
const MAX_BODY: usize = MAX_PAYLOAD;

/// Who made a signature, as far as a log can know.
#[derive(Clone, Copy)]
pub(super) enum Maker<'a> {
    /// The holder of this certificate.
    Certificate(&'a [u8]),
    /// The holder of this key, of which the log may have seen a certificate.
    Key(&'a PublicKey),
}

/// An entry as read.
pub(super) struct Record {
    of: Of,
    algorithm: String,
    digest: Vec<u8>,
    /// Missing where the digest is over it, too.
    signature: Option<Vec<u8>>,
    verifier: Verifier,
    /// Whether a log of the second version wrote it, which numbers entries in one way only.
    pub(super) tiled: bool,
}

/// What the digest is over.
#[derive(Clone, Copy)]
enum Of {
    /// The bytes that are signed.
    Message,
    /// The payload of an envelope, without what the envelope calls it.
    Payload,
    /// An envelope as it was uploaded, with its signature.
    Envelope,
}

enum Verifier {
    Certificate(Vec<u8>),
    Key(Vec<u8>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    kind: String,
    api_version: String,
    spec: Value,
}

#[derive(Deserialize)]
struct Hash {
    algorithm: String,
    value: String,
}

#[derive(Deserialize)]
struct HashedV1 {
    data: HashedData,
    signature: HashedSignature,
}

#[derive(Deserialize)]
struct HashedData {
    hash: Hash,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HashedSignature {
    content: String,
    public_key: Pem,
}

#[derive(Deserialize)]
struct Pem {
    content: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HashedV2 {
    hashed_rekord_v002: HashedV2Entry,
}

#[derive(Deserialize)]
struct HashedV2Entry {
    data: HashedV2Data,
    signature: HashedV2Signature,
}

#[derive(Deserialize)]
struct HashedV2Data {
    algorithm: String,
    digest: String,
}

#[derive(Deserialize)]
struct HashedV2Signature {
    content: String,
    verifier: HashedV2Verifier,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HashedV2Verifier {
    public_key: Option<Raw>,
    x509_certificate: Option<Raw>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    raw_bytes: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dsse {
    payload_hash: Hash,
    signatures: Vec<DsseSignature>,
}

#[derive(Deserialize)]
struct DsseSignature {
    signature: String,
    verifier: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IntotoV1 {
    content: IntotoV1Content,
    public_key: String,
}

#[derive(Deserialize)]
struct IntotoV1Content {
    hash: Hash,
}

#[derive(Deserialize)]
struct IntotoV2 {
    content: IntotoV2Content,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IntotoV2Content {
    envelope: IntotoV2Envelope,
    payload_hash: Hash,
}

#[derive(Deserialize)]
struct IntotoV2Envelope {
    signatures: Vec<IntotoV2Signature>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IntotoV2Signature {
    /// Base64 of base64.
    sig: String,
    public_key: String,
}

impl Record {
    /// Reads an entry's body. The log vouches for these bytes, so they say themselves of which kind they are.
    pub(super) fn read(body: &[u8]) -> Result<Self, Refused> {
        let Body { kind, api_version: version, spec } = json::read(body, MAX_BODY).map_err(malformed)?;
        match (kind.as_str(), version.as_str()) {
            ("hashedrekord", "0.0.1") => {
                let HashedV1 { data: HashedData { hash }, signature } = typed(spec)?;
                let HashedSignature { content, public_key } = signature;
                Self::new(Of::Message, hash, Some(base64(&content)?), pem(&public_key.content)?)
            }
            ("hashedrekord", "0.0.2") => {
                let HashedV2 { hashed_rekord_v002: HashedV2Entry { data, signature } } = typed(spec)?;
                let HashedV2Verifier { public_key, x509_certificate } = signature.verifier;
                let verifier = match (public_key, x509_certificate) {
                    (Some(key), None) => Verifier::Key(base64(&key.raw_bytes)?),
                    (None, Some(certificate)) => Verifier::Certificate(base64(&certificate.raw_bytes)?),
                    _ => return Err(malformed("it names not one verifier")),
                };
                let signature = Some(base64(&signature.content)?);
                let (algorithm, digest) = (data.algorithm, base64(&data.digest)?);
                Ok(Self { of: Of::Message, algorithm, digest, signature, verifier, tiled: true })
            }
            ("dsse", "0.0.1") => {
                let Dsse { payload_hash, signatures } = typed(spec)?;
                let DsseSignature { signature, verifier } = only(signatures)?;
                Self::new(Of::Payload, payload_hash, Some(base64(&signature)?), pem(&verifier)?)
            }
            ("intoto", "0.0.1") => {
                let IntotoV1 { content: IntotoV1Content { hash }, public_key } = typed(spec)?;
                Self::new(Of::Envelope, hash, None, pem(&public_key)?)
            }
            ("intoto", "0.0.2") => {
                let IntotoV2 { content: IntotoV2Content { envelope, payload_hash } } = typed(spec)?;
                let IntotoV2Signature { sig, public_key } = only(envelope.signatures)?;
                let inner = String::from_utf8(base64(&sig)?).map_err(malformed)?;
                Self::new(Of::Payload, payload_hash, Some(base64(&inner)?), pem(&public_key)?)
            }
            _ => Err(Refused::Unsupported(clip(&format!(
                "its log entry is {kind:?} {version:?}, and only hashedrekord 0.0.1 and 0.0.2, dsse 0.0.1, intoto 0.0.1 \
                 and 0.0.2 are read"
            )))),
        }
    }

    fn new(of: Of, hash: Hash, signature: Option<Vec<u8>>, verifier: Verifier) -> Result<Self, Refused> {
        let Hash { algorithm, value } = hash;
        let digest = hex(&value).ok_or_else(|| malformed("its digest is no hexadecimal number"))?;
        Ok(Self { of, algorithm, digest, signature, verifier, tiled: false })
    }

    /// Whether it is the entry of this very signature.
    pub(super) fn binds(&self, content: &Content, signature: &[u8], by: Maker<'_>) -> Result<(), Refused> {
        let other = |what: &str| Err(Refused::OtherLogEntry(what.to_owned()));
        if self.signature.as_ref().is_some_and(|logged| logged != signature) {
            return other("it holds another signature");
        }
        let same = match (&self.verifier, by) {
            (Verifier::Certificate(logged), Maker::Certificate(ours)) => logged == ours,
            (Verifier::Key(_), Maker::Certificate(_)) => false,
            (Verifier::Key(logged), Maker::Key(ours)) => {
                PublicKey::from_der(logged).is_ok_and(|logged| logged == *ours)
            }
            (Verifier::Certificate(logged), Maker::Key(ours)) => {
                leaf::key(logged).is_ok_and(|logged| logged == *ours)
            }
        };
        if !same {
            return other("it holds another certificate or key");
        }
        let logged = match (self.of, content) {
            (Of::Message, _) => content.message(),
            (Of::Payload, Content::Envelope { envelope, .. }) => envelope.payload.as_bytes().into(),
            (Of::Envelope, Content::Envelope { stored: Some(bytes), .. }) => bytes.into(),
            (Of::Envelope, Content::Envelope { stored: None, .. }) => {
                let cause =
                    "its log entry is over an envelope as it was uploaded, which a bundle does not keep";
                return Err(Refused::Unsupported(cause.to_owned()));
            }
            (Of::Payload | Of::Envelope, Content::Bytes(_)) => return other("it is about an envelope"),
        };
        let digest = match self.algorithm.as_str() {
            "sha256" | "SHA2_256" => Sha256::digest(&logged).to_vec(),
            "sha384" | "SHA2_384" => Sha384::digest(&logged).to_vec(),
            "sha512" | "SHA2_512" => Sha512::digest(&logged).to_vec(),
            unknown => {
                let cause = format!(
                    "its log entry hashes with {unknown:?}, and SHA-256, SHA-384 or SHA-512 are read"
                );
                return Err(Refused::Unsupported(clip(&cause)));
            }
        };
        if digest == self.digest { Ok(()) } else { other("it holds another content") }
    }
}

fn malformed(cause: impl std::fmt::Display) -> Refused {
    Refused::malformed(format_args!("its log entry: {cause}"))
}

fn typed<T: DeserializeOwned>(spec: Value) -> Result<T, Refused> {
    serde_json::from_value(spec).map_err(malformed)
}

/// We take envelopes with one signature, so an entry of several is that of another.
fn only<T>(signatures: Vec<T>) -> Result<T, Refused> {
    let count = signatures.len();
    let one = <[T; 1]>::try_from(signatures).map(|[one]| one);
    one.map_err(|_| Refused::OtherLogEntry(format!("it holds {count} signatures, not one")))
}

fn base64(text: &str) -> Result<Vec<u8>, Refused> {
    STANDARD.decode(text).map_err(|e| malformed(format_args!("it holds no base64: {e}")))
}

/// Base64 of the PEM of a certificate or a key.
fn pem(text: &str) -> Result<Verifier, Refused> {
    match <(SectionKind, Vec<u8>)>::from_pem_slice(&base64(text)?) {
        Ok((SectionKind::Certificate, der)) => Ok(Verifier::Certificate(der)),
        Ok((SectionKind::PublicKey, der)) => Ok(Verifier::Key(der)),
        _ => Err(malformed("it holds neither a certificate nor a public key")),
    }
}
