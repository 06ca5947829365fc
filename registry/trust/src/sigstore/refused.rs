//! Why a signature does not count: typed, with words for people. There is no value that means "probably fine".

use crate::bounds::clip;

/// Why a signature does not count. The texts continue a sentence about the signature and say the cause and the cure.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refused {
    /// It cannot be read.
    #[error("it is malformed ({0}): sign again")]
    Malformed(String),
    /// It is larger than what is looked at.
    #[error("it has {found} {what}, more than the limit of {bound}: sign again with fewer")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        found: usize,
        /// The limit.
        bound: usize,
    },
    /// It is of a kind that is not supported.
    #[error("it is of a kind that is not supported ({0}): sign as cosign does by default")]
    Unsupported(String),
    /// It was made with a bare key, not by an identity.
    #[error("it holds no certificate: it was made with a key, so trust that key, or sign without `--key`")]
    NoCertificate,
    /// The signature does not fit the content and the certificate or key.
    #[error(
        "its signature does not fit its content: one of them was altered, or another key signed; sign again"
    )]
    BadSignature,
    /// The certificate is by none of the authorities that were trusted then, or not for signing code.
    #[error(
        "its certificate is by none of the authorities that are trusted for that time, or not for signing code ({0}): \
         trust its authority, or sign with a certificate of a trusted one"
    )]
    UntrustedCertificate(String),
    /// The certificate names nobody, or too many.
    #[error("its certificate does not name one signer ({0}): sign with one that does")]
    NoIdentity(String),
    /// Some certificate of the chain was not valid when the signature was made.
    #[error(
        "its certificate, or that of an authority above it, was not valid when the signature was made ({0}): sign \
         again with a valid one"
    )]
    NotValidThen(String),
    /// No trusted certificate log saw the certificate.
    #[error(
        "no trusted certificate log vouches for its certificate ({0}): add the log that its authority uses to the trust \
         root, or sign again"
    )]
    NotInCertificateLog(String),
    /// The log that it names is unknown.
    #[error(
        "it is in a transparency log that the trust root does not name: add that log, or sign with one of its logs"
    )]
    UnknownLog,
    /// It is in no log, but must be.
    #[error("it is in no transparency log: sign again and let the signature be logged")]
    NotLogged,
    /// What came from the log does not prove that the entry is in it.
    #[error(
        "what came along does not prove that it is in a transparency log ({0}): sign again, and let the trust root name \
         that log with its key and its time"
    )]
    BadLogProof(String),
    /// The log entry is about another signature, key or content.
    #[error("its log entry is that of another signature ({0}): do not trust it; sign again")]
    OtherLogEntry(String),
    /// A timestamp is not by a trusted authority, or about something else.
    #[error(
        "its timestamp is not by a trusted authority, or about something else ({0}): add that authority to the trust \
         root, or sign again with a trusted one"
    )]
    BadTimestamp(String),
    /// Nothing proves when it was made.
    #[error(
        "nothing that is trusted proves when it was made: let a log of the trust root record it, or a timestamp \
         authority of the trust root sign it"
    )]
    NoProvenTime,
}

impl Refused {
    /// A stable name of the cause.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "Malformed",
            Self::TooMuch { .. } => "TooMuch",
            Self::Unsupported(_) => "Unsupported",
            Self::NoCertificate => "NoCertificate",
            Self::BadSignature => "BadSignature",
            Self::UntrustedCertificate(_) => "UntrustedCertificate",
            Self::NoIdentity(_) => "NoIdentity",
            Self::NotValidThen(_) => "NotValidThen",
            Self::NotInCertificateLog(_) => "NotInCertificateLog",
            Self::UnknownLog => "UnknownLog",
            Self::NotLogged => "NotLogged",
            Self::BadLogProof(_) => "BadLogProof",
            Self::OtherLogEntry(_) => "OtherLogEntry",
            Self::BadTimestamp(_) => "BadTimestamp",
            Self::NoProvenTime => "NoProvenTime",
        }
    }

    pub(super) fn malformed(cause: impl std::fmt::Display) -> Self {
        Self::Malformed(clip(&cause.to_string()))
    }

    /// Refuses more than `bound`.
    pub(super) fn bound(what: &'static str, found: usize, bound: usize) -> Result<(), Self> {
        if found > bound { Err(Self::TooMuch { what, found, bound }) } else { Ok(()) }
    }
}

impl From<webpki::Error> for Refused {
    fn from(error: webpki::Error) -> Self {
        let cause = clip(&error.to_string());
        match error {
            webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. } => {
                Self::NotValidThen(cause)
            }
            _ => Self::UntrustedCertificate(cause),
        }
    }
}
