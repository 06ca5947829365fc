//! The storage engine: blobs, uploads, manifests, tags and referrers over a [`Store`], safe with any number of
//! replicas and crashes anywhere. Between `http/` and `store/`; the rules themselves are pure and stand in
//! `berth_registry_core::protocol`, this module drives them. `DESIGN.md` beside `src/` has the argument.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, Guard};
use aws_lc_rs::hmac;
use berth_registry_core::{
    Digest, Pattern, RepositoryName, Tag, key,
    record::{ManifestRecord, TagRecord},
};
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use ulid::Ulid;

use crate::store::{Promises, PutMode, Store, StoreError, probe, read};
use crate::{limits, tally};

mod blobs;
mod collect;
mod drive;
mod error;
mod evidence;
mod explain;
mod gather;
mod hasher;
mod history;
mod images;
mod immutable;
mod inventory;
mod link_cache;
mod manifests;
mod part_memory;
mod record_cache;
mod references;
mod referrers;
mod revisions;
mod scrub;
mod sink;
mod tags;
mod undelete;
mod upload_id;
mod uploads;
mod usage;

pub use error::EngineError;
use link_cache::LinkCache;
use part_memory::PartMemory;
use record_cache::RecordCache;
use revisions::Revisions;

/// A client's body as it arrives.
pub type ByteStream = BoxStream<'static, Result<Bytes, std::io::Error>>;

/// How the engine behaves.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Accept a manifest some of whose content was never in the repository.
    pub sparse_manifests: bool,
    /// Tags that never move once they point to a live manifest.
    pub immutable_tags: Vec<Pattern>,
    /// For how long a blob GET may believe what it has read of a blob's link; a deleted blob can be read for so long
    /// on the other replicas.
    pub link_cache: Duration,
    /// Memory for parts of uploads on their way to the store, in bytes, for all uploads together.
    pub upload_memory: usize,
    /// Requests that bring bytes of blobs at once.
    pub max_uploads: usize,
    /// For how long what was deleted can be brought back. Only a question of use: safety does not rest on it.
    pub undelete_window: Duration,
    /// For how long a link that no manifest names, a pending manifest and an idle session stay.
    pub upload_lease: Duration,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            sparse_manifests: false,
            immutable_tags: Vec::new(),
            link_cache: Duration::from_secs(2),
            upload_memory: limits::UPLOAD_MEMORY,
            max_uploads: limits::MAX_UPLOADS,
            undelete_window: Duration::from_hours(7 * 24),
            upload_lease: Duration::from_hours(24),
        }
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
        f.debug_struct("BlobReader")
            .field("size", &self.size)
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}

/// The name of an upload: opaque, safe in a URL, valid in one repository, on every replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadId(pub String);

/// Where an upload stands after a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// How many bytes it holds.
    pub offset: u64,
    /// Its name from now on (the `Location` of the answer); the old one goes on working.
    pub id: UploadId,
}

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

/// What uploads need of this process now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadLoad {
    /// Requests that bring bytes.
    pub requests: usize,
    /// Memory for parts that is in use, in bytes.
    pub memory: usize,
    /// Uploads that wait for memory.
    pub waiting: usize,
}

/// The engine. Clones share everything.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Arc<dyn Store>,
    options: ArcSwap<EngineOptions>,
    promises: Promises,
    upload_key: hmac::Key,
    part_memory: Arc<PartMemory>,
    uploads: Arc<Semaphore>,
    /// Uploads that a request of this process writes to.
    busy_uploads: Mutex<HashSet<Ulid>>,
    /// Repositories that this process has entered into the catalog, and when.
    in_catalog: Mutex<HashMap<RepositoryName, Instant>>,
    links: LinkCache,
    tags: RecordCache<TagRecord>,
    manifests: RecordCache<(ManifestRecord, Bytes)>,
    revisions: Revisions,
}

impl Engine {
    /// Takes a store into use: asks it whether it keeps the promises that the protocol needs, and shares a secret with
    /// the other replicas through it.
    pub async fn open(store: Arc<dyn Store>, options: EngineOptions) -> Result<Self, EngineError> {
        let probed = probe(store.as_ref(), &Ulid::generate().to_string()).await?;
        let promises = probed.map_err(EngineError::StoreUnsafe)?;
        let secret = upload_secret(store.as_ref()).await?;
        Ok(Self::new(store, options, promises, hmac::Key::new(hmac::HMAC_SHA256, &secret)))
    }

    fn new(store: Arc<dyn Store>, options: EngineOptions, promises: Promises, upload_key: hmac::Key) -> Self {
        let part_memory = PartMemory::new(options.upload_memory, store.part_size());
        Self {
            inner: Arc::new(Inner {
                store,
                promises,
                upload_key,
                part_memory,
                uploads: Arc::new(Semaphore::new(options.max_uploads)),
                busy_uploads: Mutex::default(),
                in_catalog: Mutex::default(),
                links: LinkCache::new(options.link_cache),
                tags: RecordCache::new(TAG_CACHE),
                manifests: RecordCache::new(MANIFEST_CACHE),
                revisions: Revisions::default(),
                options: ArcSwap::from_pointee(options),
            }),
        }
    }

    /// The same engine on a view of its store.
    fn over(&self, view: Arc<dyn Store>) -> Self {
        let inner = &self.inner;
        Self::new(view, EngineOptions::clone(&self.options()), inner.promises, inner.upload_key.clone())
    }

    /// Whether records that say that something is dead can be removed safely: only if the store compares and removes
    /// in one step. Elsewhere they stay, as tombstones of some hundred bytes.
    fn drops_tombstones(&self) -> bool {
        self.inner.promises.removes_versions
    }

    /// Whether the store answers; one cheap call.
    pub async fn check(&self) -> Result<(), EngineError> {
        // A GET: to a HEAD, a missing bucket and a missing object answer alike.
        let asked = read(self.store(), key::UPLOAD_SECRET);
        match tokio::time::timeout(CHECK_TIMEOUT, asked).await {
            Ok(Ok(_) | Err(StoreError::NotFound(_))) => Ok(()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => {
                Err(StoreError::Unreachable(format!("no answer in {} s", CHECK_TIMEOUT.as_secs())).into())
            }
        }
    }

    /// Writes something that means nothing, to see whether the store takes it: as much as a full disk or a used up quota has
    /// no room for. They may well take what is empty.
    pub async fn try_write(&self) -> Result<(), EngineError> {
        self.set_clock(vec![0; TRIAL].into()).await?;
        self.set_clock(Bytes::new()).await
    }

    async fn set_clock(&self, body: Bytes) -> Result<(), EngineError> {
        self.store().put(key::CLOCK, body, PutMode::Overwrite).await?;
        Ok(())
    }

    /// Changes the options for what begins from now on. `link_cache` and `upload_memory` stay as they are.
    pub fn configure(&self, options: Arc<EngineOptions>) {
        self.inner.options.store(options);
    }

    /// What uploads need now.
    pub fn upload_load(&self) -> UploadLoad {
        let requests = self.inner.busy_uploads.lock().unwrap_or_else(PoisonError::into_inner).len();
        let (memory, waiting) = self.inner.part_memory.load();
        UploadLoad { requests, memory, waiting }
    }

    fn options(&self) -> Guard<Arc<EngineOptions>> {
        self.inner.options.load()
    }

    /// What time it is by the store's clock, which also says when something was written.
    async fn store_time(&self) -> Result<Timestamp, EngineError> {
        self.set_clock(Bytes::new()).await?;
        Ok(self.store().head(key::CLOCK).await?.modified)
    }

    fn store(&self) -> &dyn Store {
        self.inner.store.as_ref()
    }

    /// A place among the requests that bring bytes.
    fn admit(&self) -> Result<OwnedSemaphorePermit, EngineError> {
        Arc::clone(&self.inner.uploads).try_acquire_owned().map_err(|_| EngineError::TooManyUploads)
    }

    /// Runs work to its end even if the request that waits for it is dropped.
    async fn detach<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, EngineError>> + Send + 'static,
    ) -> Result<T, EngineError> {
        tokio::spawn(tally::carried(work))
            .await
            .map_err(|e| StoreError::Other(format!("the work on a request ended: {e}")))?
    }
}

/// Bytes of decoded records in memory.
const TAG_CACHE: u64 = 4 << 20;
const MANIFEST_CACHE: u64 = 24 << 20;
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// What a store must take to count as writable: more than a record, less than most layers.
const TRIAL: usize = 1 << 20;

async fn upload_secret(store: &dyn Store) -> Result<Bytes, EngineError> {
    loop {
        match read(store, key::UPLOAD_SECRET).await {
            Ok((secret, _)) => return Ok(secret),
            Err(StoreError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let mut secret = vec![0; 32];
        aws_lc_rs::rand::fill(&mut secret)
            .map_err(|_| StoreError::Other("the system has no randomness".to_owned()))?;
        match store.put(key::UPLOAD_SECRET, secret.into(), PutMode::Create).await {
            // Read back what won: another replica may have been first.
            Ok(_) | Err(StoreError::Precondition(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
