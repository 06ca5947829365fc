//! S3 and compatible stores, configured by the `AWS_*` variables that other tools know (`AWS_ACCESS_KEY_ID`,
//! `AWS_REGION`, `AWS_ENDPOINT_URL`, `AWS_ALLOW_HTTP`, web identity, …). A version is an `ETag`.

use async_trait::async_trait;
use http::{HeaderValue, Method, StatusCode, header::IF_MATCH};
use object_store::{
    ClientConfigKey, UpdateVersion,
    aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey},
    path::Path,
    signer::{SignedUrlOptions, Signer as _},
};

use super::{
    DeleteError, Etag, Provider, SIGNATURE_LIFETIME, StoreError, StoreOptions, connector::Connector, invalid,
    retry,
};

/// A bucket.
#[derive(Debug)]
pub(super) struct S3 {
    client: AmazonS3,
    /// For what `object_store` has no call: DELETE on condition.
    http: reqwest::Client,
}

impl S3 {
    pub(super) fn open(bucket: &str, options: &StoreOptions) -> Result<Self, StoreError> {
        let connector = Connector::new("S3", options)?;
        let builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_retry(retry())
            // One key at a time: every compatible store has the plain DELETE.
            .with_disable_bulk_delete(true)
            .with_http_connector(connector.clone());
        let allow_http = builder.get_config_value(&AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp));
        let http = connector.client(allow_http.as_deref() == Some("true")).map_err(|e| invalid(&e))?;
        Ok(Self { client: builder.build().map_err(|e| invalid(&e))?, http })
    }
}

#[async_trait]
impl Provider for S3 {
    type Client = AmazonS3;
    const INCLUSIVE: bool = false;

    fn client(&self) -> &AmazonS3 {
        &self.client
    }

    fn version(&self, e_tag: Option<String>, _: Option<String>) -> Option<Etag> {
        e_tag
    }

    fn condition(&self, version: Etag) -> UpdateVersion {
        UpdateVersion { e_tag: Some(version), version: None }
    }

    async fn delete_version(&self, path: &Path, version: &str) -> Result<StatusCode, DeleteError> {
        let Ok(value) = HeaderValue::from_str(version) else { return Ok(StatusCode::PRECONDITION_FAILED) };
        let options = SignedUrlOptions::default().with_signed_header(IF_MATCH, value.clone());
        let url = self.client.signed_url_opts(Method::DELETE, path, SIGNATURE_LIFETIME, &options).await?;
        Ok(self.http.delete(url).header(IF_MATCH, value).send().await?.status())
    }
}
