//! What can end the operator.

use crate::certs::CertificateError;

/// Why the process ends.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The cluster could not be reached, or refused.
    #[error("the cluster's API: {0}")]
    Api(#[from] kube::Error),
    /// A listening socket or a signal handler failed.
    #[error("input or output: {0}")]
    Io(#[from] std::io::Error),
    /// A certificate could not be made or read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A part that must run as long as the process does has ended.
    #[error("{0} ended unexpectedly; see the lines before")]
    Ended(&'static str),
    /// The webhook configuration is still there.
    #[error(
        "{0} still exists after a minute: remove it with kubectl, or pods are refused once the operator is gone"
    )]
    StillThere(&'static str),
}

impl OperatorError {
    /// A stable word for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Api(_) => "ApiFailed",
            Self::Io(_) => "IoFailed",
            Self::Certificate(_) => "CertificateFailed",
            Self::Ended(_) => "PartEnded",
            Self::StillThere(_) => "StillThere",
        }
    }
}
