//! Google Cloud Storage, configured by the `GOOGLE_*` variables that other tools know (`GOOGLE_APPLICATION_CREDENTIALS`,
//! `GOOGLE_SERVICE_ACCOUNT`, …), or by the workload identity that the metadata server gives. A version is a generation.
//! `object_store` speaks the XML API, whose listings have no generations: these, and deletions on condition, are asked
//! of the JSON API.

use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use jiff::Timestamp;
use object_store::{
    ClientConfigKey, Error, UpdateVersion,
    gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder, GoogleConfigKey},
    list::PaginatedListOptions,
    path::Path,
};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::Deserialize;

use super::{
    DeleteError, Entry, Etag, Listed, Meta, Provider, StoreError, StoreOptions, connector::Connector,
    invalid, retry,
};

const BASE_URL: &str = "https://storage.googleapis.com";
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const ATTEMPTS: u32 = 5;

/// A bucket.
#[derive(Debug)]
pub(super) struct Gcs {
    client: GoogleCloudStorage,
    /// For the JSON API.
    http: reqwest::Client,
    /// The bucket's objects in the JSON API.
    objects: Url,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    items: Vec<Item>,
    next_page_token: Option<String>,
}

/// Numbers are strings in this API.
#[derive(Deserialize)]
struct Item {
    name: String,
    generation: String,
    size: String,
    updated: Timestamp,
}

impl Gcs {
    pub(super) fn open(bucket: &str, options: &StoreOptions) -> Result<Self, StoreError> {
        let connector = Connector::new("GCS", options)?;
        let builder = GoogleCloudStorageBuilder::from_env()
            .with_bucket_name(bucket)
            .with_retry(retry())
            .with_http_connector(connector.clone());
        let base = builder.get_config_value(&GoogleConfigKey::BaseUrl);
        let mut objects = Url::parse(base.as_deref().unwrap_or(BASE_URL)).map_err(|e| invalid(&e))?;
        if let Ok(mut path) = objects.path_segments_mut() {
            path.pop_if_empty().extend(["storage", "v1", "b", bucket, "o"]);
        }
        let plain = ClientConfigKey::AllowHttp;
        let plain = builder.get_config_value(&GoogleConfigKey::Client(plain)).as_deref() == Some("true");
        let http = connector.client(plain).map_err(|e| invalid(&e))?;
        Ok(Self { client: builder.build().map_err(|e| invalid(&e))?, http, objects })
    }

    async fn request(&self, method: Method, url: Url) -> Result<RequestBuilder, Error> {
        let credential = self.client.credentials().get_credential().await?;
        Ok(self.http.request(method, url).bearer_auth(&credential.bearer))
    }

    /// A GET that is tried again while the service is in trouble or asks for patience.
    async fn get(&self, url: &Url) -> Result<Response, Error> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..ATTEMPTS {
            match self.request(Method::GET, url.clone()).await?.send().await {
                Ok(answer) if !is_passing(answer.status()) => return Ok(answer),
                Ok(_) | Err(_) => tokio::time::sleep(pause).await,
            }
            pause *= 2;
        }
        self.request(Method::GET, url.clone())
            .await?
            .send()
            .await
            .map_err(|error| failed(error.without_url()))
    }
}

fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

fn failed(source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Generic { store: "GCS", source: Box::new(source) }
}

#[async_trait]
impl Provider for Gcs {
    type Client = GoogleCloudStorage;

    fn client(&self) -> &GoogleCloudStorage {
        &self.client
    }

    fn version(&self, _: Option<String>, generation: Option<String>) -> Option<Etag> {
        generation
    }

    fn condition(&self, version: Etag) -> UpdateVersion {
        UpdateVersion { e_tag: None, version: Some(version) }
    }

    fn unless(&self, _: &str) -> Option<String> {
        None
    }

    async fn delete_version(&self, path: &Path, version: &str) -> Result<StatusCode, DeleteError> {
        let mut url = self.objects.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            // One segment: its slashes are escaped.
            segments.push(path.as_ref());
        }
        url.query_pairs_mut().append_pair("ifGenerationMatch", version);
        Ok(self.request(Method::DELETE, url).await?.send().await?.status())
    }

    async fn list(&self, prefix: &str, options: PaginatedListOptions) -> Result<Listed, Error> {
        let mut url = self.objects.clone();
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("prefix", prefix);
            query.append_pair("fields", "items(name,generation,size,updated),nextPageToken");
            if let Some(offset) = &options.offset {
                // Inclusive here; the caller passes over what it knows.
                query.append_pair("startOffset", offset);
            }
            if let Some(limit) = options.max_keys {
                query.append_pair("maxResults", &limit.to_string());
            }
            if let Some(token) = &options.page_token {
                query.append_pair("pageToken", token);
            }
        }
        let answer = self.get(&url).await?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|error| failed(error.without_url()))?;
        if !status.is_success() {
            let code = if status == StatusCode::NOT_FOUND { "NoSuchBucket" } else { "" };
            let source = format!("status code: {status}: {code} {}", String::from_utf8_lossy(&body)).into();
            return Err(match status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    Error::PermissionDenied { path: prefix.to_owned(), source }
                }
                _ => Error::Generic { store: "GCS", source },
            });
        }
        let page: Page = serde_json::from_slice(&body).map_err(failed)?;
        let entry = |item: Item| {
            let size = item.size.parse().map_err(failed)?;
            Ok(Entry { key: item.name, meta: Meta { size, etag: item.generation, modified: item.updated } })
        };
        let entries = page.items.into_iter().map(entry).collect::<Result<_, Error>>()?;
        Ok(Listed { entries, token: page.next_page_token })
    }
}
