//! A bucket of S3 or a compatible store, through `object_store`. Configured by the `AWS_*` variables that other S3
//! tools know (`AWS_ACCESS_KEY_ID`, `AWS_REGION`, `AWS_ENDPOINT_URL`, `AWS_ALLOW_HTTP`, web identity, …).

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use http::{Method, StatusCode, header::IF_MATCH};
use jiff::Timestamp;
use object_store::{
    BackoffConfig, ClientConfigKey, ClientOptions, GetRange, ObjectMeta, ObjectStore as _,
    ObjectStoreExt as _, PutPayload, RetryConfig, UpdateVersion,
    aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey},
    client::{HttpClient, HttpConnector},
    list::{PaginatedListOptions, PaginatedListStore as _},
    multipart::{MultipartStore as _, PartId},
    path::Path,
    signer::{SignedUrlOptions, Signer as _},
};

use super::{
    Entry, Etag, GetOptions, ListPage, Meta, Object, PutMode, Store, StoreError, StoreOptions,
    s3_error::classify,
};

/// S3 takes parts from 5 MiB and at most 10,000 of them: blobs up to 78 GiB.
const PART_SIZE: usize = 8 << 20;
/// Longer silence of the store counts as no answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const SIGNATURE_LIFETIME: Duration = Duration::from_mins(1);

/// A store in a bucket.
#[derive(Debug)]
pub struct S3Store {
    client: AmazonS3,
    /// For what `object_store` has no call: DELETE on condition.
    http: reqwest::Client,
    bucket: String,
    /// Empty, or ends with a slash.
    prefix: String,
}

impl S3Store {
    /// A store of all keys below `prefix` in a bucket. Sends nothing yet.
    pub fn open(bucket: &str, prefix: &str, options: &StoreOptions) -> Result<Self, StoreError> {
        if bucket.is_empty() {
            return Err(StoreError::Invalid(
                "the store's URL names no bucket: write s3://bucket/prefix".into(),
            ));
        }
        let retry = RetryConfig {
            backoff: BackoffConfig { max_backoff: Duration::from_secs(2), ..BackoffConfig::default() },
            max_retries: 5,
            retry_timeout: Duration::from_secs(15),
        };
        let connector = Connector { certificates: certificates(options)? };
        let builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_retry(retry)
            // One key at a time: every compatible store has the plain DELETE.
            .with_disable_bulk_delete(true)
            .with_http_connector(connector.clone());
        let allow_http = builder.get_config_value(&AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp));
        let http = connector.client(allow_http.as_deref() == Some("true")).map_err(|e| invalid(&e))?;
        let client = builder.build().map_err(|e| invalid(&e))?;
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Self { client, http, bucket: bucket.to_owned(), prefix })
    }

    fn path(&self, key: &str) -> Result<Path, StoreError> {
        Path::parse(format!("{}{key}", self.prefix))
            .map_err(|e| StoreError::Other(format!("{key:?} is no key: {e}")))
    }

    fn error(&self, key: &str, error: &object_store::Error) -> StoreError {
        classify(&self.bucket, key, error)
    }

    fn meta(key: &str, meta: &ObjectMeta) -> Result<Meta, StoreError> {
        let etag =
            meta.e_tag.clone().ok_or_else(|| StoreError::Other(format!("the store gives {key} no ETag")))?;
        let modified =
            Timestamp::from_second(meta.last_modified.timestamp()).unwrap_or(Timestamp::UNIX_EPOCH);
        Ok(Meta { size: meta.size, etag, modified })
    }

    /// `object_store` has no conditional DELETE.
    async fn delete_if_match(&self, key: &str, etag: &str) -> Result<StatusCode, StoreError> {
        let value = etag.parse().map_err(|_| StoreError::Other(format!("{etag:?} is no ETag")))?;
        let options = SignedUrlOptions::default().with_signed_header(IF_MATCH, value);
        let url = self
            .client
            .signed_url_opts(Method::DELETE, &self.path(key)?, SIGNATURE_LIFETIME, &options)
            .await
            .map_err(|e| self.error(key, &e))?;
        let answer = self.http.delete(url).header(IF_MATCH, etag).send().await;
        Ok(answer.map_err(|e| StoreError::Unreachable(e.without_url().to_string()))?.status())
    }
}

#[async_trait]
impl Store for S3Store {
    async fn get(&self, key: &str, options: GetOptions) -> Result<Object, StoreError> {
        let options = object_store::GetOptions {
            if_none_match: options.if_none_match,
            range: options.range.map(GetRange::Bounded),
            ..object_store::GetOptions::default()
        };
        let result =
            self.client.get_opts(&self.path(key)?, options).await.map_err(|e| self.error(key, &e))?;
        let meta = Self::meta(key, &result.meta)?;
        let (bucket, name) = (self.bucket.clone(), key.to_owned());
        let body = result.into_stream().map_err(move |e| classify(&bucket, &name, &e)).boxed();
        Ok(Object { meta, body })
    }

    async fn head(&self, key: &str) -> Result<Meta, StoreError> {
        let meta = self.client.head(&self.path(key)?).await.map_err(|e| self.error(key, &e))?;
        Self::meta(key, &meta)
    }

    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<Etag, StoreError> {
        let mode = match mode {
            PutMode::Overwrite => object_store::PutMode::Overwrite,
            PutMode::Create => object_store::PutMode::Create,
            PutMode::Update(etag) => {
                object_store::PutMode::Update(UpdateVersion { e_tag: Some(etag), version: None })
            }
        };
        let path = self.path(key)?;
        let result = self
            .client
            .put_opts(&path, PutPayload::from_bytes(body), mode.into())
            .await
            .map_err(|e| self.error(key, &e))?;
        result.e_tag.ok_or_else(|| StoreError::Other(format!("the store gives {key} no ETag")))
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self.client.delete(&self.path(key)?).await {
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
        let status = self.delete_if_match(key, etag).await?;
        match status {
            status if status.is_success() => Ok(()),
            StatusCode::NOT_FOUND => Ok(()),
            StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT => Err(changed()),
            StatusCode::NOT_IMPLEMENTED => self.delete(key).await,
            StatusCode::FORBIDDEN => Err(StoreError::CredentialsRefused(format!("DELETE {key}: {status}"))),
            status => Err(StoreError::Other(format!("DELETE {key}: {status}"))),
        }
    }

    async fn removes_versions(&self, key: &str, stale: &str) -> Result<bool, StoreError> {
        // Without the look that `delete_version` takes before, which would hide a server that ignores the condition.
        let status = self.delete_if_match(key, stale).await?;
        Ok(matches!(status, StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT))
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        let options = PaginatedListOptions {
            offset: after.map(|after| format!("{}{after}", self.prefix)),
            max_keys: Some(limit),
            ..PaginatedListOptions::default()
        };
        let below = format!("{}{prefix}", self.prefix);
        let page =
            self.client.list_paginated(Some(&below), options).await.map_err(|e| self.error(prefix, &e))?;
        let entries = page
            .result
            .objects
            .iter()
            .filter_map(|object| Some((object.location.as_ref().strip_prefix(&self.prefix)?, object)))
            .map(|(key, object)| Ok(Entry { key: key.to_owned(), meta: Self::meta(key, object)? }))
            .collect::<Result<_, StoreError>>()?;
        Ok(ListPage { entries, more: page.page_token.is_some() })
    }

    async fn create_multipart(&self, key: &str) -> Result<String, StoreError> {
        self.client.create_multipart(&self.path(key)?).await.map_err(|e| self.error(key, &e))
    }

    async fn put_part(&self, key: &str, id: &str, index: usize, body: Bytes) -> Result<Etag, StoreError> {
        let (path, id) = (self.path(key)?, id.to_owned());
        let part = self.client.put_part(&path, &id, index, PutPayload::from_bytes(body)).await;
        Ok(part.map_err(|e| self.error(key, &e))?.content_id)
    }

    async fn complete_multipart(&self, key: &str, id: &str, parts: &[Etag]) -> Result<(), StoreError> {
        let parts = parts.iter().map(|etag| PartId { content_id: etag.clone() }).collect();
        let (path, id) = (self.path(key)?, id.to_owned());
        self.client.complete_multipart(&path, &id, parts).await.map_err(|e| self.error(key, &e))?;
        Ok(())
    }

    async fn abort_multipart(&self, key: &str, id: &str) -> Result<(), StoreError> {
        let (path, id) = (self.path(key)?, id.to_owned());
        match self.client.abort_multipart(&path, &id).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.error(key, &error)),
        }
    }

    fn part_size(&self) -> usize {
        PART_SIZE
    }
}

fn invalid(error: &dyn std::error::Error) -> StoreError {
    StoreError::Invalid(format!("the store's settings are not usable: {error}"))
}

/// The system's certificates, and those of the file. A system without any can still reach a store that the file vouches
/// for, or one without TLS.
fn certificates(options: &StoreOptions) -> Result<Vec<reqwest::Certificate>, StoreError> {
    let system = rustls_native_certs::load_native_certs().certs;
    let system: Vec<_> = system.iter().filter_map(|der| reqwest::Certificate::from_der(der).ok()).collect();
    let Some(path) = &options.ca_file else { return Ok(system) };
    let shown = path.display();
    let pem = std::fs::read(path)
        .map_err(|e| StoreError::Invalid(format!("CA file {shown} of the store cannot be read: {e}")))?;
    let certificates = reqwest::Certificate::from_pem_bundle(&pem)
        .map_err(|e| StoreError::Invalid(format!("CA file {shown} of the store is no PEM bundle: {e}")))?;
    if certificates.is_empty() {
        return Err(StoreError::Invalid(format!("CA file {shown} of the store holds no certificate")));
    }
    Ok(system.into_iter().chain(certificates).collect())
}

/// Makes HTTP clients that trust these certificates and have no limit on the whole of a transfer: a blob takes as long
/// as its reader.
#[derive(Clone, Debug)]
struct Connector {
    certificates: Vec<reqwest::Certificate>,
}

impl Connector {
    fn client(&self, allow_http: bool) -> Result<reqwest::Client, reqwest::Error> {
        reqwest::Client::builder()
            .user_agent("berth-registry")
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .http1_only()
            .https_only(!allow_http)
            .tls_certs_only(self.certificates.iter().cloned())
            .build()
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allow_http = options.get_config_value(&ClientConfigKey::AllowHttp).as_deref() == Some("true");
        let client = self
            .client(allow_http)
            .map_err(|source| object_store::Error::Generic { store: "S3", source: Box::new(source) })?;
        Ok(HttpClient::new(client))
    }
}
