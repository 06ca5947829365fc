//! Referrers (distribution-spec, "Listing Referrers"). Each one is an object of its own, written once: writers never
//! meet, so no update is lost. A disposable index spares reading them one by one; the listing decides what is in it.

use std::collections::BTreeMap;

use berth_registry_core::{Descriptor, Digest, RepositoryName, key};

use super::{
    Engine, EngineError,
    gather::{gather, work},
};
use crate::store::PutMode;

/// Up to so many referrers are read without an index.
const FEW: usize = 2;

/// Descriptors by the referrer's digest.
type Index = BTreeMap<String, Descriptor>;

impl Engine {
    pub(super) async fn write_referrer(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        descriptor: &Descriptor,
    ) -> Result<(), EngineError> {
        let key = key::referrer(repository, subject, descriptor.artifact_type.as_deref(), &descriptor.digest);
        let body = serde_json::to_vec(descriptor)
            .map_err(|e| EngineError::Damaged { key: key.clone(), message: e.to_string() })?;
        // The same referrer always has the same descriptor, so overwriting changes nothing.
        self.store().put(&key, body.into(), PutMode::Overwrite).await?;
        Ok(())
    }

    /// What is attached to a manifest, which need not exist; with `artifact_type` only what is of this type.
    pub async fn referrers(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, EngineError> {
        let prefix = match artifact_type {
            Some(_) => key::referrers_of_type(repository, digest, artifact_type),
            None => key::referrers(repository, digest),
        };
        let listed = self.list_all(&prefix).await?;
        let index_key = key::referrer_index(repository, digest);
        let mut index =
            if listed.len() > FEW { self.referrer_index(&index_key).await? } else { Index::new() };
        let missing: Vec<_> = listed.iter().filter(|entry| !index.contains_key(name(&entry.key))).collect();
        let rebuild = listed.len() > FEW && !missing.is_empty();
        let reads = missing.into_iter().map(|entry| work(self.descriptor(&entry.key))).collect();
        index.extend(gather(reads).await?.into_iter().flatten());
        if rebuild && let Ok(body) = serde_json::to_vec(&index) {
            // Only a cache: without it the next listing reads more.
            let _ = self.store().put(&index_key, body.into(), PutMode::Overwrite).await;
        }
        let mut descriptors: Vec<Descriptor> =
            listed.iter().filter_map(|entry| index.remove(name(&entry.key))).collect();
        if artifact_type.is_some() {
            // The key holds but a short hash of the type.
            descriptors.retain(|descriptor| descriptor.artifact_type.as_deref() == artifact_type);
        }
        Ok(descriptors)
    }

    async fn descriptor(&self, key: &str) -> Result<Option<(String, Descriptor)>, EngineError> {
        // Absent: deleted since it was listed.
        let Some((body, _)) = self.read_optional(key).await? else { return Ok(None) };
        let descriptor = serde_json::from_slice(&body)
            .map_err(|e| EngineError::Damaged { key: key.to_owned(), message: e.to_string() })?;
        Ok(Some((name(key).to_owned(), descriptor)))
    }

    async fn referrer_index(&self, key: &str) -> Result<Index, EngineError> {
        let Some((body, _)) = self.read_optional(key).await? else { return Ok(Index::new()) };
        Ok(serde_json::from_slice(&body).unwrap_or_default())
    }
}

fn name(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or(key)
}
