//! Requests and reports of the management API (`/berth/v1/…`) and of the workers.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    name::{RepositoryName, Tag},
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
