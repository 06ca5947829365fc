//! Evidence from a Berth registry: one question, and nothing in the answer is believed that its digest does not bear out.
//! Shows R-SIG-1.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of this crate is test code")]

mod support;

use std::collections::BTreeMap;

use axum::{body::Body, http::Response};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use berth_client::{Client, evidence::fetch_evidence, examine::examine};
use berth_registry_core::{Digest, ImageReference, manifest::OCI_MANIFEST};
use berth_trust::{Anchor, Anchors, Bounds, Facts, PublicKey};
use rstest::rstest;
use serde::Deserialize;
use serde_json::{Value, json};
use support::{Asked, Fake, reply, repository, status};

#[derive(Clone, Deserialize)]
struct Vector {
    artifacts: Vec<Artifact>,
}

#[derive(Clone, Deserialize)]
struct Artifact {
    manifest: String,
    layers: BTreeMap<Digest, String>,
}

fn vectors(name: &str) -> String {
    let path = format!("{}/../trust/tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn anchors() -> Anchors {
    Anchors::from_iter([Anchor::Key(PublicKey::from_pem(&vectors("p256.pub")).unwrap())])
}

/// An image with two signatures by `cosign`, as a registry holds it: the answer of the one question, and the pieces by path.
struct Signed {
    digest: Digest,
    pack: Value,
    pieces: BTreeMap<String, String>,
}

impl Signed {
    /// With a signature under its tag and one as a referrer.
    fn new() -> Self {
        // The signatures are for another image; what is asked for and what is believed is the same.
        let image =
            json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": {}, "layers": []}).to_string();
        let digest = Digest::sha256(image.as_bytes());
        let Vector { artifacts } = serde_json::from_str(&vectors("both.json")).unwrap();
        let [tag, none] = ["sig", "att"].map(|end| format!("{}.{end}", digest.referrers_tag()));
        let mut signed = Self {
            pack: json!({"digest": digest, "tags": {&tag: null, &none: null}, "referrers": [], "manifests": {}, "blobs": {}}),
            pieces: BTreeMap::new(),
            digest,
        };
        signed.manifest(&image, "v1");
        for artifact in artifacts {
            let (bytes, is_referrer) = (&artifact.manifest, artifact.manifest.contains("\"subject\""));
            let digest = signed.manifest(bytes, if is_referrer { "no-tag" } else { &tag });
            if is_referrer {
                let entry = json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": bytes.len()});
                signed.pack["referrers"].as_array_mut().unwrap().push(entry);
            } else {
                signed.pack["tags"][&tag] = json!(digest);
            }
            for (layer, text) in artifact.layers {
                signed.pack["blobs"][layer.as_str()] = BASE64_STANDARD.encode(&text).into();
                signed.pieces.insert(format!("/v2/a/blobs/{layer}"), text);
            }
        }
        let referrers = json!({"schemaVersion": 2, "manifests": signed.pack["referrers"]}).to_string();
        signed.pieces.insert(format!("/v2/a/referrers/{}", signed.digest), referrers);
        signed
    }

    fn manifest(&mut self, text: &str, tag: &str) -> Digest {
        let digest = Digest::sha256(text.as_bytes());
        self.pack["manifests"][digest.as_str()] =
            json!({"mediaType": OCI_MANIFEST, "bytes": BASE64_STANDARD.encode(text)});
        for name in [tag, digest.as_str()] {
            self.pieces.insert(format!("/v2/a/manifests/{name}"), text.to_owned());
        }
        digest
    }

    fn answer(&self, pack: &Value, asked: &Asked) -> Response<Body> {
        if asked.path() == "/berth/v1/evidence" {
            return if pack.is_null() { status(404) } else { reply(&[], pack.to_string()) };
        }
        match self.pieces.get(asked.path()) {
            Some(text) if asked.path().contains("/manifests/") => {
                reply(&[("content-type", OCI_MANIFEST)], text.clone())
            }
            Some(text) => reply(&[], text.clone()),
            None => status(404),
        }
    }

    /// A registry with this content, which answers the question with `pack`.
    async fn serve(pack: impl FnOnce(&mut Value)) -> (Self, Fake) {
        let signed = Self::new();
        let mut answer = signed.pack.clone();
        pack(&mut answer);
        let served = Self { digest: signed.digest.clone(), pack: Value::Null, pieces: signed.pieces.clone() };
        let served = std::sync::Arc::new(served);
        let fake = Fake::start(move |asked, _| served.answer(&answer, asked)).await;
        (signed, fake)
    }
}

fn berth(fake: &Fake) -> Client {
    fake.client_with(|endpoint| endpoint.is_berth = true)
}

async fn facts(client: &Client, image: &str) -> Option<Facts> {
    let image: ImageReference = image.parse().unwrap();
    examine(client, &image, &anchors(), &Bounds::default()).await.unwrap()
}

/// An image that was never seen before costs one request, by tag and by digest; what comes out is what asking for each
/// piece gives.
#[tokio::test]
async fn one_question_is_enough() {
    let (signed, fake) = Signed::serve(|_| {}).await;
    let by_tag = facts(&berth(&fake), "r.io/a:v1").await.unwrap();
    assert_eq!(fake.asked().len(), 1);
    assert_eq!(fake.asked()[0].query(), "repository=a&reference=v1");
    let by_digest = facts(&berth(&fake), &format!("r.io/a@{}", signed.digest)).await.unwrap();
    assert_eq!(fake.asked().len(), 2);
    let piece_by_piece = facts(&fake.client(), "r.io/a:v1").await.unwrap();
    assert_eq!((&by_tag, &by_digest), (&piece_by_piece, &piece_by_piece));
    assert_eq!(by_tag.refusals().count(), 2);
    assert!(fake.asked().len() > 5, "each piece was asked for");
}

/// What the answer leaves out, or does not hold as its digest says, is asked for by itself.
#[rstest]
#[case::a_layer_is_left_out(|pack: &mut Value| pack["blobs"] = json!({}))]
#[case::a_layer_is_altered(|pack: &mut Value| for blob in pack["blobs"].as_object_mut().unwrap().values_mut() {
    *blob = BASE64_STANDARD.encode("other").into();
})]
#[case::no_base64(|pack: &mut Value| for blob in pack["blobs"].as_object_mut().unwrap().values_mut() {
    *blob = "?".into();
})]
#[case::no_list_of_referrers(|pack: &mut Value| { pack.as_object_mut().unwrap().remove("referrers"); })]
#[case::no_tags(|pack: &mut Value| pack["tags"] = json!({}))]
#[case::an_older_registry(|pack: &mut Value| *pack = Value::Null)]
#[tokio::test]
async fn the_rest_is_asked_for(#[case] change: fn(&mut Value)) {
    let (signed, fake) = Signed::serve(change).await;
    let found = facts(&berth(&fake), "r.io/a:v1").await.unwrap();
    assert_eq!(found, facts(&fake.client(), "r.io/a:v1").await.unwrap());
    let bounds = Bounds::default();
    let evidence = fetch_evidence(&berth(&fake), &repository("a"), &signed.digest, &bounds).await.unwrap();
    assert_eq!(evidence.artifacts.len(), 2);
}

/// Resolve once, and hash what the tag points to (CVE-2022-47633): a digest without its bytes is nobody's.
#[rstest]
#[case::bytes_of_something_else(|pack: &mut Value| {
    let digest = pack["digest"].as_str().unwrap().to_owned();
    pack["manifests"][digest]["bytes"] = BASE64_STANDARD.encode("{}").into();
})]
#[case::no_bytes(|pack: &mut Value| pack["manifests"] = json!({}))]
#[case::another_digest(|pack: &mut Value| pack["digest"] = json!(Digest::sha256(b"signed by us")))]
#[tokio::test]
async fn an_answer_about_something_else_is_refused(#[case] change: fn(&mut Value)) {
    let (signed, fake) = Signed::serve(change).await;
    for image in ["r.io/a:v1".to_owned(), format!("r.io/a@{}", signed.digest)] {
        let image: ImageReference = image.parse().unwrap();
        let error = examine(&berth(&fake), &image, &anchors(), &Bounds::default()).await.unwrap_err();
        assert_eq!(error.reason(), "Protocol", "{error}");
    }
}

#[tokio::test]
async fn an_image_that_is_not_there_is_no_error() {
    let (_, fake) = Signed::serve(|pack| *pack = Value::Null).await;
    assert!(facts(&berth(&fake), "r.io/a:v2").await.is_none());
    assert_eq!(fake.asked().len(), 2);
}
