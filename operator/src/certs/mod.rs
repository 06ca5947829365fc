//! Berth's own certificates: one authority an installation, in the Secret `berth-ca` of the operator's namespace, which
//! signs the certificate of each Registry and of the webhook. When something is made anew is decided in
//! `berth_operator_core::certificate`; here are the keys and the clock.

mod authority;
pub mod controller;
mod leaf;
mod pem;
pub mod serving;

pub use authority::Authority;
pub use leaf::{Issued, ensure_leaf};
pub use pem::Bundle;

/// Secret with the authority: `tls.crt`, `tls.key`, `ca.crt` (all that is to be trusted), and `next.crt`, `next.key`
/// while a new one is announced.
pub const AUTHORITY_SECRET: &str = "berth-ca";

/// Secret with the webhook's certificate: `tls.crt`, `tls.key`, `ca.crt`.
pub const WEBHOOK_SECRET: &str = "berth-webhook-tls";

/// What can be wrong with certificates.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A Secret does not hold what it should.
    #[error("secret {secret} has no usable {key}: delete the secret to have it made anew")]
    Secret {
        /// Its name.
        secret: String,
        /// The key that is missing or unreadable.
        key: &'static str,
    },
    /// Making a certificate failed.
    #[error("a certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
    /// The clock is past the end of the calendar.
    #[error("the clock says {0}, which is no time for a certificate: set the node's clock")]
    Clock(jiff::Timestamp),
    /// A key cannot be used to serve TLS.
    #[error("a key cannot be used to serve TLS: {0}")]
    Tls(#[from] rustls::Error),
}
