//! What takes content away: a client deletes a manifest; a client or a collector asks whether a link is still needed.

use super::{Action, Body, Observed, Protocol, Slot, Step, Version, only};
use crate::{
    digest::Digest,
    record::{Link, ManifestRecord, State},
};

/// Deletes a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DeleteManifest {
    at: DeletingAt,
}

/// How deleting a manifest ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Deleted {
    /// It was there and is dead now.
    Yes(ManifestRecord),
    /// It is not there.
    Unknown,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
enum DeletingAt {
    #[default]
    Begin,
    Reading,
    Writing(ManifestRecord),
}

impl Protocol for DeleteManifest {
    type Outcome = Deleted;

    fn next(&mut self, observed: Vec<Observed>) -> Step<Deleted> {
        match (self.at.clone(), only(observed)) {
            (DeletingAt::Reading, Some(Observed::Found(Body::Manifest(record, bytes), version)))
                if record.state.is_visible() =>
            {
                let dead = ManifestRecord { state: State::Dead, ..record };
                self.at = DeletingAt::Writing(dead.clone());
                Step::Do(vec![Action::Replace(Slot::Manifest, version, Body::Manifest(dead, bytes))])
            }
            (DeletingAt::Reading, _) => Step::Done(Deleted::Unknown),
            (DeletingAt::Writing(record), Some(Observed::Written(_))) => Step::Done(Deleted::Yes(record)),
            (DeletingAt::Begin | DeletingAt::Writing(_), _) => {
                self.at = DeletingAt::Reading;
                Step::Do(vec![Action::Read(Slot::Manifest)])
            }
        }
    }
}

/// Condemns a link, *then* looks for manifests that need it, then lets it live or die.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CollectLink {
    at: CollectingAt,
    attempts: u8,
}

/// After so many losses someone wants the link more than we want it gone.
const MAX_ATTEMPTS: u8 = 3;

/// How collecting a link ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Collected {
    /// Nothing needed it: the repository does not hold the blob any more.
    Dead,
    /// This manifest needs it.
    Needed(Digest),
    /// The repository does not hold the blob.
    Unknown,
    /// Others go on reviving it.
    Contended,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
enum CollectingAt {
    #[default]
    Begin,
    Reading,
    Condemning(Link),
    Searching(Link, Version),
    Killing,
    Sparing(Digest),
}

impl CollectLink {
    fn replace(link: Link, state: State, version: Version) -> Step<Collected> {
        Step::Do(vec![Action::Replace(Slot::Link, version, Body::Link(Link { state, ..link }))])
    }

    fn search(&mut self, link: Link, version: Version) -> Step<Collected> {
        self.at = CollectingAt::Searching(link, version);
        Step::Do(vec![Action::FindReference])
    }
}

impl Protocol for CollectLink {
    type Outcome = Collected;

    fn next(&mut self, observed: Vec<Observed>) -> Step<Collected> {
        match (self.at.clone(), only(observed)) {
            (CollectingAt::Reading, Some(Observed::Found(Body::Link(link), version))) => match link.state {
                State::Live => {
                    self.at = CollectingAt::Condemning(link.clone());
                    Self::replace(link, State::Condemned, version)
                }
                State::Condemned => self.search(link, version),
                State::Pending | State::Dead | State::Purged => Step::Done(Collected::Unknown),
            },
            (CollectingAt::Reading, _) => Step::Done(Collected::Unknown),
            (CollectingAt::Condemning(link), Some(Observed::Written(version))) => self.search(link, version),
            (CollectingAt::Searching(link, version), Some(Observed::Referenced(Some(manifest)))) => {
                self.at = CollectingAt::Sparing(manifest);
                Self::replace(link, State::Live, version)
            }
            (CollectingAt::Searching(link, version), Some(Observed::Referenced(None))) => {
                self.at = CollectingAt::Killing;
                Self::replace(link, State::Dead, version)
            }
            (CollectingAt::Killing, Some(Observed::Written(_))) => Step::Done(Collected::Dead),
            // Lost: whoever was first made it live, which is what we wanted to do.
            (CollectingAt::Sparing(manifest), _) => Step::Done(Collected::Needed(manifest)),
            _ if self.attempts == MAX_ATTEMPTS => Step::Done(Collected::Contended),
            // The beginning, or someone revived or changed it meanwhile: look again.
            _ => {
                self.attempts += 1;
                self.at = CollectingAt::Reading;
                Step::Do(vec![Action::Read(Slot::Link)])
            }
        }
    }
}
