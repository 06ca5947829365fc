//! What takes a manifest away: a client deletes it, or it stayed `pending` for too long.

use jiff::Timestamp;

use super::{Action, Body, Observed, Protocol, Slot, Step, only};
use crate::record::{ManifestRecord, State};

/// Deletes a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeleteManifest {
    now: Timestamp,
    abandoned: Option<Timestamp>,
    at: At,
}

/// How deleting a manifest ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Deleted {
    /// It was there and is dead now.
    Yes(ManifestRecord),
    /// It is not there.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum At {
    Begin,
    Reading,
    Writing(ManifestRecord),
}

impl DeleteManifest {
    /// A client's wish.
    pub fn new(now: Timestamp) -> Self {
        Self { now, abandoned: None, at: At::Begin }
    }

    /// Only if it is `pending` since `limit` or longer: its writer gave up. A writer that did not writes it again.
    pub fn abandoned(limit: Timestamp, now: Timestamp) -> Self {
        Self { now, abandoned: Some(limit), at: At::Begin }
    }

    fn applies(&self, record: &ManifestRecord) -> bool {
        match self.abandoned {
            None => record.state.is_visible(),
            Some(limit) => record.state == State::Pending && record.pushed <= limit,
        }
    }
}

impl Protocol for DeleteManifest {
    type Outcome = Deleted;

    fn next(&mut self, observed: Vec<Observed>) -> Step<Deleted> {
        match (self.at.clone(), only(observed)) {
            (At::Reading, Some(Observed::Found(Body::Manifest(record, bytes), version)))
                if self.applies(&record) =>
            {
                // What was never visible did not die now.
                let died = if record.state.is_visible() { Some(self.now) } else { record.died };
                let dead = ManifestRecord { state: State::Dead, died, ..record };
                self.at = At::Writing(dead.clone());
                Step::Do(vec![Action::Replace(Slot::Manifest, version, Body::Manifest(dead, bytes))])
            }
            (At::Reading, _) => Step::Done(Deleted::Unknown),
            (At::Writing(record), Some(Observed::Written(_))) => Step::Done(Deleted::Yes(record)),
            (At::Begin | At::Writing(_), _) => {
                self.at = At::Reading;
                Step::Do(vec![Action::Read(Slot::Manifest)])
            }
        }
    }
}
