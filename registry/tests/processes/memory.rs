//! What many pushes at once cost in memory: the peak of the process (`VmHWM`), counted by the kernel. Content is made
//! as it is sent, and all clients send the same, so that neither the clients nor the disk are what is tested.

use std::path::PathBuf;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use reqwest::{Body, Client, Method};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::Test;
use crate::support::authority::{Authority, write};
use crate::support::content::{Blob, hex};
use crate::support::http::{Failure, Target, client_builder, ensure};
use crate::support::process::eventually;
use crate::support::repository::with_digest;
use crate::support::s3::S3;
use crate::support::server::{Options, Server};

const MIB: usize = 1 << 20;
/// A part of an upload to S3 and some of the next: all clients want a second share of the memory, and a tail stays.
const PART_AND_A_BIT: usize = 9 * MIB;

/// Content of any length that costs nothing to keep.
#[derive(Clone)]
struct Content {
    piece: Bytes,
    length: usize,
    digest: String,
}

impl Content {
    fn new(length: usize) -> Self {
        let piece = Blob::random(256 << 10).bytes;
        let mut hash = Sha256::new();
        for at in (0..length).step_by(piece.len()) {
            hash.update(&piece[..piece.len().min(length - at)]);
        }
        Self { digest: format!("sha256:{}", hex(&hash.finalize())), piece, length }
    }

    fn body(&self) -> Body {
        let Self { piece, length, .. } = self.clone();
        let pieces =
            (0..length).step_by(piece.len()).map(move |at| piece.slice(..piece.len().min(length - at)));
        Body::wrap_stream(stream::iter(pieces.map(Ok::<_, std::io::Error>)).boxed())
    }
}

/// How a client sends a blob.
#[derive(Clone, Copy, Debug)]
enum How {
    /// POST, PUT with `Content-Length`.
    Whole,
    /// POST, PATCH of unknown length, PUT.
    Streamed,
}

async fn push(client: Client, base: String, content: Content, how: How) -> Test {
    let repo = Target::with_client(&base, client.clone()).fresh();
    let broken = |e: reqwest::Error| Failure(format!("{how:?}: {e:?}"));
    let mut at = repo.begin().await?;
    if let How::Streamed = how {
        let reply =
            client.request(Method::PATCH, at.clone()).body(content.body()).send().await.map_err(broken)?;
        ensure!(reply.status() == 202, "a chunk is answered with {}", reply.status());
        let location =
            reply.headers().get("location").and_then(|value| value.to_str().ok()).unwrap_or_default();
        at = at.join(location).map_err(|e| Failure(e.to_string()))?;
        repo.finish(&at, &content.digest, b"").send().await?.status(&[201])?;
    } else {
        let put = client.put(with_digest(&at, &content.digest)).header("content-length", content.length);
        let reply = put.body(content.body()).send().await.map_err(broken)?;
        ensure!(reply.status() == 201, "a blob is answered with {}", reply.status());
    }
    let held = repo.blob(Method::HEAD, &content.digest).send().await?;
    held.status(&[200])?.header("content-length", content.length)?;
    Ok(())
}

/// A peak that the kernel counted, in MiB.
fn peak(server: &Server) -> usize {
    let path = PathBuf::from(format!("/proc/{}/status", server.process.id().expect("the server runs")));
    let status = std::fs::read_to_string(path).expect("the kernel tells about its processes");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak is counted");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number of KiB") / 1024
}

/// Servers on one bucket, one plain and one with TLS, and the clients that each knows.
struct Servers {
    _s3: S3,
    _files: TempDir,
    authority: Authority,
    plain: Server,
    secure: Server,
}

#[derive(Clone, Copy, Debug)]
struct Wire {
    tls: bool,
    http2: bool,
}

const PLAIN: Wire = Wire { tls: false, http2: false };
const PLAIN_HTTP2: Wire = Wire { tls: false, http2: true };
const TLS: Wire = Wire { tls: true, http2: false };
const TLS_HTTP2: Wire = Wire { tls: true, http2: true };

impl Servers {
    async fn start() -> Option<Self> {
        let (s3, files) = (S3::start().await?, TempDir::new().expect("a directory can be made"));
        let authority = Authority::new();
        let (certificate, key, _) = authority.leaf();
        write(files.path(), &certificate, &key);
        let plain = s3.options("memory/").start().await;
        let secure = s3
            .at(Options::on("s3://images/memory/"))
            .flag("--anonymous", "write")
            .flag("--tls-cert", files.path().join("tls.crt"))
            .flag("--tls-key", files.path().join("tls.key"))
            .start_unready()
            .await;
        let client = authority.client().build().expect("a client can be built");
        let target = Target::with_client(&format!("https://{}", secure.address), client);
        eventually("the server becomes ready", || async {
            target.get("/readyz").await.is_ok_and(|reply| reply.status == 200)
        })
        .await;
        Some(Self { _s3: s3, _files: files, authority, plain, secure })
    }

    fn server(&self, wire: Wire) -> &Server {
        if wire.tls { &self.secure } else { &self.plain }
    }

    fn client(&self, wire: Wire) -> Client {
        let builder = if wire.tls { self.authority.client() } else { client_builder() };
        let builder = if wire.http2 { builder.http2_prior_knowledge() } else { builder.http1_only() };
        builder.timeout(std::time::Duration::from_mins(10)).build().expect("a client can be built")
    }

    /// So many pushes at once, each over a connection of its own.
    async fn pushes(&self, clients: usize, content: &Content, wire: Wire, how: How) -> Test {
        let server = self.server(wire);
        let base = format!("{}://{}", if wire.tls { "https" } else { "http" }, server.address);
        let begun = std::time::Instant::now();
        let pushes =
            (0..clients).map(|_| tokio::spawn(push(self.client(wire), base.clone(), content.clone(), how)));
        for push in futures::future::join_all(pushes).await {
            push.map_err(|e| Failure(format!("a client panicked: {e}")))??;
        }
        let seconds = begun.elapsed().as_secs_f64();
        println!(
            "{clients} clients, {} MiB each, {wire:?}, {how:?}: peak {} MiB, {seconds:.1} s",
            content.length / MIB,
            peak(server)
        );
        Ok(())
    }
}

/// Each way of sending over each wire; the peak of any server is within the budget.
async fn peaks(clients: usize, length: usize, budget: usize, ways: &[(Wire, &[How])]) -> Test {
    let content = Content::new(length);
    for (wire, hows) in ways {
        let Some(servers) = Servers::start().await else { return Ok(()) };
        for how in *hows {
            servers.pushes(clients, &content, *wire, *how).await?;
        }
        let peak = peak(servers.server(*wire));
        ensure!(peak <= budget, "{clients} pushes over {wire:?}: {peak} MiB, {budget} MiB allowed");
    }
    Ok(())
}

const BOTH: &[How] = &[How::Whole, How::Streamed];
const EVERY_WAY: &[(Wire, &[How])] = &[(PLAIN, BOTH), (PLAIN_HTTP2, BOTH), (TLS, BOTH), (TLS_HTTP2, BOTH)];
/// What differs most, for every run of the tests.
const SOME_WAYS: &[(Wire, &[How])] = &[(PLAIN, &[How::Whole]), (TLS_HTTP2, &[How::Streamed])];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_pushes_at_once() -> Test {
    peaks(16, PART_AND_A_BIT, 128, SOME_WAYS).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_pushes_at_once() -> Test {
    peaks(64, PART_AND_A_BIT, 192, &[(TLS_HTTP2, &[How::Streamed])]).await
}

/// The whole table, by hand: `cargo test -p berth-registry --test processes -- --ignored --nocapture memory`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "hashes and writes 8 GiB"]
async fn sixteen_pushes_of_64_mib() -> Test {
    peaks(16, 64 * MIB, 128, EVERY_WAY).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "hashes and writes 32 GiB"]
async fn sixty_four_pushes_of_64_mib() -> Test {
    peaks(64, 64 * MIB, 192, EVERY_WAY).await
}
