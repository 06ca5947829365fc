//! Signatures with more about them than a key: certificates, entries of transparency logs, timestamps. A signature is
//! read once ([`Presented`]) and then looked at with each [`TrustRoot`] of a policy. The crate `sigstore-verify` does
//! the cryptography; what the trust model asks beyond it is checked here (`log`, `leaf`, the windows in `trust_root`).

mod authorities;
mod classic;
mod leaf;
mod log;
mod presented;
mod refused;
mod trust_root;

pub use authorities::{CertificateAuthorities, InvalidAuthorities};
pub use presented::{ByCertificate, Keyless, Presented};
pub use refused::Refused;
pub use trust_root::{InvalidTrustRoot, TrustRoot};

/// Certificates of one chain, entries and timestamps of one signature.
const MAX_CHAIN: usize = 10;
