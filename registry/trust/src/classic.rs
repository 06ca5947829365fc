//! cosign's classic format: each layer of the manifest is one signature, the layer's bytes are what is signed
//! ("simple signing"), the signature stands in an annotation.

use berth_registry_core::{Descriptor, Digest};
use serde::Deserialize;

use crate::{
    bounds::MAX_PAYLOAD,
    facts::{Claims, Signed},
    json,
};

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// What `critical.type` may say; the second is what newer cosign calls the same thing.
const TYPES: [&str; 2] = ["cosign container image signature", "https://sigstore.dev/cosign/sign/v1"];

/// Reads one layer: its signature and the bytes that it signs. The payload is not looked at before it is verified.
pub(crate) fn read(layer: &Descriptor, bytes: &[u8]) -> Result<Signed, String> {
    if bytes.len() > MAX_PAYLOAD {
        return Err(format!("its payload has {} bytes, more than the limit of {MAX_PAYLOAD}", bytes.len()));
    }
    let signature =
        layer.annotations.get(SIGNATURE).ok_or_else(|| format!("its layer has no annotation {SIGNATURE}"))?;
    let signature =
        crate::bundle::base64(signature).map_err(|e| format!("its annotation {SIGNATURE} {e}"))?;
    Ok(Signed { message: bytes.to_vec(), payload: bytes.to_vec(), signature })
}

/// `critical` must be understood in full, so unknown members are refused; `optional` is free.
#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    /// `docker-reference`: where the signer saw the image. No basis for trust: images are copied.
    #[serde(rename = "identity")]
    _identity: serde_json::Value,
    image: Image,
    r#type: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    docker_manifest_digest: Digest,
}

/// What a verified payload says.
pub(crate) fn claims(payload: &[u8]) -> Result<Claims, String> {
    let Payload { critical } = json::read(payload, MAX_PAYLOAD)?;
    Ok(Claims {
        subjects: vec![critical.image.docker_manifest_digest],
        is_signature: TYPES.contains(&critical.r#type.as_str()),
        kind: critical.r#type,
    })
}
