//! A repository takes hold of a blob: link (`pending`), *then* the blob's record, then the link (`live`). One machine
//! for the three who do it: an upload (three writes for new content), a mount, and an undelete.

use jiff::Timestamp;

use super::{Action, Body, Observed, Protocol, Slot, Step, Version, only};
use crate::record::{Blob, Link, State};

/// Finishes an upload whose bytes lie complete and verified under a key of their own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finish(Hold);

/// How finishing ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Finished {
    /// The repository holds the blob; `data` is where its bytes lie. If that is not the upload's own key, the own
    /// bytes are nobody's: who finishes *first* may delete them at once.
    Committed {
        /// Key of the blob's bytes.
        data: String,
    },
    /// The upload's bytes are gone or may be: the client must upload again. Who finishes first may delete them.
    Lost,
}

impl Finish {
    /// `own` is the key of the bytes, `size` their number. Once a key: see [`Self::again`].
    pub fn new(own: String, size: u64, now: Timestamp) -> Self {
        Self(Hold::new(Claim::Upload { own, size, offered: None }, now))
    }

    /// The same upload once more, because what became of the first attempt is not known. The blob's record may have
    /// named these bytes, and lost them, before: it can be found to name them, never be made to.
    pub fn again(own: String, size: u64, now: Timestamp) -> Self {
        Self(Hold::new(Claim::Upload { own, size, offered: Some(Version::new()) }, now))
    }
}

impl Protocol for Finish {
    type Outcome = Finished;

    fn next(&mut self, observed: Vec<Observed>) -> Step<Finished> {
        self.0
            .next(observed)
            .map(|held| held.map_or(Finished::Lost, |link| Finished::Committed { data: link.data }))
    }
}

/// Mounts a blob (distribution-spec, "Mounting a blob from another repository"). The caller has checked the right to
/// read the source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mount(Hold);

/// How mounting ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Mounted {
    /// The repository holds the blob.
    Yes(Link),
    /// The source does not hold it, or it is being reclaimed: the client uploads it.
    No,
}

impl Mount {
    /// A mount at this time.
    pub fn new(now: Timestamp) -> Self {
        Self(Hold::new(Claim::Mount, now))
    }
}

impl Protocol for Mount {
    type Outcome = Mounted;

    fn next(&mut self, observed: Vec<Observed>) -> Step<Mounted> {
        self.0.next(observed).map(|held| held.map_or(Mounted::No, Mounted::Yes))
    }
}

/// Gives a blob back to a repository that held it, as long as its bytes are there: undelete.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Restore(Hold);

/// How restoring a link ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Restored {
    /// The repository holds the blob.
    Yes(Link),
    /// The blob's bytes are gone or about to go.
    Lost,
}

impl Restore {
    /// At this time: the link is young again.
    pub fn new(now: Timestamp) -> Self {
        Self(Hold::new(Claim::Restore, now))
    }
}

impl Protocol for Restore {
    type Outcome = Restored;

    fn next(&mut self, observed: Vec<Observed>) -> Step<Restored> {
        self.0.next(observed).map(|held| held.map_or(Restored::Lost, Restored::Yes))
    }
}

/// By what right a repository takes hold of a blob.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Claim {
    /// It has the bytes, under this key. `offered`: the link's version when the key was last put before the blob's
    /// record.
    Upload { own: String, size: u64, offered: Option<Version> },
    /// Another repository has the blob.
    Mount,
    /// It had the blob.
    Restore,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Hold {
    claim: Claim,
    now: Timestamp,
    /// What a new link says.
    pending: Link,
    /// The version of the new link that this machine wrote.
    wrote: Option<Version>,
    at: At,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum At {
    Begin,
    ReadingSource,
    CreatingLink,
    ReadingLink,
    WritingLink(Link),
    ReadingBlob(Link, Version),
    /// Does the link still have the version under which the bytes were offered? This was seen of the blob's record.
    Confirming(Link, Version, Option<Version>),
    WritingBlob(Link, Version, Blob),
    Publishing(Link),
    Undoing,
}

impl Hold {
    fn new(claim: Claim, now: Timestamp) -> Self {
        let (data, size) = match &claim {
            Claim::Upload { own, size, .. } => (own.clone(), *size),
            // The source's link, or the blob's record, will tell.
            Claim::Mount | Claim::Restore => (String::new(), 0),
        };
        let pending = Link { state: State::Pending, size, data, since: now };
        Self { claim, now, pending, wrote: None, at: At::Begin }
    }

    fn read(&mut self, slot: Slot, at: At) -> Step<Option<Link>> {
        self.at = at;
        Step::Do(vec![Action::Read(slot)])
    }

    fn create_link(&mut self) -> Step<Option<Link>> {
        self.at = At::CreatingLink;
        Step::Do(vec![Action::Create(Slot::Link, Body::Link(self.pending.clone()))])
    }

    fn write_link(&mut self, seen: Version, link: Link) -> Step<Option<Link>> {
        self.at = At::WritingLink(link.clone());
        Step::Do(vec![Action::Replace(Slot::Link, seen, Body::Link(link))])
    }

    fn read_blob(&mut self, link: Link, version: Version) -> Step<Option<Link>> {
        self.read(Slot::Blob, At::ReadingBlob(link, version))
    }

    fn write_blob(
        &mut self,
        link: Link,
        version: Version,
        seen: Option<Version>,
        blob: Blob,
    ) -> Step<Option<Link>> {
        self.at = At::WritingBlob(link, version, blob.clone());
        let body = Body::Blob(blob);
        Step::Do(vec![match seen {
            Some(seen) => Action::Replace(Slot::Blob, seen, body),
            None => Action::Create(Slot::Blob, body),
        }])
    }

    /// By compare-and-swap on the version seen *before* the blob's record was read: else one writer could bless
    /// another's younger link.
    fn publish(&mut self, version: Version, blob: Blob) -> Step<Option<Link>> {
        let link = Link { state: State::Live, size: blob.size, data: blob.data, since: self.now };
        self.at = At::Publishing(link.clone());
        Step::Do(vec![Action::Replace(Slot::Link, version, Body::Link(link))])
    }

    /// Without bytes a dead blob cannot be revived: the link is taken back, but not another writer's.
    fn give_up(&mut self, link: Link, version: Version) -> Step<Option<Link>> {
        if self.wrote.as_ref() != Some(&version) {
            return Step::Done(None);
        }
        self.at = At::Undoing;
        let dead = Body::Link(Link { state: State::Dead, ..link });
        Step::Do(vec![Action::Replace(Slot::Link, version, dead)])
    }

    /// The link stands: what is there of the blob?
    fn judge(&mut self, link: Link, version: Version, blob: Option<(Blob, Version)>) -> Step<Option<Link>> {
        let (blob, seen) = blob.unzip();
        match blob {
            Some(blob) if blob.state == State::Live => self.publish(version, blob),
            Some(blob) if blob.state == State::Condemned || self.may_revive(&blob) => {
                self.write_blob(link, version, seen, Blob { state: State::Live, until: None, ..blob })
            }
            blob => self.offer(link, version, seen, blob.as_ref()),
        }
    }

    /// Whether a dead record may live again with the bytes that it names: they are there, and the swap excludes their
    /// purge.
    fn may_revive(&self, blob: &Blob) -> bool {
        blob.state == State::Dead
            && match &self.claim {
                Claim::Upload { own, .. } => blob.data == *own,
                Claim::Mount => false,
                Claim::Restore => true,
            }
    }

    /// Puts the upload's bytes before the record. Never a second time, if the first one may have been granted: then
    /// the record has lost them again, and they may be gone. For as long as the link stands it would not have lost
    /// them, so what was offered under a link that still stands was not granted.
    fn offer(
        &mut self,
        link: Link,
        version: Version,
        seen: Option<Version>,
        blob: Option<&Blob>,
    ) -> Step<Option<Link>> {
        let Claim::Upload { own, offered, .. } = &self.claim else {
            return self.give_up(link, version);
        };
        if blob.is_some_and(|blob| blob.data == *own) {
            return self.give_up(link, version);
        }
        match offered {
            None if link.state == State::Pending => self.put_forward(link, version, seen),
            Some(offered) if *offered != version => self.give_up(link, version),
            // A visible link without a blob does not stand any more, most likely.
            _ => self.read(Slot::Link, At::Confirming(link, version, seen)),
        }
    }

    fn put_forward(&mut self, link: Link, version: Version, seen: Option<Version>) -> Step<Option<Link>> {
        let Claim::Upload { own, size, offered } = &mut self.claim else {
            return self.give_up(link, version);
        };
        *offered = Some(version.clone());
        let blob = Blob { state: State::Live, size: *size, data: own.clone(), until: None };
        self.write_blob(link, version, seen, blob)
    }
}

impl Protocol for Hold {
    type Outcome = Option<Link>;

    fn next(&mut self, observed: Vec<Observed>) -> Step<Option<Link>> {
        match (self.at.clone(), only(observed)) {
            (At::ReadingSource, Some(Observed::Found(Body::Link(source), _)))
                if source.state.is_visible() =>
            {
                self.pending = Link { state: State::Pending, since: self.now, ..source };
                self.create_link()
            }
            (At::ReadingSource | At::Undoing, _) => Step::Done(None),
            (At::CreatingLink, Some(Observed::Written(version))) => {
                let link = self.pending.clone();
                self.wrote = Some(version.clone());
                match self.claim {
                    // Most likely it is new.
                    Claim::Upload { offered: None, .. } => self.offer(link, version, None, None),
                    _ => self.read_blob(link, version),
                }
            }
            (At::Confirming(link, version, seen), Some(Observed::Found(_, now))) if now == version => {
                self.put_forward(link, version, seen)
            }
            (At::ReadingLink | At::Confirming(..), Some(Observed::Absent)) => self.create_link(),
            (At::ReadingLink | At::Confirming(..), Some(Observed::Found(Body::Link(link), version))) => {
                match link.state {
                    // The reference stands already; its blob most likely does, too.
                    State::Live | State::Pending => self.read_blob(link, version),
                    State::Condemned => {
                        self.write_link(version, Link { state: State::Live, since: self.now, ..link })
                    }
                    State::Dead | State::Purged => self.write_link(version, self.pending.clone()),
                }
            }
            (At::ReadingBlob(link, version), Some(Observed::Found(Body::Blob(blob), seen))) => {
                self.judge(link, version, Some((blob, seen)))
            }
            (At::ReadingBlob(link, version), Some(Observed::Absent)) => self.judge(link, version, None),
            (At::WritingLink(link), Some(Observed::Written(version))) => {
                if link.state == State::Pending {
                    self.wrote = Some(version.clone());
                }
                self.read_blob(link, version)
            }
            (At::WritingBlob(_, version, blob), Some(Observed::Written(_))) => self.publish(version, blob),
            (At::WritingBlob(link, version, _), _) => self.read_blob(link, version),
            (At::Publishing(link), Some(Observed::Written(_))) => Step::Done(Some(link)),
            (At::Begin | At::Publishing(_), _) if self.claim == Claim::Mount => {
                self.read(Slot::Source, At::ReadingSource)
            }
            (At::Begin, _) if self.claim != Claim::Restore => self.create_link(),
            // Another writer was first: begin again from the link as it is now.
            _ => self.read(Slot::Link, At::ReadingLink),
        }
    }
}
