//! How a store fails, sorted by what the caller can do about it.

/// Why a store call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No such object or multipart upload.
    #[error("{0} is not in the store")]
    NotFound(String),
    /// Another version is there, or something where nothing should be.
    #[error("{0} was changed by another writer")]
    Precondition(String),
    /// The object still has the version that the caller knows.
    #[error("{0} is unchanged")]
    NotModified(String),
    /// The name does not fit into a file name.
    #[error("{0} is too long a name for the directory store: use shorter path components")]
    NameTooLong(String),
    /// The bucket does not exist.
    #[error("bucket {0} does not exist: create it, or correct the store's URL")]
    BucketNotFound(String),
    /// The store does not accept the credentials, or they do not allow the call.
    #[error("the store refuses the credentials: {0}")]
    CredentialsRefused(String),
    /// No answer, or only server errors, for as long as is worth waiting.
    #[error("the store cannot be reached: {0}")]
    Unreachable(String),
    /// The URL or the environment does not describe a store.
    #[error("{0}")]
    Invalid(String),
    /// Another process has the directory.
    #[error(
        "directory {0} is in use by another process: one directory serves one registry process at a time"
    )]
    Locked(String),
    /// Anything else, for example a full disk.
    #[error("the store failed: {0}")]
    Other(String),
}

impl StoreError {
    /// A stable word for conditions, metrics and the troubleshooting table.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "ObjectNotFound",
            Self::Precondition(_) => "ObjectChanged",
            Self::NotModified(_) => "ObjectUnchanged",
            Self::NameTooLong(_) => "NameTooLong",
            Self::BucketNotFound(_) => "BucketNotFound",
            Self::CredentialsRefused(_) => "CredentialsRefused",
            Self::Unreachable(_) => "StoreUnreachable",
            Self::Invalid(_) => "StoreInvalid",
            Self::Locked(_) => "StoreLocked",
            Self::Other(_) => "StoreFailed",
        }
    }

    /// Whether it says something of the object or its name, and not of the store.
    pub(crate) fn is_answer(&self) -> bool {
        matches!(
            self,
            Self::NotFound(_) | Self::Precondition(_) | Self::NotModified(_) | Self::NameTooLong(_)
        )
    }

    /// Whether a write may have happened although it was answered with this error.
    pub(crate) fn is_ambiguous(&self) -> bool {
        matches!(self, Self::Precondition(_) | Self::Unreachable(_) | Self::Other(_))
    }
}
