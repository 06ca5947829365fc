//! The answer of `GET /berth/v1/evidence`: all that may be needed to judge an image, in one piece, so that whoever must
//! decide at once asks once. It holds nothing that the distribution API would not show, and is to be believed no more.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    manifest::Descriptor,
    name::{Reference, RepositoryName, Tag},
};

/// What a registry holds about one image. What is missing in it may still exist: ask for it by itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pack {
    /// The digest of the image.
    pub digest: Digest,
    /// Where the tags point that belong to the digest (`sha256-<hex>`, with `.sig` or `.att`); `null`: there is none.
    pub tags: BTreeMap<Tag, Option<Digest>>,
    /// All that refers to the digest; left out if it is too much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub referrers: Option<Vec<Descriptor>>,
    /// Manifests, the image's own among them.
    pub manifests: BTreeMap<Digest, PackedManifest>,
    /// Small layers of the others, in base64.
    pub blobs: BTreeMap<Digest, String>,
}

/// A manifest in a [`Pack`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PackedManifest {
    /// As the registry would announce it.
    pub media_type: String,
    /// Its bytes, in base64.
    pub bytes: String,
}

/// Longest answer, in bytes.
pub const MAX_PACK: u64 = 16 * 1024 * 1024;

/// The path and query under which the evidence for an image is found.
pub fn path(repository: &RepositoryName, reference: &Reference) -> String {
    // Neither can hold a character that would need escaping, but for the colon of a digest, which needs none here.
    format!("/berth/v1/evidence?repository={repository}&reference={reference}")
}
