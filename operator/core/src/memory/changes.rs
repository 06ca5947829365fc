//! Which repositories changed since when, in fixed space: a counter of all changes, and for each repository the number
//! of its last one. Repositories share a few thousand places, so one may seem to have changed when another did, which
//! costs a look at the registry; that a change is overlooked cannot happen.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

/// A power of two.
const PLACES: usize = 16_384;

/// How many changes there had been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

pub(super) struct Changes {
    count: AtomicU64,
    /// Number of the last change.
    last: Box<[AtomicU64]>,
    hasher: RandomState,
}

impl Default for Changes {
    fn default() -> Self {
        let last = (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        Self { count: AtomicU64::new(0), last, hasher: RandomState::new() }
    }
}

impl Changes {
    pub(super) fn moment(&self) -> Moment {
        Moment(self.count.load(Ordering::SeqCst))
    }

    /// A change of one repository, or of any of the host's.
    pub(super) fn of(&self, host: &str, repository: Option<&str>) {
        let number = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        self.place(host, repository).fetch_max(number, Ordering::SeqCst);
    }

    pub(super) fn since(&self, moment: Moment, host: &str, repository: &str) -> bool {
        let newer = |place: &AtomicU64| place.load(Ordering::SeqCst) > moment.0;
        newer(self.place(host, Some(repository))) || newer(self.place(host, None))
    }

    fn place(&self, host: &str, repository: Option<&str>) -> &AtomicU64 {
        let hash = self.hasher.hash_one((host, repository));
        // Below PLACES, so it fits.
        &self.last[usize::try_from(hash % PLACES as u64).unwrap_or_default()]
    }
}
