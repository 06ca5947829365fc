//! Three replicas on one bucket, many clients, and collectors that never rest: nothing that was acknowledged is lost, no
//! manifest dangles, and no push is refused because a collector runs (invariants 1 to 3). The undelete window is nothing
//! and the lease a few seconds, so that the collector takes whatever it may.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use tempfile::TempDir;

use crate::Test;
use crate::support::content::{Blob, Manifest, unique};
use crate::support::http::{Failure, Outcome, Target, ensure};
use crate::support::repository::Repository;
use crate::support::s3::S3;
use crate::support::server::Server;

/// How long a blob may wait for its manifest in this test.
const LEASE: Duration = Duration::from_secs(1);
const CLIENTS: usize = 9;
const REPOSITORIES: [&str; 2] = ["races/a", "races/b"];
const JOBS: [&str; 2] = ["gc", "scrub"];

/// What all clients share: few blobs, so that each is pushed, mounted, deleted and collected at once.
struct World {
    targets: Vec<Target>,
    configs: Vec<Blob>,
    layers: Vec<Blob>,
    /// Whether clients delete blobs that others are about to name. That may make them upload again; a collector may not.
    deletes_blobs: bool,
    stop: AtomicBool,
    pushes: AtomicUsize,
    again: AtomicUsize,
    deletions: AtomicUsize,
    collections: AtomicUsize,
    collected: AtomicUsize,
}

/// Numbers that look random and are the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or_default() % sides
    }
}

/// A client with tags and manifests of its own, on blobs that it shares with all others.
struct Client {
    world: Arc<World>,
    number: usize,
    dice: Dice,
    /// Layers that nothing names when this client has deleted its images.
    own: Vec<Blob>,
    /// By repository and tag: what was acknowledged last.
    tags: BTreeMap<(usize, String), Manifest>,
}

impl Client {
    /// Any replica.
    fn repository(&mut self, which: usize) -> Repository {
        let target = &self.world.targets[self.dice.roll(self.world.targets.len())];
        target.repository(REPOSITORIES[which])
    }

    async fn run(mut self) -> Result<Self, Failure> {
        while !self.world.stop.load(Ordering::Relaxed) {
            let which = self.dice.roll(REPOSITORIES.len());
            match self.dice.roll(if self.world.deletes_blobs { 10 } else { 9 }) {
                0..4 => self.push(which).await?,
                4 => self.index(which).await?,
                5..7 => self.delete_manifest().await?,
                7 => self.delete_tag().await?,
                8 => self.check().await?,
                _ => self.delete_blob(which).await?,
            }
        }
        Ok(self)
    }

    /// One of the few images of this client: after a deletion the same one comes back.
    fn image(&mut self) -> Manifest {
        let variant = self.dice.roll(3);
        let shared = self.world.layers[variant % self.world.layers.len()].clone();
        let pair = vec![shared, self.own[variant].clone()];
        let config = self.world.configs[variant % self.world.configs.len()].clone();
        let owner = self.number.to_string();
        Manifest::image_of(config, pair).annotated(&[("owner", &owner), ("variant", &variant.to_string())])
    }

    /// Uploads or mounts the blobs, then the manifest. It may be refused only if the blobs waited longer than they may.
    async fn put(&mut self, which: usize, manifest: &Manifest, reference: &str) -> Outcome {
        for attempt in 0.. {
            let begun = Instant::now();
            for blob in &manifest.blobs {
                let repo = self.repository(which);
                let from = REPOSITORIES[(which + 1) % REPOSITORIES.len()];
                let mount = format!("?mount={}&from={from}", blob.digest);
                if self.dice.roll(3) > 0
                    || repo.post_upload(&mount).send().await?.status(&[201, 202])?.status == 202
                {
                    repo.push_blob(blob).await?;
                }
            }
            let reply = self.repository(which).put_manifest(manifest, reference).send().await?;
            if reply.status == 201 {
                return Ok(());
            }
            reply.refused(&[404], &["MANIFEST_BLOB_UNKNOWN"])?;
            let waited = begun.elapsed();
            ensure!(
                self.world.deletes_blobs || waited > LEASE,
                "refused {waited:?} after the first blob: {}",
                String::from_utf8_lossy(&reply.body)
            );
            self.world.again.fetch_add(1, Ordering::Relaxed);
            ensure!(attempt < 50, "refused {attempt} times");
        }
        Ok(())
    }

    async fn push(&mut self, which: usize) -> Outcome {
        let (image, tag) = (self.image(), format!("c{}-{}", self.number, self.dice.roll(2)));
        self.put(which, &image, &tag).await?;
        self.tags.insert((which, tag), image);
        self.world.pushes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// An index of an image that has no tag.
    async fn index(&mut self, which: usize) -> Outcome {
        // Nobody deletes the child by itself: that would be obeyed.
        let child = self.image().annotated(&[("child of", &self.number.to_string())]);
        let tag = format!("c{}-index", self.number);
        self.put(which, &child, &child.digest()).await?;
        let index = Manifest::index_of(&[&child]);
        let reply = self.repository(which).put_manifest(&index, &tag).send().await?;
        reply.status(&[201])?;
        self.tags.insert((which, tag), index);
        self.world.pushes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn pick(&mut self) -> Option<((usize, String), Manifest)> {
        let at = self.dice.roll(self.tags.len().max(1));
        self.tags.iter().nth(at).map(|(key, manifest)| (key.clone(), manifest.clone()))
    }

    /// All tags of it go, too.
    async fn delete_manifest(&mut self) -> Outcome {
        let Some(((which, _), manifest)) = self.pick() else { return Ok(()) };
        let digest = manifest.digest();
        self.repository(which).manifest(Method::DELETE, &digest).send().await?.status(&[202])?;
        self.tags.retain(|(at, _), held| *at != which || held.digest() != digest);
        self.world.deletions.fetch_add(1, Ordering::Relaxed);
        self.repository(which).lacks_manifest(&digest).await
    }

    async fn delete_tag(&mut self) -> Outcome {
        let Some(((which, tag), _)) = self.pick() else { return Ok(()) };
        self.repository(which).manifest(Method::DELETE, &tag).send().await?.status(&[202])?;
        self.tags.remove(&(which, tag.clone()));
        self.world.deletions.fetch_add(1, Ordering::Relaxed);
        self.repository(which).lacks_manifest(&tag).await
    }

    /// It is refused while a manifest needs the blob.
    async fn delete_blob(&mut self, which: usize) -> Outcome {
        let at = self.dice.roll(self.world.layers.len());
        let digest = self.world.layers[at].digest.clone();
        let reply = self.repository(which).blob(Method::DELETE, &digest).send().await?;
        reply.status(&[202, 404, 409, 503])?;
        Ok(())
    }

    async fn check(&mut self) -> Outcome {
        let Some(((which, tag), manifest)) = self.pick() else { return Ok(()) };
        let repo = self.repository(which);
        pull(&repo, &manifest, &tag).await
    }
}

/// Everything that the manifest names is there, byte for byte.
async fn pull(repo: &Repository, manifest: &Manifest, reference: &str) -> Outcome {
    repo.has_manifest(manifest, reference).await?;
    for blob in &manifest.blobs {
        repo.has_blob(blob).await?;
    }
    Ok(())
}

/// What a registry shows is whole: each tag leads to a manifest, each of its blobs and children is there and is what its
/// digest says.
async fn no_tag_dangles(target: &Target) -> Result<usize, Failure> {
    let mut found = 0;
    for name in REPOSITORIES {
        let repo = target.repository(name);
        for tag in repo.tag_list("").await? {
            found += 1;
            let mut open = vec![tag];
            while let Some(reference) = open.pop() {
                let reply = repo.manifest(Method::GET, &reference).send().await?;
                let document = reply.status(&[200])?.json()?;
                let named = |field: &str| document[field].as_array().cloned().unwrap_or_default();
                open.extend(
                    named("manifests").iter().filter_map(|child| Some(child["digest"].as_str()?.to_owned())),
                );
                for blob in named("layers").iter().chain([&document["config"]]) {
                    let Some(digest) = blob["digest"].as_str() else { continue };
                    let reply = repo.blob(Method::GET, digest).send().await?;
                    let bytes = &reply.status(&[200])?.body;
                    ensure!(
                        crate::support::content::sha256(bytes) == digest,
                        "{name}: {digest} has other bytes"
                    );
                }
            }
        }
    }
    Ok(found)
}

/// Runs a job again and again at one replica.
async fn work(world: Arc<World>, at: usize, job: &'static str) -> Outcome {
    while !world.stop.load(Ordering::Relaxed) {
        let call = world.targets[at].call(Method::POST, &format!("/berth/v1/{job}"));
        let reply = call.header("content-type", "application/json").body("{}").send().await?;
        reply.status(&[200])?;
        let lines = String::from_utf8_lossy(&reply.body).into_owned();
        ensure!(!lines.contains("\"kind\":\"failed\""), "{job}: {lines}");
        world.collections.fetch_add(1, Ordering::Relaxed);
        let removed = lines.lines().filter(|line| line.contains("\"kind\":\"purged\"")).count();
        world.collected.fetch_add(removed, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn servers(s3: &S3, files: &TempDir) -> Vec<Server> {
    let config = files.path().join("berth.yaml");
    let lease = LEASE.as_secs();
    std::fs::write(&config, format!("undeleteWindow: 0s\nuploadLease: {lease}s\n"))
        .expect("a file can be written");
    let options = s3.options("races/").flag("--config", &config);
    futures::future::join_all((0..3).map(|_| options.start())).await
}

async fn race(length: Duration, deletes_blobs: bool) -> Test {
    let Some(s3) = S3::start().await else { return Ok(()) };
    let files = TempDir::new().expect("a directory can be made");
    let servers = servers(&s3, &files).await;
    let world = Arc::new(World {
        targets: servers.iter().map(Server::target).collect(),
        configs: (0..2).map(|_| Blob::config()).collect(),
        layers: (0..2).map(|i| Blob::random(2000 + 100_000 * i)).collect(),
        deletes_blobs,
        stop: AtomicBool::default(),
        pushes: AtomicUsize::default(),
        again: AtomicUsize::default(),
        deletions: AtomicUsize::default(),
        collections: AtomicUsize::default(),
        collected: AtomicUsize::default(),
    });
    let mut jobs = Vec::new();
    for job in JOBS {
        jobs.extend((0..servers.len()).map(|at| tokio::spawn(work(Arc::clone(&world), at, job))));
    }
    let clients = (0..CLIENTS).map(|number| {
        let (world, own) = (Arc::clone(&world), (0..3).map(|_| Blob::random(5000)).collect());
        let client = Client { world, number, dice: Dice(unique()), own, tags: BTreeMap::new() };
        tokio::spawn(client.run())
    });
    let clients: Vec<_> = clients.collect();
    tokio::time::sleep(length).await;
    world.stop.store(true, Ordering::Relaxed);
    let panicked = |e: tokio::task::JoinError| Failure(format!("a client panicked: {e}"));
    let mut ended = Vec::new();
    for client in clients {
        ended.push(client.await.map_err(panicked)??);
    }
    for job in jobs {
        job.await.map_err(panicked)??;
    }
    for round in 0..2 {
        for client in &ended {
            for ((which, tag), manifest) in &client.tags {
                for target in &world.targets {
                    pull(&target.repository(REPOSITORIES[*which]), manifest, tag).await?;
                }
            }
        }
        let tags = no_tag_dangles(&world.targets[round]).await?;
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        println!(
            "{} pushes ({} begun again), {} deletions, {} jobs, {} objects collected, {tags} tags whole",
            count(&world.pushes),
            count(&world.again),
            count(&world.deletions),
            count(&world.collections),
            count(&world.collected)
        );
        // Once more without anybody beside it, and look again.
        for job in JOBS {
            let call = world.targets[0].call(Method::POST, &format!("/berth/v1/{job}"));
            call.header("content-type", "application/json").body("{}").send().await?.status(&[200])?;
        }
    }
    ensure!(world.pushes.load(Ordering::Relaxed) > CLIENTS, "hardly anything was pushed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_and_collectors() -> Test {
    race(Duration::from_secs(6), false).await
}

/// By hand: `cargo test -p berth-registry --test processes -- --ignored --nocapture replicas_and_collectors_for_long`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs for minutes"]
async fn replicas_and_collectors_for_long() -> Test {
    race(Duration::from_mins(1), false).await?;
    race(Duration::from_mins(1), true).await
}
