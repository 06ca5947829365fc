//! What can be wrong with a Registry that only somebody else can cure. Each reason appears in the condition `Ready`, in
//! events and in metrics.

/// Why a Registry cannot become what its spec says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// The operator has no rights there.
    #[error(
        "the operator does not work in namespace {namespace}: add it to the chart's value `namespaces`, or set `allNamespaces`"
    )]
    NamespaceNotManaged {
        /// Namespace of the Registry.
        namespace: String,
    },
    /// The stored object does not parse.
    #[error(
        "the object cannot be read: {cause}; correct it with kubectl edit, or install the CRDs of this version"
    )]
    ObjectInvalid {
        /// What the parser says.
        cause: String,
    },
    /// A Secret that the spec names is not there.
    #[error("secret {secret}, named by {field}, does not exist in the namespace: create it with {keys}")]
    SecretNotFound {
        /// Its name.
        secret: String,
        /// Where the spec names it.
        field: &'static str,
        /// What it has to hold.
        keys: &'static str,
    },
    /// A Secret lacks a key.
    #[error("secret {secret}, named by {field}, has no key {key}: add it")]
    SecretKeyMissing {
        /// Its name.
        secret: String,
        /// Where the spec names it.
        field: &'static str,
        /// The key.
        key: &'static str,
    },
    /// A claim that the spec names is not there.
    #[error(
        "persistentvolumeclaim {claim}, named by storage.volume.claimName, does not exist in the namespace: create it"
    )]
    ClaimNotFound {
        /// Its name.
        claim: String,
    },
    /// The storage is no or more than one kind.
    #[error("storage takes exactly one of s3, gcs, azure, volume and memory")]
    StorageInvalid,
    /// A field does not hold what it should.
    #[error("{field}: {cause}")]
    FieldInvalid {
        /// Path of the field.
        field: String,
        /// What is wrong with it.
        cause: String,
    },
    /// An object of the same name belongs to somebody else.
    #[error(
        "{kind} {name} exists and does not belong to this Registry: delete or rename it, or give the Registry another name"
    )]
    NameTaken {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
    },
}

impl RegistryError {
    /// A stable word in `PascalCase`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NamespaceNotManaged { .. } => "NamespaceNotManaged",
            Self::ObjectInvalid { .. } => "ObjectInvalid",
            Self::SecretNotFound { .. } => "SecretNotFound",
            Self::SecretKeyMissing { .. } => "SecretKeyMissing",
            Self::ClaimNotFound { .. } => "ClaimNotFound",
            Self::StorageInvalid => "StorageInvalid",
            Self::FieldInvalid { .. } => "FieldInvalid",
            Self::NameTaken { .. } => "NameTaken",
        }
    }
}
