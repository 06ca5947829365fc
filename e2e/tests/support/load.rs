//! A modest load of pushes and pulls. One client pushes small images, each request on a connection of its own, so
//! that an upload begun on one replica continues on another; one client pulls what was pushed, on connections that
//! it keeps. Every request that fails is remembered, every push that was acknowledged too.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use berth_e2e::fixtures::{Failure, Outcome};
use bytes::Bytes;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::http::{Caller, Connections, Site};

/// The repository that the load pushes to.
pub(crate) const REPOSITORY: &str = "load/app";

/// The pause after each push and each pull: a load, not a siege.
const PACE: Duration = Duration::from_millis(20);

/// A load that runs.
pub(crate) struct Load {
    tally: Arc<Tally>,
    thread: JoinHandle<Outcome>,
}

/// What a load has seen.
#[derive(Default)]
pub(crate) struct Tally {
    stop: AtomicBool,
    requests: AtomicUsize,
    pulls: AtomicUsize,
    failures: Mutex<Vec<String>>,
    acknowledged: Mutex<Vec<Pushed>>,
}

/// A push that the registry acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Pushed {
    tag: String,
    digest: String,
}

impl Load {
    /// Starts the load.
    pub(crate) fn start(site: &Site) -> Self {
        let tally = Arc::new(Tally::default());
        let (site, shared) = (site.clone(), Arc::clone(&tally));
        let thread = std::thread::spawn(move || {
            site.inside(async || {
                let (pusher, puller) = (site.caller(Connections::Fresh)?, site.caller(Connections::Kept)?);
                tokio::join!(shared.push_all(&pusher), shared.pull_all(&puller));
                Ok(())
            })
        });
        Self { tally, thread }
    }

    /// What it has seen so far.
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Ends the load and returns what it has seen.
    pub(crate) fn stop(self) -> Result<Arc<Tally>, Failure> {
        self.tally.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| Failure::new("the load panicked"))??;
        Ok(self.tally)
    }
}

impl Tally {
    /// Requests that were sent.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Images that were pulled.
    pub(crate) fn pulls(&self) -> usize {
        self.pulls.load(Ordering::Relaxed)
    }

    /// Requests that failed.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Pushes that were acknowledged.
    pub(crate) fn acknowledged(&self) -> Vec<Pushed> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn push_all(&self, caller: &Caller) {
        for number in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let tag = format!("v{number}");
            match self.push(caller, &tag).await {
                Ok(digest) => self
                    .acknowledged
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(Pushed { tag, digest }),
                Err(failure) => self.fail(format!("push of {tag}: {failure:?}")),
            }
            tokio::time::sleep(PACE).await;
        }
    }

    async fn pull_all(&self, caller: &Caller) {
        let mut turn = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let pushed = self.acknowledged();
            if !pushed.is_empty() {
                let image = &pushed[turn % pushed.len()];
                match self.pull(caller, image).await {
                    Ok(()) => drop(self.pulls.fetch_add(1, Ordering::Relaxed)),
                    Err(failure) => self.fail(format!("pull of {}: {failure:?}", image.tag)),
                }
                turn += 1;
            }
            tokio::time::sleep(PACE).await;
        }
    }

    fn fail(&self, failure: String) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
    }

    /// An image of two blobs: one pushed in three requests, one in two.
    async fn push(&self, caller: &Caller, tag: &str) -> Result<String, Failure> {
        let layer = Bytes::from(format!("the layer of {tag}").repeat(64));
        let config = Bytes::from(json!({"architecture": "amd64", "os": "linux", "comment": tag}).to_string());
        let session = self.begin(caller).await?;
        let half = layer.len() / 2;
        let request = caller
            .request(Method::PATCH, &session)
            .header("Content-Type", "application/octet-stream")
            .body(layer.slice(..half));
        let session = location(&self.send(request, StatusCode::ACCEPTED).await?)?;
        self.finish(caller, &session, &layer, layer.slice(half..)).await?;
        let session = self.begin(caller).await?;
        self.finish(caller, &session, &config, config.clone()).await?;

        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
        })
        .to_string();
        let request = caller
            .request(Method::PUT, &format!("/v2/{REPOSITORY}/manifests/{tag}"))
            .header("Content-Type", media_type)
            .body(manifest.clone());
        self.send(request, StatusCode::CREATED).await?;
        Ok(digest(manifest.as_bytes()))
    }

    async fn begin(&self, caller: &Caller) -> Result<String, Failure> {
        let request = caller.request(Method::POST, &format!("/v2/{REPOSITORY}/blobs/uploads/"));
        location(&self.send(request.header("Content-Length", "0"), StatusCode::ACCEPTED).await?)
    }

    async fn finish(&self, caller: &Caller, session: &str, blob: &[u8], rest: Bytes) -> Outcome {
        let separator = if session.contains('?') { '&' } else { '?' };
        let target = format!("{session}{separator}digest={}", digest(blob));
        let request = caller
            .request(Method::PUT, &target)
            .header("Content-Type", "application/octet-stream")
            .body(rest);
        self.send(request, StatusCode::CREATED).await.map(|_| ())
    }

    /// Pulls an image by its tag, and checks every byte.
    pub(crate) async fn pull(&self, caller: &Caller, image: &Pushed) -> Outcome {
        let manifest = caller
            .request(Method::GET, &format!("/v2/{REPOSITORY}/manifests/{}", image.tag))
            .header("Accept", "application/vnd.oci.image.manifest.v1+json");
        let manifest = self.send(manifest, StatusCode::OK).await?.bytes().await?;
        is(&manifest, &image.digest)?;
        let manifest: Value = serde_json::from_slice(&manifest)?;
        for blob in [&manifest["config"], &manifest["layers"][0]] {
            let wanted = blob["digest"].as_str().unwrap_or_default();
            let request = caller.request(Method::GET, &format!("/v2/{REPOSITORY}/blobs/{wanted}"));
            is(&self.send(request, StatusCode::OK).await?.bytes().await?, wanted)?;
        }
        Ok(())
    }

    async fn send(&self, request: reqwest::RequestBuilder, wanted: StatusCode) -> Result<Response, Failure> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let response = request.send().await.map_err(|error| Failure::new(causes(&error)))?;
        let (status, url) = (response.status(), response.url().clone());
        if status == wanted {
            return Ok(response);
        }
        let body = response.text().await.unwrap_or_default();
        Err(Failure::new(format!("{url}: {status} instead of {wanted}: {body}")))
    }
}

/// Pulls each image, and fails at the first that is not what was acknowledged.
pub(crate) fn verify(site: &Site, images: &[Pushed]) -> Outcome {
    site.inside(async || {
        let (caller, tally) = (site.caller(Connections::Kept)?, Tally::default());
        for image in images {
            tally.pull(&caller, image).await.map_err(|failure| {
                Failure::new(format!("{} was acknowledged and is not there: {failure:?}", image.tag))
            })?;
        }
        Ok(())
    })
}

fn is(bytes: &[u8], wanted: &str) -> Outcome {
    let found = digest(bytes);
    berth_e2e::ensure!(found == wanted, "the content is {found} instead of {wanted}");
    Ok(())
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

/// The digest of some content.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn location(response: &Response) -> Result<String, Failure> {
    let location = response.headers().get("Location").and_then(|value| value.to_str().ok());
    Ok(location.ok_or_else(|| Failure::new("the answer has no Location"))?.to_owned())
}

/// reqwest says only "error sending request"; the causes say why.
fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
