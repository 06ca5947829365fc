//! Tombstones are dropped: a record that says `dead` or `purged` means as much as none. Only for stores whose
//! conditional DELETE is honest; elsewhere they stay.

use jiff::Timestamp;

use super::{Action, Body, Observed, Protocol, Slot, Step, only};
use crate::record::State;

/// Drops one record, if it is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Forget {
    slot: Slot,
    limit: Timestamp,
    at: At,
}

/// How dropping a record ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Forgotten {
    /// There is no record any more.
    Yes,
    /// It is in use, or may still be undeleted.
    No,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum At {
    Begin,
    Reading,
    Removing,
}

impl Forget {
    /// Of a link, a blob or a manifest; a manifest that died after `limit` is kept for undelete.
    pub fn new(slot: Slot, limit: Timestamp) -> Self {
        Self { slot, limit, at: At::Begin }
    }

    fn is_tombstone(&self, body: &Body) -> bool {
        match body {
            Body::Link(link) => !link.state.is_reference(),
            // A dead blob's record still says where the bytes are.
            Body::Blob(blob) => blob.state == State::Purged,
            Body::Manifest(record, _) => {
                !record.state.is_reference() && record.died.is_none_or(|died| died <= self.limit)
            }
        }
    }
}

impl Protocol for Forget {
    type Outcome = Forgotten;

    fn next(&mut self, observed: Vec<Observed>) -> Step<Forgotten> {
        match (self.at.clone(), only(observed)) {
            (At::Begin, _) => {
                self.at = At::Reading;
                Step::Do(vec![Action::Read(self.slot)])
            }
            (At::Reading, Some(Observed::Found(body, version))) if self.is_tombstone(&body) => {
                self.at = At::Removing;
                Step::Do(vec![Action::Remove(self.slot, version)])
            }
            (At::Reading, Some(Observed::Absent)) | (At::Removing, Some(Observed::Done)) => {
                Step::Done(Forgotten::Yes)
            }
            (At::Reading | At::Removing, _) => Step::Done(Forgotten::No),
        }
    }
}
