//! What a collection costs: the engine in this process, on a store in memory that answers after a while.
//! `collection LIVE DEAD MILLISECONDS` seeds a registry with so many live and dead blobs, collects it, and prints a
//! line of JSON. `cargo bench-peers` runs it; by itself, `cargo bench` shows a small one.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use berth_registry::engine::{Engine, EngineOptions};
use berth_registry::store::{
    Etag, GetOptions, ListPage, MemoryStore, Meta, Object, PutMode, Store, StoreError,
};
use berth_registry_core::record::{self, Blob, Candidate, Link, ManifestRecord, State};
use berth_registry_core::{Digest, RepositoryName, key};
use bytes::Bytes;
use jiff::Timestamp;
use ulid::Ulid;

const LAYERS: u32 = 10;
/// Images of a repository.
const IMAGES: u32 = 100;

fn main() -> Result<(), Box<dyn Error>> {
    // cargo adds `--bench`.
    let numbers: Vec<u32> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let (live, dead, delay) = match numbers[..] {
        [live, dead, delay] => (live, dead, delay),
        _ => (1_000, 100, 20),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!("{}", runtime.block_on(measure(live, dead, Duration::from_millis(delay.into())))?);
    Ok(())
}

async fn measure(live: u32, dead: u32, delay: Duration) -> Result<serde_json::Value, Box<dyn Error>> {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    for image in 0..live / LAYERS {
        seed(store.as_ref(), image / IMAGES, &image.to_string(), State::Live).await?;
    }
    // In a repository that is full of others, whose references must all be looked at.
    let last = (live / LAYERS).saturating_sub(1) / IMAGES;
    for image in 0..dead / LAYERS {
        seed(store.as_ref(), last, &format!("gone {image}"), State::Dead).await?;
    }
    // Nothing is young, nothing is kept for undelete.
    let options = EngineOptions {
        upload_lease: Duration::ZERO,
        undelete_window: Duration::ZERO,
        ..EngineOptions::default()
    };
    let engine = Engine::open(Arc::new(Distant { inner: store, delay }), options).await?;
    let (mut cost, mut purged) = (Cost::default(), 0);
    // One run finds them dead, the next deletes what is due: a whole second later.
    for _ in 0..2 {
        purged += collect(&engine, &mut cost).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    if purged != u64::from(dead) {
        return Err(format!("{purged} of {dead} blobs were purged").into());
    }
    let (wall, cpu) = (cost.wall.as_secs_f64(), cost.cpu.as_secs_f64());
    Ok(serde_json::json!({"requests": cost.requests, "seconds": wall, "cpu": cpu}))
}

/// What runs have cost.
#[derive(Default)]
struct Cost {
    requests: u64,
    wall: Duration,
    cpu: Duration,
}

/// One run; returns how many blobs it has purged.
async fn collect(engine: &Engine, cost: &mut Cost) -> Result<u64, Box<dyn Error>> {
    let (lines, mut told) = tokio::sync::mpsc::channel(64);
    let listener = tokio::spawn(async move { while told.recv().await.is_some() {} });
    let (start, cpu) = (Instant::now(), processor_time()?);
    let summary = engine.collect(false, lines).await;
    cost.wall += start.elapsed();
    cost.cpu += processor_time()?.saturating_sub(cpu);
    cost.requests += summary.requests;
    listener.await?;
    if summary.failed > 0 {
        return Err(format!("{} things could not be collected", summary.failed).into());
    }
    Ok(summary.purged)
}

/// Writes an image as a push years ago, and perhaps a deletion since, has left it; the layers' bytes are not needed.
async fn seed(store: &dyn Store, repository: u32, image: &str, state: State) -> Result<(), Box<dyn Error>> {
    let (name, then) = (format!("team/app{repository}").parse::<RepositoryName>()?, Timestamp::UNIX_EPOCH);
    let mut layers = Vec::new();
    for layer in 0..LAYERS {
        let digest = Digest::sha256(format!("{name} {image} {layer}").as_bytes());
        let data = format!("d/{:02x}/{}", layer, digest.hex());
        let link = Link { state: State::Live, size: 1, data: data.clone(), since: then };
        let blob = Blob { state: State::Live, size: 1, data, until: None };
        create(store, &key::link(&digest, &name), record::encode(&link, "seed")?).await?;
        create(store, &key::blob(&digest), record::encode(&blob, "seed")?).await?;
        layers.push(digest);
    }
    let manifest = ManifestRecord {
        state,
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        blobs: layers,
        manifests: Vec::new(),
        subject: None,
        artifact_type: None,
        author: None,
        pushed: then,
        died: (state == State::Dead).then_some(then),
        sparse: false,
    };
    let digest = Digest::sha256(format!("{name} {image}").as_bytes());
    let body = record::encode_manifest(&manifest, "seed", b"{}")?;
    create(store, &key::manifest(&name, &digest), body).await?;
    if state == State::Dead {
        let candidate = Candidate::Manifest { repository: name, digest };
        create(store, &key::candidate(then, Ulid::generate()), record::encode(&candidate, "")?).await?;
    }
    Ok(())
}

async fn create(store: &dyn Store, key: &str, body: Bytes) -> Result<(), StoreError> {
    store.put(key, body, PutMode::Create).await.map(drop)
}

/// What this process has used of its core.
fn processor_time() -> Result<Duration, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(str::parse::<u64>).sum::<Result<_, _>>()?;
    // proc(5): in hundredths of a second, on every Linux that Rust runs on.
    Ok(Duration::from_millis(10 * ticks))
}

/// A store that is so far away.
#[derive(Debug)]
struct Distant {
    inner: Arc<dyn Store>,
    delay: Duration,
}

impl Distant {
    async fn far(&self) -> &dyn Store {
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        self.inner.as_ref()
    }
}

#[async_trait]
impl Store for Distant {
    async fn get(&self, key: &str, options: GetOptions) -> Result<Object, StoreError> {
        self.far().await.get(key, options).await
    }

    async fn head(&self, key: &str) -> Result<Meta, StoreError> {
        self.far().await.head(key).await
    }

    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<Etag, StoreError> {
        self.far().await.put(key, body, mode).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.far().await.delete(key).await
    }

    async fn delete_version(&self, key: &str, etag: &str) -> Result<(), StoreError> {
        self.far().await.delete_version(key, etag).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        self.far().await.list(prefix, after, limit).await
    }

    async fn create_multipart(&self, key: &str) -> Result<String, StoreError> {
        self.far().await.create_multipart(key).await
    }

    async fn put_part(&self, key: &str, id: &str, index: usize, body: Bytes) -> Result<Etag, StoreError> {
        self.far().await.put_part(key, id, index, body).await
    }

    async fn complete_multipart(&self, key: &str, id: &str, parts: &[Etag]) -> Result<(), StoreError> {
        self.far().await.complete_multipart(key, id, parts).await
    }

    async fn abort_multipart(&self, key: &str, id: &str) -> Result<(), StoreError> {
        self.far().await.abort_multipart(key, id).await
    }

    fn part_size(&self) -> usize {
        self.inner.part_size()
    }
}
