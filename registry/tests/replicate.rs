//! Replication between real servers: whole graphs arrive with unchanged digests, signatures that come later are
//! brought later, a second pass does nothing, and one broken image does not stop the others. Shows R-REPLICATION.

#![allow(clippy::expect_used, clippy::panic, reason = "all of this crate is test code")]

#[path = "support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};

use axum::{Router, extract::Request, response::Response};
use berth_client::{Client, Endpoint};
use berth_registry::replicate::run;
use berth_registry_core::{
    Digest, Reference, RepositoryName,
    config::{Remote, ReplicateConfig},
    job::ReplicationReport,
    manifest::{OCI_EMPTY, OCI_INDEX, OCI_MANIFEST},
};
use bytes::Bytes;
use serde_json::{Value, json};
use support::{distribution::Distribution, server::Options};

/// A registry in the hands of a test.
struct Registry {
    url: String,
    client: Client,
}

impl Registry {
    fn at(url: &str) -> Self {
        let client = Client::new(Endpoint { retries: 0, ..Endpoint::new(url) }).expect("the URL is good");
        Self { url: url.trim_end_matches('/').to_owned(), client }
    }

    async fn blob(&self, repository: &str, text: &str) -> Value {
        let digest = Digest::sha256(text.as_bytes());
        self.client
            .put_blob(&name(repository), &digest, Bytes::from(text.to_owned()))
            .await
            .expect("a blob can be pushed");
        json!({"mediaType": "text/plain", "digest": digest, "size": text.len()})
    }

    async fn manifest(&self, repository: &str, reference: Option<&str>, manifest: &Value) -> Value {
        let bytes = manifest.to_string();
        let digest = Digest::sha256(bytes.as_bytes());
        let media_type = manifest["mediaType"].as_str().expect("a media type");
        let size = bytes.len();
        let reference =
            reference.map_or(Reference::Digest(digest.clone()), |tag| tag.parse().expect("a tag"));
        let pushed = self.client.put_manifest(&name(repository), &reference, media_type, bytes.into()).await;
        pushed.expect("a manifest can be pushed");
        json!({"mediaType": media_type, "digest": digest, "size": size})
    }

    /// An image with a config and one layer.
    async fn image(&self, repository: &str, tag: Option<&str>, text: &str) -> Value {
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": self.blob(repository, "{}").await,
            "layers": [self.blob(repository, "a layer that all images share").await, self.blob(repository, text).await],
        });
        self.manifest(repository, tag, &manifest).await
    }

    /// Something that refers to a manifest.
    async fn referrer(&self, repository: &str, subject: &Value, text: &str) -> Value {
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/x.signature",
            "config": {"mediaType": OCI_EMPTY, "digest": self.blob(repository, "{}").await["digest"], "size": 2},
            "layers": [self.blob(repository, text).await],
            "subject": subject,
        });
        self.manifest(repository, None, &manifest).await
    }

    /// What can be found at a name: digests of a tag's manifest, of everything below it and of everything that refers
    /// to any of these.
    async fn found(&self, repository: &str, reference: &str) -> BTreeSet<Digest> {
        let mut found = BTreeSet::new();
        let mut ahead = vec![reference.parse::<Reference>().expect("a reference")];
        while let Some(reference) = ahead.pop() {
            let raw = self.client.manifest(&name(repository), &reference).await;
            let raw = raw.unwrap_or_else(|e| panic!("{reference}: {e}"));
            if !found.insert(raw.digest.clone()) {
                continue;
            }
            let manifest: Value = serde_json::from_slice(&raw.bytes).expect("manifests are JSON");
            for child in manifest["manifests"].as_array().into_iter().flatten() {
                ahead.push(child["digest"].as_str().expect("a digest").parse().expect("a digest"));
            }
            for blob in manifest["layers"].as_array().into_iter().flatten().chain([&manifest["config"]]) {
                let Some(digest) = blob["digest"].as_str() else { continue };
                let digest: Digest = digest.parse().expect("a digest");
                let bytes = self.client.blob(&name(repository), &digest, 1 << 20).await;
                bytes.unwrap_or_else(|e| panic!("{digest}: {e}"));
                found.insert(digest);
            }
            let referrers = self.client.referrers(&name(repository), &raw.digest, None, 100).await;
            ahead.extend(
                referrers.expect("referrers are listed").into_iter().map(|r| Reference::Digest(r.digest)),
            );
        }
        found
    }

    async fn tags(&self, repository: &str) -> Vec<String> {
        match self.client.tags(&name(repository)).await {
            Ok(tags) => tags.iter().map(ToString::to_string).collect(),
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) => panic!("{error}"),
        }
    }
}

fn name(repository: &str) -> RepositoryName {
    repository.parse().expect("a repository")
}

fn digest(descriptor: &Value) -> Digest {
    descriptor["digest"].as_str().expect("a digest").parse().expect("a digest")
}

fn remote(url: &str) -> Remote {
    Remote { url: url.to_owned(), ca_file: None, token_file: None, basic_dir: None }
}

fn config(source: &Registry, destination: &Registry, select: &str) -> ReplicateConfig {
    ReplicateConfig {
        source: remote(&source.url),
        destination: remote(&destination.url),
        select: serde_json::from_str(select).expect("a selection"),
        prefix: None,
    }
}

async fn pass(config: &ReplicateConfig) -> ReplicationReport {
    run(config.clone()).await.expect("the pass begins")
}

fn counts(report: &ReplicationReport) -> (u64, u64, u64) {
    (report.copied, report.unchanged, report.failed)
}

/// Two of our servers, with nothing in them.
macro_rules! two_servers {
    ($source:ident, $destination:ident) => {
        let source_server = Options::open("memory:").start().await;
        let destination_server = Options::open("memory:").start().await;
        let $source = Registry::at(source_server.target().base().as_str());
        let $destination = Registry::at(destination_server.target().base().as_str());
    };
}

/// An index of two images, one of them signed, the index signed in both formats, a signature with a note of its own.
async fn release(registry: &Registry, repository: &str, tag: &str) {
    let (amd64, arm64) =
        (registry.image(repository, None, "amd64").await, registry.image(repository, None, "arm64").await);
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [amd64, arm64]});
    let index = registry.manifest(repository, Some(tag), &index).await;
    registry.referrer(repository, &arm64, "signature of the arm64 image").await;
    let signature = registry.referrer(repository, &index, "signature of the index").await;
    registry.referrer(repository, &signature, "a note about the signature").await;
    let classic = format!("{}.sig", digest(&index).referrers_tag());
    registry.image(repository, Some(&classic), "classic signature").await;
}

#[tokio::test]
async fn a_graph_arrives_whole_and_a_second_pass_does_nothing() {
    two_servers!(source, destination);
    release(&source, "team/app", "v1").await;
    source.image("team/app", Some("v2"), "another image").await;
    let config = config(&source, &destination, "[]");
    let report = pass(&config).await;
    assert_eq!(counts(&report), (2, 0, 0), "{report:?}");
    assert!(report.bytes > 0 && report.started <= report.finished);
    for tag in ["v1", "v2"] {
        assert_eq!(source.found("team/app", tag).await, destination.found("team/app", tag).await, "{tag}");
    }
    assert_eq!(source.found("team/app", "v1").await.len(), 13);
    assert_eq!(source.tags("team/app").await, destination.tags("team/app").await, "with cosign's tag");

    let report = pass(&config).await;
    assert_eq!((counts(&report), report.bytes), ((0, 2, 0), 0), "{report:?}");
}

#[tokio::test]
async fn what_is_signed_later_is_brought_later() {
    two_servers!(source, destination);
    let image = source.image("app", Some("v1"), "content").await;
    let other = source.image("app", Some("v2"), "other content").await;
    let config = config(&source, &destination, "[]");
    assert_eq!(counts(&pass(&config).await), (2, 0, 0));

    source.referrer("app", &image, "a late signature").await;
    let report = pass(&config).await;
    assert_eq!(counts(&report), (1, 1, 0), "{report:?}");
    assert_eq!(source.found("app", "v1").await, destination.found("app", "v1").await);

    let classic = format!("{}.sig", digest(&other).referrers_tag());
    source.image("app", Some(&classic), "a late classic signature").await;
    assert_eq!(counts(&pass(&config).await), (1, 1, 0));
    // A second signature in the classic format replaces the manifest under the same tag.
    source.image("app", Some(&classic), "two classic signatures").await;
    assert_eq!(counts(&pass(&config).await), (1, 1, 0));
    assert_eq!(destination.found("app", &classic).await, source.found("app", &classic).await);
    assert_eq!(counts(&pass(&config).await), (0, 2, 0));
}

#[tokio::test]
async fn a_tag_that_moved_moves_and_what_only_the_destination_has_stays() {
    two_servers!(source, destination);
    source.image("app", Some("latest"), "one").await;
    destination.image("app", Some("own"), "of the destination").await;
    let config = config(&source, &destination, "[]");
    pass(&config).await;
    source.image("app", Some("latest"), "two").await;
    source.image("app", Some("also"), "two").await;
    let report = pass(&config).await;
    assert_eq!(counts(&report), (2, 0, 0), "{report:?}");
    assert_eq!(destination.found("app", "latest").await, source.found("app", "latest").await);
    assert_eq!(destination.tags("app").await, ["also", "latest", "own"]);
}

#[tokio::test]
async fn only_the_selected_is_brought_under_the_prefix() {
    two_servers!(source, destination);
    for (repository, tag) in
        [("team/app", "v1"), ("team/app", "latest"), ("team/deep/app", "v1"), ("other", "v1")]
    {
        source.image(repository, Some(tag), &format!("{repository}:{tag}")).await;
    }
    let selected = config(&source, &destination, r#"[{"repositories": ["team/*"], "tags": ["v*"]}]"#);
    let report = pass(&ReplicateConfig { prefix: Some("mirror/".into()), ..selected }).await;
    assert_eq!(counts(&report), (1, 0, 0), "{report:?}");
    assert_eq!(destination.client.catalog().await.expect("a catalog"), [name("mirror/team/app")]);
    assert_eq!(destination.tags("mirror/team/app").await, ["v1"]);
}

/// A registry of fixed answers by path, without a catalog and without the referrers API.
async fn fixed(answers: BTreeMap<String, (&'static str, String)>) -> Registry {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let answer = move |request: Request| {
        let answer = answers.get(request.uri().path()).cloned();
        async move {
            let (status, (media_type, body)) =
                answer.map_or((404, Default::default()), |answer| (200, answer));
            let response = Response::builder().status(status).header("content-type", media_type);
            response.body(axum::body::Body::from(body)).expect("a response")
        }
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    Registry::at(&url)
}

/// `good` and `bad` are images of a registry that lost a blob of `bad`; `good` has a signature under the fallback tag.
async fn damaged() -> Registry {
    let empty = Digest::sha256(b"{}");
    let image = |layer: &str, subject: Option<&str>| {
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_EMPTY, "digest": empty, "size": 2},
            "layers": [{"mediaType": "text/plain", "digest": Digest::sha256(layer.as_bytes()), "size": layer.len()}],
        });
        if let Some(subject) = subject {
            let digest = Digest::sha256(subject.as_bytes());
            manifest["subject"] = json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": subject.len()});
        }
        manifest.to_string()
    };
    let (good, bad) = (image("good", None), image("bad", None));
    let signature = image("signature", Some(&good));
    let of = |text: &str| Digest::sha256(text.as_bytes());
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
        {"mediaType": OCI_MANIFEST, "digest": of(&signature), "size": signature.len()},
        {"mediaType": OCI_MANIFEST, "digest": of("left behind"), "size": 1},
    ]});
    let fallback = of(&good).referrers_tag();
    let path = |kind: &str, name: &str| format!("/v2/app/{kind}/{name}");
    let tags = json!({"name": "app", "tags": ["bad", "good", fallback]}).to_string();
    let mut answers = BTreeMap::from([(path("tags", "list"), ("application/json", tags))]);
    for (tag, manifest) in [("good", &good), ("bad", &bad), ("signature", &signature)] {
        for reference in [tag.to_owned(), of(manifest).to_string()] {
            answers.insert(path("manifests", &reference), (OCI_MANIFEST, manifest.clone()));
        }
    }
    answers.insert(path("manifests", &fallback), (OCI_INDEX, index.to_string()));
    for blob in ["good", "signature", "{}"] {
        answers.insert(path("blobs", &of(blob).to_string()), ("text/plain", blob.to_owned()));
    }
    fixed(answers).await
}

#[tokio::test]
async fn a_broken_image_does_not_stop_the_others() {
    let server = Options::open("memory:").start().await;
    let (source, destination) = (damaged().await, Registry::at(server.target().base().as_str()));
    let config = config(&source, &destination, r#"[{"repositories": ["app"]}]"#);
    let report = pass(&config).await;
    assert_eq!(counts(&report), (1, 0, 1), "{report:?}");
    let [error] = report.errors.as_slice() else { panic!("{report:?}") };
    assert!(error.starts_with("app:bad: ") && error.contains("blob"), "{error}");
    assert_eq!(
        destination.tags("app").await,
        ["good"],
        "no tag without its content, no fallback tag beside an API"
    );
    assert_eq!(destination.found("app", "good").await.len(), 5, "the signature came from the fallback tag");
    assert_eq!(counts(&pass(&config).await), (0, 1, 1));
}

#[tokio::test]
async fn where_there_is_no_referrers_api_the_fallback_tag_is_kept() {
    let Some(distribution) = Distribution::start().await else { return };
    let server = Options::open("memory:").start().await;
    let source = Registry::at(server.target().base().as_str());
    let destination = Registry::at(distribution.target().base().as_str());
    release(&source, "app", "v1").await;
    let there = config(&source, &destination, "[]");
    assert_eq!(counts(&pass(&there).await), (1, 0, 0));
    assert_eq!(source.found("app", "v1").await, destination.found("app", "v1").await);
    let report = pass(&there).await;
    assert_eq!((counts(&report), report.bytes), ((0, 1, 0), 0), "{report:?}");

    // And back: what stands under the tag is listed by the API again.
    let server = Options::open("memory:").start().await;
    let third = Registry::at(server.target().base().as_str());
    let back = config(&destination, &third, "[]");
    assert_eq!(counts(&pass(&back).await), (1, 0, 0));
    assert_eq!(source.found("app", "v1").await, third.found("app", "v1").await);
    assert_eq!(counts(&pass(&back).await), (0, 1, 0));
}

#[tokio::test]
async fn a_side_that_cannot_be_used_is_named() {
    let server = Options::open("memory:").start().await;
    let closed = Options::plain("memory:").start().await;
    let (open, closed) =
        (Registry::at(server.target().base().as_str()), Registry::at(closed.target().base().as_str()));
    open.image("app", Some("v1"), "content").await;
    let error = run(config(&closed, &open, "[]")).await.expect_err("the source is closed");
    assert_eq!(error.reason(), "Unauthorized");
    assert!(error.to_string().starts_with("source: "), "{error}");
    let report = pass(&config(&open, &closed, "[]")).await;
    assert_eq!(counts(&report), (0, 0, 1));
    assert!(report.errors[0].contains("credentials"), "{report:?}");
}

#[tokio::test]
async fn the_command_leaves_its_report_on_the_last_line() {
    two_servers!(source, destination);
    source.image("app", Some("v1"), "content").await;
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let file = directory.path().join("replicate.yaml");
    let mut config = config(&source, &destination, "[]");
    let command = async |config: &ReplicateConfig| {
        std::fs::write(&file, serde_json::to_string(config).expect("JSON")).expect("a file can be written");
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_berth-registry"));
        command.env_clear().arg("replicate").arg("--config").arg(&file).output().await.expect("it runs")
    };
    let output = command(&config).await;
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report: ReplicationReport =
        serde_json::from_str(text.lines().last().expect("a line")).expect("a report");
    assert_eq!(counts(&report), (1, 0, 0));

    config.source.url = "https://".into();
    let output = command(&config).await;
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("source: "), "{output:?}");
}
