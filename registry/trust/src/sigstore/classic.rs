//! cosign's classic formats: what comes along with a signature stands in annotations of its layer. Read into the same
//! form as a bundle, so that every signature is verified in one way.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use berth_registry_core::Descriptor;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    MAX_CHAIN, hex,
    log::Entry,
    presented::{Content, Presented},
    refused::Refused,
};
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
    payload: Payload,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    body: String,
    integrated_time: i64,
    log_index: u64,
    #[serde(rename = "logID")]
    log_id: String,
}

#[derive(Deserialize)]
struct Timestamp {
    #[serde(rename = "SignedRFC3161Timestamp")]
    token: String,
}

/// Reads a layer with its annotations.
pub(super) fn read(layer: &Descriptor, bytes: &[u8]) -> Result<Presented, Refused> {
    let annotation = |name| layer.annotations.get(name).map(String::as_str).filter(|text| !text.is_empty());
    let mut certificates =
        annotation(CERTIFICATE).map_or(Ok(Vec::new()), |pem| pem_certificates(CERTIFICATE, pem))?;
    if !certificates.is_empty()
        && let Some(pem) = annotation(CHAIN)
    {
        certificates.extend(pem_certificates(CHAIN, pem)?);
    }
    let timestamps = match annotation(TIMESTAMP) {
        Some(text) => {
            let Timestamp { token } = document(TIMESTAMP, text)?;
            vec![base64(TIMESTAMP, &token)?]
        }
        None => Vec::new(),
    };
    let (content, signature) = signature(layer, bytes)?;
    let entries = annotation(BUNDLE).map(entry).transpose()?.into_iter().collect();
    Ok(Presented { content, signature, certificates, entries, timestamps, promise: true })
}

/// A simple signature over the layer's bytes, or the envelope that the layer is.
fn signature(layer: &Descriptor, bytes: &[u8]) -> Result<(Content, Vec<u8>), Refused> {
    if layer.media_type == kind::ENVELOPE {
        let envelope = json::read(bytes, MAX_ANNOTATION).map_err(Refused::malformed)?;
        return Ok(Content::envelope(envelope, Some(bytes.to_vec())));
    }
    Refused::bound("bytes", bytes.len(), MAX_PAYLOAD)?;
    let signature = layer.annotations.get(SIGNATURE);
    let signature = signature
        .ok_or_else(|| Refused::malformed(format_args!("its layer has no annotation {SIGNATURE}")))?;
    Ok((Content::Bytes(bytes.to_vec()), base64(SIGNATURE, signature)?))
}

fn entry(text: &str) -> Result<Entry, Refused> {
    let malformed =
        |e: &dyn std::fmt::Display| Refused::malformed(format_args!("its annotation {BUNDLE}: {e}"));
    let Logged { signed_entry_timestamp, payload } = document(BUNDLE, text)?;
    Ok(Entry {
        log: hex(&payload.log_id).ok_or_else(|| malformed(&"its logID is no hexadecimal number"))?,
        index: payload.log_index,
        time: Some(jiff::Timestamp::from_second(payload.integrated_time).map_err(|e| malformed(&e))?),
        body: base64(BUNDLE, &payload.body)?,
        promise: Some(base64(BUNDLE, &signed_entry_timestamp)?),
        proof: None,
    })
}

fn pem_certificates(annotation: &str, pem: &str) -> Result<Vec<Vec<u8>>, Refused> {
    Refused::bound("bytes in an annotation", pem.len(), MAX_ANNOTATION)?;
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).take(MAX_CHAIN + 1);
    let certificates: Vec<_> = certificates
        .map(|der| der.map(|der| der.to_vec()))
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
