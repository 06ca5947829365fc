//! All blobs and their links, in the order of the digests: two listings read side by side, shard by shard. The records
//! come from a disposable cache where the listing shows the version that it knows, so that a second look costs requests
//! in proportion to what changed. `scrub` walks it and believes no cache, `usage` sums it up.

use std::collections::{BTreeMap, VecDeque};

use berth_registry_core::{
    Digest, RepositoryName, key,
    record::{self, Blob, Link},
};
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    Engine, EngineError,
    blobs::PAGE,
    gather::{gather, work},
};
use crate::store::{Entry, Etag, PutMode};

/// So many records of a shard are read without a cache.
const FEW: usize = 16;

/// A record as the listing and the store show it.
#[derive(Clone, Debug)]
pub(super) struct Known<T> {
    pub key: String,
    /// What it says; `None` if it cannot be read.
    pub record: Option<T>,
    pub etag: Etag,
    /// When it was written, by the store's clock.
    pub modified: Timestamp,
}

/// A digest with everything that the store says about it.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub digest: Digest,
    pub blob: Option<Known<Blob>>,
    pub links: Vec<(RepositoryName, Known<Link>)>,
}

/// What lies next to each other below one prefix.
#[derive(Debug, Default)]
pub(super) struct Shard {
    pub items: Vec<Item>,
    /// Objects whose key is no key of a record.
    pub strays: Vec<String>,
    /// Sum of the sizes of all its objects, and their number.
    pub bytes: u64,
    pub objects: u64,
}

/// A listing that is read page by page.
#[derive(Debug)]
pub(super) struct Listing {
    engine: Engine,
    prefix: String,
    after: Option<String>,
    buffer: VecDeque<Entry>,
    more: bool,
}

impl Listing {
    pub(super) fn new(engine: &Engine, prefix: &str, after: Option<String>) -> Self {
        let (engine, prefix) = (engine.clone(), prefix.to_owned());
        Self { engine, prefix, after, buffer: VecDeque::new(), more: true }
    }

    pub(super) async fn peek(&mut self) -> Result<Option<&Entry>, EngineError> {
        while self.buffer.is_empty() && self.more {
            let page = self.engine.store().list(&self.prefix, self.after.as_deref(), PAGE).await?;
            self.more = page.more && !page.entries.is_empty();
            self.after = page.entries.last().map(|entry| entry.key.clone()).or(self.after.take());
            self.buffer.extend(page.entries);
        }
        Ok(self.buffer.front())
    }

    pub(super) async fn next(&mut self) -> Result<Option<Entry>, EngineError> {
        self.peek().await?;
        Ok(self.buffer.pop_front())
    }

    /// Goes on after a key.
    pub(super) fn seek(&mut self, after: String) {
        self.buffer.retain(|entry| entry.key > after);
        if self.buffer.is_empty() {
            self.after = Some(after);
        }
    }
}

/// Records by their keys, with the version that they had.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Cache {
    blobs: BTreeMap<String, (Etag, Blob)>,
    links: BTreeMap<String, (Etag, Link)>,
}

/// The walk.
#[derive(Debug)]
pub(super) struct Inventory {
    engine: Engine,
    blobs: Listing,
    links: Listing,
    cached: bool,
}

impl Inventory {
    /// From the first digest, or after one. `cached`: records may come from the cache.
    pub(super) fn new(engine: &Engine, after: Option<&Digest>, cached: bool) -> Self {
        // `~` sorts after every character of a repository name.
        let links = after.map(|digest| format!("{}~", key::links(digest)));
        Self {
            engine: engine.clone(),
            blobs: Listing::new(engine, key::BLOBS, after.map(key::blob)),
            links: Listing::new(engine, key::LINKS, links),
            cached,
        }
    }

    /// The next shard; not empty.
    pub(super) async fn next(&mut self) -> Result<Option<Shard>, EngineError> {
        let mut shard = Shard::default();
        let first = |entry: Option<&Entry>| entry.map(|entry| shard_of(&entry.key).to_owned());
        let (blob, link) = (first(self.blobs.peek().await?), first(self.links.peek().await?));
        let Some(name) = [blob, link].into_iter().flatten().min() else { return Ok(None) };
        let blobs = take(&mut self.blobs, &name, &mut shard).await?;
        let links = take(&mut self.links, &name, &mut shard).await?;
        let cache_key = key::inventory(&name);
        let use_cache = self.cached && blobs.len() + links.len() > FEW;
        let old = if use_cache { self.engine.cache(&cache_key).await? } else { Cache::default() };
        let (blobs, new_blobs) = self.engine.known_records(blobs, old.blobs).await?;
        let (links, new_links) = self.engine.known_records(links, old.links).await?;
        if use_cache && (new_blobs || new_links) {
            let cache = Cache { blobs: remember(&blobs), links: remember(&links) };
            if let Ok(body) = serde_json::to_vec(&cache) {
                // Only a cache: without it the next look reads more.
                let _ = self.engine.store().put(&cache_key, body.into(), PutMode::Overwrite).await;
            }
        }
        shard.items = join(blobs, links);
        Ok(Some(shard))
    }
}

fn shard_of(key: &str) -> &str {
    key::shard(key).unwrap_or_default()
}

/// The entries of one shard.
async fn take(listing: &mut Listing, name: &str, shard: &mut Shard) -> Result<Vec<Entry>, EngineError> {
    let mut entries = Vec::new();
    while let Some(entry) = listing.peek().await?
        && shard_of(&entry.key) == name
    {
        let Some(entry) = listing.next().await? else { break };
        shard.bytes += entry.meta.size;
        shard.objects += 1;
        let valid = key::blob_digest(&entry.key).is_some_and(|digest| {
            entry.key == key::blob(&digest) || key::link_repository(&digest, &entry.key).is_some()
        });
        if valid { entries.push(entry) } else { shard.strays.push(entry.key) }
    }
    Ok(entries)
}

fn remember<T: Clone>(known: &[Known<T>]) -> BTreeMap<String, (Etag, T)> {
    let entry = |known: &Known<T>| Some((known.key.clone(), (known.etag.clone(), known.record.clone()?)));
    known.iter().filter_map(entry).collect()
}

fn join(blobs: Vec<Known<Blob>>, links: Vec<Known<Link>>) -> Vec<Item> {
    let mut items: BTreeMap<Digest, Item> = BTreeMap::new();
    let item = |digest: &Digest| Item { digest: digest.clone(), blob: None, links: Vec::new() };
    for blob in blobs {
        if let Some(digest) = key::blob_digest(&blob.key) {
            items.entry(digest.clone()).or_insert_with(|| item(&digest)).blob = Some(blob);
        }
    }
    for link in links {
        if let Some(digest) = key::blob_digest(&link.key)
            && let Some(repository) = key::link_repository(&digest, &link.key)
        {
            items.entry(digest.clone()).or_insert_with(|| item(&digest)).links.push((repository, link));
        }
    }
    items.into_values().collect()
}

impl Engine {
    async fn cache(&self, key: &str) -> Result<Cache, EngineError> {
        let found = self.read_optional(key).await?;
        Ok(found.and_then(|(body, _)| serde_json::from_slice(&body).ok()).unwrap_or_default())
    }

    /// The records of listed objects, and whether one had to be read. What is gone since it was listed is left out.
    async fn known_records<T: DeserializeOwned + Send>(
        &self,
        entries: Vec<Entry>,
        mut cache: BTreeMap<String, (Etag, T)>,
    ) -> Result<(Vec<Known<T>>, bool), EngineError> {
        let mut known = Vec::with_capacity(entries.len());
        let mut unread = Vec::new();
        for Entry { key, meta } in entries {
            match cache.remove(&key) {
                Some((etag, record)) if etag == meta.etag => {
                    known.push(Known { key, record: Some(record), etag, modified: meta.modified });
                }
                _ => unread.push((key, meta.modified)),
            }
        }
        let changed = !unread.is_empty() || !cache.is_empty();
        let reads =
            unread.iter().map(|(key, modified)| work(self.known_record::<T>(key, *modified))).collect();
        known.extend(gather(reads).await?.into_iter().flatten());
        known.sort_by(|a, b| a.key.cmp(&b.key));
        Ok((known, changed))
    }

    async fn known_record<T: DeserializeOwned>(
        &self,
        key: &str,
        modified: Timestamp,
    ) -> Result<Option<Known<T>>, EngineError> {
        let Some((body, etag)) = self.read_optional(key).await? else { return Ok(None) };
        let record = decode::<T>(&body);
        Ok(Some(Known { key: key.to_owned(), record, etag, modified }))
    }
}

fn decode<T: DeserializeOwned>(body: &Bytes) -> Option<T> {
    record::decode(body).ok().map(|(record, _)| record)
}
