//! cosign's classic signatures: each layer of the manifest is one signature, the layer's bytes are what is signed
//! ("simple signing"), the signature stands in an annotation. Classic attestations are envelopes (`dsse`).

use berth_registry_core::{Descriptor, Digest};
use serde::Deserialize;

use crate::{
    bounds::{MAX_PAYLOAD, clip},
    dsse::{IMAGE_SIGNATURE, base64},
    facts::Says,
    json,
    signed::{Claims, Signed},
};

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// What `critical.type` may say; the second is what newer cosign calls the same thing.
const TYPES: [&str; 2] = ["cosign container image signature", IMAGE_SIGNATURE];

/// Reads one layer: its signature and the bytes that it signs. The payload is not looked at before it is verified.
pub(crate) fn read(layer: &Descriptor, bytes: &[u8]) -> Result<Signed, String> {
    if bytes.len() > MAX_PAYLOAD {
        return Err(format!("its payload has {} bytes, more than the limit of {MAX_PAYLOAD}", bytes.len()));
    }
    let signature =
        layer.annotations.get(SIGNATURE).ok_or_else(|| format!("its layer has no annotation {SIGNATURE}"))?;
    let signature = base64(signature).map_err(|e| format!("its annotation {SIGNATURE} {e}"))?;
    Ok(Signed { message: bytes.to_vec(), payload: bytes.to_vec(), signature, claims })
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

/// What a verified payload says. Anything but the two types means something that we do not know.
fn claims(payload: &[u8]) -> Result<Claims, String> {
    let Payload { critical } = json::read(payload, MAX_PAYLOAD)?;
    if !TYPES.contains(&critical.r#type.as_str()) {
        return Err(format!("its critical.type is {:?}, no image signature", clip(&critical.r#type)));
    }
    let subjects = vec![critical.image.docker_manifest_digest];
    Ok(Claims { subjects, says: Says::Signature, claimed: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(claims(&bytes).is_err());
        }
    }
}
