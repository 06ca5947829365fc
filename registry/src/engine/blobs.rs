//! Blobs of a repository: look, read, mount, delete. A repository holds a blob by its link; the bytes are shared.

use std::time::Duration;

use berth_registry_core::{
    Digest, RepositoryName, key,
    protocol::{CollectLink, Collected, Mount, Mounted},
    record::{Blob, Candidate, Link, Trash},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use ulid::Ulid;

use super::{BlobReader, BlobStat, ByteRange, Engine, EngineError, drive::Place};
use crate::store::{Entry, GetOptions, ListPage, PutMode, StoreError};

/// Keys that one listing request asks for.
pub(super) const PAGE: usize = 1000;

/// Links that are read at once: most often the first one decides.
const LOOKS: usize = 8;

impl ByteRange {
    fn within(self, size: u64) -> Option<std::ops::Range<u64>> {
        let range = match self {
            Self::From(first) => first..size,
            Self::Between(first, last) => first..last.saturating_add(1).min(size),
            Self::Last(count) => size.saturating_sub(count)..size,
        };
        (!range.is_empty()).then_some(range)
    }
}

impl Engine {
    /// Whether the repository holds a blob, and its size. Opens no data.
    pub async fn stat_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<BlobStat, EngineError> {
        let link = self.link(repository, digest).await?;
        Ok(BlobStat { digest: digest.clone(), size: link.size })
    }

    async fn link(&self, repository: &RepositoryName, digest: &Digest) -> Result<Link, EngineError> {
        match self.read_record::<Link>(&key::link(digest, repository)).await? {
            Some((link, _)) if link.state.is_visible() => Ok(link),
            _ => Err(EngineError::BlobUnknown(digest.clone())),
        }
    }

    async fn recent_link(&self, repository: &RepositoryName, digest: &Digest) -> Result<Link, EngineError> {
        if let Some(link) = self.inner.links.get(repository, digest) {
            return Ok(link);
        }
        let link = self.link(repository, digest).await?;
        self.inner.links.put(repository, digest, link.clone());
        Ok(link)
    }

    /// A URL at which a client gets a blob's bytes from the store itself; `None` if the store has no URLs.
    pub async fn blob_url(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        lifetime: Duration,
    ) -> Result<Option<String>, EngineError> {
        let link = self.recent_link(repository, digest).await?;
        let Some(url) = self.store().presign(&link.data, lifetime).await? else { return Ok(None) };
        // Nobody corrects the client's course once it is gone: be sure that the bytes are there.
        match self.store().head(&link.data).await {
            Ok(_) => Ok(Some(url)),
            Err(StoreError::NotFound(_)) => {
                let data = self.relocate(repository, digest).await?;
                Ok(self.store().presign(&data, lifetime).await?)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a blob, or a range of it.
    pub async fn read_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        range: Option<ByteRange>,
    ) -> Result<BlobReader, EngineError> {
        let link = self.recent_link(repository, digest).await?;
        let size = link.size;
        let wanted = match range {
            None => 0..size,
            Some(range) => range.within(size).ok_or(EngineError::RangeNotSatisfiable { size })?,
        };
        let options = GetOptions { range: range.map(|_| wanted.clone()), if_none_match: None };
        let object = match self.store().get(&link.data, options.clone()).await {
            Ok(object) => object,
            Err(StoreError::NotFound(_)) => {
                self.store().get(&self.relocate(repository, digest).await?, options).await?
            }
            Err(error) => return Err(error.into()),
        };
        let stream = object.body.map_err(EngineError::Store).boxed();
        Ok(BlobReader { size, range: wanted, stream })
    }

    /// The link's hint led nowhere: the blob's record decides.
    async fn relocate(&self, repository: &RepositoryName, digest: &Digest) -> Result<String, EngineError> {
        self.inner.links.forget(repository, digest);
        self.link(repository, digest).await?;
        match self.read_record::<Blob>(&key::blob(digest)).await? {
            Some((blob, _)) if blob.state.is_visible() => Ok(blob.data),
            _ => Err(EngineError::BlobUnknown(digest.clone())),
        }
    }

    /// Takes a blob over from another repository. `false`: it is not there, the client must upload it. The caller has
    /// checked the right to read `from`.
    pub async fn mount(
        &self,
        repository: &RepositoryName,
        from: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, EngineError> {
        let place = Place { source: Some(from), ..Place::new(repository, digest) };
        match self.drive(Mount::new(Timestamp::now()), &place).await? {
            Mounted::Yes(link) => {
                self.inner.links.put(repository, digest, link);
                Ok(true)
            }
            Mounted::No => Ok(false),
        }
    }

    /// Repositories that may hold a blob, some of them: where a mount without `from` can look, among those that the
    /// caller may read.
    pub async fn repositories_with(&self, digest: &Digest) -> Result<Vec<RepositoryName>, EngineError> {
        let page = self.store().list(&key::links(digest), None, PAGE).await?;
        Ok(page.entries.iter().filter_map(|entry| key::link_repository(digest, &entry.key)).collect())
    }

    /// Takes a blob out of a repository, unless a manifest of it needs the blob.
    pub async fn delete_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<(), EngineError> {
        let collected = self.drive(CollectLink::new(None), &Place::new(repository, digest)).await?;
        self.inner.links.forget(repository, digest);
        match collected {
            Collected::Dead => self.enqueue(&Candidate::Blob(digest.clone())).await,
            Collected::Needed(manifest) => {
                Err(EngineError::BlobReferenced { blob: digest.clone(), manifest })
            }
            Collected::Unknown | Collected::Young => Err(EngineError::BlobUnknown(digest.clone())),
            Collected::Contended => Err(EngineError::Contended(digest.to_string())),
        }
    }

    /// Whether a repository holds a blob, or begins to. One listing, then the links, until one is found that stands.
    pub(super) async fn is_linked(&self, blob: &Digest) -> Result<bool, EngineError> {
        let prefix = key::links(blob);
        let mut after: Option<String> = None;
        loop {
            let page = self.store().list(&prefix, after.as_deref(), PAGE).await?;
            after = page.entries.last().map(|entry| entry.key.clone());
            let mut links = stream::iter(page.entries)
                .map(|entry| async move { self.read_record::<Link>(&entry.key).await })
                .buffer_unordered(LOOKS);
            while let Some(link) = links.try_next().await? {
                if link.is_some_and(|(link, _)| link.state.is_reference()) {
                    return Ok(true);
                }
            }
            if !page.more || after.is_none() {
                return Ok(false);
            }
        }
    }

    /// Puts on record what may be deleted at `due`.
    pub(super) async fn discard(&self, trash: &Trash, due: Timestamp) -> Result<(), EngineError> {
        let key = key::trash(due, Ulid::generate());
        let body =
            berth_registry_core::record::encode(trash, "").map_err(|e| super::drive::damaged(&key, &e))?;
        self.store().put(&key, body, PutMode::Overwrite).await?;
        Ok(())
    }

    /// Leaves work for the collector.
    pub(super) async fn enqueue(&self, candidate: &Candidate) -> Result<(), EngineError> {
        let key = key::candidate(Timestamp::now(), Ulid::generate());
        let body = berth_registry_core::record::encode(candidate, "")
            .map_err(|e| super::drive::damaged(&key, &e))?;
        self.store().put(&key, body, PutMode::Overwrite).await?;
        Ok(())
    }

    /// Every key below a prefix.
    pub(super) async fn list_all(&self, prefix: &str) -> Result<Vec<Entry>, EngineError> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let after = entries.last().map(|entry| entry.key.clone());
            let ListPage { entries: page, more } = self.store().list(prefix, after.as_deref(), PAGE).await?;
            let done = !more || page.is_empty();
            entries.extend(page);
            if done {
                return Ok(entries);
            }
        }
    }
}
