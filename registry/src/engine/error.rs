//! Everything that an engine call can answer but success. `http/` maps it to the specification's codes; readiness
//! takes its reason from here.

use berth_registry_core::{Digest, Tag, manifest::InvalidManifest};

use crate::store::StoreError;

/// Why an engine call failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The repository does not hold this blob.
    #[error("blob {0} is not in this repository: push it, or mount it from a repository that has it")]
    BlobUnknown(Digest),
    /// A live manifest of the repository needs the blob.
    #[error("blob {blob} is needed by manifest {manifest}: delete the manifest first")]
    BlobReferenced {
        /// The blob.
        blob: Digest,
        /// One of the manifests that refer to it.
        manifest: Digest,
    },
    /// No such upload in this repository.
    #[error("this upload does not exist, was cancelled or is finished: begin a new one with POST")]
    UploadUnknown,
    /// The content does not begin where the upload ends.
    #[error("the upload holds {actual} bytes: go on from there")]
    UploadOffset {
        /// How many bytes the upload holds.
        actual: u64,
    },
    /// Another request is writing to the same upload.
    #[error("another request is writing to this upload: wait for its answer")]
    UploadBusy,
    /// All places for requests that bring bytes are taken.
    #[error("too many clients push at once: wait a little and send this again")]
    TooManyUploads,
    /// The upload's bytes are gone; it can only be begun anew.
    #[error("the uploaded bytes were reclaimed meanwhile: upload the blob again")]
    UploadLost,
    /// More parts than the store takes.
    #[error("the blob is larger than this registry accepts")]
    UploadTooLarge,
    /// The client's body broke off.
    #[error("the request body broke off: {0}")]
    Body(#[source] std::io::Error),
    /// The content is not what its digest says.
    #[error("the content has digest {actual}, not {expected}")]
    DigestMismatch {
        /// As announced.
        expected: Digest,
        /// As computed.
        actual: Digest,
    },
    /// No byte of the range exists.
    #[error("the range lies outside of the blob, which has {size} bytes")]
    RangeNotSatisfiable {
        /// The blob's size.
        size: u64,
    },
    /// The body is no acceptable manifest.
    #[error(transparent)]
    ManifestInvalid(#[from] InvalidManifest),
    /// No such manifest or tag in this repository.
    #[error("manifest {0} is not in this repository")]
    ManifestUnknown(String),
    /// The manifest refers to what is not in the repository.
    #[error("the manifest refers to {}, which this repository does not hold: push that first", first_of(.0))]
    ManifestBlobUnknown(Vec<Digest>),
    /// What was deleted cannot come back.
    #[error("the bytes of {0} were deleted for good: push the image again")]
    Reclaimed(Digest),
    /// The repository does not exist.
    #[error("repository {0} does not exist: push an image to it first")]
    NameUnknown(String),
    /// `If-Match` or `If-None-Match` does not hold.
    #[error("the tag points to {}, so the condition of the request does not hold", .actual.as_ref().map_or("nothing".to_owned(), ToString::to_string))]
    Precondition {
        /// Where the tag points now.
        actual: Option<Digest>,
    },
    /// The tag may neither move nor go.
    #[error("tag {tag} is immutable and points to {digest}")]
    TagImmutable {
        /// The tag.
        tag: Tag,
        /// Where it points, for good.
        digest: Digest,
    },
    /// A record in the store cannot be read.
    #[error("record {key} in the store is damaged: {message}")]
    Damaged {
        /// The record's key.
        key: String,
        /// What is wrong.
        message: String,
    },
    /// The store breaks a promise that the engine needs; nothing may be written to it.
    #[error("the store is not safe to write to: {0}")]
    StoreUnsafe(String),
    /// Many writers raced for one record and this one never got its turn.
    #[error("too many requests change {0} at once: try again")]
    Contended(String),
    /// The store refused or could not be reached.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn first_of(digests: &[Digest]) -> String {
    match digests {
        [] => "nothing".to_owned(),
        [one] => one.to_string(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}

impl EngineError {
    /// A stable word for conditions, metrics and the troubleshooting table.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BlobUnknown(_) => "BlobUnknown",
            Self::BlobReferenced { .. } => "BlobReferenced",
            Self::UploadUnknown => "UploadUnknown",
            Self::UploadOffset { .. } => "UploadOffset",
            Self::UploadBusy => "UploadBusy",
            Self::TooManyUploads => "TooManyUploads",
            Self::UploadLost => "UploadLost",
            Self::UploadTooLarge => "UploadTooLarge",
            Self::Body(_) => "BodyBroken",
            Self::DigestMismatch { .. } => "DigestMismatch",
            Self::RangeNotSatisfiable { .. } => "RangeNotSatisfiable",
            Self::ManifestInvalid(_) => "ManifestInvalid",
            Self::ManifestUnknown(_) => "ManifestUnknown",
            Self::ManifestBlobUnknown(_) => "ManifestBlobUnknown",
            Self::Reclaimed(_) => "ContentReclaimed",
            Self::NameUnknown(_) => "NameUnknown",
            Self::Precondition { .. } => "PreconditionFailed",
            Self::TagImmutable { .. } => "TagImmutable",
            Self::Damaged { .. } => "RecordDamaged",
            Self::StoreUnsafe(_) => "StoreUnsafe",
            Self::Contended(_) => "Contended",
            Self::Store(error) => error.reason(),
        }
    }
}
