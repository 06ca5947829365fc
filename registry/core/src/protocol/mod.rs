//! The storage protocol as pure state machines. A machine says which store operations come next, the engine performs
//! them (each one an atomic compare-and-swap or read) and hands back what it saw. No machine holds a lock or looks at
//! a clock; any of them may stop forever between two steps. Why this is safe: `registry/DESIGN.md`.
//!
//! All writers keep one order: write the reference, *then* read the state of what it refers to, then make it visible.
//! Collectors keep the opposite one: write the state, *then* read the references.

use bytes::Bytes;
use jiff::Timestamp;

use crate::{
    digest::Digest,
    record::{Blob, Link, ManifestRecord},
};

mod collect_blob;
mod collect_link;
mod delete;
mod forget;
mod hold;
mod manifest;
mod mend;
mod purge;

pub use collect_blob::{BlobCollected, CollectBlob};
pub use collect_link::{CollectLink, Collected};
pub use delete::{DeleteManifest, Deleted};
pub use forget::{Forget, Forgotten};
pub use hold::{Finish, Finished, Mount, Mounted, Restore, Restored};
pub use manifest::{Put, PutManifest};
pub use mend::{MendLink, Mended, Quarantine, Quarantined, Reclaim, Reclaimed};
pub use purge::{Purge, Purged};

/// The version of a record: what the store calls an `ETag`.
pub type Version = String;

/// A record that a machine works on; the engine knows its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The link in the repository that is written to.
    Link,
    /// The link in the repository that is mounted from.
    Source,
    /// The blob's record.
    Blob,
    /// The manifest's record.
    Manifest,
    /// The link of the n-th blob, or the record of the n-th child (counted after the blobs), of the manifest.
    Reference(usize),
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// Of [`Slot::Link`], [`Slot::Source`] and references to blobs.
    Link(Link),
    /// Of [`Slot::Blob`].
    Blob(Blob),
    /// Of [`Slot::Manifest`] and references to manifests, with the manifest's bytes.
    Manifest(ManifestRecord, Bytes),
}

/// One store operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Read a record: [`Observed::Found`] or [`Observed::Absent`].
    Read(Slot),
    /// Write a record where there is none: [`Observed::Written`] or [`Observed::Lost`].
    Create(Slot, Body),
    /// Write a record over this version of it: [`Observed::Written`] or [`Observed::Lost`].
    Replace(Slot, Version, Body),
    /// Look for a link of any repository that holds on to the blob: [`Observed::Linked`]. Not atomic: it may list the
    /// links and then read one after the other.
    FindLink,
    /// Put on record that the blob's bytes under this key may be deleted then: [`Observed::Done`].
    Discard(String, Timestamp),
    /// Delete the bytes under this key: [`Observed::Done`].
    DeleteData(String),
    /// Remove this version of a record: [`Observed::Done`] or [`Observed::Lost`].
    Remove(Slot, Version),
}

/// What an operation showed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::large_enum_variant, reason = "a few at a time, each read at once")]
pub enum Observed {
    /// There is no such record.
    Absent,
    /// The record and its version.
    Found(Body, Version),
    /// It was written and has this version.
    Written(Version),
    /// Another writer was first.
    Lost,
    /// A manifest that refers to the blob, if there is one.
    Referenced(Option<Digest>),
    /// Whether a link refers to the blob.
    Linked(bool),
    /// It is so now.
    Done,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step<T> {
    /// These operations, in any order or at once; then call [`Protocol::next`] with what they showed, in this order.
    Do(Vec<Action>),
    /// Look for a manifest of the repository that holds on to the blob: [`Observed::Referenced`]. A step of its own, so
    /// that one look can answer many machines.
    FindReference,
    /// Nothing: this is the outcome.
    Done(T),
}

impl<T> Step<T> {
    fn map<U>(self, outcome: impl FnOnce(T) -> U) -> Step<U> {
        match self {
            Self::Do(actions) => Step::Do(actions),
            Self::FindReference => Step::FindReference,
            Self::Done(done) => Step::Done(outcome(done)),
        }
    }
}

/// A state machine over records.
pub trait Protocol {
    /// What it comes to.
    type Outcome;

    /// The next step, given what the last one showed; the first call takes nothing.
    fn next(&mut self, observed: Vec<Observed>) -> Step<Self::Outcome>;
}

/// After so many losses someone wants the record more than a collector wants it gone.
const MAX_ATTEMPTS: u8 = 3;

fn only(observed: Vec<Observed>) -> Option<Observed> {
    observed.into_iter().next()
}
