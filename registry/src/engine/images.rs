//! All images of a repository, as lifecycle rules judge them.

use std::collections::BTreeMap;

use berth_registry_core::{Digest, RepositoryName, Tag, key, lifecycle::Image, record::TagRecord};

use super::{
    Engine, EngineError,
    gather::{gather, work},
};

impl Engine {
    /// Every visible manifest of a repository with its tags, in the order of the digests.
    pub async fn images(&self, repository: &RepositoryName) -> Result<Vec<Image>, EngineError> {
        let entries = self.list_all(&key::manifests(repository)).await?;
        let manifests =
            gather(entries.iter().map(|entry| work(self.manifest_at(&entry.key))).collect()).await?;
        // The tags are read after the manifests: what is tagged meanwhile is not mistaken for untagged.
        let mut tags = self.all_tags(repository).await?;
        Ok(manifests
            .into_iter()
            .filter_map(|(digest, record, _)| {
                let (digest, record) = (digest?, record.filter(|record| record.state.is_visible())?);
                Some(Image {
                    tags: tags.remove(&digest).unwrap_or_default(),
                    digest,
                    pushed_at: record.pushed,
                    children: record.manifests,
                    subject: record.subject,
                })
            })
            .collect())
    }

    async fn all_tags(&self, repository: &RepositoryName) -> Result<BTreeMap<Digest, Vec<Tag>>, EngineError> {
        let prefix = key::tags(repository);
        let entries = self.list_all(&prefix).await?;
        let reads = entries.iter().map(|entry| work(self.read_record::<TagRecord>(&entry.key))).collect();
        let mut tags: BTreeMap<Digest, Vec<Tag>> = BTreeMap::new();
        for (entry, record) in entries.iter().zip(gather(reads).await?) {
            let tag = entry.key.strip_prefix(&prefix).and_then(|tag| tag.parse().ok());
            if let Some(((record, _), tag)) = record.zip(tag) {
                tags.entry(record.digest).or_default().push(tag);
            }
        }
        Ok(tags)
    }
}
