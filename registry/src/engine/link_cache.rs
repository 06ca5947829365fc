//! What this process lately read of links, for blob GETs only. Bytes of a digest never change, but that a repository
//! holds them may: so an entry lives for seconds.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use berth_registry_core::{Digest, RepositoryName, record::Link};

const CAPACITY: usize = 10_000;

type Entries = HashMap<(RepositoryName, Digest), (Link, Instant)>;

#[derive(Debug)]
pub(super) struct LinkCache {
    lifetime: Duration,
    entries: Mutex<Entries>,
}

impl LinkCache {
    pub(super) fn new(lifetime: Duration) -> Self {
        Self { lifetime, entries: Mutex::default() }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, repository: &RepositoryName, digest: &Digest) -> Option<Link> {
        let entries = self.entries();
        let (link, read) = entries.get(&(repository.clone(), digest.clone()))?;
        (read.elapsed() < self.lifetime).then(|| link.clone())
    }

    pub(super) fn put(&self, repository: &RepositoryName, digest: &Digest, link: Link) {
        let mut entries = self.entries();
        if entries.len() >= CAPACITY {
            entries.retain(|_, (_, read)| read.elapsed() < self.lifetime);
            if entries.len() >= CAPACITY {
                entries.clear();
            }
        }
        entries.insert((repository.clone(), digest.clone()), (link, Instant::now()));
    }

    pub(super) fn forget(&self, repository: &RepositoryName, digest: &Digest) {
        self.entries().remove(&(repository.clone(), digest.clone()));
    }
}
