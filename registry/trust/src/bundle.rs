//! The sigstore bundle: an envelope together with what it takes to verify it. Image signatures and attestations come
//! in the same form.

use serde::Deserialize;

use crate::{
    bounds::clip,
    dsse::{Envelope, MAX_ENVELOPE},
    evidence::kind,
    json,
    signed::Signed,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    dsse_envelope: Option<Envelope>,
}

/// Reads a bundle: its signature and the bytes that it signs.
pub(crate) fn read(bytes: &[u8]) -> Result<Signed, String> {
    let bundle: Bundle = json::read(bytes, MAX_ENVELOPE)?;
    if !kind::is_bundle(&bundle.media_type) {
        return Err(format!("its mediaType {:?} is no bundle that is understood", clip(&bundle.media_type)));
    }
    bundle.dsse_envelope.ok_or("it holds no dsseEnvelope")?.signed()
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
