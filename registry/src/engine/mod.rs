//! The storage engine: blobs, uploads, manifests, tags and referrers over a [`Store`], safe with any number of
//! replicas and crashes anywhere. Between `http/` and `store/`; the rules themselves are pure and stand in
//! `berth_registry_core::protocol`, this module drives them. `DESIGN.md` beside `src/` has the argument.

use std::{fmt, ops::Range, sync::Arc, time::Duration};

use berth_registry_core::{Descriptor, Digest, Tag};
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::store::Store;

mod error;

pub use error::EngineError;

/// A client's body as it arrives.
pub type ByteStream = BoxStream<'static, Result<Bytes, std::io::Error>>;

/// How the engine behaves.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Accept an index whose children are not (all) in the repository.
    pub sparse_indexes: bool,
    /// For how long a blob GET may believe what it has read of a blob's link; a deleted blob can be read for so long
    /// on the other replicas.
    pub link_cache: Duration,
    /// Memory for parts of uploads on their way to the store, in bytes, for all uploads together.
    pub upload_memory: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { sparse_indexes: false, link_cache: Duration::from_secs(2), upload_memory: 64 << 20 }
    }
}

/// What is known of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobStat {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// Bytes of a blob that a client asks for (RFC 9110, section 14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// From this byte to the end.
    From(u64),
    /// From the first byte to the last, both included.
    Between(u64, u64),
    /// So many bytes at the end.
    Last(u64),
}

/// A blob that is being read.
pub struct BlobReader {
    /// Size of the whole blob.
    pub size: u64,
    /// The bytes that `stream` carries.
    pub range: Range<u64>,
    /// The bytes.
    pub stream: BoxStream<'static, Result<Bytes, EngineError>>,
}

impl fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobReader").field("size", &self.size).field("range", &self.range).finish_non_exhaustive()
    }
}

/// The name of an upload: opaque, valid in one repository, on every replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadId(pub String);

/// Whether a manifest may be written (RFC 9110, section 13), judged on the tag it is pushed to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// In any case.
    #[default]
    None,
    /// `If-None-Match: *`: only if the tag does not exist.
    Absent,
    /// `If-Match`: only if the tag points to this digest.
    Matches(Digest),
}

/// What a manifest push brings beside the manifest.
#[derive(Clone, Debug, Default)]
pub struct PutOptions<'a> {
    /// Who pushes.
    pub author: Option<&'a str>,
    /// Further tags (`?tag=`).
    pub tags: &'a [Tag],
    /// Judged on the tag that the manifest is pushed to; without meaning when it is pushed by digest.
    pub condition: Condition,
}

/// A manifest that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutManifest {
    /// Its digest.
    pub digest: Digest,
    /// What it is attached to (`OCI-Subject`).
    pub subject: Option<Digest>,
}

/// A manifest as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// The exact bytes.
    pub bytes: Bytes,
}

/// What is known of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestStat {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, in the order of their bytes.
    pub items: Vec<T>,
    /// Whether there are more after the last one.
    pub more: bool,
}

/// The engine. Clones share everything.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Arc<dyn Store>,
    options: EngineOptions,
}

// Signatures first; bodies follow in submodules.
mod surface;
