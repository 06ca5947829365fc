//! The client that pushes, as container clients do it, and the mixed load. Gets alone are `wrk`'s job. What this
//! client can do at most shows in nginx's column: nginx only stores what it is sent.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::try_join_all;
use futures::stream;
use reqwest::{Body, Certificate, Method, RequestBuilder, Response};
use serde_json::{Value, json};

use super::content::Blob;
use super::peers::Peer;

/// The media type of every manifest here.
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What went wrong between client and server.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// No whole answer.
    #[error("{}", causes(.0))]
    Http(#[from] reqwest::Error),
    /// Another status than expected.
    #[error("{method} {url}: {status}: {body}")]
    Refused {
        /// The request.
        method: Method,
        /// Its URL.
        url: String,
        /// The answer.
        status: reqwest::StatusCode,
        /// What it says.
        body: String,
    },
    /// An upload that begins nowhere.
    #[error("an upload was accepted without a Location")]
    NoLocation,
}

/// How a blob is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// POST, then PUT with its `Content-Length`.
    Known,
    /// POST, PATCH in chunks of a length that the server is not told, PUT.
    Streamed,
}

/// A client with connections that it keeps.
#[derive(Clone)]
pub(super) struct Client(reqwest::Client);

/// A repository at a server.
#[derive(Clone)]
pub(super) struct Repository {
    client: Client,
    peer: Peer,
    /// `http://HOST:PORT/v2/NAME`
    pub(super) url: String,
}

impl Client {
    /// A client that trusts one authority.
    pub(super) fn new(authority: &str) -> Result<Self, ClientError> {
        // Refused if somebody was first; then there is one, too.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let authority = Certificate::from_pem(authority.as_bytes())?;
        let client = reqwest::Client::builder().no_proxy().http1_only().tls_certs_only([authority]);
        Ok(Self(client.build()?))
    }

    /// The repository that everything here is pushed to.
    pub(super) fn repository(&self, peer: Peer, base: &str) -> Repository {
        Repository { client: self.clone(), peer, url: format!("{base}/v2/bench/app") }
    }

    /// Whether a URL is answered well.
    pub(super) async fn answers(&self, url: &str) -> Result<(), ClientError> {
        self.send(self.0.get(url)).await.map(|_| ())
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let request = request.build()?;
        let method = request.method().clone();
        let response = self.0.execute(request).await?;
        let (status, url) = (response.status(), response.url().to_string());
        if status.is_success() {
            return Ok(response);
        }
        Err(ClientError::Refused { method, url, status, body: response.text().await.unwrap_or_default() })
    }
}

impl Repository {
    /// Pushes a blob; to nginx by a single PUT.
    pub(super) async fn push(&self, blob: Blob, length: Length) -> Result<(), ClientError> {
        let digest = blob.digest.clone();
        if self.peer == Peer::Nginx {
            return self.put(format!("{}/blobs/{digest}", self.url), Some(blob)).await;
        }
        let mut session = self.begin().await?;
        let mut rest = Some(blob);
        if length == Length::Streamed {
            let slices = rest.take().map(Blob::slices).into_iter().flatten();
            let body = Body::wrap_stream(stream::iter(slices.map(Ok::<_, std::io::Error>)));
            let patch = self.client.0.patch(session).header("Content-Type", "application/octet-stream");
            session = location(&self.client.send(patch.body(body)).await?)?;
        }
        let separator = if session.contains('?') { '&' } else { '?' };
        self.put(format!("{session}{separator}digest={digest}"), rest).await
    }

    /// Pushes a manifest of pushed blobs under a tag and returns its digest.
    pub(super) async fn tag(&self, tag: &str, config: &Blob, layers: &[Blob]) -> Result<String, ClientError> {
        let layers: Vec<Value> = layers.iter().map(|layer| descriptor("layer.v1.tar", layer)).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor("config.v1+json", config),
            "layers": layers,
        })
        .to_string();
        let digest = format!("sha256:{}", crate::digest::sha256(&manifest));
        let mut names = vec![tag];
        // nginx does not know that they are the same.
        names.extend((self.peer == Peer::Nginx).then_some(digest.as_str()));
        for name in names {
            let request = self.client.0.put(format!("{}/manifests/{name}", self.url));
            let request = request.header("Content-Type", MANIFEST).body(manifest.clone());
            self.client.send(request).await?.bytes().await?;
        }
        Ok(digest)
    }

    /// Reads something to its end.
    pub(super) async fn get(&self, path: &str) -> Result<Bytes, ClientError> {
        let request = self.client.0.get(format!("{}/{path}", self.url)).header("Accept", MANIFEST);
        Ok(self.client.send(request).await?.bytes().await?)
    }

    async fn begin(&self) -> Result<String, ClientError> {
        let post = self.client.0.post(format!("{}/blobs/uploads/", self.url)).header("Content-Length", "0");
        let response = self.client.send(post).await?;
        let session = location(&response)?;
        response.bytes().await?;
        Ok(session)
    }

    async fn put(&self, url: String, blob: Option<Blob>) -> Result<(), ClientError> {
        let mut put = self.client.0.put(url).header("Content-Type", "application/octet-stream");
        put = put.header("Content-Length", blob.as_ref().map_or(0, Blob::len));
        if let Some(blob) = blob {
            let slices = blob.slices().map(Ok::<_, std::io::Error>);
            put = put.body(Body::wrap_stream(stream::iter(slices)));
        }
        self.client.send(put).await?.bytes().await?;
        Ok(())
    }
}

/// Does something over and over until the time is up, so many at once; returns how often it was done.
pub(super) async fn repeat(
    at_once: usize,
    time: Duration,
    work: impl AsyncFn() -> Result<(), ClientError>,
) -> Result<u32, ClientError> {
    let end = Instant::now() + time;
    let one = async || {
        let mut done = 0;
        while Instant::now() < end {
            work().await?;
            done += 1;
        }
        Ok::<u32, ClientError>(done)
    };
    Ok(try_join_all((0..at_once).map(|_| one())).await?.iter().sum())
}

fn descriptor(kind: &str, blob: &Blob) -> Value {
    let media_type = format!("application/vnd.oci.image.{kind}");
    json!({"mediaType": media_type, "digest": blob.digest, "size": blob.len()})
}

/// Where an upload goes on; a server may say it without its own name.
fn location(response: &Response) -> Result<String, ClientError> {
    let value = response.headers().get("Location").and_then(|value| value.to_str().ok());
    let url = value.and_then(|value| response.url().join(value).ok());
    url.map(String::from).ok_or(ClientError::NoLocation)
}

/// reqwest says only "error sending request"; the causes say why.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
