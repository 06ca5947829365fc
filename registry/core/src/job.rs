//! Requests and reports of the management API (`/berth/v1/…`) and of the workers.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    name::{RepositoryName, Tag},
    record::State,
};

/// `POST /berth/v1/prune` and `…/gc`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct JobRequest {
    /// Say what would be done, do nothing.
    pub dry_run: bool,
}

/// One line of the answer to a prune, as JSON lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum PruneLine {
    /// An image that was (or, in a dry run, would be) removed.
    #[serde(rename_all = "camelCase")]
    Removed {
        /// Its repository.
        repository: RepositoryName,
        /// Its manifest.
        digest: Digest,
        /// Its tags.
        tags: Vec<Tag>,
        /// Priority of the rule that asked for it.
        rule: u32,
        /// Why, for people.
        reason: String,
    },
    /// An image that could not be removed.
    #[serde(rename_all = "camelCase")]
    Failed {
        /// Its repository.
        repository: RepositoryName,
        /// Its manifest.
        digest: Digest,
        /// Why not.
        message: String,
    },
    /// The last line.
    Summary(PruneSummary),
}

/// What a prune did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PruneSummary {
    /// Whether nothing was really removed.
    pub dry_run: bool,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// Images looked at.
    pub examined: u64,
    /// Images removed, or to be removed.
    pub removed: u64,
    /// Images that could not be removed.
    pub failed: u64,
}

/// One line of the answer to a collection, as JSON lines. What "would be" holds of a dry run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum GcLine {
    /// A repository does not hold a blob any more.
    #[serde(rename_all = "camelCase")]
    Unlinked {
        /// The repository.
        repository: RepositoryName,
        /// The blob.
        digest: Digest,
        /// Why, for people.
        reason: String,
    },
    /// No repository holds a blob any more: its bytes go when the undelete window ends.
    #[serde(rename_all = "camelCase")]
    Dead {
        /// The blob.
        digest: Digest,
        /// Its size.
        bytes: u64,
        /// When the window ends.
        until: Timestamp,
        /// Why, for people.
        reason: String,
    },
    /// The bytes of a dead blob were deleted.
    #[serde(rename_all = "camelCase")]
    Purged {
        /// The blob.
        digest: Digest,
        /// Its size; 0 if no record says it.
        bytes: u64,
        /// Why, for people.
        reason: String,
    },
    /// The record of a manifest that was deleted was dropped: it cannot be undeleted any more.
    #[serde(rename_all = "camelCase")]
    Forgotten {
        /// Its repository.
        repository: RepositoryName,
        /// The manifest.
        digest: Digest,
        /// Why, for people.
        reason: String,
    },
    /// A manifest was withdrawn whose push never ended.
    #[serde(rename_all = "camelCase")]
    Abandoned {
        /// Its repository.
        repository: RepositoryName,
        /// The manifest.
        digest: Digest,
        /// Why, for people.
        reason: String,
    },
    /// An upload was removed that nobody went on with, or that ended long ago.
    #[serde(rename_all = "camelCase")]
    Session {
        /// Its repository.
        repository: RepositoryName,
        /// Its record's name.
        upload: String,
        /// Why, for people.
        reason: String,
    },
    /// Something could not be done; the next run tries again.
    #[serde(rename_all = "camelCase")]
    Failed {
        /// What: a digest, or the name of a record.
        subject: String,
        /// Why not.
        message: String,
    },
    /// The last line.
    Summary(GcSummary),
}

/// What a collection did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GcSummary {
    /// Whether nothing was really done.
    pub dry_run: bool,
    /// Whether it came to the end of its work.
    pub complete: bool,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// Links and blobs looked at.
    pub examined: u64,
    /// Links and blobs that were suspected of being unneeded.
    pub condemned: u64,
    /// Links and blobs that turned out to be needed, or are too young to tell.
    pub spared: u64,
    /// Blobs that no repository holds any more.
    pub dead: u64,
    /// Blobs whose bytes were deleted.
    pub purged: u64,
    /// Their bytes.
    pub bytes_freed: u64,
    /// Uploads removed.
    pub sessions: u64,
    /// What could not be done.
    pub failed: u64,
    /// Requests made to the store.
    pub requests: u64,
}

/// `POST /berth/v1/undelete`: a tag, or a manifest, or all of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UndeleteRequest {
    /// Where.
    pub repository: RepositoryName,
    /// The tag that is to point again to what it pointed to last. Not with `digest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// The manifest that is to be there again, with its tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Of a whole repository: only what was deleted since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// What an undelete did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UndeleteReport {
    /// Manifests that are there again, or whose tags are.
    pub restored: Vec<RestoredManifest>,
    /// Manifests of which content is gone for good.
    pub lost: Vec<LostManifest>,
}

/// A manifest that was brought back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoredManifest {
    /// The manifest.
    pub digest: Digest,
    /// Tags that point to it again.
    pub tags: Vec<Tag>,
}

/// A manifest that could not be brought back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LostManifest {
    /// The manifest.
    pub digest: Digest,
    /// Why not.
    pub message: String,
}

/// `GET /berth/v1/explain`: why something is there, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Where.
    pub repository: RepositoryName,
    /// What was asked about: a manifest or a blob.
    pub digest: Digest,
    /// Where its record stands.
    pub state: State,
    /// Each chain of references that keeps it, from what refers to it directly up to what nothing else needs to keep;
    /// some of them, if there are many.
    pub kept_by: Vec<Vec<Keeper>>,
    /// What will remove it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removal: Option<Removal>,
    /// In a sentence.
    pub summary: String,
}

/// Something that refers to something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind", content = "name")]
pub enum Keeper {
    /// A tag points to it.
    Tag(Tag),
    /// A manifest names it as its blob.
    Manifest(Digest),
    /// An index lists it.
    Index(Digest),
    /// It is attached to this manifest.
    Subject(Digest),
}

/// What will remove something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Removal {
    /// `gc`, `scrub` or `prune`.
    pub by: String,
    /// Priority of the lifecycle rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<u32>,
    /// Not before.
    pub at: Timestamp,
    /// Why, for people.
    pub reason: String,
}

/// What one replication pass did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationReport {
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// Tags brought to the destination.
    pub copied: u64,
    /// Tags that were there already, with all that refers to them.
    pub unchanged: u64,
    /// Tags that could not be brought.
    pub failed: u64,
    /// Bytes of blobs and manifests sent.
    pub bytes: u64,
    /// Why, for the first few failures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}
