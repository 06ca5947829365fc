//! Where tags pointed: each move and each removal by name is an object, newest first. It answers pulls as of a time, and
//! tells undelete what a tag meant.

use berth_registry_core::{RepositoryName, Tag, key, record::TagChange};
use jiff::Timestamp;

use super::{Engine, EngineError, StoredManifest};

impl Engine {
    /// What a tag meant at a time, as far as the registry remembers: a manifest that was deleted since is there until its
    /// undelete window ends.
    pub async fn get_manifest_as_of(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        at: Timestamp,
    ) -> Result<StoredManifest, EngineError> {
        let unknown = || EngineError::ManifestUnknown(format!("{tag} as of {at}"));
        let change = self.changes(repository, tag, Some(at), 1).await?.pop().ok_or_else(unknown)?;
        let digest = change.digest.ok_or_else(unknown)?;
        let (_, record, bytes) = self.manifest_at(&key::manifest(repository, &digest)).await?;
        match record {
            // Deleting a manifest takes its tags along without a word in their histories.
            Some(record) if record.state.is_visible() || record.died.is_some_and(|died| died > at) => {
                Ok(StoredManifest { digest, media_type: record.media_type, bytes })
            }
            _ => Err(unknown()),
        }
    }

    /// Changes of a tag, newest first: at most `limit`, not after `at`.
    pub(super) async fn changes(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        at: Option<Timestamp>,
        limit: usize,
    ) -> Result<Vec<TagChange>, EngineError> {
        let prefix = key::history_of(repository, tag);
        let after = at.map(|at| key::history_at(repository, tag, at));
        let page = self.store().list(&prefix, after.as_deref(), limit).await?;
        let mut changes = Vec::new();
        for entry in page.entries {
            changes.extend(self.read_record::<TagChange>(&entry.key).await?.map(|(change, _)| change));
        }
        Ok(changes)
    }
}
