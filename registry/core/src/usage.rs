//! Who uses how much: the snapshot that `GET /berth/v1/usage` and the metrics show, and its arithmetic. The engine's
//! `usage` feeds it from listings.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::name::RepositoryName;

/// What a repository, or all repositories of a tenant, hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Held {
    /// Bytes of its blobs and manifests as if it were alone: what a copy elsewhere would take. For a tenant the sum of
    /// its repositories.
    pub logical_bytes: u64,
    /// Bytes that nobody else holds: what deleting it would free in the end. A manifest belongs to its repository.
    pub unique_bytes: u64,
    /// Bytes of blobs that others hold, too.
    pub shared_bytes: u64,
    /// Blobs.
    pub blobs: u64,
    /// Manifests.
    pub manifests: u64,
    /// Tags.
    pub tags: u64,
}

/// What lies in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stored {
    /// Bytes of blobs that some repository can serve, each counted once.
    pub blob_bytes: u64,
    /// Bytes of deleted blobs that wait for the end of their undelete window.
    pub trash_bytes: u64,
    /// Bytes of uploads under way, and of those that were given up and not swept yet.
    pub upload_bytes: u64,
    /// Bytes of everything else: manifests, links, tags, history, caches.
    pub record_bytes: u64,
    /// How many objects all of this takes.
    pub objects: u64,
}

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// When it was taken: content that changed while it was is counted as before or as after.
    pub taken: Timestamp,
    /// The store as a whole.
    pub store: Stored,
    /// Each tenant: the first component of its repositories' names.
    pub tenants: BTreeMap<String, Held>,
    /// Each repository.
    pub repositories: BTreeMap<RepositoryName, Held>,
}

/// A snapshot in short: what `GET /berth/v1/usage?totals=true` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// When it was taken.
    pub taken: Timestamp,
    /// The store as a whole.
    pub store: Stored,
    /// How many repositories hold something.
    pub repositories: u64,
}

impl Stored {
    /// All bytes.
    pub fn bytes(&self) -> u64 {
        [self.blob_bytes, self.trash_bytes, self.upload_bytes, self.record_bytes]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

impl Usage {
    /// In short.
    pub fn totals(&self) -> Totals {
        let holding = self.repositories.values().filter(|held| !held.is_empty());
        Totals { taken: self.taken, store: self.store.clone(), repositories: holding.count() as u64 }
    }

    /// An empty store.
    pub fn new(taken: Timestamp) -> Self {
        Self { taken, store: Stored::default(), tenants: BTreeMap::new(), repositories: BTreeMap::new() }
    }

    fn both(&mut self, repository: &RepositoryName, count: impl Fn(&mut Held)) {
        count(self.repositories.entry(repository.clone()).or_default());
        count(self.tenants.entry(tenant(repository).to_owned()).or_default());
    }

    /// A blob that these repositories, each named once, can serve.
    pub fn add_blob(&mut self, size: u64, repositories: &[&RepositoryName]) {
        let mut tenants: Vec<&str> = repositories.iter().map(|repository| tenant(repository)).collect();
        tenants.dedup();
        for repository in repositories {
            self.both(repository, |held| {
                held.logical_bytes += size;
                held.blobs += 1;
            });
            let alone = repositories.len() == 1;
            self.repositories.entry((*repository).clone()).or_default().add(size, alone);
        }
        tenants.sort_unstable();
        tenants.dedup();
        for name in &tenants {
            self.tenants.entry((*name).to_owned()).or_default().add(size, tenants.len() == 1);
        }
    }

    /// A manifest that can be pulled.
    pub fn add_manifest(&mut self, size: u64, repository: &RepositoryName) {
        self.both(repository, |held| {
            held.logical_bytes += size;
            held.unique_bytes += size;
            held.manifests += 1;
        });
    }

    /// Tags.
    pub fn add_tags(&mut self, count: u64, repository: &RepositoryName) {
        if count > 0 {
            self.both(repository, |held| held.tags += count);
        }
    }

    /// The repositories that use the most, the largest first, at most so many, and the sum of all others.
    pub fn largest(&self, count: usize) -> (Vec<(&RepositoryName, &Held)>, u64) {
        let mut all: Vec<_> = self.repositories.iter().collect();
        all.sort_by_key(|(name, held)| (std::cmp::Reverse(held.logical_bytes), *name));
        let others = all.iter().skip(count).map(|(_, held)| held.logical_bytes).sum();
        all.truncate(count);
        (all, others)
    }
}

impl Held {
    fn add(&mut self, size: u64, alone: bool) {
        *if alone { &mut self.unique_bytes } else { &mut self.shared_bytes } += size;
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.blobs == 0 && self.manifests == 0 && self.tags == 0
    }
}

/// The first component of a repository's name.
pub fn tenant(repository: &RepositoryName) -> &str {
    let name = repository.as_str();
    name.split_once('/').map_or(name, |(first, _)| first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names() -> Vec<RepositoryName> {
        ["a/x", "a/y", "b", "b/z"].iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn what_is_shared_within_a_tenant_is_its_own() {
        let names = names();
        let mut usage = Usage::new(Timestamp::UNIX_EPOCH);
        usage.add_blob(10, &[&names[0], &names[1]]);
        usage.add_blob(5, &[&names[1], &names[2]]);
        usage.add_manifest(1, &names[0]);
        usage.add_tags(2, &names[0]);
        let held = |logical, unique, shared, blobs, manifests, tags| Held {
            logical_bytes: logical,
            unique_bytes: unique,
            shared_bytes: shared,
            blobs,
            manifests,
            tags,
        };
        assert_eq!(usage.repositories[&names[0]], held(11, 1, 10, 1, 1, 2));
        assert_eq!(usage.repositories[&names[1]], held(15, 0, 15, 2, 0, 0));
        assert_eq!(usage.tenants["a"], held(26, 11, 5, 3, 1, 2));
        assert_eq!(usage.tenants["b"], held(5, 0, 5, 1, 0, 0));
        let (largest, others) = usage.largest(1);
        assert_eq!((largest[0].0, others), (&names[1], 16));
    }

    #[test]
    fn in_short() {
        let mut usage = Usage::new(Timestamp::UNIX_EPOCH);
        usage.store =
            Stored { blob_bytes: 1, trash_bytes: 20, upload_bytes: 300, record_bytes: 4000, objects: 5 };
        usage.add_tags(1, &names()[0]);
        usage.repositories.insert(names()[1].clone(), Held::default());
        let totals = usage.totals();
        assert_eq!((totals.store.bytes(), totals.repositories), (4321, 1));
    }

    proptest! {
        #[test]
        fn of_a_repository_unique_and_shared_make_the_whole(
            blobs in proptest::collection::vec((0u64..1000, proptest::sample::subsequence(vec![0usize, 1, 2, 3], 1..=4)), 0..20)
        ) {
            let names = names();
            let mut usage = Usage::new(Timestamp::UNIX_EPOCH);
            let mut distinct = 0;
            for (size, holders) in &blobs {
                usage.add_blob(*size, &holders.iter().map(|&i| &names[i]).collect::<Vec<_>>());
                distinct += size;
            }
            for held in usage.repositories.values() {
                prop_assert_eq!(held.logical_bytes, held.unique_bytes + held.shared_bytes);
            }
            let unique: u64 = usage.tenants.values().map(|held| held.unique_bytes).sum();
            prop_assert!(unique <= distinct);
        }
    }
}
