//! What is left when blobs and repositories are right: the catalog, links that nobody names, bytes that nothing leads to.

use std::collections::{BTreeMap, BTreeSet};

use berth_registry_core::{
    Algorithm, Digest, RepositoryName, key,
    protocol::{CollectLink, Collected, Reclaim, Reclaimed},
    record::{Candidate, Session, Trash},
    scrub::{Damage, Treatment},
    usage::Usage,
};
use futures::TryStreamExt as _;
use jiff::{SignedDuration, Timestamp};

use super::{
    super::{
        EngineError,
        drive::Place,
        hasher::Hasher,
        inventory::{Inventory, Listing},
        references::References,
        tags::CATALOG_MEMORY,
    },
    Case, Scrub,
};
use crate::store::{Entry, GetOptions};

/// The prefixes of everything that this version writes.
const KNOWN: [&str; 9] = [
    key::BLOBS,
    key::CATALOG,
    key::DATA,
    key::SETTINGS,
    key::LINKS,
    key::REPOSITORIES,
    key::CANDIDATES,
    key::UPLOADS,
    key::TRASH,
];

impl Scrub {
    pub(super) async fn leftovers(&self) -> Result<(), EngineError> {
        self.unnamed_links().await?;
        self.orphans().await?;
        self.objects().await?;
        // After all repairs, and for everyone to see.
        if !self.request.dry_run {
            let usage = self.engine.usage(true).await?;
            self.catalog(&usage).await?;
        }
        Ok(())
    }

    /// Links older than the lease whose repository has no manifest that names them.
    async fn unnamed_links(&self) -> Result<(), EngineError> {
        let mut old: BTreeMap<RepositoryName, Vec<Digest>> = BTreeMap::new();
        let mut inventory = Inventory::new(&self.engine, None, true);
        while let Some(shard) = inventory.next().await? {
            for item in shard.items {
                for (repository, known) in item.links {
                    let link = known.record.filter(|link| link.state.is_visible() && link.since < self.lease);
                    if link.is_some() && known.modified < self.lease {
                        old.entry(repository).or_default().push(item.digest.clone());
                    }
                }
            }
        }
        for (repository, blobs) in old {
            let mut references = References::new(&repository);
            if let Err(error) = references.scan(&self.engine).await {
                self.failed(repository.as_str(), &error);
                continue;
            }
            for blob in blobs.iter().filter(|blob| references.holder(blob).is_none()) {
                let case = Case::new(
                    Damage::UnnamedLink,
                    key::link(blob, &repository),
                    "no manifest of the repository names it",
                );
                let cure = async {
                    // It looks at everything again, in the order that makes it safe beside writers.
                    let machine = CollectLink::new(Some(self.lease));
                    let collected = self.engine.drive(machine, &Place::new(&repository, blob)).await?;
                    if collected != Collected::Dead {
                        return Ok(None);
                    }
                    self.engine.inner.links.forget(&repository, blob);
                    self.engine.enqueue(&Candidate::Blob(blob.clone())).await?;
                    Ok(Some(Treatment::HandedOver))
                };
                self.treat(case.of(&repository).about(blob), Treatment::HandedOver, cure).await;
            }
        }
        Ok(())
    }

    async fn orphans(&self) -> Result<(), EngineError> {
        let named = self.engine.named_data().await?;
        let mut listing = Listing::new(&self.engine, key::DATA, None);
        while let Some(entry) = listing.next().await? {
            if entry.meta.modified < self.lease
                && !named.contains(&entry.key)
                && let Err(error) = self.orphan(&entry).await
            {
                self.failed(&entry.key, &error);
            }
        }
        Ok(())
    }

    /// Whose bytes are these? Only the record of their digest can name them, now or ever.
    async fn orphan(&self, entry: &Entry) -> Result<(), EngineError> {
        let object = match self.engine.store().get(&entry.key, GetOptions::default()).await {
            Ok(object) => object,
            Err(crate::store::StoreError::NotFound(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let (mut body, mut hasher) = (object.body, Hasher::new(Algorithm::Sha256));
        // Few digests are of this kind, but it may be one.
        let mut wide = Hasher::new(Algorithm::Sha512);
        while let Some(chunk) = body.try_next().await? {
            hasher.update(&chunk);
            wide.update(&chunk);
            self.pace.spend(chunk.len()).await;
        }
        let digests: Vec<Digest> = [hasher.digest(), wide.digest()].into_iter().flatten().collect();
        let cure = async {
            for digest in &digests {
                let machine = Reclaim::new(entry.key.clone(), entry.meta.size);
                match self.engine.drive(machine, &Place::blob(digest)).await? {
                    Reclaimed::Free => {}
                    Reclaimed::Named => return Ok(None),
                    Reclaimed::Later => return Ok(Some(Treatment::HandedOver)),
                }
            }
            self.engine.store().delete(&entry.key).await?;
            Ok(Some(Treatment::Repaired))
        };
        let seen = format!("{} bytes that no record names", entry.meta.size);
        self.treat(Case::new(Damage::OrphanData, &*entry.key, seen), Treatment::Repaired, cure).await;
        Ok(())
    }

    /// Objects that this version does not write, and what probes left.
    async fn objects(&self) -> Result<(), EngineError> {
        let mut listing = Listing::new(&self.engine, "", None);
        while let Some(entry) = listing.peek().await? {
            if let Some(prefix) = KNOWN.iter().find(|prefix| entry.key.starts_with(**prefix)) {
                listing.seek(format!("{prefix}~"));
                continue;
            }
            let Some(entry) = listing.next().await? else { break };
            if !entry.key.starts_with(key::PROBES) {
                self.report(Case::new(Damage::UnknownObject, entry.key, "no record has such a key")).await;
            } else if entry.meta.modified < self.lease {
                let cure = self.remove(&entry.key, &entry.meta.etag);
                let case = Case::new(Damage::PendingLeftover, &*entry.key, "a probe of the store was left");
                self.treat(case, Treatment::Repaired, cure).await;
            }
        }
        self.undecodable::<Session>(key::UPLOADS).await?;
        self.undecodable::<Trash>(key::TRASH).await?;
        self.undecodable::<Candidate>(key::CANDIDATES).await
    }

    /// Records of which nothing can be learnt any more, and without which nothing but space is lost: what they named is
    /// found as an orphan, an unnamed link or a tombstone.
    async fn undecodable<T: serde::de::DeserializeOwned>(&self, prefix: &str) -> Result<(), EngineError> {
        let mut listing = Listing::new(&self.engine, prefix, None);
        while let Some(entry) = listing.next().await? {
            if let Err(EngineError::Damaged { message, .. }) = self.engine.read_record::<T>(&entry.key).await
            {
                let cure = self.remove(&entry.key, &entry.meta.etag);
                let seen = format!("the record cannot be read ({message})");
                self.treat(Case::new(Damage::DamagedRecord, &*entry.key, seen), Treatment::Repaired, cure)
                    .await;
            }
        }
        Ok(())
    }

    /// The catalog lists what has content.
    async fn catalog(&self, usage: &Usage) -> Result<(), EngineError> {
        let mut listed = BTreeSet::new();
        let mut listing = Listing::new(&self.engine, key::CATALOG, None);
        while let Some(entry) = listing.next().await? {
            let name =
                key::catalog_repository(&entry.key).and_then(|name| name.parse::<RepositoryName>().ok());
            let Some(name) = name else {
                let case = Case::new(Damage::UnknownObject, &*entry.key, "no repository has such a name");
                self.report(case).await;
                continue;
            };
            if !usage.repositories.contains_key(&name) && self.is_forgotten(entry.meta.modified) {
                self.empty(&name, &entry).await;
            }
            listed.insert(name);
        }
        for name in usage.repositories.keys().filter(|name| !listed.contains(*name)) {
            let key = key::catalog(name.as_str());
            let case = Case::new(Damage::MissingCatalogEntry, &*key, "it has content");
            let cure = async {
                self.engine.list_in_catalog(name).await?;
                Ok(Some(Treatment::Repaired))
            };
            self.treat(case.of(name), Treatment::Repaired, cure).await;
        }
        Ok(())
    }

    /// Whether no process remembers any more that it wrote an entry of the catalog.
    fn is_forgotten(&self, written: Timestamp) -> bool {
        let memory = SignedDuration::try_from(2 * CATALOG_MEMORY).unwrap_or(SignedDuration::MAX);
        written < self.lease && self.now.duration_since(written) > memory
    }

    /// What comes at this moment puts the entry back.
    async fn empty(&self, name: &RepositoryName, entry: &Entry) {
        let cure = async {
            let removed = self.remove(&entry.key, &entry.meta.etag).await?;
            let manifests = self.engine.store().list(&key::manifests(name), None, 1).await?;
            if manifests.entries.is_empty() {
                return Ok(removed);
            }
            self.engine.list_in_catalog(name).await?;
            Ok(None)
        };
        let case = Case::new(Damage::EmptyRepository, &*entry.key, "nothing is in it").of(name);
        self.treat(case, Treatment::Repaired, cure).await;
    }
}
