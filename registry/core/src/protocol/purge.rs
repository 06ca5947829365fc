//! The bytes of a dead blob go, when a record of trash is due. Data keys are never reused, so that a late DELETE
//! harms nothing newer.

use jiff::Timestamp;

use super::{Action, Body, Observed, Protocol, Slot, Step, only};
use crate::record::{Blob, State};

/// Handles one due record of trash that names bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Purge {
    data: String,
    now: Timestamp,
    at: At,
}

/// How purging ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Purged {
    /// The bytes are deleted: the record of trash may be dropped. With the blob that was purged; none if it
    /// was before, or no record names the bytes any more.
    Deleted(Option<Blob>),
    /// The bytes are in use, or a later record of trash names them: this one may be dropped.
    Kept,
    /// A collector has condemned the blob and not ended: this may be the record that its death relies on. Look again
    /// at the next run.
    Undecided,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum At {
    Begin,
    Reading,
    Writing(Blob),
    Deleting(Option<Blob>),
}

impl Purge {
    /// `data`: the key that the record of trash names.
    pub fn new(data: String, now: Timestamp) -> Self {
        Self { data, now, at: At::Begin }
    }

    fn delete(&mut self, blob: Option<Blob>) -> Step<Purged> {
        self.at = At::Deleting(blob);
        Step::Do(vec![Action::DeleteData(self.data.clone())])
    }
}

impl Protocol for Purge {
    type Outcome = Purged;

    fn next(&mut self, observed: Vec<Observed>) -> Step<Purged> {
        match (self.at.clone(), only(observed)) {
            (At::Reading, Some(Observed::Found(Body::Blob(blob), version))) if blob.data == self.data => {
                match blob.state {
                    State::Live => Step::Done(Purged::Kept),
                    State::Pending | State::Condemned => Step::Done(Purged::Undecided),
                    State::Dead if blob.until.is_some_and(|until| until > self.now) => {
                        Step::Done(Purged::Kept)
                    }
                    // From here on no one revives the record with these bytes.
                    State::Dead => {
                        let purged = Blob { state: State::Purged, until: None, ..blob };
                        self.at = At::Writing(purged.clone());
                        Step::Do(vec![Action::Replace(Slot::Blob, version, Body::Blob(purged))])
                    }
                    State::Purged => self.delete(None),
                }
            }
            (At::Writing(blob), Some(Observed::Written(_))) => self.delete(Some(blob)),
            // No record names the bytes, and none will again.
            (At::Reading, _) => self.delete(None),
            (At::Deleting(blob), _) => Step::Done(Purged::Deleted(blob)),
            (At::Begin | At::Writing(_), _) => {
                self.at = At::Reading;
                Step::Do(vec![Action::Read(Slot::Blob)])
            }
        }
    }
}
