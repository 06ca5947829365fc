//! Objects in memory: for tests, demonstrations and `storage: {memory: {}}`. Gone with the process.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use jiff::Timestamp;

use super::{Entry, Etag, GetOptions, ListPage, Meta, Object, PutMode, Store, StoreError};

/// A store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, (Bytes, Meta)>,
    uploads: HashMap<String, Vec<(Etag, Bytes)>>,
    versions: u64,
}

impl State {
    fn next_version(&mut self) -> Etag {
        self.versions += 1;
        self.versions.to_string()
    }

    fn insert(&mut self, key: &str, body: Bytes) -> Etag {
        let etag = self.next_version();
        let meta = Meta { size: body.len() as u64, etag: etag.clone(), modified: Timestamp::now() };
        self.objects.insert(key.to_owned(), (body, meta));
        etag
    }

    fn etag(&self, key: &str) -> Option<&str> {
        self.objects.get(key).map(|(_, meta)| meta.etag.as_str())
    }
}

impl MemoryStore {
    // A panic of another thread leaves whole objects behind: each change below is one insert or remove.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The caller's buffer is free once the call has ended.
fn copy(body: &Bytes) -> Bytes {
    Bytes::copy_from_slice(body)
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, key: &str, options: GetOptions) -> Result<Object, StoreError> {
        let (body, meta) =
            self.lock().objects.get(key).cloned().ok_or_else(|| StoreError::NotFound(key.to_owned()))?;
        if options.if_none_match.as_ref() == Some(&meta.etag) {
            return Err(StoreError::NotModified(key.to_owned()));
        }
        let body = match options.range {
            None => body,
            Some(range) => super::slice(&body, &range).ok_or_else(|| super::outside(key, &range))?,
        };
        Ok(Object { meta, body: stream::iter([Ok(body)]).boxed() })
    }

    async fn head(&self, key: &str) -> Result<Meta, StoreError> {
        let state = self.lock();
        let (_, meta) = state.objects.get(key).ok_or_else(|| StoreError::NotFound(key.to_owned()))?;
        Ok(meta.clone())
    }

    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<Etag, StoreError> {
        let mut state = self.lock();
        let allowed = match mode {
            PutMode::Overwrite => true,
            PutMode::Create => state.etag(key).is_none(),
            PutMode::Update(etag) => state.etag(key) == Some(&etag),
        };
        if allowed {
            Ok(state.insert(key, copy(&body)))
        } else {
            Err(StoreError::Precondition(key.to_owned()))
        }
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.lock().objects.remove(key);
        Ok(())
    }

    async fn delete_version(&self, key: &str, etag: &str) -> Result<(), StoreError> {
        let mut state = self.lock();
        if state.etag(key).is_some_and(|there| there != etag) {
            return Err(StoreError::Precondition(key.to_owned()));
        }
        state.objects.remove(key);
        Ok(())
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let state = self.lock();
        let mut rest = state
            .objects
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, (_, meta))| Entry { key: key.clone(), meta: meta.clone() });
        let entries = rest.by_ref().take(limit).collect();
        Ok(ListPage { entries, more: rest.next().is_some() })
    }

    async fn create_multipart(&self, key: &str) -> Result<String, StoreError> {
        let mut state = self.lock();
        let id = format!("{key}#{}", state.next_version());
        state.uploads.insert(id.clone(), Vec::new());
        Ok(id)
    }

    async fn put_part(&self, key: &str, id: &str, index: usize, body: Bytes) -> Result<Etag, StoreError> {
        let mut state = self.lock();
        let etag = state.next_version();
        let parts = state.uploads.get_mut(id).ok_or_else(|| StoreError::NotFound(key.to_owned()))?;
        let part = (etag.clone(), copy(&body));
        match index.cmp(&parts.len()) {
            Ordering::Less => parts[index] = part,
            Ordering::Equal => parts.push(part),
            Ordering::Greater => {
                return Err(StoreError::Other(format!("part {index} of {key} leaves a gap")));
            }
        }
        Ok(etag)
    }

    async fn complete_multipart(&self, key: &str, id: &str, parts: &[Etag]) -> Result<(), StoreError> {
        let mut state = self.lock();
        let written = state.uploads.get(id).ok_or_else(|| StoreError::NotFound(key.to_owned()))?;
        if written.len() < parts.len() || written.iter().zip(parts).any(|((etag, _), part)| etag != part) {
            return Err(StoreError::Precondition(key.to_owned()));
        }
        let whole: Vec<u8> =
            written.iter().take(parts.len()).flat_map(|(_, body)| body.iter().copied()).collect();
        state.uploads.remove(id);
        state.insert(key, whole.into());
        Ok(())
    }

    async fn abort_multipart(&self, _key: &str, id: &str) -> Result<(), StoreError> {
        self.lock().uploads.remove(id);
        Ok(())
    }

    fn part_size(&self) -> usize {
        1 << 20
    }
}
