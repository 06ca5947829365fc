//! A repository takes over a blob of another one (distribution-spec, "Mounting a blob from another repository").
//! The caller has checked the right to read the source.

use jiff::Timestamp;

use super::{Action, Body, Observed, Protocol, Slot, Step, Version, only};
use crate::record::{Blob, Link, State};

/// Mounts a blob.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mount {
    now: Timestamp,
    at: At,
}

/// How mounting ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Mounted {
    /// The repository holds the blob.
    Yes(Link),
    /// The source does not hold it, or it is being reclaimed: the client uploads it.
    No,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum At {
    Begin,
    ReadingSource,
    CreatingLink(Link),
    ReadingLink(Link),
    WritingLink(Link, Link),
    ReadingBlob(Link, Version),
    WritingBlob(Link, Version, Blob),
    Publishing(Link),
    Undoing,
}

impl Mount {
    /// A mount at this time.
    pub fn new(now: Timestamp) -> Self {
        Self { now, at: At::Begin }
    }

    fn read_source(&mut self) -> Step<Mounted> {
        self.at = At::ReadingSource;
        Step::Do(vec![Action::Read(Slot::Source)])
    }

    fn pending(&self, source: &Link) -> Link {
        Link { state: State::Pending, since: self.now, ..source.clone() }
    }

    fn create_link(&mut self, source: &Link) -> Step<Mounted> {
        let link = self.pending(source);
        self.at = At::CreatingLink(source.clone());
        Step::Do(vec![Action::Create(Slot::Link, Body::Link(link))])
    }

    fn read_link(&mut self, source: Link) -> Step<Mounted> {
        self.at = At::ReadingLink(source);
        Step::Do(vec![Action::Read(Slot::Link)])
    }

    fn write_link(&mut self, source: Link, version: Version, link: Link) -> Step<Mounted> {
        self.at = At::WritingLink(source, link.clone());
        Step::Do(vec![Action::Replace(Slot::Link, version, Body::Link(link))])
    }

    fn read_blob(&mut self, link: Link, version: Version) -> Step<Mounted> {
        self.at = At::ReadingBlob(link, version);
        Step::Do(vec![Action::Read(Slot::Blob)])
    }

    fn publish(&mut self, version: Version, blob: Blob) -> Step<Mounted> {
        let link = Link { state: State::Live, size: blob.size, data: blob.data, since: self.now };
        self.at = At::Publishing(link.clone());
        Step::Do(vec![Action::Replace(Slot::Link, version, Body::Link(link))])
    }

    /// A mount brings no bytes, so it cannot revive a dead blob: it takes back the link that it wrote.
    fn give_up(&mut self, link: Link, version: Version) -> Step<Mounted> {
        if link.state != State::Pending {
            return Step::Done(Mounted::No);
        }
        self.at = At::Undoing;
        let dead = Body::Link(Link { state: State::Dead, ..link });
        Step::Do(vec![Action::Replace(Slot::Link, version, dead)])
    }
}

impl Protocol for Mount {
    type Outcome = Mounted;

    fn next(&mut self, observed: Vec<Observed>) -> Step<Mounted> {
        match (self.at.clone(), only(observed)) {
            (At::ReadingSource, Some(Observed::Found(Body::Link(source), _)))
                if source.state.is_visible() =>
            {
                self.create_link(&source)
            }
            (At::ReadingSource | At::Undoing, _) => Step::Done(Mounted::No),
            (At::CreatingLink(source), Some(Observed::Written(version))) => {
                let link = self.pending(&source);
                self.read_blob(link, version)
            }
            (At::ReadingLink(source), Some(Observed::Found(Body::Link(link), version))) => match link.state {
                State::Live | State::Pending => self.read_blob(link, version),
                State::Condemned => self.write_link(source, version, Link { state: State::Live, ..link }),
                State::Dead | State::Purged => {
                    let link = self.pending(&source);
                    self.write_link(source, version, link)
                }
            },
            (At::ReadingLink(source), _) => self.create_link(&source),
            (At::WritingLink(_, link), Some(Observed::Written(version))) => self.read_blob(link, version),
            (At::CreatingLink(source) | At::WritingLink(source, _), _) => self.read_link(source),
            (At::ReadingBlob(link, version), Some(Observed::Found(Body::Blob(blob), seen))) => {
                match blob.state {
                    State::Live => self.publish(version, blob),
                    State::Condemned => {
                        let blob = Blob { state: State::Live, ..blob };
                        self.at = At::WritingBlob(link, version, blob.clone());
                        Step::Do(vec![Action::Replace(Slot::Blob, seen, Body::Blob(blob))])
                    }
                    _ => self.give_up(link, version),
                }
            }
            (At::ReadingBlob(link, version), _) => self.give_up(link, version),
            (At::WritingBlob(_, version, blob), Some(Observed::Written(_))) => self.publish(version, blob),
            (At::WritingBlob(link, version, _), _) => self.read_blob(link, version),
            (At::Publishing(link), Some(Observed::Written(_))) => Step::Done(Mounted::Yes(link)),
            (At::Begin | At::Publishing(_), _) => self.read_source(),
        }
    }
}
