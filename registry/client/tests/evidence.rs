//! Evidence as it is collected from a registry that holds what cosign wrote (the vectors of `berth-trust`): both formats,
//! with and without the referrers API; absent and unanswered are told apart, and the bounds hold. Shows R-TRUST.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of this crate is test code")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use axum::{body::Body, http::Response};
use berth_client::evidence::{fetch_evidence, fetch_index, resolve};
use berth_registry_core::{Digest, manifest::OCI_INDEX, manifest::OCI_MANIFEST};
use berth_trust::{Anchor, Bounds, Described, Evidence, Facts, PublicKey, kind};
use rstest::rstest;
use serde::Deserialize;
use support::{Asked, Fake, reply, repository, status};

#[derive(Clone, Deserialize)]
struct Vector {
    subject: Digest,
    artifacts: Vec<VectorArtifact>,
}

#[derive(Clone, Deserialize)]
struct VectorArtifact {
    manifest: String,
    layers: BTreeMap<Digest, String>,
}

fn vectors(name: &str) -> String {
    let path = format!("{}/../trust/tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn vector(name: &str) -> Vector {
    serde_json::from_str(&vectors(&format!("{name}.json"))).unwrap()
}

/// Where a registry shows what refers to an image.
#[derive(Clone, Copy, PartialEq)]
enum Discovery {
    Api,
    /// As some clients write it: without artifact types.
    Tag,
}

impl Vector {
    /// Under which tag beside the image's a classic artifact stands.
    fn suffix(artifact: &VectorArtifact) -> Option<&'static str> {
        let classic = !artifact.manifest.contains("\"subject\"");
        classic.then(|| if artifact.manifest.contains(kind::ENVELOPE) { "att" } else { "sig" })
    }

    fn index(&self, discovery: Discovery) -> String {
        let entries: Vec<_> = self
            .artifacts
            .iter()
            .filter(|artifact| Self::suffix(artifact).is_none())
            .map(|artifact| {
                let bytes = artifact.manifest.as_bytes();
                let mut entry = serde_json::json!({
                    "mediaType": OCI_MANIFEST, "digest": Digest::sha256(bytes), "size": bytes.len(),
                });
                if discovery == Discovery::Api {
                    entry["artifactType"] = kind::BUNDLE.into();
                }
                entry
            })
            .chain([serde_json::json!({
                "mediaType": OCI_MANIFEST, "digest": Digest::sha256(b"sbom"), "size": 1,
                "artifactType": "application/spdx+json",
            })])
            .collect();
        serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).to_string()
    }

    /// Answers as a registry with this content in the repository `a`.
    fn answer(&self, discovery: Discovery, asked: &Asked) -> Response<Body> {
        let Some(path) = asked.path().strip_prefix("/v2/a/") else { return status(404) };
        let tag = self.subject.referrers_tag();
        match (path.split_once('/'), discovery) {
            (Some(("referrers", _)), Discovery::Api) => reply(&[], self.index(discovery)),
            (Some(("manifests", name)), Discovery::Tag) if name == tag => {
                reply(&[("content-type", OCI_INDEX)], self.index(discovery))
            }
            (Some(("manifests", name)), _) => {
                let named = |artifact: &&VectorArtifact| match name.split_once('.') {
                    Some((name, suffix)) => name == tag && Self::suffix(artifact) == Some(suffix),
                    None => name == Digest::sha256(artifact.manifest.as_bytes()).to_string(),
                };
                match self.artifacts.iter().find(named) {
                    Some(artifact) => reply(&[("content-type", OCI_MANIFEST)], artifact.manifest.clone()),
                    None => status(404),
                }
            }
            (Some(("blobs", name)), _) => {
                let mut layers = self.artifacts.iter().flat_map(|artifact| &artifact.layers);
                match layers.find(|(digest, _)| digest.to_string() == name) {
                    Some((_, text)) => reply(&[], text.clone()),
                    None => status(404),
                }
            }
            _ => status(404),
        }
    }

    async fn serve(&self, discovery: Discovery) -> Fake {
        let vector = self.clone();
        Fake::start(move |asked, _| vector.answer(discovery, asked)).await
    }
}

async fn fetch(
    fake: &Fake,
    subject: &Digest,
    bounds: &Bounds,
) -> Result<Evidence, berth_client::ClientError> {
    fetch_evidence(&fake.client(), &repository("a"), subject, bounds).await
}

#[rstest]
#[tokio::test]
async fn everything_that_cosign_stored_is_found(
    #[values(
        "classic-p256",
        "classic-two",
        "classic-twice",
        "bundle-two",
        "bundle-twice",
        "both",
        "attested-classic",
        "attested-bundle",
        "unsigned"
    )]
    name: &str,
    #[values(Discovery::Api, Discovery::Tag)] discovery: Discovery,
) {
    let vector = vector(name);
    let fake = vector.serve(discovery).await;
    let evidence = fetch(&fake, &vector.subject, &Bounds::default()).await.unwrap();
    assert_eq!(evidence.artifacts.len(), vector.artifacts.len());
    let key = |name| PublicKey::from_pem(&vectors(&format!("{name}.pub"))).unwrap();
    let keys = ["p256", "other"].map(key).map(Anchor::Key).into_iter().collect();
    let facts = Facts::establish(&evidence, &keys, &Bounds::default()).unwrap();
    let signers: BTreeSet<_> = facts.statements().map(|statement| &statement.by).collect();
    let expected = match name {
        "unsigned" => 0,
        "classic-two" | "bundle-two" | "both" | "attested-classic" => 2,
        _ => 1,
    };
    assert_eq!(signers.len(), expected);
    let sbom = Digest::sha256(b"sbom").to_string();
    assert!(
        fake.asked().iter().all(|asked| !asked.path().ends_with(&sbom)),
        "what is no signature is not fetched"
    );
    assert_eq!(evidence.described, None);
    let own = format!("/manifests/{}", vector.subject);
    assert!(fake.asked().iter().all(|asked| !asked.path().ends_with(&own)), "nor the image itself");
}

/// Notation signs media type and size of the image, too, so they are found out, whatever the artifact says of itself.
#[rstest]
#[case(kind::NOTARY)]
#[case("")]
#[tokio::test]
async fn what_notation_signed_comes_with_the_image_described(#[case] listed: &'static str) {
    let (image, envelope) = (r#"{"an":"image"}"#, "envelope");
    let subject = Digest::sha256(image.as_bytes());
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": kind::NOTARY, "digest": Digest::sha256(b"{}"), "size": 2},
        "layers": [{"mediaType": "application/jose+json", "digest": Digest::sha256(envelope.as_bytes()), "size": envelope.len()}],
        "subject": {"mediaType": OCI_INDEX, "digest": subject, "size": 1},
    })
    .to_string();
    let digest = Digest::sha256(manifest.as_bytes());
    let mut entry = serde_json::json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": manifest.len()});
    if !listed.is_empty() {
        entry["artifactType"] = listed.into();
    }
    let index =
        serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).to_string();
    let asked_for = subject.clone();
    let fake = Fake::start(move |asked, _| match asked.path().strip_prefix("/v2/a/") {
        Some(path) if path == format!("referrers/{subject}") => reply(&[], index.clone()),
        Some(path) if path == format!("manifests/{subject}") => {
            reply(&[("content-type", OCI_MANIFEST)], image)
        }
        Some(path) if path == format!("manifests/{digest}") => {
            reply(&[("content-type", OCI_MANIFEST)], manifest.clone())
        }
        Some(path) if path == format!("blobs/{}", Digest::sha256(envelope.as_bytes())) => {
            reply(&[], envelope)
        }
        _ => status(404),
    })
    .await;
    let evidence = fetch(&fake, &asked_for, &Bounds::default()).await.unwrap();
    let size = image.len() as u64;
    assert_eq!(evidence.described, Some(Described { media_type: OCI_MANIFEST.to_owned(), size }));
    let layers: Vec<_> = evidence.artifacts.iter().flat_map(|artifact| artifact.layers.values()).collect();
    assert_eq!(layers, [envelope.as_bytes()]);
}

/// An index above the image is the one that the tag points to, if it lists the image.
#[tokio::test]
async fn a_tag_may_point_to_an_index_above_the_image() {
    let vector = vector("both");
    let child = Digest::sha256(b"child");
    let list = |digest: &Digest| {
        let child = serde_json::json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": 1});
        serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child]}).to_string()
    };
    let (above, other) = (list(&child), list(&Digest::sha256(b"another")));
    let served = (above.clone(), vector.clone());
    let fake = Fake::start(move |asked, _| match asked.path() {
        "/v2/a/manifests/v1" => reply(&[("content-type", OCI_INDEX)], served.0.clone()),
        "/v2/a/manifests/v2" => reply(&[("content-type", OCI_INDEX)], other.clone()),
        "/v2/a/manifests/v3" => {
            reply(&[("content-type", OCI_MANIFEST)], served.1.artifacts[0].manifest.clone())
        }
        _ => status(404),
    })
    .await;
    let (client, bounds) = (fake.client(), Bounds::default());
    let index = async |tag: &str| {
        fetch_index(&client, &repository("a"), &tag.parse().unwrap(), &child, &bounds).await.unwrap()
    };
    let found = index("v1").await.unwrap();
    assert_eq!((found.digest, found.manifest), (Digest::sha256(above.as_bytes()), above.into_bytes()));
    for tag in ["v2", "v3", "v4"] {
        assert_eq!(index(tag).await, None, "{tag}");
    }
}

#[rstest]
#[case("/manifests/")]
#[case("/referrers/")]
#[case("/blobs/")]
#[tokio::test]
async fn a_question_that_is_not_answered_is_an_error(#[case] broken: &'static str) {
    let vector = vector("both");
    let served = vector.clone();
    let fake = Fake::start(move |asked, _| {
        if asked.path().contains(broken) { status(502) } else { served.answer(Discovery::Api, asked) }
    })
    .await;
    let error = fetch(&fake, &vector.subject, &Bounds::default()).await.unwrap_err();
    assert_eq!(error.reason(), "Unreachable", "{error}");
}

#[tokio::test]
async fn a_signature_without_its_layer_is_kept_for_the_verdict() {
    let vector = vector("both");
    let served = vector.clone();
    let fake = Fake::start(move |asked, _| {
        if asked.path().contains("/blobs/") { status(404) } else { served.answer(Discovery::Api, asked) }
    })
    .await;
    let evidence = fetch(&fake, &vector.subject, &Bounds::default()).await.unwrap();
    assert_eq!(evidence.artifacts.len(), 2);
    assert!(evidence.artifacts.iter().all(|artifact| artifact.layers.is_empty()));
}

#[rstest]
#[case(Bounds { referrers: 2, ..Bounds::default() }, "2 referrers")]
#[case(Bounds { layer: 100, ..Bounds::default() }, "100 bytes")]
#[case(Bounds { total: 1000, ..Bounds::default() }, "1000 bytes")]
#[tokio::test]
async fn more_than_the_bounds_is_not_read(#[case] bounds: Bounds, #[case] says: &str) {
    let vector = vector("bundle-two");
    let fake = vector.serve(Discovery::Api).await;
    let error = fetch(&fake, &vector.subject, &bounds).await.unwrap_err();
    assert_eq!(error.reason(), "TooLarge");
    assert!(error.to_string().contains(says), "{error}");
}

#[tokio::test]
async fn a_tag_is_resolved_by_hashing_what_it_points_to() {
    let fake = Fake::start(|asked, _| match asked.path() {
        "/v2/a/manifests/v1" => reply(&[], "{}"),
        _ => status(404),
    })
    .await;
    let image = |text: &str| text.parse().unwrap();
    let digest = resolve(&fake.client(), &image("r.io/a:v1")).await.unwrap();
    assert_eq!(digest, Digest::sha256(b"{}"));
    let pinned = format!("r.io/a:v1@{}", Digest::sha256(b"pinned"));
    assert_eq!(resolve(&fake.client(), &image(&pinned)).await.unwrap(), Digest::sha256(b"pinned"));
    assert!(resolve(&fake.client(), &image("r.io/a:v2")).await.unwrap_err().is_not_found());
}
