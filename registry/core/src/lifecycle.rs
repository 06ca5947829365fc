//! Lifecycle rules: which images of a repository go, and why (the semantics are those of ECR's lifecycle policies).

use jiff::Timestamp;

use crate::{digest::Digest, name::Tag};

/// An image of a repository, as lifecycle rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its manifest.
    pub digest: Digest,
    /// Its tags, sorted.
    pub tags: Vec<Tag>,
    /// When the manifest was pushed first, or again after a deletion.
    pub pushed_at: Timestamp,
    /// The manifests that it is made of, if it is an index.
    pub children: Vec<Digest>,
    /// The manifest that it is attached to, if it is a signature, SBOM or the like.
    pub subject: Option<Digest>,
}
