//! What the manifests of a repository hold on to: the collector's question, and an explicit blob DELETE's. One listing,
//! and a GET for each record whose version is new since the last time: an index in the store remembers the others. The
//! index is disposable: versions decide what of it is believed.

use std::collections::HashMap;

use berth_registry_core::{
    Digest, RepositoryName, key,
    record::{self, ManifestRecord, State},
};
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Engine, EngineError, drive::damaged};
use crate::store::PutMode;

/// Up to so many manifests are read without an index.
const FEW: usize = 4;
/// Records that are read at once.
const WIDTH: usize = 128;

/// A blob, by the first 8 bytes of its digest. Should two ever share them, one is spared for the other's sake.
type Short = u64;

fn short(digest: &Digest) -> Short {
    digest.hex().get(..16).and_then(|hex| Short::from_str_radix(hex, 16).ok()).unwrap_or_default()
}

/// What is remembered of a manifest's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    /// The record's version.
    etag: String,
    /// The manifest's size in bytes, if it can be pulled.
    size: Option<u64>,
    /// The blobs that it holds on to: each 16 hex digits.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    holds: String,
    /// The manifests that it lists, if it can be pulled, in the same form; none if nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lists: Option<String>,
    /// Since when it is pending, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending: Option<Timestamp>,
}

impl Known {
    fn new(record: &ManifestRecord, size: usize, etag: String) -> Self {
        let blobs = if record.state.is_reference() { record.blobs.as_slice() } else { &[] };
        let lists = if record.state.is_visible() { record.manifests.as_slice() } else { &[] };
        let short = |digests: &[Digest]| digests.iter().filter_map(|digest| digest.hex().get(..16)).collect();
        Self {
            etag,
            size: record.state.is_visible().then_some(size as u64),
            holds: short(blobs),
            lists: Some(short(lists)),
            pending: (record.state == State::Pending).then_some(record.pushed),
        }
    }

    fn holds(&self) -> impl Iterator<Item = Short> {
        shorts(&self.holds)
    }

    fn lists(&self, child: Short) -> bool {
        self.lists.as_deref().is_some_and(|lists| shorts(lists).any(|short| short == child))
    }
}

fn shorts(text: &str) -> impl Iterator<Item = Short> {
    let chunks = text.as_bytes().chunks_exact(16);
    chunks.filter_map(|hex| Short::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok())
}

/// The references of one repository, as of the last [`Self::scan`].
#[derive(Debug)]
pub(super) struct References {
    repository: RepositoryName,
    /// By the manifest's digest; `None` before the first scan.
    manifests: Option<HashMap<String, Known>>,
    changed: bool,
    holders: HashMap<Short, String>,
}

impl References {
    pub(super) fn new(repository: &RepositoryName) -> Self {
        Self { repository: repository.clone(), manifests: None, changed: false, holders: HashMap::new() }
    }

    /// Reads what the manifests hold on to now.
    pub(super) async fn scan(&mut self, engine: &Engine) -> Result<(), EngineError> {
        let prefix = key::manifests(&self.repository);
        let listed = engine.list_all(&prefix).await?;
        let mut before = match self.manifests.take() {
            Some(known) => known,
            None if listed.len() > FEW => engine.reference_index(&self.repository).await?,
            None => HashMap::new(),
        };
        let (mut known, mut missing) = (HashMap::with_capacity(listed.len()), Vec::new());
        for entry in listed {
            let name = entry.key.strip_prefix(&prefix).unwrap_or_default();
            match before.remove(name) {
                Some(same) if same.etag == entry.meta.etag && same.lists.is_some() => {
                    drop(known.insert(name.to_owned(), same));
                }
                _ => missing.push(entry.key),
            }
        }
        self.changed |= !missing.is_empty() || !before.is_empty();
        let mut reads = stream::iter(missing)
            .map(|key| async { (engine.known(&key).await, key) })
            .buffer_unordered(WIDTH);
        while let Some((read, key)) = reads.next().await {
            // Absent: dropped since it was listed.
            if let Some(read) = read? {
                known.insert(key.strip_prefix(&prefix).unwrap_or_default().to_owned(), read);
            }
        }
        drop(reads);
        self.holders = known
            .iter()
            .flat_map(|(name, manifest)| manifest.holds().map(|blob| (blob, name.clone())))
            .collect();
        self.manifests = Some(known);
        Ok(())
    }

    /// A manifest that holds on to a blob, pending ones included.
    pub(super) fn holder(&self, blob: &Digest) -> Option<Digest> {
        self.holders.get(&short(blob))?.parse().ok()
    }

    /// Manifests that can be pulled and list another one, or one whose digest begins alike.
    fn parents(&self, child: &Digest) -> impl Iterator<Item = Digest> {
        let child = short(child);
        let manifests = self.manifests.iter().flatten();
        manifests.filter(move |(_, known)| known.lists(child)).filter_map(|(name, _)| name.parse().ok())
    }

    /// The sizes of the manifests that can be pulled.
    pub(super) fn sizes(&self) -> impl Iterator<Item = u64> {
        self.manifests.iter().flatten().filter_map(|(_, known)| known.size)
    }

    /// Manifests that are pending since `limit` or longer.
    pub(super) fn abandoned(&self, limit: Timestamp) -> impl Iterator<Item = Digest> {
        let old = move |known: &Known| known.pending.is_some_and(|since| since <= limit);
        let manifests = self.manifests.iter().flatten();
        manifests.filter(move |(_, known)| old(known)).filter_map(|(name, _)| name.parse().ok())
    }

    /// Remembers for the next time. Only a cache: failing costs the next scan some requests.
    pub(super) async fn save(&self, engine: &Engine) {
        if let Some(manifests) = self.manifests.as_ref().filter(|known| self.changed && known.len() > FEW)
            && let Ok(body) = serde_json::to_vec(manifests)
        {
            let key = key::reference_index(&self.repository);
            let _ = engine.store().put(&key, body.into(), PutMode::Overwrite).await;
        }
    }
}

impl Engine {
    async fn known(&self, key: &str) -> Result<Option<Known>, EngineError> {
        let Some((body, etag)) = self.read_optional(key).await? else { return Ok(None) };
        let (record, _, bytes) = record::decode_manifest(&body).map_err(|error| damaged(key, &error))?;
        Ok(Some(Known::new(&record, bytes.len(), etag)))
    }

    async fn reference_index(
        &self,
        repository: &RepositoryName,
    ) -> Result<HashMap<String, Known>, EngineError> {
        let body = self.read_optional(&key::reference_index(repository)).await?;
        Ok(body.and_then(|(body, _)| serde_json::from_slice(&body).ok()).unwrap_or_default())
    }

    /// A manifest of the repository, pending ones included, that holds on to a blob.
    pub(super) async fn find_reference(
        &self,
        repository: &RepositoryName,
        blob: &Digest,
    ) -> Result<Option<Digest>, EngineError> {
        let mut references = References::new(repository);
        references.scan(self).await?;
        references.save(self).await;
        Ok(references.holder(blob))
    }

    /// The indexes of the repository that list a manifest, at most `limit` of them.
    pub async fn indexes_of(
        &self,
        repository: &RepositoryName,
        manifest: &Digest,
        limit: usize,
    ) -> Result<Vec<Digest>, EngineError> {
        let mut references = References::new(repository);
        references.scan(self).await?;
        references.save(self).await;
        let mut parents: Vec<_> = references.parents(manifest).collect();
        parents.sort_unstable();
        parents.truncate(limit);
        Ok(parents)
    }
}
