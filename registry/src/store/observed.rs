//! Counts and times every call of a store, for the metrics and for the request that makes it. The outermost wrapper:
//! what the engine sees is what is counted. A streamed body is timed until it begins.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Etag, GetOptions, ListPage, Meta, Object, PutMode, Store, StoreError};
use crate::{
    metrics::{StoreCalls, StoreOperation},
    tally,
};

/// A store whose calls are counted.
#[derive(Debug)]
pub struct ObservedStore {
    inner: Arc<dyn Store>,
    calls: StoreCalls,
}

impl ObservedStore {
    /// Wraps a store.
    pub fn new(inner: Arc<dyn Store>, calls: StoreCalls) -> Self {
        Self { inner, calls }
    }

    async fn observe<T>(
        &self,
        operation: StoreOperation,
        key: &str,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let began = Instant::now();
        let result = call.await;
        let took = began.elapsed();
        let error = result.as_ref().err();
        tally::store_call(operation.name(), key, took, error.map(StoreError::reason));
        self.calls.ended(operation, took, error);
        result
    }
}

#[async_trait]
impl Store for ObservedStore {
    async fn get(&self, key: &str, options: GetOptions) -> Result<Object, StoreError> {
        self.observe(StoreOperation::Get, key, self.inner.get(key, options)).await
    }

    fn recall(&self, key: &str) -> Option<(Bytes, Meta)> {
        self.inner.recall(key).inspect(|_| self.calls.recalled())
    }

    async fn head(&self, key: &str) -> Result<Meta, StoreError> {
        self.observe(StoreOperation::Head, key, self.inner.head(key)).await
    }

    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<Etag, StoreError> {
        self.observe(StoreOperation::Put, key, self.inner.put(key, body, mode)).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.observe(StoreOperation::Delete, key, self.inner.delete(key)).await
    }

    async fn delete_version(&self, key: &str, etag: &str) -> Result<(), StoreError> {
        self.observe(StoreOperation::Delete, key, self.inner.delete_version(key, etag)).await
    }

    async fn removes_versions(&self, key: &str, stale: &str) -> Result<bool, StoreError> {
        self.observe(StoreOperation::Delete, key, self.inner.removes_versions(key, stale)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        self.observe(StoreOperation::List, prefix, self.inner.list(prefix, after, limit)).await
    }

    async fn create_multipart(&self, key: &str) -> Result<String, StoreError> {
        self.observe(StoreOperation::Multipart, key, self.inner.create_multipart(key)).await
    }

    async fn put_part(&self, key: &str, id: &str, index: usize, body: Bytes) -> Result<Etag, StoreError> {
        self.observe(StoreOperation::Part, key, self.inner.put_part(key, id, index, body)).await
    }

    async fn complete_multipart(&self, key: &str, id: &str, parts: &[Etag]) -> Result<(), StoreError> {
        self.observe(StoreOperation::Multipart, key, self.inner.complete_multipart(key, id, parts)).await
    }

    async fn abort_multipart(&self, key: &str, id: &str) -> Result<(), StoreError> {
        self.observe(StoreOperation::Multipart, key, self.inner.abort_multipart(key, id)).await
    }

    fn part_size(&self) -> usize {
        self.inner.part_size()
    }

    /// Signed here; the store is not asked.
    async fn presign(&self, key: &str, lifetime: Duration) -> Result<Option<String>, StoreError> {
        self.inner.presign(key, lifetime).await
    }
}
