//! A blob is collected: condemned, *then* its links are read, in every repository. What dies keeps its bytes for the
//! undelete window; [`super::Purge`] takes them.

use jiff::{SignedDuration, Timestamp};

use super::{Action, Body, MAX_ATTEMPTS, Observed, Protocol, Slot, Step, Version, only};
use crate::record::{Blob, State};

/// Condemns a blob's record, *then* looks for links, then lets it live or die.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CollectBlob {
    due: Timestamp,
    at: At,
    attempts: u8,
}

/// How collecting a blob ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BlobCollected {
    /// No repository held it: its bytes are due for deletion when the window ends.
    Dead(Blob),
    /// A repository holds it, or begins to.
    Linked,
    /// There is no such blob any more.
    Unknown,
    /// Others go on reviving it.
    Contended,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum At {
    Begin,
    Reading,
    Condemning(Blob),
    Searching(Blob, Version),
    Discarding(Blob, Version),
    Killing(Blob),
    Sparing,
}

impl CollectBlob {
    /// What dies now can be undeleted for the length of `window`.
    pub fn new(now: Timestamp, window: SignedDuration) -> Self {
        let due = now.checked_add(window).unwrap_or(Timestamp::MAX);
        Self { due, at: At::Begin, attempts: 0 }
    }

    fn replace(blob: Blob, version: Version) -> Step<BlobCollected> {
        Step::Do(vec![Action::Replace(Slot::Blob, version, Body::Blob(blob))])
    }

    fn search(&mut self, blob: Blob, version: Version) -> Step<BlobCollected> {
        self.at = At::Searching(blob, version);
        Step::Do(vec![Action::FindLink])
    }
}

impl Protocol for CollectBlob {
    type Outcome = BlobCollected;

    fn next(&mut self, observed: Vec<Observed>) -> Step<BlobCollected> {
        match (self.at.clone(), only(observed)) {
            (At::Reading, Some(Observed::Found(Body::Blob(blob), version))) => match blob.state {
                State::Live => {
                    let blob = Blob { state: State::Condemned, ..blob };
                    self.at = At::Condemning(blob.clone());
                    Self::replace(blob, version)
                }
                State::Condemned => self.search(blob, version),
                State::Pending | State::Dead | State::Purged => Step::Done(BlobCollected::Unknown),
            },
            (At::Reading, _) => Step::Done(BlobCollected::Unknown),
            (At::Condemning(blob), Some(Observed::Written(version))) => self.search(blob, version),
            (At::Searching(blob, version), Some(Observed::Linked(true))) => {
                self.at = At::Sparing;
                Self::replace(Blob { state: State::Live, ..blob }, version)
            }
            // Before the death, so that a crash between cannot leave bytes that nobody will delete.
            (At::Searching(blob, version), Some(Observed::Linked(false))) => {
                let discard = Action::Discard(blob.data.clone(), self.due);
                self.at = At::Discarding(blob, version);
                Step::Do(vec![discard])
            }
            (At::Discarding(blob, version), Some(Observed::Done)) => {
                let dead = Blob { state: State::Dead, until: Some(self.due), ..blob };
                self.at = At::Killing(dead.clone());
                Self::replace(dead, version)
            }
            (At::Killing(dead), Some(Observed::Written(_))) => Step::Done(BlobCollected::Dead(dead)),
            // Lost: whoever was first made it live, which is what we wanted to do.
            (At::Sparing, _) => Step::Done(BlobCollected::Linked),
            _ if self.attempts == MAX_ATTEMPTS => Step::Done(BlobCollected::Contended),
            // The beginning, or someone revived or changed it meanwhile: look again.
            _ => {
                self.attempts += 1;
                self.at = At::Reading;
                Step::Do(vec![Action::Read(Slot::Blob)])
            }
        }
    }
}
