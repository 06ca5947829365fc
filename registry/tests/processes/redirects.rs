//! Blobs fetched from the store itself, by presigned URLs (R-STO-1): who is sent there, who is not, and what is told to
//! nobody.

use std::path::PathBuf;

use berth_client::{Client, Endpoint, Reach};
use reqwest::{Method, Url, redirect};
use tempfile::TempDir;

use crate::Test;
use crate::support::content::Blob;
use crate::support::http::{Failure, ensure};
use crate::support::process::eventually;
use crate::support::s3::S3;
use crate::support::server::{Options, Server, directory};

struct Redirecting {
    _files: TempDir,
    config: PathBuf,
}

fn redirects(yaml: &str) -> Redirecting {
    let files = TempDir::new().expect("a temporary directory can be made");
    let config = files.path().join("berth.yaml");
    std::fs::write(&config, format!("redirects: {yaml}\n")).expect("a file can be written");
    Redirecting { _files: files, config }
}

impl Redirecting {
    /// With the most talkative log.
    async fn start(&self, options: Options) -> Server {
        options.flag("--config", &self.config).variable("BERTH_LOG", "debug").start().await
    }
}

/// Asks as a client that does not follow: status, and where it is sent to.
async fn ask(server: &Server, repository: &str, blob: &Blob) -> Result<(u16, Option<String>), Failure> {
    let failed = |e: reqwest::Error| Failure(e.to_string());
    let client = reqwest::Client::builder().redirect(redirect::Policy::none()).build().map_err(failed)?;
    let url = format!("http://{}/v2/{repository}/blobs/{}", server.address, blob.digest);
    let answer = client.get(url).send().await.map_err(failed)?;
    let location = answer.headers().get("location").and_then(|value| value.to_str().ok()).map(String::from);
    Ok((answer.status().as_u16(), location))
}

#[tokio::test]
async fn a_client_is_sent_to_the_store() -> Test {
    let Some(s3) = S3::start().await else { return Ok(()) };
    let redirecting = redirects("{mode: On, networks: [127.0.0.0/8], lifetime: 5m}");
    let server = redirecting.start(s3.options("redirects/")).await;
    let (repo, blob) = (server.target().fresh(), Blob::random(3 << 20));
    repo.push_blob(&blob).await?;
    let (status, location) = ask(&server, &repo.name, &blob).await?;
    ensure!(status == 307, "expected 307, got {status}");
    let url = location.ok_or_else(|| Failure("a redirect without Location".into()))?;
    let parsed = Url::parse(&url).map_err(|e| Failure(format!("{url}: {e}")))?;
    ensure!(
        parsed.query_pairs().any(|(k, v)| k == "X-Amz-Expires" && v == "300"),
        "not for 5 minutes: {parsed}"
    );

    // No credentials are needed there, whole or in part.
    let failed = |e: reqwest::Error| Failure(e.to_string());
    let anybody = reqwest::Client::new();
    let answer = anybody.get(&url).send().await.map_err(failed)?;
    ensure!(answer.status() == 200, "the store answers {}", answer.status());
    ensure!(answer.bytes().await.map_err(failed)? == blob.bytes, "other bytes than were pushed");
    let answer = anybody.get(&url).header("range", "bytes=1000-1999").send().await.map_err(failed)?;
    ensure!(answer.status() == 206, "the store answers {} to a range", answer.status());
    ensure!(
        answer.bytes().await.map_err(failed)? == blob.bytes[1000..2000],
        "other bytes than were asked for"
    );

    // A client that follows notices nothing.
    let target = format!("http://{}/v2/{}/blobs/{}", server.address, repo.name, blob.digest);
    let answer = anybody.get(target).header("range", "bytes=-10").send().await.map_err(failed)?;
    ensure!(
        answer.bytes().await.map_err(failed)? == blob.bytes[blob.bytes.len() - 10..],
        "other bytes by redirect"
    );

    // HEAD, and what is not here, are answered by the registry.
    let head = repo.blob(Method::HEAD, &blob.digest).send().await?;
    head.status(&[200])?.header("content-length", blob.bytes.len())?;
    repo.lacks_blob(&Blob::random(10).digest).await?;
    let unknown = repo.blob(Method::GET, &Blob::random(10).digest).send().await?;
    unknown.refused(&[404], &["BLOB_UNKNOWN"])?;

    let log = server.process.log();
    ensure!(log.contains("307"), "the log does not show the redirect");
    ensure!(!log.contains("X-Amz-Signature"), "the log shows a presigned URL");
    Ok(())
}

#[tokio::test]
async fn our_own_clients_follow_or_ask_not_to_be_sent() -> Test {
    let Some(s3) = S3::start().await else { return Ok(()) };
    let server = redirects("{mode: On}").start(s3.options("redirects/")).await;
    let (repo, blob) = (server.target().fresh(), Blob::random(100_000));
    repo.push_blob(&blob).await?;
    let name = repo.name.parse().map_err(|e| Failure(format!("{}: {e}", repo.name)))?;
    let digest = blob.digest.parse().map_err(|e| Failure(format!("{}: {e}", blob.digest)))?;
    for reach in [Reach::Anywhere, Reach::HostOnly] {
        let failed = |e: berth_client::ClientError| Failure(format!("{reach:?}: {e}"));
        let endpoint = Endpoint { reach, ..Endpoint::new(format!("http://{}", server.address)) };
        let client = Client::new(endpoint).map_err(failed)?;
        let bytes = client.blob(&name, &digest, 1 << 20).await.map_err(failed)?;
        ensure!(bytes == blob.bytes, "other bytes for {reach:?}");
    }
    Ok(())
}

#[tokio::test]
async fn who_does_not_reach_the_store_is_not_sent_there() -> Test {
    let data = TempDir::new().expect("a temporary directory can be made");
    let mut servers = vec![
        redirects("{mode: On}").start(Options::open("memory:")).await,
        redirects("{mode: On}").start(Options::open(&directory(data.path()))).await,
    ];
    // Dropped at the end: the servers need it.
    let s3 = S3::start().await;
    for yaml in ["{mode: Off}", "{mode: On, networks: [192.0.2.0/24, '2001:db8::/32']}"] {
        if let Some(s3) = &s3 {
            servers.push(redirects(yaml).start(s3.options("redirects/")).await);
        }
    }
    for server in servers {
        let (repo, blob) = (server.target().fresh(), Blob::random(1000));
        repo.push_blob(&blob).await?;
        let (status, location) = ask(&server, &repo.name, &blob).await?;
        ensure!((status, &location) == (200, &None), "expected the bytes, got {status} and {location:?}");
    }
    Ok(())
}

/// R-OPS-2, R-STO-5: a running server follows its file, and needs no restart for it.
#[tokio::test]
async fn redirects_begin_while_the_server_runs() -> Test {
    let Some(s3) = S3::start().await else { return Ok(()) };
    let redirecting = redirects("{mode: Off}");
    let server = redirecting.start(s3.options("live/")).await;
    let (repo, blob) = (server.target().fresh(), Blob::random(1000));
    repo.push_blob(&blob).await?;
    ensure!(ask(&server, &repo.name, &blob).await?.0 == 200, "sent away although redirects are off");
    let next = redirecting.config.with_extension("next");
    std::fs::write(&next, "redirects: {mode: On}\n").expect("a file can be written");
    std::fs::rename(&next, &redirecting.config).expect("a file can be replaced");
    eventually("clients are sent to the store", || async {
        ask(&server, &repo.name, &blob).await.is_ok_and(|(status, _)| status == 307)
    })
    .await;
    let metrics = server.target().get("/metrics").await?;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    ensure!(metrics.contains("berth_config_restart_required 0\n"), "a restart is asked for");
    Ok(())
}
