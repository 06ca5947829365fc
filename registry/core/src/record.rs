//! What the records in the store say. Each body that is compared and swapped carries a nonce, so that a writer whose
//! answer was lost can read back and see whether it was its own write that won.

use std::fmt;

use bytes::{BufMut as _, Bytes, BytesMut};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    digest::{Algorithm, Digest},
    manifest::{DOCKER_LIST, DOCKER_MANIFEST, Manifest, OCI_INDEX, OCI_MANIFEST},
    name::RepositoryName,
};

/// Where a record stands: `pending → live → condemned → dead → purged`, and back by resurrection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Written as a reference, not yet visible.
    Pending,
    /// Visible.
    Live,
    /// A collector suspects that nothing refers to it; visible.
    Condemned,
    /// Nothing refers to it; invisible.
    Dead,
    /// Its bytes are gone or about to go.
    Purged,
}

impl State {
    /// Whether readers see it.
    pub fn is_visible(self) -> bool {
        matches!(self, Self::Live | Self::Condemned)
    }

    /// Whether it holds on to what it refers to.
    pub fn is_reference(self) -> bool {
        matches!(self, Self::Pending | Self::Live | Self::Condemned)
    }
}

/// `b/…`: a blob, wherever it is linked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Blob {
    /// Where it stands.
    pub state: State,
    /// Its size in bytes.
    pub size: u64,
    /// Key of its bytes.
    pub data: String,
    /// While it is dead: for how long it can be undeleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// `l/…`: a repository holds a blob.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Link {
    /// Where it stands.
    pub state: State,
    /// The blob's size in bytes.
    pub size: u64,
    /// Key of the blob's bytes; where it leads nowhere, the blob's record decides.
    pub data: String,
    /// When a writer last vouched for it.
    pub since: Timestamp,
}

/// `n/…!m/…`: a manifest, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ManifestRecord {
    /// Where it stands.
    pub state: State,
    /// Its media type.
    pub media_type: String,
    /// Blobs that must be in the repository.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blobs: Vec<Digest>,
    /// Manifests that must be in the repository.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub manifests: Vec<Digest>,
    /// What it is attached to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Digest>,
    /// Its artifact type, as the referrers API lists it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Who pushed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// When it was pushed first, or again after it was dead.
    pub pushed: Timestamp,
    /// When it was deleted last, unless it is live again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub died: Option<Timestamp>,
    /// Accepted while content that was never pushed might be missing: what the repository lacks is no damage, and must
    /// not be fetched from others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sparse: bool,
}

impl ManifestRecord {
    /// Whether both hold on to the same content.
    pub fn refers_alike(&self, other: &Self) -> bool {
        self.blobs == other.blobs && self.manifests == other.manifests
    }

    /// The record that a push begins with.
    pub fn pending(manifest: &Manifest, author: Option<&str>, now: Timestamp) -> Self {
        let unique = |digests: Vec<Digest>| -> Vec<Digest> {
            let mut seen = std::collections::BTreeSet::new();
            digests.into_iter().filter(|digest| seen.insert(digest.clone())).collect()
        };
        // An index may also list content that is no manifest: such a child is a blob.
        let (children, others): (Vec<_>, Vec<_>) =
            manifest.manifests.iter().partition(|child| is_manifest(&child.media_type));
        Self {
            state: State::Pending,
            media_type: manifest.media_type.clone(),
            blobs: unique(manifest.blobs().chain(others).map(|blob| blob.digest.clone()).collect()),
            manifests: unique(children.into_iter().map(|child| child.digest.clone()).collect()),
            subject: manifest.subject.as_ref().map(|subject| subject.digest.clone()),
            artifact_type: manifest.artifact_type.clone(),
            author: author.map(str::to_owned),
            pushed: now,
            died: None,
            sparse: false,
        }
    }
}

fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, OCI_MANIFEST | OCI_INDEX | DOCKER_MANIFEST | DOCKER_LIST)
}

/// `n/…!t/…`: where a tag points.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagRecord {
    /// The manifest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
}

/// `n/…!h/…`: a tag was moved or removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagChange {
    /// Where it points since; nowhere if it was removed.
    pub digest: Option<Digest>,
    /// When.
    pub at: Timestamp,
    /// Who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
}

/// `u/…`: an upload under way. Absent means: begun, nothing written yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The repository that it belongs to.
    pub repository: RepositoryName,
    /// What has become of it.
    pub progress: Progress,
}

/// What has become of an upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Progress {
    /// Bytes arrive.
    Open(Received),
    /// The client gave it up.
    Cancelled,
    /// Nobody went on with it: the collector removes what is there.
    Abandoned(Received),
    /// All bytes are there and become, or have become, this blob. Kept for a client whose answer was lost: the last
    /// step can be repeated from here.
    Finished {
        /// The blob.
        digest: Digest,
        /// Its size.
        size: u64,
        /// Key of the upload's bytes. They belong to the blob from here on, no longer to the upload.
        data: String,
    },
}

/// The bytes of an upload that the store has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// How many bytes, parts and tail together.
    pub offset: u64,
    /// What the hash is computed with.
    pub algorithm: Algorithm,
    /// The hash's state over all of them, in hex.
    pub hash: String,
    /// Parts written, if there are so many bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multipart: Option<Multipart>,
    /// Bytes after the last part: too few for a part of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<Tail>,
}

/// A multipart upload of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Multipart {
    /// Key of the object in the making.
    pub data: String,
    /// The store's id for it.
    pub id: String,
    /// Versions of its parts, in order.
    pub parts: Vec<String>,
}

/// The bytes after the last part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tail {
    /// Their key.
    pub data: String,
    /// How many they are.
    pub size: u64,
}

/// `q/…`: something lost a reference; the collector looks at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Candidate {
    /// A manifest died; what it referred to may be unneeded.
    Manifest {
        /// Where.
        repository: RepositoryName,
        /// Which.
        digest: Digest,
    },
    /// A link died; the blob may be unneeded.
    Blob(Digest),
}

/// `z/…`: something that goes when its undelete window is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trash {
    /// Bytes of a blob.
    Data {
        /// The blob.
        digest: Digest,
        /// Key of the bytes.
        data: String,
    },
    /// The record of a dead manifest.
    Manifest {
        /// Where.
        repository: RepositoryName,
        /// Which.
        digest: Digest,
        /// When it died: what dies again later is another matter. None if it was never visible.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        died: Option<Timestamp>,
    },
}

/// A record body that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Damaged(String);

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    nonce: String,
    #[serde(flatten)]
    record: T,
}

/// Encodes a record: JSON with its nonce.
pub fn encode<T: Serialize>(record: &T, nonce: &str) -> Result<Bytes, Damaged> {
    let envelope = Envelope { nonce: nonce.to_owned(), record };
    serde_json::to_vec(&envelope).map(Bytes::from).map_err(|e| Damaged(e.to_string()))
}

/// Decodes a record and its nonce.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<(T, String), Damaged> {
    let envelope: Envelope<T> = serde_json::from_slice(body).map_err(|e| Damaged(e.to_string()))?;
    Ok((envelope.record, envelope.nonce))
}

/// Encodes a manifest's record: one line of JSON, then the manifest's exact bytes, so that they are served without
/// being unescaped.
pub fn encode_manifest(record: &ManifestRecord, nonce: &str, bytes: &[u8]) -> Result<Bytes, Damaged> {
    let head = encode(record, nonce)?;
    let mut body = BytesMut::with_capacity(head.len() + 1 + bytes.len());
    body.put(head);
    body.put_u8(b'\n');
    body.put(bytes);
    Ok(body.freeze())
}

/// Decodes a manifest's record, its nonce and its exact bytes.
pub fn decode_manifest(body: &Bytes) -> Result<(ManifestRecord, String, Bytes), Damaged> {
    // JSON escapes line feeds, so the first one ends the head.
    let end = body
        .iter()
        .position(|&b| b == b'\n')
        .ok_or_else(|| Damaged("no line feed after the head".to_owned()))?;
    let (record, nonce) = decode(&body[..end])?;
    Ok((record, nonce, body.slice(end + 1..)))
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::Live => "live",
            Self::Condemned => "condemned",
            Self::Dead => "dead",
            Self::Purged => "purged",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn records_read_as_people_expect() {
        let link = Link { state: State::Live, size: 3, data: "d/aa/x".into(), since: Timestamp::UNIX_EPOCH };
        insta::assert_snapshot!(String::from_utf8_lossy(&encode(&link, "n1").unwrap()), @r#"{"nonce":"n1","state":"live","size":3,"data":"d/aa/x","since":"1970-01-01T00:00:00Z"}"#);
        assert_eq!(decode::<Link>(&encode(&link, "n1").unwrap()).unwrap(), (link, "n1".to_owned()));
    }

    #[test]
    fn sessions_round_trip() {
        let open = Session {
            repository: "a/b".parse().unwrap(),
            progress: Progress::Open(Received {
                offset: 7,
                algorithm: Algorithm::Sha512,
                hash: "00".into(),
                multipart: Some(Multipart { data: "d".into(), id: "i".into(), parts: vec!["\"e\"".into()] }),
                tail: Some(Tail { data: "t".into(), size: 2 }),
            }),
        };
        assert_eq!(decode::<Session>(&encode(&open, "n").unwrap()).unwrap().0, open);
        let finished = Session {
            repository: "a".parse().unwrap(),
            progress: Progress::Finished { digest: Digest::sha256(b""), size: 0, data: "d/aa/x".into() },
        };
        assert_eq!(decode::<Session>(&encode(&finished, "n").unwrap()).unwrap().0, finished);
    }

    #[test]
    fn damage_is_told() {
        assert!(decode::<Link>(b"{}").unwrap_err().to_string().contains("missing field"));
        assert!(decode_manifest(&Bytes::from_static(b"{}")).is_err());
    }

    proptest! {
        #[test]
        fn manifests_keep_their_exact_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200), author in ".{0,20}") {
            let record = ManifestRecord {
                state: State::Pending, media_type: OCI_MANIFEST.into(), blobs: vec![Digest::sha256(b"a")], manifests: vec![],
                subject: None, artifact_type: None, author: Some(author), pushed: Timestamp::UNIX_EPOCH, died: None, sparse: false,
            };
            let (read, nonce, exact) = decode_manifest(&encode_manifest(&record, "n", &bytes).unwrap()).unwrap();
            prop_assert_eq!((read, nonce.as_str(), &exact[..]), (record, "n", &bytes[..]));
        }
    }
}
