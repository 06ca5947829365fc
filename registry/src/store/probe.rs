//! Does the store keep its promises? Asked once at start, before anything is written that matters.

use bytes::Bytes;

use super::{PutMode, Store, StoreError, read};

/// What not every store can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promises {
    /// Removes one version of an object and never another one.
    pub removes_versions: bool,
}

/// Writes, reads and removes a probe object. `Ok(Err(why))`: the store answers, but breaks a promise.
pub async fn probe(store: &dyn Store, nonce: &str) -> Result<Result<Promises, String>, StoreError> {
    let key = format!("p/{nonce}");
    let verdict = promises(store, &key).await;
    // The probe object has a fresh name: if it cannot be removed, it is a few bytes of litter.
    let _ = store.delete(&key).await;
    verdict
}

async fn promises(store: &dyn Store, key: &str) -> Result<Result<Promises, String>, StoreError> {
    let refused = |result: Result<String, StoreError>| match result {
        Ok(_) => Ok(false),
        Err(StoreError::Precondition(_)) => Ok(true),
        Err(error) => Err(error),
    };
    let first = store.put(key, Bytes::from_static(b"1"), PutMode::Create).await?;
    if !refused(store.put(key, Bytes::from_static(b"2"), PutMode::Create).await)? {
        return Ok(Err("two writers can create the same object (If-None-Match is ignored)".into()));
    }
    let second = store.put(key, Bytes::from_static(b"3"), PutMode::Update(first.clone())).await?;
    if second == first {
        return Ok(Err("an overwritten object keeps its ETag".into()));
    }
    if !refused(store.put(key, Bytes::from_static(b"4"), PutMode::Update(first.clone())).await)? {
        return Ok(Err("an object can be replaced with a stale ETag (If-Match is ignored)".into()));
    }
    let (body, meta) = read(store, key).await?;
    if body != "3" || meta.etag != second {
        return Ok(Err("a read does not see the last write".into()));
    }
    let page = store.list(key.get(..key.len() - 1).unwrap_or_default(), None, 1).await?;
    if page.entries.first().is_none_or(|entry| entry.key != key) {
        return Ok(Err("a listing does not show what was just written".into()));
    }
    Ok(Ok(Promises { removes_versions: store.removes_versions(key, &first).await? }))
}
