//! Records that this process has read and decoded. Nothing is believed because it is here: each use asks the store, in
//! the same request, whether the record still has the version that was decoded. What is spared is bytes and parsing.

use std::{fmt, sync::Arc};

use berth_registry_core::record::Damaged;
use bytes::Bytes;
use quick_cache::{Weighter, sync::Cache};

use super::{Engine, EngineError, drive::damaged};
use crate::store::{Etag, StoreError, read_if_changed};

/// For the first allocation only.
const EXPECTED: usize = 1024;

/// Decoded records of one kind by key. When they are too many bytes, the ones used least go.
pub(super) struct RecordCache<T>(Cache<String, Arc<Known<T>>, Weight>);

/// A record as it was decoded.
pub(super) struct Known<T> {
    pub(super) record: T,
    etag: Etag,
    encoded: u64,
}

#[derive(Clone)]
struct Weight;

impl<T> Weighter<String, Arc<Known<T>>> for Weight {
    fn weight(&self, key: &String, known: &Arc<Known<T>>) -> u64 {
        // Decoded it takes about as much again.
        key.len() as u64 + 2 * known.encoded
    }
}

impl<T> RecordCache<T> {
    /// Of about so many bytes.
    pub(super) fn new(bytes: u64) -> Self {
        Self(Cache::with_weighter(EXPECTED, bytes, Weight))
    }
}

impl<T> fmt::Debug for RecordCache<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordCache").field("entries", &self.0.len()).finish()
    }
}

impl Engine {
    /// A record as it is in the store now, decoded only if it is not in the cache in this version.
    pub(super) async fn read_cached<T>(
        &self,
        cache: &RecordCache<T>,
        key: &str,
        decode: impl Fn(&Bytes) -> Result<T, Damaged> + Send,
    ) -> Result<Option<Arc<Known<T>>>, EngineError>
    where
        T: Send + Sync,
    {
        let known = cache.0.get(key);
        let etag = known.as_ref().map(|known| known.etag.as_str());
        let (body, meta) = match read_if_changed(self.store(), key, etag).await {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(known),
            Err(StoreError::NotFound(_)) => {
                cache.0.remove(key);
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let record = decode(&body).map_err(|error| damaged(key, &error))?;
        let known = Arc::new(Known { record, etag: meta.etag, encoded: meta.size });
        cache.0.insert(key.to_owned(), known.clone());
        Ok(Some(known))
    }
}
