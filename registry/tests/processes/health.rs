//! What kubelet and Prometheus ask: alive, ready and why not, numbers (R-OPS-1, R-OPS-2).

use axum::{Json, Router, routing::post};
use reqwest::Method;
use rstest::rstest;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::mpsc, time::timeout};

use crate::Test;
use crate::support::authority::Authority;
use crate::support::content::{Blob, Manifest};
use crate::support::faulty::{Faulty, Refusal};
use crate::support::http::{Target, ensure};
use crate::support::process::{PATIENCE, eventually, free_port};
use crate::support::s3::S3;
use crate::support::server::{Options, htpasswd};

/// R-OPS-2: no login is needed, on a server that lets nobody in.
#[tokio::test]
async fn probes_need_no_login() -> Test {
    let server = Options::plain("memory:").start().await;
    let target = server.target();
    for path in ["/healthz", "/readyz", "/metrics"] {
        target.get(path).await?.status(&[200])?;
        target.call(Method::HEAD, path).send().await?.status(&[200])?.bytes(b"")?;
        target.call(Method::POST, path).send().await?.status(&[404, 405])?;
    }
    Ok(())
}

/// R-OPS-1: Prometheus text that counts what was asked, and names no secret.
#[tokio::test]
async fn metrics_count_requests() -> Test {
    let files = TempDir::new().expect("a directory can be made");
    let users = files.path().join("htpasswd");
    std::fs::write(&users, htpasswd("anna", "very-secret")).expect("a file can be written");
    let server = Options::plain("memory:").flag("--htpasswd", &users).start().await;
    let target = server.target().login("anna", "very-secret");
    let (repo, image) = (target.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    repo.has_manifest(&image, "v1").await?;
    repo.lacks_manifest("v2").await?;
    let reply = server.target().get("/metrics").await?;
    let kind = reply.status(&[200])?.value("content-type")?;
    ensure!(
        kind.starts_with("text/plain") || kind.starts_with("application/openmetrics-text"),
        "type {kind}"
    );
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let value = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        ensure!(value.is_some(), "a metric without a number: {line}");
        ensure!(
            line.starts_with("berth_") || line.starts_with("process_"),
            "a metric of another family: {line}"
        );
    }
    let counted = text
        .lines()
        .any(|line| line.contains("requests") && line.contains("\"PUT\"") && !line.ends_with(" 0"));
    ensure!(counted, "no metric counts the pushes:\n{text}");
    ensure!(
        !text.contains("very-secret") && !text.contains(&repo.name),
        "metrics name a password or a repository"
    );
    Ok(())
}

/// Waits until readiness gives this reason; the process stays alive meanwhile.
async fn unready_because(target: &Target, reason: &str) -> Test {
    eventually(&format!("readiness says {reason}"), || async {
        let reply = target.get("/readyz").await.ok().filter(|reply| reply.status == 503);
        reply.and_then(|reply| reply.json().ok()).is_some_and(|body| body["reason"] == reason)
    })
    .await;
    let body = target.get("/readyz").await?.status(&[503])?.json()?;
    ensure!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "no message: {body}");
    target.get("/healthz").await?.status(&[200])?;
    // The fault is not the client's.
    target.fresh().tags("").send().await?.status(&[503])?;
    Ok(())
}

async fn ready(target: &Target) {
    eventually("the server heals", || async {
        target.get("/readyz").await.is_ok_and(|reply| reply.status == 200)
    })
    .await;
}

/// R-OPS-2: the bucket is missing, then it is there.
#[tokio::test]
async fn a_missing_bucket_heals() -> Test {
    let Some(s3) = S3::start().await else { return Ok(()) };
    let server = s3.options_for("later", "images/").start_unready().await;
    unready_because(&server.target(), "BucketNotFound").await?;
    s3.create_bucket("later");
    ready(&server.target()).await;
    server.target().fresh().push(&Manifest::image(), "v1").await?;
    Ok(())
}

/// R-OPS-2: the credentials are wrong.
#[tokio::test]
async fn refused_credentials_are_named() -> Test {
    let Some(s3) = S3::start().await else { return Ok(()) };
    let options = s3.options("images/").variable("AWS_SECRET_ACCESS_KEY", "wrong-secret-key");
    let mut server = options.start_unready().await;
    unready_because(&server.target(), "CredentialsRefused").await?;
    ensure!(!server.process.ended(), "the server ended");
    ensure!(!server.process.log().contains("wrong-secret-key"), "the log names the secret");
    Ok(())
}

/// R-OPS-2, R-STO-3: the store is away at start, comes, goes and comes back: what was pushed is there.
#[tokio::test]
async fn a_store_that_comes_and_goes() -> Test {
    if std::env::var_os("BERTH_TOOL_VERSITYGW").is_none() {
        println!("skipped: BERTH_TOOL_VERSITYGW does not name a versitygw binary");
        return Ok(());
    }
    let (data, port) = (TempDir::new().expect("a directory can be made"), free_port());
    let server = S3::options_at(port, "images", "images/").start_unready().await;
    let target = server.target();
    unready_because(&target, "StoreUnreachable").await?;
    let Some(mut s3) = S3::start_at(port, data.path()).await else { return Ok(()) };
    ready(&target).await;
    let (repo, image) = (target.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    s3.process.kill().await;
    unready_because(&target, "StoreUnreachable").await?;
    let Some(_s3) = S3::start_at(port, data.path()).await else { return Ok(()) };
    ready(&target).await;
    repo.has_manifest(&image, "v1").await
}

/// Stands for the operator: a configuration that sends it events, and those that are about the store.
async fn operator(files: &TempDir) -> (std::path::PathBuf, mpsc::UnboundedReceiver<Value>) {
    let (sender, received) = mpsc::unbounded_channel();
    let take = move |Json(event): Json<Value>| {
        if event["data"]["store"] == true {
            let _ = sender.send(event);
        }
        std::future::ready(())
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
    let address = listener.local_addr().expect("a bound socket has an address");
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/events", post(take))).await });
    let [config, ca, token] = ["berth.yaml", "ca.crt", "token"].map(|name| files.path().join(name));
    let text = format!(
        "events: {{url: 'http://{address}/events', source: team-a/registry, caFile: {}, tokenFile: {}}}\n",
        ca.display(),
        token.display()
    );
    for (path, text) in [(&config, text), (&ca, Authority::new().pem), (&token, "t".to_owned())] {
        std::fs::write(path, text).expect("a file can be written");
    }
    (config, received)
}

/// R-OPS-2: a store that refuses writes is noticed by the first one that a client makes. Pulls go on, so the server stays
/// ready and says what is wrong; it finds out by itself when that is over, and writes nothing while all is well. The
/// operator is told of both. A store that is full takes small writes and refuses content all the same.
#[rstest]
#[case::read_only(Refusal::ReadOnly, "CredentialsRefused", "let the credentials write")]
#[case::full(Refusal::Full, "StoreFailed", "see whether it is full")]
#[tokio::test]
async fn a_store_that_refuses_writes(
    #[case] refusal: Refusal,
    #[case] reason: &'static str,
    #[case] cure: &'static str,
) -> Test {
    let Some(s3) = S3::start().await else { return Ok(()) };
    let files = TempDir::new().expect("a directory can be made");
    let (config, mut told) = operator(&files).await;
    let proxy = Faulty::before(s3.port).await;
    let server = S3::options_at(proxy.port, "images", "writes/").flag("--config", &config).start().await;
    let target = server.target();
    let says = |word: &'static str| {
        let target = target.clone();
        async move {
            let reply = target.get("/readyz").await.ok().filter(|reply| reply.status == 200);
            reply.is_some_and(|reply| String::from_utf8_lossy(&reply.body).contains(word))
        }
    };
    let writable = |value: &'static str| {
        let target = target.clone();
        async move {
            let text =
                target.get("/metrics").await.map(|reply| String::from_utf8_lossy(&reply.body).into_owned());
            text.is_ok_and(|text| text.lines().any(|line| line == format!("berth_store_writable {value}")))
        }
    };
    let (repo, image) = (target.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    ensure!(says("ready").await && writable("1").await, "a store that takes writes");

    proxy.refuse(Some(refusal));
    let large = Blob::random(1 << 20);
    let upload = repo.begin().await?;
    repo.finish(&upload, &large.digest, &large.bytes).send().await?.status(&[503])?;
    eventually("readiness says why", || says(reason)).await;
    ensure!(says(cure).await, "readiness does not say what to do");
    ensure!(writable("0").await, "the metric does not say so");
    let event = timeout(PATIENCE, told.recv()).await.ok().flatten();
    ensure!(event.is_some_and(|event| event["source"] == "team-a/registry"), "the operator is not told");
    repo.has_manifest(&image, "v1").await?;

    proxy.refuse(None);
    eventually("readiness finds out", || says("ready\n")).await;
    ensure!(writable("1").await, "the metric does not say so");
    ensure!(timeout(PATIENCE, told.recv()).await.is_ok(), "the operator is not told");
    let writes = proxy.writes();
    for _ in 0..5 {
        ensure!(says("ready\n").await, "not ready any more");
    }
    ensure!(told.try_recv().is_err(), "an event without a reason");
    ensure!(proxy.writes() == writes, "an idle server writes");
    repo.push_blob(&large).await?;
    repo.push(&image, "v2").await.map(|_| ())
}

/// R-OPS-1, R-OPS-2: what a request cost is in its slow line and in the metrics.
#[tokio::test]
async fn a_slow_request_says_where_its_time_went() -> Test {
    let files = TempDir::new().expect("a directory can be made");
    let config = files.path().join("berth.yaml");
    std::fs::write(&config, "slowRequests: 0s\n").expect("a file can be written");
    let mut server = Options::open("memory:").flag("--config", &config).start().await;
    let (repo, image) = (server.target().fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    let slow = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        (line["message"] == "slow request" && line["route"] == "manifest").then_some(line)
    };
    let line = server.process.wait_for_line(slow).await.unwrap_or_default();
    ensure!(
        line["store_calls"].as_u64() > Some(3) && line["repository"] == repo.name,
        "the line says {line}"
    );
    for field in ["ours_ms", "store_ms", "memory_ms", "receiving_ms", "sending_ms"] {
        ensure!(line[field].is_u64(), "the line lacks {field}: {line}");
    }
    let reply = server.target().get("/metrics").await?;
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    for series in [
        "berth_store_requests_total{backend=\"memory\",operation=\"put\",result=\"ok\"}",
        "berth_store_request_duration_seconds_count{backend=\"memory\",operation=\"get\"}",
        "berth_slow_requests_total",
        "berth_upload_memory_bytes",
    ] {
        let line = text.lines().find(|line| line.starts_with(series));
        ensure!(
            line.is_some_and(|line| series.ends_with("bytes") || !line.ends_with(" 0")),
            "{series} in\n{text}"
        );
    }
    Ok(())
}
