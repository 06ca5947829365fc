//! The storage protocol as pure state machines. A machine says which store operations come next, the engine performs
//! them (each one an atomic compare-and-swap or read) and hands back what it saw. No machine holds a lock or looks at
//! a clock; any of them may stop forever between two steps. Why this is safe: `registry/DESIGN.md`.
//!
//! All writers keep one order: write the reference, *then* read the state of what it refers to, then make it visible.
//! Collectors keep the opposite one: write the state, *then* read the references.

use bytes::Bytes;

use crate::{
    digest::Digest,
    record::{Blob, Link, ManifestRecord},
};

mod delete;
mod manifest;
mod mount;
mod upload;

pub use delete::{CollectLink, Collected, DeleteManifest, Deleted};
pub use manifest::{Put, PutManifest};
pub use mount::{Mount, Mounted};
pub use upload::{Finish, Finished};

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
    /// Look for a manifest of the repository that holds on to the blob: [`Observed::Referenced`].
    FindReference,
}

/// What an operation showed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step<T> {
    /// These operations, in any order or at once; then call [`Protocol::next`] with what they showed, in this order.
    Do(Vec<Action>),
    /// Nothing: this is the outcome.
    Done(T),
}

/// A state machine over records.
pub trait Protocol {
    /// What it comes to.
    type Outcome;

    /// The next step, given what the last one showed; the first call takes nothing.
    fn next(&mut self, observed: Vec<Observed>) -> Step<Self::Outcome>;
}

fn only(observed: Vec<Observed>) -> Option<Observed> {
    observed.into_iter().next()
}

#[cfg(test)]
mod tests;
