//! Which repositories changed since when, in fixed space: a counter of all changes, and for each repository the number
//! of its last one. Repositories share a few thousand places, so one may seem to have changed when another did, which
//! costs a look at the registry; that a change is overlooked cannot happen.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

const PLACES: u16 = 16_384;

/// How many changes there had been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// Before any change that this process was told of.
    pub(super) const BEGINNING: Self = Self(0);
}

/// The places of a repository and of its host, the same in every process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Places([u16; 2]);

impl Places {
    pub(super) fn of(host: &str, repository: &str) -> Self {
        Self([place(host, repository), place(host, "")])
    }
}

pub(super) struct Changes {
    count: AtomicU64,
    /// Number of the last change.
    last: Box<[AtomicU64]>,
}

impl Default for Changes {
    fn default() -> Self {
        Self { count: AtomicU64::new(0), last: (0..PLACES).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Changes {
    pub(super) fn moment(&self) -> Moment {
        Moment(self.count.load(Ordering::SeqCst))
    }

    /// A change of one repository, or of any of the host's if it is empty.
    pub(super) fn of(&self, host: &str, repository: &str) {
        let number = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        self.last(place(host, repository)).fetch_max(number, Ordering::SeqCst);
    }

    pub(super) fn since(&self, moment: Moment, places: Places) -> bool {
        places.0.into_iter().any(|place| self.last(place).load(Ordering::SeqCst) > moment.0)
    }

    fn last(&self, place: u16) -> &AtomicU64 {
        &self.last[usize::from(place % PLACES)]
    }
}

/// Whoever picks names that share a place only makes the other's be looked at again.
fn place(host: &str, repository: &str) -> u16 {
    let hash = Sha256::new().chain_update(host).chain_update("\0").chain_update(repository).finalize();
    u16::from_be_bytes([hash[0], hash[1]]) % PLACES
}
