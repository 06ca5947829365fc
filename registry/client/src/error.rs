//! What can go wrong between us and a registry. Callers decide by variant: absent content is an answer,
//! an unreachable registry is none, and the two are never confused.

use std::{error::Error as StdError, time::Duration};

use berth_registry_core::Digest;

/// Why a call to a registry gave no answer, or not the one asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The registry answered, and it does not have it (404).
    #[error("{host} has no {what}")]
    NotFound {
        /// Registry, `host[:port]`.
        host: String,
        /// What was asked for.
        what: String,
    },
    /// No credentials, or not accepted (401).
    #[error("{host} does not accept the credentials for {what}: {hint}")]
    Unauthorized {
        /// Registry, `host[:port]`.
        host: String,
        /// What was asked for.
        what: String,
        /// What to look at.
        hint: String,
    },
    /// Known, but not allowed (403).
    #[error("{host} does not allow this identity: {what}: {message}")]
    Denied {
        /// Registry, `host[:port]`.
        host: String,
        /// What was asked for.
        what: String,
        /// The registry's words.
        message: String,
    },
    /// No connection, a time-out, or a server error (5xx). Asking again later may help.
    #[error("{host} cannot be reached: {cause}")]
    Unreachable {
        /// Registry, `host[:port]`.
        host: String,
        /// What failed, innermost last.
        cause: String,
    },
    /// The server's certificate is not trusted, or TLS failed otherwise. Asking again does not help.
    #[error(
        "{host} is not trusted: {cause}: check the CA certificate that this registry is to be trusted by"
    )]
    Untrusted {
        /// Registry, `host[:port]`.
        host: String,
        /// What TLS said.
        cause: String,
    },
    /// The registry asks for patience (429).
    #[error("{host} limits the rate of requests: {what}")]
    Throttled {
        /// Registry, `host[:port]`.
        host: String,
        /// What was asked for.
        what: String,
        /// How long the registry wants us to wait.
        after: Option<Duration>,
    },
    /// More bytes or items than the caller accepts; nothing beyond the bound was read.
    #[error("{what} at {host} is larger than the limit of {bound} {unit}")]
    TooLarge {
        /// Registry, `host[:port]`.
        host: String,
        /// What was asked for.
        what: String,
        /// The limit.
        bound: u64,
        /// `bytes`, or the items that are counted.
        unit: &'static str,
    },
    /// The bytes are not those that the digest names.
    #[error("{host} sent {actual} for {what}, which must be {expected}")]
    DigestMismatch {
        /// Registry, `host[:port]`.
        host: String,
        /// What was asked for.
        what: String,
        /// As asked for or announced.
        expected: Digest,
        /// As received; of the bytes that arrived.
        actual: Digest,
    },
    /// The registry refuses the request (any other 4xx).
    #[error("{host} refuses {what}: {status} {message}")]
    Refused {
        /// Registry, `host[:port]`.
        host: String,
        /// What was asked for.
        what: String,
        /// HTTP status.
        status: u16,
        /// The registry's code and words.
        message: String,
    },
    /// The answer is not one that the specification allows, or goes where it must not.
    #[error("{host} answers {what} against the specification: {cause}")]
    Protocol {
        /// Registry, `host[:port]`.
        host: String,
        /// What was asked for.
        what: String,
        /// What is wrong.
        cause: String,
    },
    /// The endpoint cannot be used as configured; no request was made.
    #[error("the registry {url:?} cannot be used: {cause}")]
    Endpoint {
        /// As configured.
        url: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The credentials cannot be read; no request was made.
    #[error("the credentials for {host} cannot be read: {cause}")]
    Credentials {
        /// Registry, `host[:port]`.
        host: String,
        /// What is wrong.
        cause: String,
    },
}

impl ClientError {
    /// Stable name for conditions, events and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "NotFound",
            Self::Unauthorized { .. } => "Unauthorized",
            Self::Denied { .. } => "Denied",
            Self::Unreachable { .. } => "Unreachable",
            Self::Untrusted { .. } => "Untrusted",
            Self::Throttled { .. } => "Throttled",
            Self::TooLarge { .. } => "TooLarge",
            Self::DigestMismatch { .. } => "DigestMismatch",
            Self::Refused { .. } => "Refused",
            Self::Protocol { .. } => "Protocol",
            Self::Endpoint { .. } => "InvalidEndpoint",
            Self::Credentials { .. } => "CredentialsUnreadable",
        }
    }

    /// Whether the registry answered that it does not have it.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether the same request may succeed a moment later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Throttled { .. })
    }

    /// A failure of the connection, told apart from a refused certificate.
    pub(crate) fn transport(host: &str, error: reqwest::Error) -> Self {
        let error = error.without_url();
        let cause = chain(&error);
        let host = host.to_owned();
        if is_tls(&error) { Self::Untrusted { host, cause } } else { Self::Unreachable { host, cause } }
    }
}

/// An error with everything that caused it, on one line.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        // Wrappers repeat what they wrap.
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
        next = error.source();
    }
    text
}

fn is_tls(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<rustls::Error>() {
            return true;
        }
        // An io::Error does not name what it carries as its source.
        let carried = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match carried {
            Some(carried) => Some(carried),
            None => error.source(),
        };
    }
    false
}
