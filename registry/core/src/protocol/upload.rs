//! An upload becomes a blob of a repository: link (`pending`), blob record, link (`live`). Three writes for new
//! content; content that is there already is adopted and the uploaded bytes are given back.

use jiff::Timestamp;

use super::{Action, Body, Observed, Protocol, Slot, Step, Version, only};
use crate::record::{Blob, Link, State};

/// Finishes an upload whose bytes lie complete and verified under a key of their own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finish {
    own: String,
    size: u64,
    now: Timestamp,
    at: At,
}

/// How finishing ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Finished {
    /// The repository holds the blob; `data` is where its bytes lie. If that is not the upload's own key, the own
    /// bytes are nobody's and may be deleted at once.
    Committed {
        /// Key of the blob's bytes.
        data: String,
    },
    /// A collector reclaimed the upload's bytes: the client must upload again.
    Lost,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum At {
    Begin,
    CreatingLink,
    ReadingLink,
    WritingLink,
    CreatingBlob(Version),
    ReadingBlob(Version),
    WritingBlob(Version, String),
    Publishing(String),
}

impl Finish {
    /// `own` is the key of the bytes, `size` their number.
    pub fn new(own: String, size: u64, now: Timestamp) -> Self {
        Self { own, size, now, at: At::Begin }
    }

    fn link(&self, state: State, data: &str) -> Link {
        Link { state, size: self.size, data: data.to_owned(), since: self.now }
    }

    fn create_link(&mut self) -> Step<Finished> {
        let link = self.link(State::Pending, &self.own);
        self.at = At::CreatingLink;
        Step::Do(vec![Action::Create(Slot::Link, Body::Link(link))])
    }

    fn read_link(&mut self) -> Step<Finished> {
        self.at = At::ReadingLink;
        Step::Do(vec![Action::Read(Slot::Link)])
    }

    fn write_link(&mut self, version: Version, link: Link) -> Step<Finished> {
        self.at = At::WritingLink;
        Step::Do(vec![Action::Replace(Slot::Link, version, Body::Link(link))])
    }

    fn create_blob(&mut self, link: Version) -> Step<Finished> {
        self.at = At::CreatingBlob(link);
        let blob = Blob { state: State::Live, size: self.size, data: self.own.clone() };
        Step::Do(vec![Action::Create(Slot::Blob, Body::Blob(blob))])
    }

    fn read_blob(&mut self, link: Version) -> Step<Finished> {
        self.at = At::ReadingBlob(link);
        Step::Do(vec![Action::Read(Slot::Blob)])
    }

    fn write_blob(&mut self, link: Version, seen: Version, data: String) -> Step<Finished> {
        let blob = Blob { state: State::Live, size: self.size, data: data.clone() };
        self.at = At::WritingBlob(link, data);
        Step::Do(vec![Action::Replace(Slot::Blob, seen, Body::Blob(blob))])
    }

    /// By compare-and-swap on the version seen *before* the blob record was read: else one writer could bless
    /// another's younger link.
    fn publish(&mut self, link: Version, data: String) -> Step<Finished> {
        let body = Body::Link(self.link(State::Live, &data));
        self.at = At::Publishing(data);
        Step::Do(vec![Action::Replace(Slot::Link, link, body)])
    }
}

impl Protocol for Finish {
    type Outcome = Finished;

    fn next(&mut self, observed: Vec<Observed>) -> Step<Finished> {
        match (self.at.clone(), only(observed)) {
            (At::Begin, _) | (At::ReadingLink, Some(Observed::Absent)) => self.create_link(),
            (At::CreatingLink, Some(Observed::Written(version))) => self.create_blob(version),
            (At::ReadingLink, Some(Observed::Found(Body::Link(link), version))) => match link.state {
                // The reference stands already; its blob most likely does, too.
                State::Live | State::Pending => self.read_blob(version),
                State::Condemned => self.write_link(version, Link { state: State::Live, ..link }),
                State::Dead | State::Purged => {
                    let link = self.link(State::Pending, &self.own);
                    self.write_link(version, link)
                }
            },
            (At::WritingLink, Some(Observed::Written(version))) => self.read_blob(version),
            (At::CreatingBlob(link), Some(Observed::Written(_))) => self.publish(link, self.own.clone()),
            (At::ReadingBlob(link), Some(Observed::Absent)) => self.create_blob(link),
            (At::ReadingBlob(link), Some(Observed::Found(Body::Blob(blob), version))) => match blob.state {
                State::Live => self.publish(link, blob.data),
                State::Condemned => self.write_blob(link, version, blob.data),
                // Those bytes are gone, or about to go: never revive a record with the key that it had.
                State::Purged if blob.data == self.own => Step::Done(Finished::Lost),
                State::Dead | State::Purged | State::Pending => {
                    self.write_blob(link, version, self.own.clone())
                }
            },
            (At::WritingBlob(link, data), Some(Observed::Written(_))) => self.publish(link, data),
            (At::CreatingBlob(link) | At::WritingBlob(link, _), _) => self.read_blob(link),
            (At::Publishing(data), Some(Observed::Written(_))) => Step::Done(Finished::Committed { data }),
            // Another writer was first: begin again from the link as it is now.
            _ => self.read_link(),
        }
    }
}
