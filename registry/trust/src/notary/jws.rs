//! The JWS envelope: JSON in the flattened serialization (RFC 7515, 7.2.2) with exactly one signature.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{
    MAX_ENVELOPE,
    algorithm::Algorithm,
    envelope::{Attributes, Envelope},
    refused::Refused,
};
use crate::{bounds::clip, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Flattened {
    payload: String,
    protected: String,
    header: Unprotected,
    signature: String,
}

#[derive(Deserialize)]
struct Unprotected {
    x5c: Vec<String>,
    #[serde(rename = "io.cncf.notary.timestampSignature")]
    timestamp: Option<String>,
}

#[derive(Deserialize)]
struct Protected {
    alg: String,
    cty: String,
    crit: Vec<String>,
    #[serde(rename = "io.cncf.notary.signingScheme")]
    scheme: String,
    #[serde(rename = "io.cncf.notary.signingTime")]
    signing_time: Option<Timestamp>,
    #[serde(rename = "io.cncf.notary.authenticSigningTime")]
    authentic_signing_time: Option<Timestamp>,
    #[serde(rename = "io.cncf.notary.expiry")]
    expiry: Option<Timestamp>,
    #[serde(rename = "io.cncf.notary.verificationPlugin")]
    plugin: Option<IgnoredAny>,
}

/// Reads an envelope.
pub(super) fn read(bytes: &[u8]) -> Result<Envelope, Refused> {
    let jws: Flattened = json::read(bytes, MAX_ENVELOPE).map_err(|e| Refused::Malformed(clip(&e)))?;
    let protected = decode(&URL_SAFE_NO_PAD, "protected", &jws.protected)?;
    let protected: Protected = json::read(&protected, MAX_ENVELOPE)
        .map_err(|e| Refused::Malformed(format!("protected: {}", clip(&e))))?;
    Ok(Envelope {
        payload: decode(&URL_SAFE_NO_PAD, "payload", &jws.payload)?,
        signature: decode(&URL_SAFE_NO_PAD, "signature", &jws.signature)?,
        chain: jws
            .header
            .x5c
            .iter()
            .map(|certificate| decode(&STANDARD, "x5c", certificate))
            .collect::<Result<_, _>>()?,
        timestamp: jws
            .header
            .timestamp
            .map(|token| decode(&STANDARD, "timestampSignature", &token))
            .transpose()?,
        message: format!("{}.{}", jws.protected, jws.payload).into_bytes(),
        algorithm: Algorithm::from_jose(&protected.alg)
            .ok_or_else(|| Refused::Malformed(format!("the algorithm {:?}", clip(&protected.alg))))?,
        attributes: Attributes {
            content_type: protected.cty,
            critical: protected.crit,
            scheme: protected.scheme,
            signing_time: protected.signing_time,
            authentic_signing_time: protected.authentic_signing_time,
            expiry: protected.expiry,
            plugin: protected.plugin.is_some(),
        },
    })
}

fn decode(alphabet: &impl Engine, field: &str, text: &str) -> Result<Vec<u8>, Refused> {
    alphabet.decode(text).map_err(|e| Refused::Malformed(format!("{field} is no base64: {e}")))
}
