//! A store as background work uses it: so many calls at once and no more, so that clients keep their share, and each
//! one counted. Between the engine of a job and the real store.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Semaphore;

use super::{Etag, GetOptions, ListPage, Meta, Object, PutMode, Store, StoreError};

/// A store behind a limit.
#[derive(Debug)]
pub struct PacedStore {
    inner: Arc<dyn Store>,
    permits: Semaphore,
    calls: AtomicU64,
}

impl PacedStore {
    /// At most `width` calls at once.
    pub fn new(inner: Arc<dyn Store>, width: usize) -> Self {
        Self { inner, permits: Semaphore::new(width), calls: AtomicU64::new(0) }
    }

    /// Calls made so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    async fn call<T>(&self, call: impl Future<Output = T> + Send) -> T {
        // Never closed, so that it always answers with a permit.
        let _permit = self.permits.acquire().await;
        self.calls.fetch_add(1, Ordering::Relaxed);
        call.await
    }
}

#[async_trait]
impl Store for PacedStore {
    async fn get(&self, key: &str, options: GetOptions) -> Result<Object, StoreError> {
        self.call(self.inner.get(key, options)).await
    }

    fn recall(&self, key: &str) -> Option<(Bytes, Meta)> {
        self.inner.recall(key)
    }

    async fn head(&self, key: &str) -> Result<Meta, StoreError> {
        self.call(self.inner.head(key)).await
    }

    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<Etag, StoreError> {
        self.call(self.inner.put(key, body, mode)).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.call(self.inner.delete(key)).await
    }

    async fn delete_version(&self, key: &str, etag: &str) -> Result<(), StoreError> {
        self.call(self.inner.delete_version(key, etag)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        self.call(self.inner.list(prefix, after, limit)).await
    }

    async fn create_multipart(&self, key: &str) -> Result<String, StoreError> {
        self.call(self.inner.create_multipart(key)).await
    }

    async fn put_part(&self, key: &str, id: &str, index: usize, body: Bytes) -> Result<Etag, StoreError> {
        self.call(self.inner.put_part(key, id, index, body)).await
    }

    async fn complete_multipart(&self, key: &str, id: &str, parts: &[Etag]) -> Result<(), StoreError> {
        self.call(self.inner.complete_multipart(key, id, parts)).await
    }

    async fn abort_multipart(&self, key: &str, id: &str) -> Result<(), StoreError> {
        self.call(self.inner.abort_multipart(key, id)).await
    }

    fn part_size(&self) -> usize {
        self.inner.part_size()
    }
}
