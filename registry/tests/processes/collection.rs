//! What is deleted stays for a while, then goes: the real binary as server and as its own client.

use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::Test;
use crate::support::content::Manifest;
use crate::support::http::ensure;
use crate::support::process::eventually;
use crate::support::server::{Options, Server, directory};

/// Runs a subcommand against a server: whether it succeeded, and its last line of output, as JSON if it is.
async fn ask(server: &Server, arguments: &[&str]) -> (bool, Value) {
    let url = format!("http://{}", server.address);
    let mut command = Command::new(env!("CARGO_BIN_EXE_berth-registry"));
    let output = command.args(arguments).args(["--url", &url]).kill_on_drop(true).output().await;
    let output = output.expect("the binary can be run");
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
    (output.status.success(), last.or_else(|| serde_json::from_str(&text).ok()).unwrap_or_default())
}

/// Files that hold the bytes of blobs.
fn data(content: &TempDir) -> usize {
    let directories = std::fs::read_dir(content.path().join("d")).into_iter().flatten().flatten();
    directories.map(|entry| std::fs::read_dir(entry.path()).map_or(0, Iterator::count)).sum()
}

/// R-GC-1, R-GC-4: deleted, collected, undeleted; deleted again, and purged when the window is over.
#[tokio::test]
async fn deleted_undeleted_and_purged() -> Test {
    let (content, files) =
        (TempDir::new().expect("a directory can be made"), TempDir::new().expect("a directory can be made"));
    let config = files.path().join("berth.yaml");
    std::fs::write(&config, "undeleteWindow: 2s\nuploadLease: 0s\n").expect("a file can be written");
    let server = Options::open(&directory(content.path())).flag("--config", &config).start().await;
    let (repo, image) = (server.target().fresh(), Manifest::image());
    let blobs = image.blobs.len();
    repo.push(&image, "v1").await?;
    let digest = image.digest();

    repo.manifest(Method::DELETE, &digest).send().await?.status(&[202])?;
    let (done, would) = ask(&server, &["gc", "--dry-run"]).await;
    ensure!(done && would["dead"] == blobs && would["dryRun"] == true, "{would}");
    let (done, summary) = ask(&server, &["gc"]).await;
    ensure!(done && summary["dead"] == blobs && summary["failed"] == 0, "{summary}");
    repo.lacks_manifest("v1").await?;
    for blob in &image.blobs {
        repo.lacks_blob(&blob.digest).await?;
    }
    let (done, told) =
        ask(&server, &["explain", "--repository", &repo.name, "--reference", &image.blobs[0].digest]).await;
    ensure!(done && told["state"] == "dead" && told["removal"]["by"] == "gc", "{told}");

    let undelete = ["undelete", "--repository", &repo.name, "--tag", "v1"];
    let (done, report) = ask(&server, &undelete).await;
    ensure!(done && report["restored"][0]["digest"] == digest, "{report}");
    repo.has_manifest(&image, "v1").await?;
    for blob in &image.blobs {
        repo.has_blob(blob).await?;
    }

    repo.manifest(Method::DELETE, &digest).send().await?.status(&[202])?;
    eventually("the bytes are gone from the disk", || async {
        let (done, _) = ask(&server, &["gc"]).await;
        done && data(&content) == 0
    })
    .await;
    let (done, _) = ask(&server, &undelete).await;
    ensure!(!done, "an undelete of what is gone succeeds");
    let metrics = server.target().get("/metrics").await?;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    let freed: usize = image.blobs.iter().map(|blob| blob.bytes.len()).sum();
    ensure!(metrics.contains(&format!("berth_collector_freed_bytes_total {freed}\n")), "{metrics}");
    repo.push(&image, "v1").await?;
    repo.has_manifest(&image, "v1").await
}
