//! Buckets and containers through `object_store`: S3 and what is compatible, Google Cloud Storage, Azure Blob Storage.
//! All that they share is here; a provider is what it takes to open one and the few calls in which it differs.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use http::{Method, StatusCode};
use jiff::Timestamp;
use object_store::{
    BackoffConfig, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutPayload, PutResult,
    RetryConfig, UpdateVersion,
    list::{PaginatedListOptions, PaginatedListStore},
    multipart::{MultipartStore, PartId},
    path::Path,
    signer::Signer,
};

use self::{azure::Azure, error::classify, gcs::Gcs, s3::S3};
use super::{Entry, Etag, GetOptions, ListPage, Meta, Object, PutMode, Store, StoreError, StoreOptions};

mod azure;
mod connector;
mod error;
mod gcs;
mod s3;
#[cfg(test)]
mod tests;

/// S3 takes parts from 5 MiB and at most 10,000 of them, the others are no stricter: blobs up to 78 GiB.
const PART_SIZE: usize = 8 << 20;
/// For a request that is signed ahead and sent at once.
const SIGNATURE_LIFETIME: Duration = Duration::from_mins(1);

/// What a kind of bucket does in its own way.
#[async_trait]
trait Provider: fmt::Debug + Send + Sync + 'static {
    type Client: ObjectStore + MultipartStore + PaginatedListStore + Signer;
    /// Whether a listing that is to begin after a key may begin with it.
    const INCLUSIVE: bool = true;

    fn client(&self) -> &Self::Client;

    /// What tells one version of an object from another, of what came with an answer.
    fn version(&self, e_tag: Option<String>, generation: Option<String>) -> Option<Etag>;

    /// That an object still has this version, as a put asks for it.
    fn condition(&self, version: Etag) -> UpdateVersion;

    /// That an object has another version, as the `If-None-Match` of a get has it; `None` where it has no such form.
    fn unless(&self, version: &str) -> Option<String> {
        Some(version.to_owned())
    }

    /// Deletes an object of this version; the answer's status says how that went.
    async fn delete_version(&self, path: &Path, version: &str) -> Result<StatusCode, DeleteError>;

    /// What is known of an object. Without a version, it has one that none has.
    fn meta(&self, meta: ObjectMeta) -> Meta {
        let modified =
            Timestamp::from_second(meta.last_modified.timestamp()).unwrap_or(Timestamp::UNIX_EPOCH);
        Meta { size: meta.size, etag: self.version(meta.e_tag, meta.version).unwrap_or_default(), modified }
    }

    /// One page of a listing.
    async fn list(&self, prefix: &str, options: PaginatedListOptions) -> object_store::Result<Listed> {
        let page = self.client().list_paginated(Some(prefix), options).await?;
        let entry = |object: ObjectMeta| Entry { key: object.location.to_string(), meta: self.meta(object) };
        Ok(Listed { entries: page.result.objects.into_iter().map(entry).collect(), token: page.page_token })
    }
}

/// Objects by their whole paths, and where the listing goes on.
struct Listed {
    entries: Vec<Entry>,
    token: Option<String>,
}

/// Why a conditional deletion was not answered.
#[derive(Debug)]
enum DeleteError {
    /// It could not be signed.
    Sign(object_store::Error),
    /// It could not be sent.
    Send(reqwest::Error),
}

impl From<object_store::Error> for DeleteError {
    fn from(error: object_store::Error) -> Self {
        Self::Sign(error)
    }
}

impl From<reqwest::Error> for DeleteError {
    fn from(error: reqwest::Error) -> Self {
        // A presigned URL is a secret.
        Self::Send(error.without_url())
    }
}

/// A store in a bucket.
#[derive(Debug)]
struct ObjectBackend<P> {
    provider: P,
    bucket: String,
    /// Empty, or ends with a slash.
    prefix: String,
}

/// Opens the bucket that the rest of a URL names, or `None` if the scheme is none of a bucket. Sends nothing yet.
pub(super) fn from_url(url: &str, options: &StoreOptions) -> Result<Option<Arc<dyn Store>>, StoreError> {
    let Some((scheme, rest)) = url.split_once("://") else { return Ok(None) };
    let (first, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let store: Arc<dyn Store> = match scheme {
        "s3" => {
            let bucket = named(first, "bucket: write s3://bucket/prefix")?;
            Arc::new(ObjectBackend::new(S3::open(bucket, options)?, bucket, rest))
        }
        "gs" => {
            let bucket = named(first, "bucket: write gs://bucket/prefix")?;
            Arc::new(ObjectBackend::new(Gcs::open(bucket, options)?, bucket, rest))
        }
        "az" => {
            let (container, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let account = named(first, "account: write az://account/container/prefix")?;
            let container = named(container, "container: write az://account/container/prefix")?;
            Arc::new(ObjectBackend::new(Azure::open(account, container, options)?, container, prefix))
        }
        _ => return Ok(None),
    };
    Ok(Some(store))
}

fn named<'a>(name: &'a str, what: &str) -> Result<&'a str, StoreError> {
    match name {
        "" => Err(StoreError::Invalid(format!("the store's URL names no {what}"))),
        name => Ok(name),
    }
}

fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig { max_backoff: Duration::from_secs(2), ..BackoffConfig::default() },
        max_retries: 5,
        retry_timeout: Duration::from_secs(15),
    }
}

fn invalid(error: &dyn std::error::Error) -> StoreError {
    StoreError::Invalid(format!("the store's settings are not usable: {error}"))
}

impl<P: Provider> ObjectBackend<P> {
    fn new(provider: P, bucket: &str, prefix: &str) -> Self {
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Self { provider, bucket: bucket.to_owned(), prefix }
    }

    fn client(&self) -> &P::Client {
        self.provider.client()
    }

    fn path(&self, key: &str) -> Result<Path, StoreError> {
        Path::parse(format!("{}{key}", self.prefix))
            .map_err(|e| StoreError::Other(format!("{key:?} is no key: {e}")))
    }

    async fn delete_if(&self, key: &str, version: &str) -> Result<StatusCode, StoreError> {
        self.provider.delete_version(&self.path(key)?, version).await.map_err(|error| match error {
            DeleteError::Sign(error) => self.error(key, &error),
            DeleteError::Send(error) => StoreError::Unreachable(error.to_string()),
        })
    }

    fn error(&self, key: &str, error: &object_store::Error) -> StoreError {
        classify(&self.bucket, key, error)
    }
}

#[async_trait]
impl<P: Provider> Store for ObjectBackend<P> {
    async fn get(&self, key: &str, options: GetOptions) -> Result<Object, StoreError> {
        let known = options.if_none_match;
        let options = object_store::GetOptions {
            if_none_match: known.as_deref().and_then(|version| self.provider.unless(version)),
            range: options.range.map(GetRange::Bounded),
            ..object_store::GetOptions::default()
        };
        let result =
            self.client().get_opts(&self.path(key)?, options).await.map_err(|e| self.error(key, &e))?;
        let meta = self.provider.meta(result.meta.clone());
        if known.is_some_and(|known| known == meta.etag) {
            return Err(StoreError::NotModified(key.to_owned()));
        }
        let (bucket, name) = (self.bucket.clone(), key.to_owned());
        let body = result.into_stream().map_err(move |e| classify(&bucket, &name, &e)).boxed();
        Ok(Object { meta, body })
    }

    async fn head(&self, key: &str) -> Result<Meta, StoreError> {
        let meta = self.client().head(&self.path(key)?).await.map_err(|e| self.error(key, &e))?;
        Ok(self.provider.meta(meta))
    }

    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<Etag, StoreError> {
        let mode = match mode {
            PutMode::Overwrite => object_store::PutMode::Overwrite,
            PutMode::Create => object_store::PutMode::Create,
            PutMode::Update(version) => object_store::PutMode::Update(self.provider.condition(version)),
        };
        let path = self.path(key)?;
        let PutResult { e_tag, version, .. } = self
            .client()
            .put_opts(&path, PutPayload::from_bytes(body), mode.into())
            .await
            .map_err(|e| self.error(key, &e))?;
        let version = self.provider.version(e_tag, version);
        version.ok_or_else(|| StoreError::Other(format!("the store gives {key} no version")))
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self.client().delete(&self.path(key)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.error(key, &error)),
        }
    }

    /// A store that does not know the condition (minio) ignores it: there the version is compared first, which leaves
    /// a moment between.
    async fn delete_version(&self, key: &str, etag: &str) -> Result<(), StoreError> {
        let changed = || StoreError::Precondition(key.to_owned());
        match self.head(key).await {
            Ok(meta) if meta.etag == etag => {}
            Ok(_) => return Err(changed()),
            Err(StoreError::NotFound(_)) => return Ok(()),
            Err(error) => return Err(error),
        }
        let status = self.delete_if(key, etag).await?;
        match status {
            status if status.is_success() => Ok(()),
            StatusCode::NOT_FOUND => Ok(()),
            StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT => Err(changed()),
            StatusCode::NOT_IMPLEMENTED => self.delete(key).await,
            StatusCode::FORBIDDEN => Err(StoreError::CredentialsRefused(format!("DELETE {key}: {status}"))),
            status if status.is_server_error() => {
                Err(StoreError::Unreachable(format!("DELETE {key}: {status}")))
            }
            status => Err(StoreError::Other(format!("DELETE {key}: {status}"))),
        }
    }

    async fn removes_versions(&self, key: &str, stale: &str) -> Result<bool, StoreError> {
        // Without the look that `delete_version` takes before, which would hide a server that ignores the condition.
        let status = self.delete_if(key, stale).await?;
        Ok(matches!(status, StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT))
    }

    /// Pages of a store may be short or even empty before the end, and begin before `after` where a store does not
    /// know it: pages are read until there is something to show.
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        let below = format!("{}{prefix}", self.prefix);
        let mut options = PaginatedListOptions {
            offset: after.map(|after| format!("{}{after}", self.prefix)),
            max_keys: Some(limit + usize::from(P::INCLUSIVE && after.is_some())),
            ..PaginatedListOptions::default()
        };
        loop {
            let page =
                self.provider.list(&below, options.clone()).await.map_err(|e| self.error(prefix, &e))?;
            let mut entries: Vec<Entry> = page
                .entries
                .into_iter()
                .filter_map(|entry| {
                    Some(Entry { key: entry.key.strip_prefix(&self.prefix)?.to_owned(), ..entry })
                })
                .filter(|entry| after.is_none_or(|after| entry.key.as_str() > after))
                .collect();
            let more = page.token.is_some() || entries.len() > limit;
            entries.truncate(limit);
            if !entries.is_empty() || !more {
                return Ok(ListPage { entries, more });
            }
            options.page_token = page.token;
        }
    }

    async fn create_multipart(&self, key: &str) -> Result<String, StoreError> {
        self.client().create_multipart(&self.path(key)?).await.map_err(|e| self.error(key, &e))
    }

    async fn put_part(&self, key: &str, id: &str, index: usize, body: Bytes) -> Result<Etag, StoreError> {
        let (path, id) = (self.path(key)?, id.to_owned());
        let part = self.client().put_part(&path, &id, index, PutPayload::from_bytes(body)).await;
        Ok(part.map_err(|e| self.error(key, &e))?.content_id)
    }

    async fn complete_multipart(&self, key: &str, id: &str, parts: &[Etag]) -> Result<(), StoreError> {
        let parts = parts.iter().map(|etag| PartId { content_id: etag.clone() }).collect();
        let (path, id) = (self.path(key)?, id.to_owned());
        self.client().complete_multipart(&path, &id, parts).await.map_err(|e| self.error(key, &e))?;
        Ok(())
    }

    async fn abort_multipart(&self, key: &str, id: &str) -> Result<(), StoreError> {
        let (path, id) = (self.path(key)?, id.to_owned());
        match self.client().abort_multipart(&path, &id).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.error(key, &error)),
        }
    }

    fn part_size(&self) -> usize {
        PART_SIZE
    }

    async fn presign(&self, key: &str, lifetime: Duration) -> Result<Option<String>, StoreError> {
        let url = self.client().signed_url(Method::GET, &self.path(key)?, lifetime).await;
        Ok(Some(url.map_err(|e| self.error(key, &e))?.into()))
    }
}
