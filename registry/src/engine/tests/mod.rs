//! The engine over real stores, and over a store that fails where it is told to.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use berth_registry_core::{Digest, Reference, RepositoryName, Tag, manifest::OCI_MANIFEST};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::*;
use crate::store::{DirectoryStore, Entry, Etag, GetOptions, ListPage, MemoryStore, Meta, Object};

mod budgets;
mod collect;
mod collect_speed;
mod concurrency;
mod crashes;
mod crashes_of_names;
mod manifests;
mod part_memory;
mod power;
mod scrub;
mod scrub_races;
mod undelete;
mod uploads;
mod usage;

pub(super) fn repo(name: &str) -> RepositoryName {
    name.parse().unwrap()
}

pub(super) fn tag(name: &str) -> Reference {
    Reference::Tag(name.parse::<Tag>().unwrap())
}

pub(super) fn body(bytes: impl Into<Bytes>) -> ByteStream {
    chunked(bytes, 64 << 10)
}

pub(super) fn chunked(bytes: impl Into<Bytes>, size: usize) -> ByteStream {
    let bytes: Bytes = bytes.into();
    let chunks: Vec<_> = (0..bytes.len().div_ceil(size))
        .map(|i| Ok(bytes.slice(i * size..bytes.len().min((i + 1) * size))))
        .collect();
    stream::iter(chunks).boxed()
}

/// A body that breaks off after these bytes.
pub(super) fn broken(bytes: impl Into<Bytes>) -> ByteStream {
    let end = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "gone");
    body(bytes).chain(stream::iter([Err(end)])).boxed()
}

/// Bytes that do not repeat with the size of a part.
pub(super) fn pattern(size: usize) -> Bytes {
    (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect::<Vec<u8>>().into()
}

pub(super) async fn open(store: &Arc<dyn Store>) -> Engine {
    Engine::open(Arc::clone(store), EngineOptions::default()).await.unwrap()
}

pub(super) async fn memory() -> (Engine, Arc<dyn Store>) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    (open(&store).await, store)
}

/// Both backends that need no server; the directory lives as long as the guard.
pub(super) async fn backends() -> Vec<(Engine, Option<tempfile::TempDir>)> {
    let root = tempfile::tempdir().unwrap();
    let directory: Arc<dyn Store> = Arc::new(DirectoryStore::open(root.path()).unwrap());
    vec![(memory().await.0, None), (open(&directory).await, Some(root))]
}

pub(super) async fn push_blob(engine: &Engine, repo: &RepositoryName, bytes: impl Into<Bytes>) -> Digest {
    let bytes = bytes.into();
    let digest = Digest::sha256(&bytes);
    engine.put_blob(repo, &digest, body(bytes)).await.unwrap();
    digest
}

pub(super) async fn read_all(engine: &Engine, repo: &RepositoryName, digest: &Digest) -> Vec<u8> {
    let reader = engine.read_blob(repo, digest, None).await.unwrap();
    let chunks: Vec<Bytes> = reader.stream.try_collect().await.unwrap();
    chunks.concat()
}

/// An image manifest over blobs; the first one is its config.
pub(super) fn image(blobs: &[&Digest], extra: &str) -> Bytes {
    let descriptor = |digest: &&Digest| format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":1}}"#);
    let layers: Vec<_> = blobs[1..].iter().map(descriptor).collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}",{extra}"config":{},"layers":[{}]}}"#,
        descriptor(&blobs[0]),
        layers.join(",")
    )
    .into()
}

/// Something attached to a manifest.
pub(super) fn attached(config: &Digest, subject: &Digest, artifact_type: &str, note: &str) -> Bytes {
    let extra = format!(
        r#""artifactType":"{artifact_type}","annotations":{{"note":"{note}"}},"subject":{{"mediaType":"{OCI_MANIFEST}","digest":"{subject}","size":1}},"#
    );
    image(&[config], &extra)
}

pub(super) async fn try_push(
    engine: &Engine,
    repo: &RepositoryName,
    name: &str,
    media_type: Option<&str>,
    bytes: impl Into<Bytes>,
) -> Result<PutManifest, EngineError> {
    engine.put_manifest(repo, &tag(name), media_type, bytes.into(), PutOptions::default()).await
}

pub(super) async fn push(engine: &Engine, repo: &RepositoryName, name: &str, bytes: Bytes) -> Digest {
    try_push(engine, repo, name, None, bytes).await.unwrap().digest
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It does not reach the store.
    Request,
    /// The store does it, but its answer is lost.
    Answer,
}

/// Counts calls, takes its time for each (of tokio's clock: with a paused one, races happen in virtual time), and fails
/// one of them.
pub(super) struct Faulty {
    inner: Arc<dyn Store>,
    calls: AtomicUsize,
    log: Mutex<Vec<String>>,
    plan: Mutex<Option<(usize, Failure, bool)>>,
    latency: Latency,
    careless: bool,
}

/// How long a call takes.
enum Latency {
    Even(Duration),
    /// Up to 31 ms, at random.
    Uneven,
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

impl Faulty {
    pub(super) fn new(inner: Arc<dyn Store>) -> Arc<Self> {
        Self::slow(inner, Duration::ZERO)
    }

    /// A store of which each call takes so long.
    pub(super) fn slow(inner: Arc<dyn Store>, latency: Duration) -> Arc<Self> {
        Self::with(inner, Latency::Even(latency), false)
    }

    /// A store of which each call takes up to 31 ms, at random.
    pub(super) fn uneven(inner: Arc<dyn Store>) -> Arc<Self> {
        Self::with(inner, Latency::Uneven, false)
    }

    /// A store that removes whatever version is there.
    pub(super) fn careless(inner: Arc<dyn Store>) -> Arc<Self> {
        Self::with(inner, Latency::Even(Duration::ZERO), true)
    }

    fn with(inner: Arc<dyn Store>, latency: Latency, careless: bool) -> Arc<Self> {
        let (calls, log, plan) = (AtomicUsize::new(0), Mutex::default(), Mutex::default());
        Arc::new(Self { inner, calls, log, plan, latency, careless })
    }

    /// Fails the n-th call from now (from 0); with `crash` all later ones, too.
    pub(super) fn fail(&self, n: usize, failure: Failure, crash: bool) {
        *self.plan.lock().unwrap() = Some((self.calls.load(Ordering::SeqCst) + n, failure, crash));
    }

    /// The calls since the last question.
    pub(super) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    async fn call<T>(
        &self,
        what: &str,
        key: &str,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let n = self.calls.fetch_add(1, Ordering::SeqCst);
        self.log.lock().unwrap().push(format!("{what} {key}"));
        let plan = *self.plan.lock().unwrap();
        let lost = || StoreError::Unreachable("as told".into());
        let latency = match self.latency {
            Latency::Even(latency) => latency,
            Latency::Uneven => Duration::from_millis(u64::from(Ulid::generate().to_bytes()[15]) % 32),
        };
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        match plan {
            Some((at, Failure::Answer, _)) if n == at => {
                let _ = call.await;
                Err(lost())
            }
            Some((at, Failure::Request, _)) if n == at => Err(lost()),
            Some((at, _, true)) if n > at => Err(lost()),
            _ => call.await,
        }
    }
}

#[async_trait]
impl Store for Faulty {
    async fn get(&self, key: &str, options: GetOptions) -> Result<Object, StoreError> {
        self.call("GET", key, self.inner.get(key, options)).await
    }

    async fn head(&self, key: &str) -> Result<Meta, StoreError> {
        self.call("HEAD", key, self.inner.head(key)).await
    }

    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<Etag, StoreError> {
        self.call("PUT", key, self.inner.put(key, body, mode)).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.call("DELETE", key, self.inner.delete(key)).await
    }

    async fn delete_version(&self, key: &str, etag: &str) -> Result<(), StoreError> {
        if self.careless {
            return self.delete(key).await;
        }
        self.call("DELETE", key, self.inner.delete_version(key, etag)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        self.call("LIST", prefix, self.inner.list(prefix, after, limit)).await
    }

    async fn create_multipart(&self, key: &str) -> Result<String, StoreError> {
        self.call("CREATE MULTIPART", key, self.inner.create_multipart(key)).await
    }

    async fn put_part(&self, key: &str, id: &str, index: usize, body: Bytes) -> Result<Etag, StoreError> {
        self.call("PART", key, self.inner.put_part(key, id, index, body)).await
    }

    async fn complete_multipart(&self, key: &str, id: &str, parts: &[Etag]) -> Result<(), StoreError> {
        self.call("COMPLETE", key, self.inner.complete_multipart(key, id, parts)).await
    }

    async fn abort_multipart(&self, key: &str, id: &str) -> Result<(), StoreError> {
        self.call("ABORT", key, self.inner.abort_multipart(key, id)).await
    }

    fn part_size(&self) -> usize {
        self.inner.part_size()
    }
}

/// All keys with a prefix.
pub(super) async fn keys(store: &Arc<dyn Store>, prefix: &str) -> Vec<String> {
    let page = store.list(prefix, None, 1000).await.unwrap();
    page.entries.into_iter().map(|Entry { key, .. }| key).collect()
}

/// The whole life of an image, in large and small pieces, on any store.
pub(crate) async fn on_any_store(store: Arc<dyn Store>) {
    let (engine, other) = (open(&store).await, open(&store).await);
    engine.check().await.unwrap();
    let (repo, large) = (repo("team/app"), pattern(store.part_size() * 2 + 12_345));
    let id = engine.begin_upload(&repo, berth_registry_core::Algorithm::Sha256).await.unwrap();
    let half = store.part_size() + 777;
    let id = engine.append(&repo, &id, Some(0), body(large.slice(..half))).await.unwrap().id;
    let layer = Digest::sha256(&large);
    other.finish_upload(&repo, &id, Some(half as u64), body(large.slice(half..)), &layer).await.unwrap();
    assert!(read_all(&engine, &repo, &layer).await == large);
    let config = push_blob(&engine, &repo, "{}").await;
    let manifest = push(&engine, &repo, "v1", image(&[&config, &layer], "")).await;
    // What a replica remembers of a manifest it asks for anew each time.
    let by_digest = Reference::Digest(manifest.clone());
    for reference in [&tag("v1"), &by_digest, &tag("v1"), &by_digest] {
        assert_eq!(other.get_manifest(&repo, reference).await.unwrap().digest, manifest);
    }
    let moved = push(&engine, &repo, "v1", image(&[&config], "")).await;
    assert_eq!(other.get_manifest(&repo, &tag("v1")).await.unwrap().digest, moved);
    engine.delete_manifest(&repo, &moved).await.unwrap();
    for reference in [tag("v1"), Reference::Digest(moved)] {
        assert!(other.get_manifest(&repo, &reference).await.is_err());
    }
    push(&engine, &repo, "v1", image(&[&config, &layer], "")).await;
    assert_eq!(other.get_manifest(&repo, &tag("v1")).await.unwrap().digest, manifest);
    assert!(other.mount(&"b".parse().unwrap(), &repo, &layer).await.unwrap());
    let signatures = (0..8).map(|i| {
        let bytes = attached(&config, &manifest, "sig", &i.to_string());
        let (engine, repo) = (other.clone(), repo.clone());
        async move { push(&engine, &repo, &format!("sig{i}"), bytes).await }
    });
    futures::future::join_all(signatures).await;
    for _ in 0..2 {
        assert_eq!(engine.referrers(&repo, &manifest, Some("sig")).await.unwrap().len(), 8);
    }
    assert_eq!(other.tags(&repo, Some("sig6"), 10).await.unwrap().items, ["sig7", "v1"]);
    assert_eq!(other.catalog(None, 10).await.unwrap().items, ["team/app"]);
    assert!(matches!(engine.delete_blob(&repo, &layer).await, Err(EngineError::BlobReferenced { .. })));
    other.delete_manifest(&repo, &manifest).await.unwrap();
    assert!(engine.get_manifest(&repo, &tag("v1")).await.is_err());
    engine.delete_blob(&repo, &layer).await.unwrap();
    let kept = other.read_blob(&"b".parse().unwrap(), &layer, Some(ByteRange::Last(3))).await.unwrap();
    assert_eq!(kept.stream.try_collect::<Vec<_>>().await.unwrap().concat(), large[large.len() - 3..]);
}

#[tokio::test]
async fn the_life_of_an_image() {
    let root = tempfile::tempdir().unwrap();
    on_any_store(Arc::new(DirectoryStore::open(root.path()).unwrap())).await;
    on_any_store(Arc::new(MemoryStore::default())).await;
}
