//! Counts what this process changed, by repository, for whoever keeps conclusions from several records in memory: while
//! the count stays, nothing that this process wrote speaks against them. What other replicas write it does not know.

use std::{
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    sync::atomic::{AtomicU64, Ordering},
};

use berth_registry_core::RepositoryName;

use super::Engine;

/// Repositories share counters, which costs them a second look and nothing else.
const COUNTERS: usize = 256;

#[derive(Debug)]
pub(super) struct Revisions(Box<[AtomicU64]>);

/// A change under way: it counts when it ends, however it ends.
#[must_use]
pub(super) struct Changing<'a>(&'a AtomicU64);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

impl Default for Revisions {
    fn default() -> Self {
        Self((0..COUNTERS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Revisions {
    fn of(&self, repository: &RepositoryName) -> &AtomicU64 {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(repository.as_str());
        &self.0[usize::try_from(hash % COUNTERS as u64).unwrap_or_default()]
    }
}

impl Engine {
    /// Rises when this process has changed manifests or tags of a repository. Read it before what is concluded from.
    pub fn revision(&self, repository: &RepositoryName) -> u64 {
        self.inner.revisions.of(repository).load(Ordering::Acquire)
    }

    /// To be kept until manifests or tags of a repository are changed.
    pub(super) fn changing(&self, repository: &RepositoryName) -> Changing<'_> {
        Changing(self.inner.revisions.of(repository))
    }
}
