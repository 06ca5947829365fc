//! A link is collected: condemned, *then* the repository's manifests are read. Also what an explicit DELETE of a blob
//! does.

use jiff::Timestamp;

use super::{Action, Body, MAX_ATTEMPTS, Observed, Protocol, Slot, Step, Version, only};
use crate::{
    digest::Digest,
    record::{Link, State},
};

/// Condemns a link, *then* looks for manifests that need it, then lets it live or die.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CollectLink {
    lease: Option<Timestamp>,
    at: At,
    attempts: u8,
}

/// How collecting a link ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Collected {
    /// Nothing needed it: the repository does not hold the blob any more.
    Dead,
    /// This manifest needs it.
    Needed(Digest),
    /// A manifest that names it may still come.
    Young,
    /// The repository does not hold the blob.
    Unknown,
    /// Others go on reviving it.
    Contended,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum At {
    Begin,
    Reading,
    Condemning(Link),
    Searching(Link, Version),
    Killing,
    Sparing(Digest),
}

impl CollectLink {
    /// Links that a writer vouched for after `lease` are spared, also without a manifest that names them; those still
    /// `pending` that are older are swept. Without a lease (a client asks) age does not matter, and what is not
    /// visible is not touched.
    pub fn new(lease: Option<Timestamp>) -> Self {
        Self { lease, at: At::Begin, attempts: 0 }
    }

    fn replace(link: Link, state: State, version: Version) -> Step<Collected> {
        Step::Do(vec![Action::Replace(Slot::Link, version, Body::Link(Link { state, ..link }))])
    }

    fn search(&mut self, link: Link, version: Version) -> Step<Collected> {
        self.at = At::Searching(link, version);
        Step::FindReference
    }

    fn kill(&mut self, link: Link, version: Version) -> Step<Collected> {
        self.at = At::Killing;
        Self::replace(link, State::Dead, version)
    }
}

impl Protocol for CollectLink {
    type Outcome = Collected;

    fn next(&mut self, observed: Vec<Observed>) -> Step<Collected> {
        match (self.at.clone(), only(observed)) {
            (At::Reading, Some(Observed::Found(Body::Link(link), version))) => match (link.state, self.lease)
            {
                (State::Live | State::Pending, Some(lease)) if link.since > lease => {
                    Step::Done(Collected::Young)
                }
                (State::Live, _) => {
                    self.at = At::Condemning(link.clone());
                    Self::replace(link, State::Condemned, version)
                }
                (State::Condemned, _) => self.search(link, version),
                // No manifest becomes visible on it, so none need be looked for. Its writer died, or will look again.
                (State::Pending, Some(_)) => self.kill(link, version),
                (State::Pending | State::Dead | State::Purged, _) => Step::Done(Collected::Unknown),
            },
            (At::Reading, _) => Step::Done(Collected::Unknown),
            (At::Condemning(link), Some(Observed::Written(version))) => self.search(link, version),
            (At::Searching(link, version), Some(Observed::Referenced(Some(manifest)))) => {
                self.at = At::Sparing(manifest);
                Self::replace(link, State::Live, version)
            }
            (At::Searching(link, version), Some(Observed::Referenced(None))) => self.kill(link, version),
            (At::Killing, Some(Observed::Written(_))) => Step::Done(Collected::Dead),
            // Lost: whoever was first made it live, which is what we wanted to do.
            (At::Sparing(manifest), _) => Step::Done(Collected::Needed(manifest)),
            _ if self.attempts == MAX_ATTEMPTS => Step::Done(Collected::Contended),
            // The beginning, or someone revived or changed it meanwhile: look again.
            _ => {
                self.attempts += 1;
                self.at = At::Reading;
                Step::Do(vec![Action::Read(Slot::Link)])
            }
        }
    }
}
