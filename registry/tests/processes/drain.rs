//! A pod is replaced: SIGTERM makes the server unready at once, it goes on serving while the endpoint
//! is taken out of the lists, finishes what is in flight, and ends with 0 (R-STO-9, "a graceful stop
//! drains").

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::Test;
use crate::raw::Raw;
use crate::support::content::{Blob, Manifest};
use crate::support::http::{Target, ensure};
use crate::support::process::eventually;
use crate::support::server::{Options, Server, directory};

/// A server on a directory that goes on for four seconds after SIGTERM.
async fn start(files: &TempDir) -> Server {
    let config = files.path().join("berth.yaml");
    std::fs::write(&config, "drainDelay: 4s\n").expect("a file can be written");
    let content = files.path().join("content");
    std::fs::create_dir_all(&content).expect("a directory can be made");
    Options::open(&directory(&content)).flag("--config", &config).start().await
}

/// A server's own word that it is about to end.
async fn draining(target: &Target) -> Test {
    eventually("readiness says that the server drains", || async {
        target.get("/readyz").await.is_ok_and(|reply| reply.status == 503)
    })
    .await;
    let reply = target.get("/readyz").await?;
    ensure!(reply.status(&[503])?.json()?["reason"] == "Draining", "the reason is not Draining");
    target.get("/healthz").await?.status(&[200])?;
    Ok(())
}

async fn closed(address: &str) {
    eventually("nothing listens any more", || async { TcpStream::connect(address).await.is_err() }).await;
}

/// R-STO-9: an upload and a download that were slow before SIGTERM are whole after it.
#[tokio::test]
async fn what_is_in_flight_is_finished() -> Test {
    let files = TempDir::new().expect("a directory can be made");
    let mut server = start(&files).await;
    let (target, address) = (server.target(), server.address.clone());
    let repo = target.fresh();
    // Larger than what the buffers of both ends hold, so that the server is really in the middle.
    let (large, sent) = (Blob::random(64 << 20), Blob::random(300_000));
    repo.push_blob(&large).await?;

    let mut download = Raw::connect(&address).await?;
    download.head(&format!("GET /v2/{}/blobs/{}", repo.name, large.digest), None).await?;
    let begun = download.read(100_000).await?;
    let mut upload = Raw::connect(&address).await?;
    let request = format!("POST /v2/{}/blobs/uploads/?digest={}", repo.name, sent.digest);
    upload.head(&request, Some(sent.bytes.len())).await?;
    upload.send(&sent.bytes[..100_000]).await?;

    server.process.terminate();
    draining(&target).await?;
    // Whoever has not heard yet is still served.
    let image = Manifest::image();
    repo.push(&image, "late").await?;
    closed(&address).await;
    ensure!(!server.process.ended(), "the server ended with requests in flight");

    upload.send(&sent.bytes[100_000..]).await?;
    let (status, body) = upload.rest(Vec::new()).await?;
    ensure!(status == 201, "the upload in flight ended with {status}: {}", String::from_utf8_lossy(&body));
    let (status, body) = download.rest(begun).await?;
    ensure!(
        status == 200 && body == large.bytes,
        "the download in flight gave {status}, {} bytes",
        body.len()
    );
    let status = server.process.wait().await;
    ensure!(status.success(), "the server ended with {status}");

    // What was acknowledged is there for the next pod.
    let server = start(&files).await;
    let repo = server.target().repository(&repo.name);
    repo.has_blob(&sent).await?;
    repo.has_manifest(&image, "late").await
}

/// R-STO-9: a client that keeps one connection open sees no failed request, only a closed connection.
#[tokio::test]
async fn a_busy_client_loses_nothing() -> Test {
    let files = TempDir::new().expect("a directory can be made");
    let mut server = start(&files).await;
    let target = server.target();
    let (repo, image) = (target.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    server.process.terminate();
    let mut answers = 0;
    loop {
        // A request that no longer finds a listener was never accepted; every other one must succeed.
        if TcpStream::connect(&server.address).await.is_err() {
            break;
        }
        match repo.manifest(reqwest::Method::GET, "v1").send().await {
            Ok(reply) => answers += usize::from(reply.status(&[200])?.status == 200),
            Err(e) if TcpStream::connect(&server.address).await.is_err() => {
                ensure!(e.0.contains("onnect"), "an accepted request was dropped: {e}");
                break;
            }
            Err(e) => return Err(e),
        }
    }
    ensure!(answers > 10, "only {answers} requests were served while draining");
    let status = server.process.wait().await;
    ensure!(status.success(), "the server ended with {status}");
    Ok(())
}
