//! Who uses how much, by listing: `l/` says who holds a blob, `b/` how large it is, `d/` what lies there. Only records
//! that changed since the last look are read. The result is kept as a snapshot, which the API and the metrics show.

use std::{
    collections::{HashSet, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
};

use berth_registry_core::{
    RepositoryName, key,
    record::{Progress, Session, Trash},
    usage::Usage,
};
use jiff::Timestamp;

use super::{
    Engine, EngineError,
    inventory::{Inventory, Listing},
    references::References,
};
use crate::store::{Entry, PutMode};

/// Data keys, each as 8 bytes: a store with a million blobs takes some 16 MB. Two keys that look alike make one of them
/// count as the other, or be kept.
#[derive(Debug, Default)]
pub(super) struct DataKeys(HashSet<u64>);

impl DataKeys {
    fn fingerprint(key: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        hasher.finish()
    }

    pub(super) fn insert(&mut self, key: &str) {
        self.0.insert(Self::fingerprint(key));
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.0.contains(&Self::fingerprint(key))
    }
}

/// The data keys that records name, by whose.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// By blobs that can be served.
    pub live: DataKeys,
    /// By blobs that died, and by trash.
    pub trash: DataKeys,
    /// By sessions.
    pub uploads: DataKeys,
}

impl Named {
    pub(super) fn contains(&self, key: &str) -> bool {
        self.live.contains(key) || self.trash.contains(key) || self.uploads.contains(key)
    }
}

impl Engine {
    /// The last snapshot, or with `refresh`, or if there is none, a new one.
    pub async fn usage(&self, refresh: bool) -> Result<Usage, EngineError> {
        if !refresh && let Some(usage) = self.last_usage().await? {
            return Ok(usage);
        }
        let (mut usage, named) = self.blob_usage().await?;
        self.data_usage(&mut usage, &named).await?;
        self.repository_usage(&mut usage).await?;
        self.record_usage(&mut usage).await?;
        let body = serde_json::to_vec(&usage).map_err(|error| EngineError::Damaged {
            key: key::USAGE.to_owned(),
            message: error.to_string(),
        })?;
        self.store().put(key::USAGE, body.into(), PutMode::Overwrite).await?;
        Ok(usage)
    }

    /// The last snapshot, whoever took it.
    pub async fn last_usage(&self) -> Result<Option<Usage>, EngineError> {
        let found = self.read_optional(key::USAGE).await?;
        Ok(found.and_then(|(body, _)| serde_json::from_slice(&body).ok()))
    }

    /// Blobs and who holds them.
    async fn blob_usage(&self) -> Result<(Usage, Named), EngineError> {
        let (mut usage, mut named) = (Usage::new(Timestamp::now()), Named::default());
        let mut inventory = Inventory::new(self, None, true);
        while let Some(shard) = inventory.next().await? {
            usage.store.record_bytes += shard.bytes;
            usage.store.objects += shard.objects;
            for item in shard.items {
                let Some(blob) = item.blob.and_then(|known| known.record) else { continue };
                if !blob.state.is_visible() {
                    named.trash.insert(&blob.data);
                    continue;
                }
                named.live.insert(&blob.data);
                let holds = |link: &berth_registry_core::record::Link| link.state.is_visible();
                let holders: Vec<&RepositoryName> = item
                    .links
                    .iter()
                    .filter(|(_, known)| known.record.as_ref().is_some_and(holds))
                    .map(|(repository, _)| repository)
                    .collect();
                usage.add_blob(blob.size, &holders);
            }
        }
        Ok((usage, named))
    }

    async fn data_usage(&self, usage: &mut Usage, named: &Named) -> Result<(), EngineError> {
        let mut listing = Listing::new(self, key::DATA, None);
        while let Some(Entry { key, meta }) = listing.next().await? {
            usage.store.objects += 1;
            *if named.live.contains(&key) {
                &mut usage.store.blob_bytes
            } else if named.trash.contains(&key) {
                &mut usage.store.trash_bytes
            } else {
                &mut usage.store.upload_bytes
            } += meta.size;
        }
        Ok(())
    }

    /// Manifests and tags, repository by repository.
    async fn repository_usage(&self, usage: &mut Usage) -> Result<(), EngineError> {
        let mut listing = Listing::new(self, key::REPOSITORIES, None);
        let (mut manifests, mut tags) = (false, 0);
        while let Some(entry) = listing.next().await? {
            usage.store.record_bytes += entry.meta.size;
            usage.store.objects += 1;
            let Some((name, rest)) = key::repository_of(&entry.key) else { continue };
            match rest.get(..2) {
                Some("m/") => manifests = true,
                Some("t/") => tags += 1,
                _ => {}
            }
            let next = listing.peek().await?.and_then(|next| key::repository_of(&next.key));
            if next.is_none_or(|(next, _)| next != name) {
                if std::mem::take(&mut manifests) {
                    let mut references = References::new(&name);
                    match references.scan(self).await {
                        Ok(()) => references.save(self).await,
                        // A scrub sets it right; until then the repository has no manifests here.
                        Err(error @ EngineError::Damaged { .. }) => {
                            tracing::warn!(repository = %name, %error, "manifests are not counted");
                        }
                        Err(error) => return Err(error),
                    }
                    references.sizes().for_each(|size| usage.add_manifest(size, &name));
                }
                usage.add_tags(std::mem::take(&mut tags), &name);
            }
        }
        Ok(())
    }

    /// Everything else.
    async fn record_usage(&self, usage: &mut Usage) -> Result<(), EngineError> {
        let mut listing = Listing::new(self, "", None);
        while let Some(entry) = listing.peek().await? {
            let counted = [key::BLOBS, key::LINKS, key::DATA, key::REPOSITORIES];
            if let Some(prefix) = counted.iter().find(|prefix| entry.key.starts_with(**prefix)) {
                listing.seek(format!("{prefix}~"));
                continue;
            }
            if let Some(entry) = listing.next().await? {
                usage.store.record_bytes += entry.meta.size;
                usage.store.objects += 1;
            }
        }
        Ok(())
    }

    /// The data keys that anything names: blobs, sessions and trash.
    pub(super) async fn named_data(&self) -> Result<Named, EngineError> {
        let (_, mut named) = self.blob_usage().await?;
        for entry in self.list_all(key::UPLOADS).await? {
            let Some(session) = self.readable::<Session>(&entry.key).await? else { continue };
            match session.progress {
                Progress::Open(received) | Progress::Abandoned(received) => {
                    let parts = received.multipart.map(|multipart| multipart.data);
                    let tail = received.tail.map(|tail| tail.data);
                    parts.into_iter().chain(tail).for_each(|key| named.uploads.insert(&key));
                }
                Progress::Finished { data, .. } => named.uploads.insert(&data),
                Progress::Cancelled => {}
            }
        }
        for entry in self.list_all(key::TRASH).await? {
            if let Some(Trash::Data { data, .. }) = self.readable(&entry.key).await? {
                named.trash.insert(&data);
            }
        }
        Ok(named)
    }

    /// A record, if it is there and can be read: what names something unreadably names nothing.
    async fn readable<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<Option<T>, EngineError> {
        match self.read_record::<T>(key).await {
            Ok(found) => Ok(found.map(|(record, _)| record)),
            Err(EngineError::Damaged { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
