//! Brings back what was deleted, while its bytes are there: children first, then the links (the protocol's `Restore`),
//! then the manifest is written like by a push, then its tags, unless they mean something else by now.

use std::collections::BTreeMap;

use berth_registry_core::{
    Digest, Reference, RepositoryName, Tag,
    job::{LostManifest, RestoredManifest, UndeleteReport, UndeleteRequest},
    key,
    protocol::{Restore, Restored},
    record::{Candidate, ManifestRecord, TagChange, TagRecord},
};
use futures::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;

use super::{
    Condition, Engine, EngineError, PutOptions,
    drive::Place,
    gather::{gather, work},
};

/// Changes of a tag that are searched for what it pointed to last.
const CHANGES: usize = 100;

impl Engine {
    /// Brings back a tag, a manifest or a repository. A whole repository is brought back as far as it is there.
    pub async fn undelete(
        &self,
        request: &UndeleteRequest,
        author: Option<&str>,
    ) -> Result<UndeleteReport, EngineError> {
        let repository = &request.repository;
        let report = match (&request.tag, &request.digest) {
            (Some(tag), _) => self.undelete_tag(repository, tag, author).await?,
            (None, Some(digest)) => self.undelete_manifest(repository, digest, author).await?,
            (None, None) => self.undelete_all(repository, request.since, author).await?,
        };
        for RestoredManifest { digest, tags } in &report.restored {
            let tags = tags.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            tracing::info!(target: "audit", %repository, %digest, tags, author, "image undeleted");
        }
        Ok(report)
    }

    async fn undelete_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        author: Option<&str>,
    ) -> Result<UndeleteReport, EngineError> {
        let changes = self.changes(repository, tag, None, CHANGES).await?;
        let digest = changes.into_iter().find_map(|change| change.digest);
        let digest = digest.ok_or_else(|| EngineError::ManifestUnknown(tag.to_string()))?;
        self.revive(repository, &digest, author).await?;
        let mut report = UndeleteReport::default();
        if self.retag(repository, tag, &digest, author).await? {
            report.restored.push(RestoredManifest { digest, tags: vec![tag.clone()] });
        }
        Ok(report)
    }

    async fn undelete_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        author: Option<&str>,
    ) -> Result<UndeleteReport, EngineError> {
        let mut report = UndeleteReport::default();
        if self.revive(repository, digest, author).await? {
            let tags = self.retag_all(repository, digest, author).await?;
            report.restored.push(RestoredManifest { digest: digest.clone(), tags });
        }
        Ok(report)
    }

    async fn undelete_all(
        &self,
        repository: &RepositoryName,
        since: Option<Timestamp>,
        author: Option<&str>,
    ) -> Result<UndeleteReport, EngineError> {
        let entries = self.list_all(&key::manifests(repository)).await?;
        let manifests =
            gather(entries.iter().map(|entry| work(self.manifest_at(&entry.key))).collect()).await?;
        let is_meant =
            |record: &ManifestRecord| record.died.is_some_and(|died| since.is_none_or(|t| died >= t));
        let dead = manifests.into_iter().filter_map(|(digest, record, _)| {
            record.filter(|record| !record.state.is_visible() && is_meant(record)).and(digest)
        });
        let mut restored: BTreeMap<Digest, Vec<Tag>> = BTreeMap::new();
        let mut report = UndeleteReport::default();
        for digest in dead {
            match self.revive(repository, &digest, author).await {
                // Also if another one's revival brought it back: its tags are still to come.
                Ok(_) => {
                    restored
                        .entry(digest.clone())
                        .or_default()
                        .extend(self.retag_all(repository, &digest, author).await?);
                }
                Err(
                    error @ (EngineError::Reclaimed(_)
                    | EngineError::ManifestUnknown(_)
                    | EngineError::ManifestBlobUnknown(_)),
                ) => {
                    report.lost.push(LostManifest { digest, message: error.to_string() });
                }
                Err(error) => return Err(error),
            }
        }
        for (tag, digest) in self.removed_tags(repository, since).await? {
            if self.visible(repository, &digest).await?.is_some()
                && self.retag(repository, &tag, &digest, author).await?
            {
                restored.entry(digest).or_default().push(tag);
            }
        }
        report.restored =
            restored.into_iter().map(|(digest, tags)| RestoredManifest { digest, tags }).collect();
        Ok(report)
    }

    /// Makes a manifest live again, with all that it needs; `false` if it was live.
    fn revive<'a>(
        &'a self,
        repository: &'a RepositoryName,
        digest: &'a Digest,
        author: Option<&'a str>,
    ) -> BoxFuture<'a, Result<bool, EngineError>> {
        async move {
            let (_, record, bytes) = self.manifest_at(&key::manifest(repository, digest)).await?;
            let record = match record {
                Some(record) if record.state.is_visible() => return Ok(false),
                Some(record) if record.died.is_some() => record,
                _ => return Err(EngineError::ManifestUnknown(digest.to_string())),
            };
            for child in &record.manifests {
                match self.revive(repository, child, author).await {
                    Ok(_) => {}
                    // It was not there before either.
                    Err(EngineError::ManifestUnknown(_)) if self.options().sparse_manifests => {}
                    Err(error) => return Err(error),
                }
            }
            let restores = record.blobs.iter().map(|blob| work(self.restore(repository, blob)));
            if let Err(error) = gather(restores.collect()).await {
                // Those that came back are nobody's again: the collector looks at them when they are not young any more.
                self.enqueue(&Candidate::Manifest { repository: repository.clone(), digest: digest.clone() })
                    .await?;
                return Err(error);
            }
            let options = PutOptions { author, ..PutOptions::default() };
            let reference = Reference::Digest(digest.clone());
            self.put_manifest(repository, &reference, Some(&record.media_type), bytes, options).await?;
            Ok(true)
        }
        .boxed()
    }

    async fn restore(&self, repository: &RepositoryName, blob: &Digest) -> Result<(), EngineError> {
        match self.drive(Restore::new(Timestamp::now()), &Place::new(repository, blob)).await? {
            Restored::Yes(_) => Ok(()),
            // A blob that was never here, or whose bytes are gone.
            Restored::Lost if self.options().sparse_manifests => Ok(()),
            Restored::Lost => Err(EngineError::Reclaimed(blob.clone())),
        }
    }

    /// Points those tags to a manifest again that pointed to it when it was deleted.
    async fn retag_all(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        author: Option<&str>,
    ) -> Result<Vec<Tag>, EngineError> {
        let prefix = key::hints(repository, digest);
        let hints = self.list_all(&prefix).await?;
        let mut tags = Vec::new();
        for tag in hints.iter().filter_map(|hint| hint.key.strip_prefix(&prefix)?.parse::<Tag>().ok()) {
            let last = self.changes(repository, &tag, None, 1).await?.pop();
            if last.is_some_and(|change| change.digest.as_ref() == Some(digest))
                && self.retag(repository, &tag, digest, author).await?
            {
                tags.push(tag);
            }
        }
        Ok(tags)
    }

    /// Points a tag to a live manifest; `false` if it points somewhere already.
    async fn retag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        digest: &Digest,
        author: Option<&str>,
    ) -> Result<bool, EngineError> {
        let Some((record, size)) = self.visible(repository, digest).await? else { return Ok(false) };
        let target = TagRecord { digest: digest.clone(), media_type: record.media_type, size };
        self.put_hint(repository, digest, tag).await?;
        match self.move_tag(repository, tag, &target, &Condition::Absent, author).await {
            Ok(()) => Ok(true),
            Err(EngineError::Precondition { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A manifest that readers see, and its size.
    async fn visible(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<(ManifestRecord, u64)>, EngineError> {
        let (_, record, bytes) = self.manifest_at(&key::manifest(repository, digest)).await?;
        Ok(record.filter(|record| record.state.is_visible()).map(|record| (record, bytes.len() as u64)))
    }

    /// Tags that were removed by name since then, and what they pointed to.
    async fn removed_tags(
        &self,
        repository: &RepositoryName,
        since: Option<Timestamp>,
    ) -> Result<Vec<(Tag, Digest)>, EngineError> {
        let prefix = key::all_history(repository);
        let entries = self.list_all(&prefix).await?;
        let mut tags: Vec<&str> = entries
            .iter()
            .filter_map(|entry| Some(entry.key.strip_prefix(&prefix)?.split_once('/')?.0))
            .collect();
        tags.dedup();
        let last_two = tags.into_iter().filter_map(|tag| tag.parse::<Tag>().ok()).map(|tag| {
            work(async move {
                let changes = self.changes(repository, &tag, None, 2).await?;
                Ok((tag, changes))
            })
        });
        let meant =
            |change: &TagChange| change.digest.is_none() && since.is_none_or(|since| change.at >= since);
        let removed =
            gather(last_two.collect()).await?.into_iter().filter_map(|(tag, changes)| {
                match changes.as_slice() {
                    [last, before] if meant(last) => Some((tag, before.digest.clone()?)),
                    _ => None,
                }
            });
        Ok(removed.collect())
    }
}
