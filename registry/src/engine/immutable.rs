//! Tags that do not move: from `tags` and `manifests`, before a write that would move or remove one. What a tag points to
//! only protects it while it is live: a tag that was left behind by a removal is as good as absent.

use berth_registry_core::{
    Digest, RepositoryName, Tag, key,
    record::{self, TagRecord},
};

use super::{
    Engine, EngineError,
    drive::{Swap, damaged},
    gather::{gather, work},
};
use crate::store::PutMode;

/// Rounds after which a tag is certainly not left behind by one removal, but written and removed again and again.
const MAX_ROUNDS: usize = 8;

impl Engine {
    pub(super) fn is_immutable(&self, tag: &Tag) -> bool {
        self.options().immutable_tags.iter().any(|pattern| pattern.matches(tag.as_str()))
    }

    /// Refuses to point an immutable tag from a live manifest to another one, or to nothing.
    pub(super) async fn check_immutable(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        target: Option<&Digest>,
    ) -> Result<(), EngineError> {
        if self.is_immutable(tag) {
            self.how_to_claim(repository, tag, target).await?;
        }
        Ok(())
    }

    async fn how_to_claim(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        target: Option<&Digest>,
    ) -> Result<PutMode, EngineError> {
        let Some((there, etag)) = self.read_record::<TagRecord>(&key::tag(repository, tag.as_str())).await?
        else {
            return Ok(PutMode::Create);
        };
        if target == Some(&there.digest) || !self.has_manifest(repository, &there.digest).await? {
            return Ok(PutMode::Update(etag));
        }
        Err(EngineError::TagImmutable { tag: tag.clone(), digest: there.digest })
    }

    pub(super) async fn has_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, EngineError> {
        let (_, record, _) = self.manifest_at(&key::manifest(repository, digest)).await?;
        Ok(record.is_some_and(|record| record.state.is_visible()))
    }

    /// Points an immutable tag to a manifest that is live already. Of many writers exactly one decides where to; those
    /// who meant the same succeed too.
    pub(super) async fn claim_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        target: &TagRecord,
    ) -> Result<(), EngineError> {
        let key = key::tag(repository, tag.as_str());
        for _ in 0..MAX_ROUNDS {
            let mode = self.how_to_claim(repository, tag, Some(&target.digest)).await?;
            let Swap::Lost(now) = self.swap_record(&key, mode, target).await? else { return Ok(()) };
            let Some((body, _)) = now else { continue };
            let (there, _) = record::decode::<TagRecord>(&body).map_err(|error| damaged(&key, &error))?;
            // Written after our manifest became live: nobody takes it for left behind any more.
            if there.digest == target.digest {
                return Ok(());
            }
        }
        Err(EngineError::Contended(tag.to_string()))
    }

    /// An immutable tag that points to a live manifest.
    pub(super) async fn immutable_tag_of(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Tag>, EngineError> {
        if self.options().immutable_tags.is_empty() {
            return Ok(None);
        }
        let prefix = key::hints(repository, digest);
        let hints = self.list_all(&prefix).await?;
        let tags = hints.iter().filter_map(|hint| hint.key.strip_prefix(&prefix)?.parse::<Tag>().ok());
        let tags: Vec<Tag> = tags.filter(|tag| self.is_immutable(tag)).collect();
        let there = gather(tags.iter().map(|tag| work(self.resolve(repository, tag))).collect()).await?;
        let points_here = |there: &Option<TagRecord>| there.as_ref().is_some_and(|tag| tag.digest == *digest);
        match tags.into_iter().zip(there).find(|(_, there)| points_here(there)) {
            Some((tag, _)) if self.has_manifest(repository, digest).await? => Ok(Some(tag)),
            _ => Ok(None),
        }
    }
}
