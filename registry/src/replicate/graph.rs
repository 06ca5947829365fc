//! Copies the graph below a manifest: an index before its tag, child manifests before their index, blobs before their
//! manifest. Bytes are never changed, so digests stay. What the destination has is not sent; what several images share
//! is copied once, and the others wait for it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use berth_client::{Client, ClientError, Copied, RawManifest};
use berth_registry_core::{
    Descriptor, Digest, Manifest, Reference, RepositoryName, Tag,
    manifest::{DOCKER_LIST, InvalidManifest, OCI_INDEX},
};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};
use tokio::sync::OnceCell;

/// Blobs or children copied at once for one manifest.
const PARALLEL: usize = 3;

/// Levels of indexes, or of referrers of referrers, that are followed.
const MAX_DEPTH: usize = 8;

/// One repository at both ends.
#[derive(Clone)]
pub(super) struct Pair {
    pub(super) from: RepositoryName,
    pub(super) to: RepositoryName,
    /// Tags of the source that belong to other manifests (`sha256-….sig` and the like), sorted.
    pub(super) attachments: Vec<Tag>,
}

/// Why an image could not be brought.
#[derive(Debug, thiserror::Error)]
pub(super) enum CopyError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{digest}: {cause}")]
    Manifest { digest: Digest, cause: InvalidManifest },
    #[error("{0}: nested more than {MAX_DEPTH} levels deep")]
    TooDeep(Digest),
}

/// Content of one repository of the destination that was brought, or is being brought, in this pass.
type Done = Mutex<HashMap<(RepositoryName, Digest), Arc<OnceCell<()>>>>;

/// Copies between two registries during one pass.
pub(super) struct Copier {
    pub(super) source: Client,
    pub(super) destination: Client,
    /// Bytes sent.
    pub(super) bytes: AtomicU64,
    /// Held while a fallback index is read and written.
    pub(super) index: tokio::sync::Mutex<()>,
    done: Done,
    /// A repository of the destination where a blob is, to mount it from.
    homes: Mutex<HashMap<Digest, RepositoryName>>,
}

impl Copier {
    pub(super) fn new(source: Client, destination: Client) -> Self {
        Self {
            source,
            destination,
            bytes: AtomicU64::new(0),
            index: tokio::sync::Mutex::default(),
            done: Done::default(),
            homes: Mutex::default(),
        }
    }

    /// Brings a manifest and everything below it, unless the destination has it: a registry takes a manifest only
    /// when it has what the manifest names.
    pub(super) fn manifest<'a>(
        &'a self,
        pair: &'a Pair,
        digest: &'a Digest,
        depth: usize,
    ) -> BoxFuture<'a, Result<(), CopyError>> {
        async move {
            if depth > MAX_DEPTH {
                return Err(CopyError::TooDeep(digest.clone()));
            }
            let cell = self.cell(&pair.to, digest);
            let copy = async {
                if !self.has(pair, digest).await? {
                    let (raw, _) = self.with_content(pair, digest, depth).await?;
                    self.put(pair, &Reference::Digest(digest.clone()), raw).await?;
                }
                Ok::<_, CopyError>(())
            };
            cell.get_or_try_init(|| copy).await.copied()
        }
        .boxed()
    }

    /// Reads a manifest from the source and brings what it names, but not the manifest itself.
    pub(super) async fn with_content(
        &self,
        pair: &Pair,
        digest: &Digest,
        depth: usize,
    ) -> Result<(RawManifest, Manifest), CopyError> {
        let (raw, manifest) = self.read(pair, digest).await?;
        let children: Vec<_> =
            manifest.manifests.iter().map(|child| self.manifest(pair, &child.digest, depth + 1)).collect();
        stream::iter(children).buffer_unordered(PARALLEL).try_collect::<()>().await?;
        let blobs: Vec<_> = manifest.blobs().map(|blob| self.blob(pair, blob)).collect();
        stream::iter(blobs).buffer_unordered(PARALLEL).try_collect::<()>().await?;
        Ok((raw, manifest))
    }

    /// Every manifest that an image consists of: itself and, for an index, the children.
    pub(super) fn parts<'a>(
        &'a self,
        pair: &'a Pair,
        digest: &'a Digest,
        depth: usize,
    ) -> BoxFuture<'a, Result<Vec<Digest>, CopyError>> {
        async move {
            if depth > MAX_DEPTH {
                return Err(CopyError::TooDeep(digest.clone()));
            }
            let (_, manifest) = self.read(pair, digest).await?;
            let mut parts = vec![digest.clone()];
            for child in &manifest.manifests {
                if matches!(child.media_type.as_str(), OCI_INDEX | DOCKER_LIST) {
                    parts.extend(self.parts(pair, &child.digest, depth + 1).await?);
                } else {
                    parts.push(child.digest.clone());
                }
            }
            Ok(parts)
        }
        .boxed()
    }

    /// Points a tag of the destination to a manifest that it has; returns whether it pointed elsewhere.
    pub(super) async fn tag(&self, pair: &Pair, tag: &Tag, digest: &Digest) -> Result<bool, CopyError> {
        let reference = Reference::Tag(tag.clone());
        match self.destination.manifest_digest(&pair.to, &reference).await {
            Ok(there) if there == *digest => return Ok(false),
            Ok(_) | Err(ClientError::NotFound { .. }) => {}
            Err(other) => return Err(other.into()),
        }
        let (raw, _) = self.read(pair, digest).await?;
        self.put(pair, &reference, raw).await?;
        Ok(true)
    }

    /// Writes a manifest; returns whether the destination lists it as a referrer by itself.
    pub(super) async fn put(
        &self,
        pair: &Pair,
        reference: &Reference,
        raw: RawManifest,
    ) -> Result<bool, CopyError> {
        let size = raw.bytes.len() as u64;
        let listed = self.destination.put_manifest(&pair.to, reference, &raw.media_type, raw.bytes).await?;
        self.bytes.fetch_add(size, Ordering::Relaxed);
        Ok(listed)
    }

    /// A manifest of the source, with the media type that its own bytes or else the registry's header state.
    pub(super) async fn read(
        &self,
        pair: &Pair,
        digest: &Digest,
    ) -> Result<(RawManifest, Manifest), CopyError> {
        let mut raw = self.source.manifest(&pair.from, &Reference::Digest(digest.clone())).await?;
        let manifest = match Manifest::parse(None, &raw.bytes) {
            Err(InvalidManifest::NoMediaType) => Manifest::parse(Some(&raw.media_type), &raw.bytes),
            parsed => parsed,
        };
        let manifest = manifest.map_err(|cause| CopyError::Manifest { digest: digest.clone(), cause })?;
        raw.media_type.clone_from(&manifest.media_type);
        Ok((raw, manifest))
    }

    /// Whether the destination has a manifest.
    pub(super) async fn has(&self, pair: &Pair, digest: &Digest) -> Result<bool, CopyError> {
        match self.destination.manifest_digest(&pair.to, &Reference::Digest(digest.clone())).await {
            Ok(_) => Ok(true),
            Err(ClientError::NotFound { .. }) => Ok(false),
            Err(other) => Err(other.into()),
        }
    }

    async fn blob(&self, pair: &Pair, blob: &Descriptor) -> Result<(), CopyError> {
        let cell = self.cell(&pair.to, &blob.digest);
        let copy = async {
            let home = self.homes().get(&blob.digest).filter(|home| **home != pair.to).cloned();
            let source = (&self.source, &pair.from);
            let copied = self.destination.copy_blob(&pair.to, blob, source, home.as_ref()).await?;
            if let Copied::Sent(bytes) = copied {
                self.bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            self.homes().insert(blob.digest.clone(), pair.to.clone());
            Ok::<_, CopyError>(())
        };
        cell.get_or_try_init(|| copy).await.copied()
    }

    fn cell(&self, repository: &RepositoryName, digest: &Digest) -> Arc<OnceCell<()>> {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(done.entry((repository.clone(), digest.clone())).or_default())
    }

    fn homes(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, RepositoryName>> {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
