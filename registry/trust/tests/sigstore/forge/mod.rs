//! A sigstore instance of the tests: keys of every kind, logs that write down whatever they are told (and so an entry that
//! is wrong is wrong in this one thing), an authority with a certificate log, and the trust root that names them all.

mod authority;
mod log;
mod secret;

pub(crate) use authority::Authority;
pub(crate) use log::Log;
pub(crate) use secret::{Kind, Secret};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

pub(crate) fn hex(bytes: impl AsRef<[u8]>) -> String {
    let digits = bytes.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits.map(|digit| char::from_digit(digit.into(), 16).unwrap()).collect()
}

/// Standard PEM.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", base64(der))
}

/// When all of this happens.
pub(crate) const NOW: i64 = 1_767_225_600;

/// A trust root that names these logs.
pub(crate) fn trust_root(logs: &[&Log]) -> Value {
    json!({
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs": logs.iter().map(|log| log.trusted()).collect::<Vec<_>>(),
    })
}
