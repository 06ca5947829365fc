//! What an integrity check changes. Corruption means that a blob's bytes are gone, only that nobody knew: so setting a
//! blob aside is nothing but saying so, in the states that every other machine understands already.

use jiff::Timestamp;

use super::{Action, Body, Observed, Protocol, Slot, Step, Version, only};
use crate::record::{Blob, Link, State};

/// Sets a blob aside whose bytes are not what its digest says: `purged`, so that nobody takes up these bytes again,
/// an upload brings its own, and a mount or an undelete is refused. [`MendLink`] for each link must follow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Quarantine {
    data: String,
    due: Timestamp,
    at: QuarantiningAt,
}

/// How setting aside ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quarantined {
    /// The record is purged.
    Yes,
    /// The record does not name these bytes any more.
    No,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum QuarantiningAt {
    Begin,
    Reading,
    Discarding(Blob, Version),
    Purging,
}

impl Quarantine {
    /// `data`: the key of the bytes, which are kept until `due`.
    pub fn new(data: String, due: Timestamp) -> Self {
        Self { data, due, at: QuarantiningAt::Begin }
    }
}

impl Protocol for Quarantine {
    type Outcome = Quarantined;

    fn next(&mut self, observed: Vec<Observed>) -> Step<Quarantined> {
        match (self.at.clone(), only(observed)) {
            (QuarantiningAt::Reading, Some(Observed::Found(Body::Blob(blob), version)))
                if blob.data == self.data =>
            {
                if blob.state == State::Purged {
                    return Step::Done(Quarantined::Yes);
                }
                self.at = QuarantiningAt::Discarding(blob, version);
                Step::Do(vec![Action::Discard(self.data.clone(), self.due)])
            }
            (QuarantiningAt::Reading, _) => Step::Done(Quarantined::No),
            (QuarantiningAt::Discarding(blob, version), Some(Observed::Done)) => {
                let purged = Blob { state: State::Purged, until: None, ..blob };
                self.at = QuarantiningAt::Purging;
                Step::Do(vec![Action::Replace(Slot::Blob, version, Body::Blob(purged))])
            }
            (QuarantiningAt::Purging, Some(Observed::Written(_))) => Step::Done(Quarantined::Yes),
            _ => {
                self.at = QuarantiningAt::Reading;
                Step::Do(vec![Action::Read(Slot::Blob)])
            }
        }
    }
}

/// Brings a link in line with its blob's record: it names the record's bytes, or dies with them.
///
/// It is written also if it is pending and says the right thing: a writer that read the blob's record before it was set
/// aside holds the link's version, and must not get its old knowledge published on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MendLink {
    at: MendingAt,
}

/// How mending a link ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Mended {
    /// It was right, or there is none.
    Right,
    /// It names the bytes now.
    Renewed,
    /// The repository does not hold the blob any more.
    Dead,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
enum MendingAt {
    #[default]
    Begin,
    ReadingLink,
    ReadingBlob(Link, Version),
    Writing(Mended),
}

impl MendLink {
    fn write(&mut self, version: Version, link: Link, mended: Mended) -> Step<Mended> {
        self.at = MendingAt::Writing(mended);
        Step::Do(vec![Action::Replace(Slot::Link, version, Body::Link(link))])
    }
}

impl Protocol for MendLink {
    type Outcome = Mended;

    fn next(&mut self, observed: Vec<Observed>) -> Step<Mended> {
        match (self.at.clone(), only(observed)) {
            (MendingAt::ReadingLink, Some(Observed::Found(Body::Link(link), version)))
                if link.state.is_reference() =>
            {
                self.at = MendingAt::ReadingBlob(link, version);
                Step::Do(vec![Action::Read(Slot::Blob)])
            }
            (MendingAt::ReadingLink, _) => Step::Done(Mended::Right),
            (MendingAt::ReadingBlob(link, version), Some(Observed::Found(Body::Blob(blob), _)))
                if blob.state.is_visible() =>
            {
                let right = link.data == blob.data && link.size == blob.size;
                if right && link.state != State::Pending {
                    return Step::Done(Mended::Right);
                }
                self.write(version, Link { data: blob.data, size: blob.size, ..link }, Mended::Renewed)
            }
            (MendingAt::ReadingBlob(link, version), _) => {
                self.write(version, Link { state: State::Dead, ..link }, Mended::Dead)
            }
            (MendingAt::Writing(mended), Some(Observed::Written(_))) => Step::Done(mended),
            // The beginning, or someone wrote it meanwhile: look again.
            _ => {
                self.at = MendingAt::ReadingLink;
                Step::Do(vec![Action::Read(Slot::Link)])
            }
        }
    }
}

/// Makes sure that bytes which no record names stay so, before they are deleted. Their uploader may yet wake up and
/// offer them to the record of their digest: where there is none, one is written that says that these bytes are purged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reclaim {
    data: String,
    size: u64,
    at: ReclaimingAt,
}

/// How reclaiming bytes ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reclaimed {
    /// Nothing will name them: they may be deleted.
    Free,
    /// The blob's record names them.
    Named,
    /// The blob's record is a tombstone of other bytes: it must go first, or these have no place for theirs.
    Later,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum ReclaimingAt {
    Begin,
    Reading,
    Creating,
}

impl Reclaim {
    /// `data`: the key of the bytes; the machine works on the blob whose digest they have.
    pub fn new(data: String, size: u64) -> Self {
        Self { data, size, at: ReclaimingAt::Begin }
    }
}

impl Protocol for Reclaim {
    type Outcome = Reclaimed;

    fn next(&mut self, observed: Vec<Observed>) -> Step<Reclaimed> {
        match (self.at.clone(), only(observed)) {
            (ReclaimingAt::Reading, Some(Observed::Found(Body::Blob(blob), _))) => {
                Step::Done(match blob.state {
                    State::Purged if blob.data == self.data => Reclaimed::Free,
                    _ if blob.data == self.data => Reclaimed::Named,
                    // An uploader who wakes up adopts what is there.
                    State::Live | State::Condemned => Reclaimed::Free,
                    _ => Reclaimed::Later,
                })
            }
            (ReclaimingAt::Reading, Some(Observed::Absent)) => {
                let data = self.data.clone();
                let purged = Blob { state: State::Purged, size: self.size, data, until: None };
                self.at = ReclaimingAt::Creating;
                Step::Do(vec![Action::Create(Slot::Blob, Body::Blob(purged))])
            }
            (ReclaimingAt::Creating, Some(Observed::Written(_))) => Step::Done(Reclaimed::Free),
            _ => {
                self.at = ReclaimingAt::Reading;
                Step::Do(vec![Action::Read(Slot::Blob)])
            }
        }
    }
}
