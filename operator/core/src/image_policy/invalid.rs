//! Why a policy cannot judge: which field, what is wrong with it, and what to do.

use std::fmt::Display;

use crate::image_policy::{PUBLIC_KEY, TRUST_ROOT};

/// Why a policy cannot judge. The message begins with the path of a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    /// The object does not have the shape of an `ImagePolicy`.
    #[error(
        "the object cannot be read: {0}; correct it with kubectl edit, or, if the field is newer than this operator, \
         upgrade the chart berth"
    )]
    Unreadable(String),
    /// A field makes no sense.
    #[error("{path}: {cause}")]
    Spec {
        /// For example `spec.images[0]`.
        path: String,
        /// What is wrong and what to write.
        cause: String,
    },
    /// A key, a trust root or certificates cannot be used.
    #[error("{path}: {cause}")]
    Unusable {
        /// As [`reason`](Self::reason) says it.
        reason: &'static str,
        /// For example `spec.require[0].signature.authorities[1].key.pem`.
        path: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A Secret is not there.
    #[error("{path}: the Secret {secret} does not exist in the policy's namespace")]
    SecretNotFound {
        /// The field that names it.
        path: String,
        /// Its name.
        secret: String,
    },
    /// A Secret of a namespace that the operator does not work in.
    #[error(
        "{path}: the operator may not read Secrets here: add the namespace to the chart's value `namespaces`, or write \
         the key into the policy as `pem`"
    )]
    NamespaceNotManaged {
        /// The field that names it.
        path: String,
    },
    /// A Secret could not be asked for.
    #[error("{path}: the Secret {secret} could not be read: {cause}")]
    SecretUnreadable {
        /// The field that names it.
        path: String,
        /// Its name.
        secret: String,
        /// What the API server said.
        cause: String,
    },
}

impl InvalidPolicy {
    /// What is written in the policy, or stands in a Secret under `key`, cannot be used.
    pub(super) fn unusable(key: &str, path: String, cause: impl Display) -> Self {
        let reason = match key {
            PUBLIC_KEY => "KeyInvalid",
            TRUST_ROOT => "TrustRootInvalid",
            _ => "CertificatesInvalid",
        };
        Self::Unusable { reason, path, cause: cause.to_string() }
    }

    /// Stable name for conditions.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable(_) | Self::Spec { .. } => "SpecInvalid",
            Self::Unusable { reason, .. } => reason,
            Self::SecretNotFound { .. } => "SecretNotFound",
            Self::NamespaceNotManaged { .. } => "NamespaceNotManaged",
            Self::SecretUnreadable { .. } => "SecretUnreadable",
        }
    }
}

/// A field that makes no sense.
pub(super) fn spec(path: impl Into<String>, cause: impl Display) -> InvalidPolicy {
    InvalidPolicy::Spec { path: path.into(), cause: format!("{cause}") }
}
