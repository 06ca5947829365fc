//! The power goes: whatever was acknowledged is there afterwards (engine invariant 1), and no lock is
//! left that keeps the next process out.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::Method;
use tempfile::TempDir;

use crate::Test;
use crate::support::content::{Blob, Manifest};
use crate::support::http::{Target, ensure};
use crate::support::process::eventually;
use crate::support::repository::Repository;
use crate::support::server::{Options, directory};

/// What the server said 201 to.
#[derive(Default)]
struct Acknowledged {
    blobs: Vec<(String, Blob)>,
    manifests: Vec<(String, Manifest, String)>,
}

type Shared = Arc<Mutex<Acknowledged>>;

/// Pushes images until the server is gone, and notes each acknowledgement.
async fn push_without_end(target: Target, noted: Shared, count: Arc<AtomicUsize>, stop: Arc<AtomicBool>) {
    let repo = target.fresh();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) || push_one(&repo, number, &noted).await.is_err() {
            return;
        }
        count.fetch_add(1, Ordering::Relaxed);
    }
}

async fn push_one(repo: &Repository, number: usize, noted: &Shared) -> Test {
    let layer = Blob::random(if number.is_multiple_of(3) { 900_000 } else { 3000 });
    let image = Manifest::image_of(Blob::config(), vec![layer]);
    for blob in &image.blobs {
        repo.push_blob(blob).await?;
        let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.blobs.push((repo.name.clone(), blob.clone()));
    }
    let tag = format!("v{number}");
    repo.put_manifest(&image, &tag).send().await?.status(&[201])?;
    let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
    noted.manifests.push((repo.name.clone(), image, tag));
    Ok(())
}

/// R-STO-3, invariant 1: SIGKILL among many uploads, three times over on one directory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_after_a_kill() -> Test {
    let content = TempDir::new().expect("a directory can be made");
    let options = Options::open(&directory(content.path()));
    let noted = Shared::default();
    for round in 0..3 {
        let mut server = options.start().await;
        let (count, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let pushes: Vec<_> = (0..8)
            .map(|_| {
                let (noted, count, stop) = (Arc::clone(&noted), Arc::clone(&count), Arc::clone(&stop));
                tokio::spawn(push_without_end(server.target(), noted, count, stop))
            })
            .collect();
        eventually("forty images are pushed", || async { count.load(Ordering::Relaxed) >= 40 }).await;
        server.process.kill().await;
        stop.store(true, Ordering::Relaxed);
        for push in pushes {
            ensure!(push.await.is_ok(), "a client panicked in round {round}");
        }
        let server = options.start().await;
        all_there(&server.target(), &noted).await?;
        // And the next push works.
        server.target().fresh().push(&Manifest::image(), "after").await?;
    }
    Ok(())
}

async fn all_there(target: &Target, noted: &Shared) -> Test {
    let (blobs, manifests) = {
        let noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
        (noted.blobs.clone(), noted.manifests.clone())
    };
    for (name, blob) in &blobs {
        target.repository(name).has_blob(blob).await?;
    }
    for (name, image, tag) in &manifests {
        let repo = target.repository(name);
        repo.has_manifest(image, tag).await?;
        repo.has_manifest(image, &image.digest()).await?;
        let tags = repo.tag_list("").await?;
        ensure!(tags.contains(tag), "{name} does not list {tag}");
    }
    ensure!(manifests.len() >= 40 && blobs.len() >= 80, "nothing was pushed");
    Ok(())
}

/// R-OCI-2: an upload that was acknowledged in part goes on after a kill, from where it was.
#[tokio::test]
async fn an_upload_goes_on_after_a_kill() -> Test {
    let content = TempDir::new().expect("a directory can be made");
    let options = Options::open(&directory(content.path()));
    let mut server = options.start().await;
    let (repo, blob) = (server.target().fresh(), Blob::random(9 << 20));
    let half = (6 << 20) + 3;
    let reply = repo.chunk(Method::PATCH, repo.begin().await?, 0, &blob.bytes[..half]).send().await?;
    let at = reply.status(&[202])?.location()?;
    server.process.kill().await;
    let server = options.start().await;
    let repo = server.target().repository(&repo.name);
    let mut moved = repo.target.base().clone();
    moved.set_path(at.path());
    moved.set_query(at.query());
    let state = repo.target.call_url(Method::GET, moved).send().await?;
    let at = state.status(&[204])?.header("range", format!("0-{}", half - 1))?.location()?;
    repo.finish(&at, &blob.digest, &blob.bytes[half..]).send().await?.status(&[201])?;
    repo.has_blob(&blob).await
}

/// R-STO-1: one directory, one process: a second one never serves it, and may when the first is gone.
#[tokio::test]
async fn a_second_process_is_kept_out() -> Test {
    let content = TempDir::new().expect("a directory can be made");
    let options = Options::open(&directory(content.path()));
    let mut first = options.start().await;
    let (repo, image) = (first.target().fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    let mut second = options.start_unready().await;
    let target = second.target();
    eventually("the second process is unready and says why, or ends", || {
        let ended = second.process.ended();
        let target = target.clone();
        async move {
            let reply = target.get("/readyz").await.ok().filter(|reply| reply.status == 503);
            let reason = reply.and_then(|reply| reply.json().ok()).map(|body| body["reason"].clone());
            ended || reason.is_some_and(|reason| reason != "Starting")
        }
    })
    .await;
    repo.has_manifest(&image, "v1").await?;
    first.process.kill().await;
    if !second.process.ended() {
        eventually("the second process takes over", || async {
            target.get("/readyz").await.is_ok_and(|reply| reply.status == 200)
        })
        .await;
        target.repository(&repo.name).has_manifest(&image, "v1").await?;
    }
    Ok(())
}
