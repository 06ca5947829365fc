//! Where the registry keeps its bytes: one small trait over memory, a directory and buckets.
//! The engine asks for no more than this; `conformance.rs` says in tests what every backend must do.

use std::{fmt, ops::Range, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;

#[cfg(test)]
mod conformance;
mod directory;
mod error;
mod memory;
mod object;
mod observed;
mod overlay;
mod paced;
mod probe;

pub use directory::DirectoryStore;
#[cfg(test)]
pub(crate) use directory::power;
pub use error::StoreError;
pub use memory::MemoryStore;
pub use observed::ObservedStore;
pub use overlay::OverlayStore;
pub use paced::PacedStore;
pub use probe::{Promises, probe};

/// The version of one object: opaque, compared for equality.
pub type Etag = String;

/// How a put treats what is there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutMode {
    /// Write, whatever is there.
    Overwrite,
    /// Only if nothing is there; else [`StoreError::Precondition`].
    Create,
    /// Only if this version is there; else [`StoreError::Precondition`].
    Update(Etag),
}

/// What to read of an object.
#[derive(Clone, Debug, Default)]
pub struct GetOptions {
    /// Bytes to read, not empty and within the object; all if unset.
    pub range: Option<Range<u64>>,
    /// Answer [`StoreError::NotModified`] if the object still has this version.
    pub if_none_match: Option<Etag>,
}

/// What is known of an object without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Size in bytes.
    pub size: u64,
    /// Its version.
    pub etag: Etag,
    /// When it was written, by the store's clock.
    pub modified: Timestamp,
}

/// The bytes of an object as they arrive.
pub type StoreStream = BoxStream<'static, Result<Bytes, StoreError>>;

/// An object that is being read.
pub struct Object {
    /// Its size, version and time.
    pub meta: Meta,
    /// The bytes asked for.
    pub body: StoreStream,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("meta", &self.meta).finish_non_exhaustive()
    }
}

/// One listed key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The whole key.
    pub key: String,
    /// Its size, version and time.
    pub meta: Meta,
}

/// A page of a listing, in the order of the keys' bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Whether there are more after the last one.
    pub more: bool,
}

/// An object store with read-after-write consistency and compare-and-swap.
///
/// Keys are `/`-separated, not empty, without empty, `.` or `..` components. A body that is written is let go of when the
/// call ends: it may be a buffer that somebody waits for.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Reads an object. Absent: [`StoreError::NotFound`].
    async fn get(&self, key: &str, options: GetOptions) -> Result<Object, StoreError>;

    /// A whole small object, if the store knows without asking anybody that this is what is there now. `None` says
    /// nothing.
    fn recall(&self, _key: &str) -> Option<(Bytes, Meta)> {
        None
    }

    /// What is known of an object. Absent: [`StoreError::NotFound`].
    async fn head(&self, key: &str) -> Result<Meta, StoreError>;

    /// Writes a whole object, durable once acknowledged; answers its version.
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<Etag, StoreError>;

    /// Removes an object; fine if there is none.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// Removes an object of this version. Another version: [`StoreError::Precondition`]; none: fine.
    async fn delete_version(&self, key: &str, etag: &str) -> Result<(), StoreError>;

    /// Whether removing a version is one step, so that a write beside it is never lost: asked at the start with an
    /// object and a version that it had before.
    async fn removes_versions(&self, key: &str, stale: &str) -> Result<bool, StoreError> {
        match self.delete_version(key, stale).await {
            Ok(()) => Ok(false),
            Err(StoreError::Precondition(_)) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// At most `limit` (1 to 1000) keys that begin with `prefix` and sort after `after`. Whether a key that is `prefix`
    /// is among them is not certain.
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError>;

    /// Begins an object that is written in parts; answers the upload's id.
    async fn create_multipart(&self, key: &str) -> Result<String, StoreError>;

    /// Writes part `index` (from 0, without gaps); answers its version. Every part but the last has at least
    /// [`Self::part_size`] bytes.
    async fn put_part(&self, key: &str, id: &str, index: usize, body: Bytes) -> Result<Etag, StoreError>;

    /// Joins the parts into the object, which has exactly the bytes of these versions, or fails; with
    /// [`StoreError::NotFound`] if the upload is gone (finished, aborted).
    async fn complete_multipart(&self, key: &str, id: &str, parts: &[Etag]) -> Result<(), StoreError>;

    /// Drops an unfinished multipart upload; fine if there is none. What is written to it afterwards never shows.
    async fn abort_multipart(&self, key: &str, id: &str) -> Result<(), StoreError>;

    /// The least bytes of a part that is not the last.
    fn part_size(&self) -> usize;

    /// A URL at which anybody can GET the object, or a range of it, for so long (at most 7 days). It is a secret.
    /// `None`: this store has no URLs.
    async fn presign(&self, key: &str, lifetime: Duration) -> Result<Option<String>, StoreError> {
        let _ = (key, lifetime);
        Ok(None)
    }
}

/// What opening a store needs beside its URL.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions {
    /// PEM certificates that the store's endpoint is trusted by, beside the system's.
    pub ca_file: Option<PathBuf>,
}

/// The URLs of stores, for messages.
pub const URLS: &str =
    "memory:, file:///path, s3://bucket/prefix, gs://bucket/prefix or az://account/container/prefix";

/// Opens the store that a URL names, see [`URLS`].
pub fn from_url(url: &str, options: &StoreOptions) -> Result<Arc<dyn Store>, StoreError> {
    if url == "memory:" || url == "memory://" {
        return Ok(Arc::new(MemoryStore::default()));
    }
    if let Some(path) = url.strip_prefix("file://").filter(|path| path.starts_with('/')) {
        return Ok(Arc::new(DirectoryStore::open(path)?));
    }
    object::from_url(url, options)?
        .ok_or_else(|| StoreError::Invalid(format!("store {url:?} is not understood: write {URLS}")))
}

/// The kind of store that a URL names, for metrics.
pub fn backend(url: &str) -> &'static str {
    match url.split(':').next() {
        Some("file") => "directory",
        Some("s3") => "s3",
        Some("gs") => "gcs",
        Some("az") => "azure",
        _ => "memory",
    }
}

/// Reads a whole small object.
pub async fn read(store: &dyn Store, key: &str) -> Result<(Bytes, Meta), StoreError> {
    if let Some(known) = store.recall(key) {
        return Ok(known);
    }
    let object = store.get(key, GetOptions::default()).await?;
    Ok((collect(object.body, object.meta.size).await?, object.meta))
}

/// Reads a whole small object, unless it still has the version that the caller knows: then `None`.
pub async fn read_if_changed(
    store: &dyn Store,
    key: &str,
    known: Option<&str>,
) -> Result<Option<(Bytes, Meta)>, StoreError> {
    if let Some((body, meta)) = store.recall(key) {
        return Ok((known != Some(meta.etag.as_str())).then_some((body, meta)));
    }
    let options = GetOptions { if_none_match: known.map(str::to_owned), ..GetOptions::default() };
    match store.get(key, options).await {
        Ok(object) => Ok(Some((collect(object.body, object.meta.size).await?, object.meta))),
        Err(StoreError::NotModified(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn collect(mut body: StoreStream, size: u64) -> Result<Bytes, StoreError> {
    use futures::TryStreamExt as _;
    let Some(first) = body.try_next().await? else { return Ok(Bytes::new()) };
    let Some(second) = body.try_next().await? else { return Ok(first) };
    let mut whole = Vec::with_capacity(usize::try_from(size).unwrap_or_default().min(8 << 20));
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&second);
    while let Some(chunk) = body.try_next().await? {
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.into())
}

/// The bytes of a range; `None` if it does not lie within.
fn slice(body: &Bytes, range: &Range<u64>) -> Option<Bytes> {
    let start = usize::try_from(range.start).ok()?;
    let end = usize::try_from(range.end).ok()?;
    (start <= end && end <= body.len()).then(|| body.slice(start..end))
}

fn outside(key: &str, range: &Range<u64>) -> StoreError {
    StoreError::Other(format!("bytes {}..{} lie outside of {key}", range.start, range.end))
}
