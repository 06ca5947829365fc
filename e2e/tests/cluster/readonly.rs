//! A store that refuses writes: pulls go on, pushes and the status say why, and nobody has to restart anything.

use berth_e2e::ensure;
use berth_e2e::fixtures::{Endpoint, Failure, Outcome, Team, storage_on, story};
use berth_e2e::s3;
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::support::http::{Connections, Site};
use super::support::load::digest;

/// What the guest needs to do only to read.
const READ: &[&str] = &["s3:GetObject", "s3:ListBucket"];

/// R-OPS-2, R-OPR-1, R-STO-3: a bucket's policy takes the right to write away from two replicas, and gives it back.
#[test]
fn a_bucket_that_may_not_be_written_is_told_of() -> Outcome {
    story(|story| {
        let team = story.team("readonly")?;
        team.bucket("readonly")?;
        s3::create_guest(team.cluster())?;
        s3::allow_guest(team.cluster(), "readonly", &["s3:*"])?;
        team.apply(&json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "s3"},
            "stringData": {"AWS_ACCESS_KEY_ID": s3::GUEST, "AWS_SECRET_ACCESS_KEY": s3::SECRET_KEY},
        }))?;
        let spec = json!({"replicas": 2, "storage": storage_on("readonly")});
        let registry = team.registry("registry", spec)?;
        pulls_go_on(
            &team,
            &registry,
            || Ok(s3::allow_guest(team.cluster(), "readonly", READ)?),
            &["let the credentials write", "AccessDenied"],
            || Ok(s3::allow_guest(team.cluster(), "readonly", &["s3:*"])?),
        )
    })
}

/// R-OPS-2, R-OPR-1: the same when the disk of a volume is full, and when there is room again.
#[test]
fn a_disk_that_is_full_is_told_of() -> Outcome {
    story(|story| {
        let team = story.team("full")?;
        let disk = team.disk("registry-data")?;
        let registry = team.registry("registry", json!({"storage": {"volume": {"size": "24Mi"}}}))?;
        pulls_go_on(
            &team,
            &registry,
            || disk.fill(),
            &["see whether it is full", "No space left"],
            || disk.free(),
        )
    })
}

/// Refuses writes, and takes them again; meanwhile the status says `words`.
fn pulls_go_on(
    team: &Team<'_>,
    registry: &Endpoint,
    refuse: impl FnOnce() -> Outcome,
    words: &[&str],
    take: impl FnOnce() -> Outcome,
) -> Outcome {
    let image = team.push(registry, "app/web:v1", team.namespace())?;
    team.wait("registry/registry", "condition=Ready")?;
    let site = Site::of(team, registry)?;
    refuse()?;
    let (status, answer) = pushed(&site)?;
    ensure!(status == StatusCode::SERVICE_UNAVAILABLE, "a push is answered with {status}: {answer}");
    ensure!(answer.contains("store"), "the answer does not speak of the store: {answer}");
    let message = team.ready_is("registry/registry", "False", "StoreReadOnly")?;
    for word in [&["pulls are served"], words].concat() {
        ensure!(message.contains(word), "the status does not say {word:?}: {message}");
    }
    let stalled = team.condition("registry/registry", "Stalled")?;
    ensure!(stalled["status"] == "True" && stalled["reason"] == "StoreReadOnly", "{stalled}");
    // The servers stay in their Service.
    team.run("crane", &["validate", "--remote", &image.pinned])?;
    let (status, answer) = pushed(&site)?;
    ensure!(status == StatusCode::SERVICE_UNAVAILABLE, "a push is answered with {status}: {answer}");
    let ready = team.get("registry/registry")?["status"]["readyReplicas"].clone();
    let wanted = team.get("deployment/registry")?["spec"]["replicas"].clone();
    ensure!(ready == wanted, "{ready} of {wanted} servers are ready");
    println!("{message}");

    take()?;
    team.wait("registry/registry", "condition=Ready")?;
    let stalled = team.condition("registry/registry", "Stalled")?;
    ensure!(stalled.is_null(), "{stalled}");
    let (status, answer) = pushed(&site)?;
    ensure!(status == StatusCode::CREATED, "a push is answered with {status}: {answer}");
    team.push(registry, "app/late:v1", &format!("late, {}", team.namespace()))?;
    Ok(())
}

/// Pushes a megabyte in one request.
fn pushed(site: &Site) -> Result<(StatusCode, String), Failure> {
    let blob = vec![b'b'; 1 << 20];
    let target = format!("/v2/app/late/blobs/uploads/?digest={}", digest(&blob));
    site.inside(async || {
        let caller = site.caller(Connections::Fresh)?;
        let answer = caller.request(Method::POST, &target).body(blob).send().await?;
        Ok((answer.status(), answer.text().await?))
    })
}
