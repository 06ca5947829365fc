//! Tags and the catalog. A tag is one object: its last writer wins, unless the writer set a condition.

use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

use berth_registry_core::{
    Digest, RepositoryName, Tag, key,
    record::{self, TagChange, TagRecord},
};
use bytes::Bytes;
use futures::future;
use jiff::Timestamp;
use ulid::Ulid;

use super::{
    Condition, Engine, EngineError, Page,
    blobs::PAGE,
    drive::{Swap, damaged},
};
use crate::store::{Etag, PutMode, StoreError};

/// Repositories that a process remembers to be in the catalog.
const REMEMBERED: usize = 100_000;
/// How long it does. A scrub removes the entries of empty repositories, and only such as were written longer ago.
pub(super) const CATALOG_MEMORY: Duration = Duration::from_hours(12);

/// A tag in the version that was seen.
pub(super) struct SeenTag {
    key: String,
    version: Etag,
}

impl Engine {
    /// Tags of a repository after `last`, in the order of their bytes.
    pub async fn tags(
        &self,
        repository: &RepositoryName,
        last: Option<&str>,
        limit: usize,
    ) -> Result<Page<String>, EngineError> {
        let prefix = key::tags(repository);
        let after = last.map(|last| key::tag(repository, last));
        let page = self.names(&prefix, after, limit, |key| key.strip_prefix(&prefix)).await?;
        if page.items.is_empty() && !self.repository_exists(repository).await? {
            return Err(EngineError::NameUnknown(repository.to_string()));
        }
        Ok(page)
    }

    /// Repositories after `last`, in the order of their bytes.
    pub async fn catalog(&self, last: Option<&str>, limit: usize) -> Result<Page<String>, EngineError> {
        self.names(key::CATALOG, last.map(key::catalog), limit, key::catalog_repository).await
    }

    async fn names(
        &self,
        prefix: &str,
        mut after: Option<String>,
        limit: usize,
        name: impl Fn(&str) -> Option<&str>,
    ) -> Result<Page<String>, EngineError> {
        let mut items = Vec::new();
        let mut more = limit > 0;
        while more && items.len() < limit {
            let page = self.store().list(prefix, after.as_deref(), PAGE.min(limit - items.len())).await?;
            more = page.more && !page.entries.is_empty();
            after = page.entries.last().map(|entry| entry.key.clone());
            items.extend(page.entries.iter().filter_map(|entry| name(&entry.key).map(str::to_owned)));
        }
        Ok(Page { items, more })
    }

    async fn repository_exists(&self, repository: &RepositoryName) -> Result<bool, EngineError> {
        match self.store().head(&key::catalog(repository.as_str())).await {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Enters a repository into the catalog, once in a while a process.
    pub(super) async fn enter_catalog(&self, repository: &RepositoryName) -> Result<(), EngineError> {
        let known = || self.inner.in_catalog.lock().unwrap_or_else(PoisonError::into_inner);
        if known().get(repository).is_some_and(|written| written.elapsed() < CATALOG_MEMORY) {
            return Ok(());
        }
        self.list_in_catalog(repository).await?;
        let mut known = known();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(repository.clone(), Instant::now());
        Ok(())
    }

    /// Writes a repository's entry of the catalog.
    pub(super) async fn list_in_catalog(&self, repository: &RepositoryName) -> Result<(), EngineError> {
        self.store().put(&key::catalog(repository.as_str()), Bytes::new(), PutMode::Overwrite).await?;
        Ok(())
    }

    /// Where a tag points.
    pub(super) async fn resolve(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
    ) -> Result<Option<TagRecord>, EngineError> {
        let found = self.read_record::<TagRecord>(&key::tag(repository, tag.as_str())).await?;
        Ok(found.map(|(record, _)| record))
    }

    /// Says that a tag may point to a manifest. Written before the tag, so that deleting the manifest finds it.
    pub(super) async fn put_hint(
        &self,
        repository: &RepositoryName,
        manifest: &Digest,
        tag: &Tag,
    ) -> Result<(), EngineError> {
        self.store().put(&key::hint(repository, manifest, tag), Bytes::new(), PutMode::Overwrite).await?;
        Ok(())
    }

    /// Points a tag to a live manifest.
    pub(super) async fn move_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        target: &TagRecord,
        condition: &Condition,
        author: Option<&str>,
    ) -> Result<(), EngineError> {
        let key = key::tag(repository, tag.as_str());
        let change = self.put_change(repository, tag, Some(&target.digest), author);
        let mode = match condition {
            Condition::None if self.is_immutable(tag) => {
                self.claim_tag(repository, tag, target).await?;
                return change.await;
            }
            Condition::None => {
                let write = async {
                    let body = record::encode(target, &Ulid::generate().to_string())
                        .map_err(|e| damaged(&key, &e))?;
                    self.store().put(&key, body, PutMode::Overwrite).await?;
                    Ok(())
                };
                future::try_join(write, change).await?;
                return Ok(());
            }
            Condition::Absent => PutMode::Create,
            Condition::Matches(expected) => match self.read_record::<TagRecord>(&key).await? {
                Some((there, etag)) if there.digest == *expected => {
                    self.check_immutable(repository, tag, Some(&target.digest)).await?;
                    PutMode::Update(etag)
                }
                there => {
                    return Err(EngineError::Precondition { actual: there.map(|(there, _)| there.digest) });
                }
            },
        };
        match self.swap_record(&key, mode, target).await? {
            Swap::Won(_) => change.await,
            Swap::Lost(_) => {
                let actual = self.resolve(repository, tag).await?.map(|there| there.digest);
                Err(EngineError::Precondition { actual })
            }
        }
    }

    /// Removes a tag; the manifest stays.
    pub async fn delete_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        condition: &Condition,
    ) -> Result<(), EngineError> {
        let _changing = self.changing(repository);
        let key = key::tag(repository, tag.as_str());
        let Some((there, etag)) = self.read_record::<TagRecord>(&key).await? else {
            return Err(EngineError::ManifestUnknown(tag.to_string()));
        };
        let refused = |actual| Err(EngineError::Precondition { actual });
        self.check_immutable(repository, tag, None).await?;
        match condition {
            Condition::None => self.store().delete(&key).await?,
            Condition::Absent => return refused(Some(there.digest)),
            Condition::Matches(expected) if *expected != there.digest => return refused(Some(there.digest)),
            Condition::Matches(_) => match self.store().delete_version(&key, &etag).await {
                Ok(()) => {}
                Err(StoreError::Precondition(_)) => {
                    return refused(self.resolve(repository, tag).await?.map(|there| there.digest));
                }
                Err(error) => return Err(error.into()),
            },
        }
        future::try_join(self.put_change(repository, tag, None, None), async {
            self.store().delete(&key::hint(repository, &there.digest, tag)).await?;
            Ok(())
        })
        .await?;
        Ok(())
    }

    /// A tag, if it points to this manifest.
    pub(super) async fn see_tag(
        &self,
        repository: &RepositoryName,
        tag: &str,
        manifest: &Digest,
    ) -> Result<Option<SeenTag>, EngineError> {
        let key = key::tag(repository, tag);
        let found = self.read_record::<TagRecord>(&key).await?;
        Ok(found.filter(|(there, _)| there.digest == *manifest).map(|(_, version)| SeenTag { key, version }))
    }

    /// Removes a tag as it was seen. Written since, it is another one, though it may say the same.
    pub(super) async fn drop_tag(&self, tag: &SeenTag) -> Result<(), EngineError> {
        match self.store().delete_version(&tag.key, &tag.version).await {
            Ok(()) | Err(StoreError::Precondition(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn put_change(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        digest: Option<&Digest>,
        author: Option<&str>,
    ) -> Result<(), EngineError> {
        let at = Timestamp::now();
        let key = key::history(repository, tag, at, Ulid::generate());
        let change = TagChange { digest: digest.cloned(), at, author: author.map(str::to_owned) };
        let body = record::encode(&change, "").map_err(|error| damaged(&key, &error))?;
        self.store().put(&key, body, PutMode::Overwrite).await?;
        Ok(())
    }
}
