//! A store whose writes stay in memory, above a real one that is only read: what a job does on it is what it would do.
//! Dry runs are the real code on this store.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use jiff::Timestamp;

use super::{Entry, Etag, GetOptions, ListPage, Meta, Object, PutMode, Store, StoreError};

/// A store above another one.
#[derive(Debug)]
pub struct OverlayStore {
    below: Arc<dyn Store>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    changes: BTreeMap<String, Change>,
    versions: u64,
    bytes: usize,
}

#[derive(Clone, Debug)]
enum Change {
    Written(Bytes, Meta),
    Removed,
}

impl State {
    fn record(&mut self, key: &str, change: Change) {
        let size = |change: &Change| match change {
            Change::Written(body, _) => body.len(),
            Change::Removed => 0,
        };
        self.bytes += key.len() + size(&change);
        if let Some(before) = self.changes.insert(key.to_owned(), change) {
            self.bytes -= key.len() + size(&before);
        }
    }
}

impl OverlayStore {
    /// Nothing is changed yet.
    pub fn new(below: Arc<dyn Store>) -> Self {
        Self { below, state: Mutex::default() }
    }

    /// Keys and bodies of what was changed, in bytes.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    // A panic of another thread leaves whole changes behind.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, key: &str) -> Option<Change> {
        self.lock().changes.get(key).cloned()
    }

    async fn version(&self, key: &str) -> Result<Option<Etag>, StoreError> {
        match self.head(key).await {
            Ok(meta) => Ok(Some(meta.etag)),
            Err(StoreError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn refused<T>() -> Result<T, StoreError> {
    Err(StoreError::Other("a dry run uploads nothing".to_owned()))
}

#[async_trait]
impl Store for OverlayStore {
    async fn get(&self, key: &str, options: GetOptions) -> Result<Object, StoreError> {
        let (body, meta) = match self.change(key) {
            None => return self.below.get(key, options).await,
            Some(Change::Removed) => return Err(StoreError::NotFound(key.to_owned())),
            Some(Change::Written(body, meta)) => (body, meta),
        };
        if options.if_none_match.as_ref() == Some(&meta.etag) {
            return Err(StoreError::NotModified(key.to_owned()));
        }
        let body = match options.range {
            None => body,
            Some(range) => super::slice(&body, &range).ok_or_else(|| super::outside(key, &range))?,
        };
        Ok(Object { meta, body: stream::iter([Ok(body)]).boxed() })
    }

    fn recall(&self, key: &str) -> Option<(Bytes, Meta)> {
        match self.change(key) {
            Some(Change::Written(body, meta)) => Some((body, meta)),
            Some(Change::Removed) => None,
            None => self.below.recall(key),
        }
    }

    async fn head(&self, key: &str) -> Result<Meta, StoreError> {
        match self.change(key) {
            Some(Change::Written(_, meta)) => Ok(meta),
            Some(Change::Removed) => Err(StoreError::NotFound(key.to_owned())),
            None => self.below.head(key).await,
        }
    }

    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<Etag, StoreError> {
        let allowed = match mode {
            PutMode::Overwrite => true,
            PutMode::Create => self.version(key).await?.is_none(),
            PutMode::Update(etag) => self.version(key).await? == Some(etag),
        };
        if !allowed {
            return Err(StoreError::Precondition(key.to_owned()));
        }
        let mut state = self.lock();
        state.versions += 1;
        let etag = format!("overlay-{}", state.versions);
        let meta = Meta { size: body.len() as u64, etag: etag.clone(), modified: Timestamp::now() };
        state.record(key, Change::Written(body, meta));
        Ok(etag)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.lock().record(key, Change::Removed);
        Ok(())
    }

    async fn delete_version(&self, key: &str, etag: &str) -> Result<(), StoreError> {
        match self.version(key).await? {
            Some(there) if there != etag => Err(StoreError::Precondition(key.to_owned())),
            _ => self.delete(key).await,
        }
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        let mut after = after.map(str::to_owned);
        loop {
            let ListPage { entries, more } = self.below.list(prefix, after.as_deref(), limit).await?;
            // What was written is known up to where the page below ends.
            let end = entries.last().filter(|_| more).map(|entry| entry.key.clone());
            let mut merged: BTreeMap<String, Meta> =
                entries.into_iter().map(|entry| (entry.key, entry.meta)).collect();
            let start = match &after {
                Some(after) if after.as_str() >= prefix => Bound::Excluded(after.as_str()),
                _ => Bound::Included(prefix),
            };
            for (key, change) in self.lock().changes.range::<str, _>((start, Bound::Unbounded)) {
                if !key.starts_with(prefix) || end.as_ref().is_some_and(|end| key > end) {
                    break;
                }
                match change {
                    Change::Written(_, meta) => merged.insert(key.clone(), meta.clone()),
                    Change::Removed => merged.remove(key),
                };
            }
            if merged.is_empty() && more {
                after = end;
                continue;
            }
            let more = more || merged.len() > limit;
            let entries = merged.into_iter().take(limit).map(|(key, meta)| Entry { key, meta }).collect();
            return Ok(ListPage { entries, more });
        }
    }

    async fn create_multipart(&self, _key: &str) -> Result<String, StoreError> {
        refused()
    }

    async fn put_part(&self, _key: &str, _id: &str, _index: usize, _body: Bytes) -> Result<Etag, StoreError> {
        refused()
    }

    async fn complete_multipart(&self, _key: &str, _id: &str, _parts: &[Etag]) -> Result<(), StoreError> {
        refused()
    }

    async fn abort_multipart(&self, _key: &str, _id: &str) -> Result<(), StoreError> {
        Ok(())
    }

    fn part_size(&self) -> usize {
        self.below.part_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MemoryStore, read};

    async fn keys(store: &dyn Store, limit: usize) -> Vec<String> {
        let (mut keys, mut after): (Vec<String>, Option<String>) = (Vec::new(), None);
        loop {
            let page = store.list("a/", after.as_deref(), limit).await.unwrap();
            keys.extend(page.entries.into_iter().map(|entry| entry.key));
            after = keys.last().cloned();
            if !page.more {
                return keys;
            }
        }
    }

    #[tokio::test]
    async fn it_shows_what_was_changed_and_changes_nothing_below() {
        let below: Arc<dyn Store> = Arc::new(MemoryStore::default());
        for key in ["a/1", "a/2", "a/3", "a/5", "b"] {
            below.put(key, Bytes::from_static(b"old"), PutMode::Create).await.unwrap();
        }
        let over = OverlayStore::new(Arc::clone(&below));
        let old = over.head("a/1").await.unwrap().etag;
        let new = over.put("a/1", Bytes::from_static(b"new"), PutMode::Update(old.clone())).await.unwrap();
        assert!(over.put("a/1", Bytes::new(), PutMode::Update(old.clone())).await.is_err());
        assert!(over.delete_version("a/1", &old).await.is_err());
        over.delete("a/2").await.unwrap();
        over.delete("a/3").await.unwrap();
        over.put("a/4", Bytes::new(), PutMode::Create).await.unwrap();
        assert!(over.put("a/5", Bytes::new(), PutMode::Create).await.is_err());
        for limit in 1..6 {
            assert_eq!(keys(&over, limit).await, ["a/1", "a/4", "a/5"], "{limit} at a time");
        }
        let (body, meta) = read(&over, "a/1").await.unwrap();
        assert_eq!((&body[..], meta.etag), (&b"new"[..], new));
        assert_eq!(keys(below.as_ref(), 10).await, ["a/1", "a/2", "a/3", "a/5"]);
        assert_eq!(read(below.as_ref(), "a/1").await.unwrap().0, "old");
    }
}
