//! What an integrity check looks for, what each finding means and what was done about it: the lines of
//! `POST /berth/v1/scrub`, the progress record, and the decisions that need no store. The engine's `scrub` acts on them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{digest::Digest, name::RepositoryName};

/// `POST /berth/v1/scrub`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ScrubRequest {
    /// Say what would be done, change nothing (and neither resume nor leave progress).
    pub dry_run: bool,
    /// Bytes of blobs read in a second, at most; 0 is without limit.
    pub rate: u64,
    /// Hash the bytes of every blob. Without it only their presence and size are checked.
    pub verify_bytes: bool,
}

impl Default for ScrubRequest {
    fn default() -> Self {
        Self { dry_run: false, rate: 64 << 20, verify_bytes: true }
    }
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Damage {
    /// The bytes of a blob do not have its digest.
    CorruptBlob,
    /// The bytes of a blob are not as many as its record says.
    TruncatedBlob,
    /// A blob's record names bytes that are not there.
    MissingData,
    /// A repository holds a blob that has no live record.
    LinkWithoutBlob,
    /// A link names other bytes than the blob's record.
    StaleLink,
    /// A record cannot be read.
    DamagedRecord,
    /// The bytes of a manifest do not have its digest.
    CorruptManifest,
    /// A manifest needs a blob that its repository does not hold.
    MissingBlob,
    /// An index lists a manifest that its repository does not hold, and that nobody deleted.
    MissingChild,
    /// A manifest is attached to another one, but is not listed there, or not as it is.
    MissingReferrer,
    /// A manifest that is not there is listed as attached.
    ReferrerWithoutManifest,
    /// A tag points to a manifest that is not there.
    TagWithoutManifest,
    /// Deleting its manifest would not find a tag.
    MissingHint,
    /// A hint is left from a tag that points elsewhere.
    HintWithoutTag,
    /// Changes of a tag that nobody can ask for any more.
    OldHistory,
    /// A cache of what is not there any more.
    StaleCache,
    /// A write that was begun and never ended.
    PendingLeftover,
    /// A blob that no manifest of its repository has named in time.
    UnnamedLink,
    /// Bytes that no record names.
    OrphanData,
    /// The record of something deleted, past the time in which it has a use.
    OldTombstone,
    /// A repository with content is not in the catalog.
    MissingCatalogEntry,
    /// A repository in the catalog has no content.
    EmptyRepository,
    /// An object that this version does not know.
    UnknownObject,
}

impl Damage {
    /// What it means for people who use the registry.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::CorruptBlob | Self::TruncatedBlob | Self::MissingData => {
                "the blob cannot be pulled until the same content is pushed again"
            }
            Self::LinkWithoutBlob => "the repository promises a blob that it cannot serve",
            Self::StaleLink => "pulls of the blob take a detour",
            Self::DamagedRecord => "what the record says is lost; requests that need it fail",
            Self::CorruptManifest => "the manifest cannot be pulled until it is pushed again",
            Self::MissingBlob => {
                "the image cannot be pulled whole until the blob is pushed to its repository"
            }
            Self::MissingChild => {
                "the index cannot be pulled for all its platforms until the child is pushed"
            }
            Self::MissingReferrer => "a signature or another attachment is not found",
            Self::ReferrerWithoutManifest => "an attachment is listed that cannot be pulled",
            Self::TagWithoutManifest => "the tag is listed but cannot be pulled",
            Self::MissingHint => "deleting the manifest would leave the tag behind",
            Self::HintWithoutTag | Self::OldHistory | Self::StaleCache | Self::OldTombstone => {
                "it takes space and does no harm"
            }
            Self::PendingLeftover => "a client or a replica died on the way; nothing was promised",
            Self::UnnamedLink => "the blob takes space; no image of the repository needs it",
            Self::OrphanData => "the bytes take space; nothing leads to them",
            Self::MissingCatalogEntry => "the repository is not listed",
            Self::EmptyRepository => "the repository is listed, but everything in it was deleted",
            Self::UnknownObject => "it was not written by this version; it is left alone",
        }
    }
}

/// What was done about a finding (in a dry run: what would be).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Treatment {
    /// All is as it should be again.
    Repaired,
    /// It is served no more, and the next push of the same content heals it.
    Quarantined,
    /// The collector takes it from here.
    HandedOver,
    /// Only people can help.
    Reported,
    /// The cure did not work; the message says why. The next run tries again.
    Failed,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What is wrong.
    pub damage: Damage,
    /// The object in the store.
    pub key: String,
    /// The repository, if it concerns one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositoryName>,
    /// The blob or manifest, if it concerns one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// What it means, and what was seen.
    pub message: String,
    /// What was done.
    pub treatment: Treatment,
}

/// One line of the answer to a scrub, as JSON lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum ScrubLine {
    /// Something is wrong.
    Finding(Finding),
    /// How far it has come.
    Progress(ScrubProgress),
    /// The last line.
    Summary(ScrubSummary),
}

/// The parts of a scrub, in their order: what later parts rely on is repaired first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// Every blob: its record, its bytes, its links.
    #[default]
    Blobs,
    /// Every repository: manifests, tags, referrers, history.
    Repositories,
    /// What is left: catalog, orphans, what nobody names.
    Leftovers,
}

/// What was looked at and found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScrubCounts {
    /// Blobs looked at.
    pub blobs: u64,
    /// Bytes of blobs that were hashed.
    pub bytes: u64,
    /// Repositories looked at.
    pub repositories: u64,
    /// Manifests hashed and followed.
    pub manifests: u64,
    /// Findings repaired.
    pub repaired: u64,
    /// Findings quarantined.
    pub quarantined: u64,
    /// Findings left to the collector.
    pub handed_over: u64,
    /// Findings that people must look at.
    pub reported: u64,
    /// Findings whose cure failed, and content that could not be looked at.
    pub failed: u64,
}

impl ScrubCounts {
    /// Counts a finding.
    pub fn count(&mut self, treatment: Treatment) {
        *match treatment {
            Treatment::Repaired => &mut self.repaired,
            Treatment::Quarantined => &mut self.quarantined,
            Treatment::HandedOver => &mut self.handed_over,
            Treatment::Reported => &mut self.reported,
            Treatment::Failed => &mut self.failed,
        } += 1;
    }
}

/// `k/scrub`: how far the scrub has come, so that any replica can go on with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScrubProgress {
    /// When it began.
    pub started: Timestamp,
    /// Whether bytes are hashed.
    pub verify_bytes: bool,
    /// Where it is; nowhere once it has ended.
    pub phase: Option<Phase>,
    /// What it has done within the phase: a shard and digest, or a repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// What it has seen.
    #[serde(flatten)]
    pub counts: ScrubCounts,
}

impl ScrubProgress {
    /// Nothing done yet.
    pub fn begin(verify_bytes: bool, now: Timestamp) -> Self {
        let phase = Some(Phase::default());
        Self { started: now, verify_bytes, phase, after: None, counts: ScrubCounts::default() }
    }
}

/// What a scrub did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScrubSummary {
    /// Whether nothing was really changed.
    pub dry_run: bool,
    /// Whether it went on where an earlier one was interrupted.
    pub resumed: bool,
    /// When it, or the one that it went on with, began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// What it saw.
    #[serde(flatten)]
    pub counts: ScrubCounts,
}

/// Moves of a tag that are kept however old they are.
pub const KEPT_CHANGES: usize = 100;

/// How many of a tag's changes, given newest first by their age's side of the undelete window (`true`: within it), are
/// needed: those within the window, the one that says where the tag pointed when it began, and the newest
/// [`KEPT_CHANGES`]; none, if the tag is gone and was removed before the window.
pub fn changes_needed(within: &[bool], tag_exists: bool) -> usize {
    let recent = within.iter().take_while(|&&within| within).count();
    if recent == 0 && !tag_exists { 0 } else { (recent + 1).max(KEPT_CHANGES).min(within.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_window_shows_is_kept() {
        assert_eq!(changes_needed(&[true, true, false, false], true), 4, "few are kept in any case");
        let many = |recent: usize, old: usize| [vec![true; recent], vec![false; old]].concat();
        assert_eq!(changes_needed(&many(150, 50), true), 151, "the window, and where it began");
        assert_eq!(changes_needed(&many(3, 500), true), KEPT_CHANGES);
        assert_eq!(changes_needed(&many(0, 500), false), 0, "removed long ago");
        assert_eq!(changes_needed(&many(1, 5), false), 6, "removed lately");
        assert_eq!(changes_needed(&[], true), 0);
    }

    #[test]
    fn lines_read_as_people_expect() {
        let finding = ScrubLine::Finding(Finding {
            damage: Damage::OrphanData,
            key: "d/aa/x".into(),
            repository: None,
            digest: None,
            message: "m".into(),
            treatment: Treatment::HandedOver,
        });
        let text = serde_json::to_string(&finding).unwrap();
        assert_eq!(
            text,
            r#"{"kind":"finding","damage":"OrphanData","key":"d/aa/x","message":"m","treatment":"handedOver"}"#
        );
        let progress = ScrubProgress::begin(true, Timestamp::UNIX_EPOCH);
        let text = serde_json::to_string(&progress).unwrap();
        assert_eq!(serde_json::from_str::<ScrubProgress>(&text).unwrap(), progress);
    }
}
