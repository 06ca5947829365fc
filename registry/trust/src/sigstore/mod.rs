//! Signatures with more about them than a key: certificates, entries of transparency logs, timestamps. A signature is
//! read once ([`Presented`]) and then looked at with each [`TrustRoot`] of a policy: `issued` asks who issued its
//! certificate, `log` and `record` whether a log holds this very signature, `notary::timestamp` when an authority saw it.

mod authorities;
mod classic;
mod issued;
mod leaf;
mod log;
mod presented;
mod record;
mod refused;
mod trust_root;

pub use authorities::{CertificateAuthorities, InvalidAuthorities};
pub use presented::{ByCertificate, Keyless, Presented};
pub use refused::Refused;
pub use trust_root::{InvalidTrustRoot, TrustRoot};

/// Certificates of one chain, entries and timestamps of one signature.
const MAX_CHAIN: usize = 10;
/// `id-kp-codeSigning` (RFC 5280, section 4.2.1.12).
const CODE_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.chars().map(|c| u8::try_from(c.to_digit(16)?).ok()).collect::<Option<_>>()?;
    let (pairs, []) = digits.as_chunks() else { return None };
    Some(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}
