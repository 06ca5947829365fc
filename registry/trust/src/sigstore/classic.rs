//! cosign's classic formats: what comes along with a signature stands in annotations of its layer. Brought into the
//! form of a bundle, so that every signature is verified in one way.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use berth_registry_core::Descriptor;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use sigstore_verify::types::{
    Bundle, CanonicalizedBody, DerCertificate, InclusionPromise, KindVersion, LogId, LogIndex, LogKeyId,
    MediaType, MessageSignature, PublicKeyIdentifier, Rfc3161Timestamp, SignatureBytes, SignatureContent,
    SignedTimestamp, TimestampToken, TimestampVerificationData, TransparencyLogEntry, VerificationMaterial,
    VerificationMaterialContent, X509Certificate,
};

use super::{MAX_CHAIN, refused::Refused};
use crate::{bounds::MAX_PAYLOAD, evidence::kind, json};

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";
const BUNDLE: &str = "dev.sigstore.cosign/bundle";
const TIMESTAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";

/// Bytes of one annotation.
const MAX_ANNOTATION: usize = 4 * MAX_PAYLOAD;

/// What a log gave back when it took the entry, with its promise (the signed entry timestamp).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Logged {
    signed_entry_timestamp: String,
    payload: Entry,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    body: String,
    integrated_time: i64,
    log_index: u64,
    #[serde(rename = "logID")]
    log_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    kind: String,
    api_version: String,
}

#[derive(Deserialize)]
struct Timestamp {
    #[serde(rename = "SignedRFC3161Timestamp")]
    token: String,
}

/// Reads a layer with its annotations.
pub(super) fn read(layer: &Descriptor, bytes: &[u8]) -> Result<Bundle, Refused> {
    let annotation = |name| layer.annotations.get(name).map(String::as_str).filter(|text| !text.is_empty());
    let mut certificates =
        annotation(CERTIFICATE).map_or(Ok(Vec::new()), |pem| pem_certificates(CERTIFICATE, pem))?;
    if !certificates.is_empty() {
        if let Some(pem) = annotation(CHAIN) {
            certificates.extend(pem_certificates(CHAIN, pem)?);
        }
        Refused::bound("certificates", certificates.len(), MAX_CHAIN)?;
    }
    let content = if certificates.is_empty() {
        VerificationMaterialContent::PublicKey(PublicKeyIdentifier::new(""))
    } else {
        VerificationMaterialContent::X509CertificateChain { certificates }
    };
    let entries: Vec<_> = annotation(BUNDLE).map(entry).transpose()?.into_iter().collect();
    let timestamps = match annotation(TIMESTAMP) {
        Some(text) => {
            let Timestamp { token } = document(TIMESTAMP, text)?;
            vec![Rfc3161Timestamp::new(TimestampToken::new(base64(TIMESTAMP, &token)?))]
        }
        None => Vec::new(),
    };
    // v0.1 is the version that is content with a log's promise.
    let version = if entries.is_empty() { MediaType::Bundle0_2 } else { MediaType::Bundle0_1 };
    let material = VerificationMaterial::new(content)
        .with_tlog_entries(entries)
        .with_timestamp_verification_data(TimestampVerificationData::new(timestamps));
    Ok(Bundle::new(version, material, signature(layer, bytes)?))
}

/// A simple signature over the layer's bytes, or the envelope that the layer is.
fn signature(layer: &Descriptor, bytes: &[u8]) -> Result<SignatureContent, Refused> {
    if layer.media_type == kind::ENVELOPE {
        let envelope = json::read(bytes, MAX_ANNOTATION).map_err(Refused::malformed)?;
        return Ok(SignatureContent::DsseEnvelope(envelope));
    }
    Refused::bound("bytes", bytes.len(), MAX_PAYLOAD)?;
    let signature = layer.annotations.get(SIGNATURE);
    let signature = signature
        .ok_or_else(|| Refused::malformed(format_args!("its layer has no annotation {SIGNATURE}")))?;
    Ok(SignatureContent::MessageSignature(MessageSignature::new(SignatureBytes::new(base64(
        SIGNATURE, signature,
    )?))))
}

fn entry(text: &str) -> Result<TransparencyLogEntry, Refused> {
    let malformed =
        |e: &dyn std::fmt::Display| Refused::malformed(format_args!("its annotation {BUNDLE}: {e}"));
    let Logged { signed_entry_timestamp, payload } = document(BUNDLE, text)?;
    let body = base64(BUNDLE, &payload.body)?;
    let Body { kind, api_version } = json::read(&body, MAX_ANNOTATION).map_err(|e| malformed(&e))?;
    let kind: KindVersion = serde_json::from_value(json!({"kind": kind, "version": api_version}))
        .map_err(|e| Refused::Unsupported(crate::bounds::clip(&e.to_string())))?;
    let log = hex(&payload.log_id).ok_or_else(|| malformed(&"its logID is no hexadecimal number"))?;
    let time = jiff::Timestamp::from_second(payload.integrated_time).map_err(|e| malformed(&e))?;
    let promise = SignedTimestamp::new(base64(BUNDLE, &signed_entry_timestamp)?);
    let index = LogIndex::new(payload.log_index).map_err(|e| malformed(&e))?;
    let id = LogId::new(LogKeyId::new(log));
    Ok(TransparencyLogEntry::new(index, id, kind, CanonicalizedBody::new(body))
        .with_integrated_time(time)
        .with_inclusion_promise(InclusionPromise::new(promise)))
}

fn pem_certificates(annotation: &str, pem: &str) -> Result<Vec<X509Certificate>, Refused> {
    Refused::bound("bytes in an annotation", pem.len(), MAX_ANNOTATION)?;
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).take(MAX_CHAIN + 1);
    let certificates: Vec<_> = certificates
        .map(|der| der.map(|der| X509Certificate::new(DerCertificate::from_bytes(&der))))
        .collect::<Result<_, _>>()
        .map_err(|e| Refused::malformed(format_args!("its annotation {annotation}: {e}")))?;
    if certificates.is_empty() {
        return Err(Refused::malformed(format_args!("its annotation {annotation} holds no certificate")));
    }
    Ok(certificates)
}

fn document<T: DeserializeOwned>(annotation: &str, text: &str) -> Result<T, Refused> {
    json::read(text.as_bytes(), MAX_ANNOTATION)
        .map_err(|e| Refused::malformed(format_args!("its annotation {annotation}: {e}")))
}

fn base64(annotation: &str, text: &str) -> Result<Vec<u8>, Refused> {
    STANDARD
        .decode(text)
        .map_err(|e| Refused::malformed(format_args!("its annotation {annotation} holds no base64: {e}")))
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.chars().map(|c| u8::try_from(c.to_digit(16)?).ok()).collect::<Option<_>>()?;
    let (pairs, []) = digits.as_chunks() else { return None };
    Some(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}
