//! Push: documents that are no manifests. Each is refused with a code of the specification, and
//! nothing of it can be pulled afterwards.

use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};

use crate::case::cases;
use crate::support::content::{DOCKER_MANIFEST, Manifest, OCI_INDEX, OCI_MANIFEST};
use crate::support::http::{Failure, Outcome, Target};

cases! { refusals, Push:
    Spec "R-OCI-3" bytes_that_are_no_manifest,
    Spec "R-OCI-3" fields_that_are_wrong,
    Spec "R-OCI-3" indexes_that_are_wrong,
    Spec "R-OCI-3" a_type_that_contradicts_the_document,
    Spec "R-OCI-3" types_that_are_no_manifest,
    Spec "R-OCI-3" depth_and_number_without_end,
    Spec "R-OCI-5" subjects_that_are_wrong,
}

/// PUT of these bytes is refused; what is wrong with them says `what`.
async fn refused(t: &Target, what: &str, kind: &str, bytes: impl Into<Bytes>) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push_blobs_of(&image).await?;
    let put = repo.manifest(Method::PUT, "v1").header("content-type", kind).body(bytes).send().await?;
    let codes = &["MANIFEST_INVALID", "DIGEST_INVALID", "SIZE_INVALID", "UNSUPPORTED"];
    put.refused(&[400, 413, 415, 422], codes).map_err(|f| Failure(format!("{what}: {f}")))?;
    repo.lacks_manifest("v1").await
}

async fn bytes_that_are_no_manifest(t: &Target) -> Outcome {
    let whole = Manifest::image().bytes();
    let documents: [(&str, Bytes); 9] = [
        ("nothing", Bytes::new()),
        ("text", Bytes::from_static(b"not JSON")),
        ("a list", Bytes::from_static(b"[]")),
        ("null", Bytes::from_static(b"null")),
        ("a number", Bytes::from_static(b"42")),
        ("an empty object", Bytes::from_static(b"{}")),
        ("half a manifest", whole.slice(..whole.len() / 2)),
        ("two manifests", [&whole[..], &whole[..]].concat().into()),
        ("bytes that are not UTF-8", Bytes::from_static(b"{\"schemaVersion\":2,\"mediaType\":\"\xff\xfe\"}")),
    ];
    for (what, bytes) in documents {
        refused(t, what, OCI_MANIFEST, bytes).await?;
    }
    Ok(())
}

/// A good manifest with one thing made wrong: the JSON pointer, and the value put there.
async fn wrong_fields(t: &Target, good: &Manifest, faults: &[(&str, Value)]) -> Outcome {
    for (pointer, value) in faults {
        let mut document = good.document.clone();
        let place = document.pointer_mut(pointer);
        *place.ok_or_else(|| Failure(format!("the test's own manifest has no {pointer}")))? = value.clone();
        refused(t, &format!("{pointer} = {value}"), &good.media_type, document.to_string()).await?;
    }
    Ok(())
}

async fn fields_that_are_wrong(t: &Target) -> Outcome {
    let good = Manifest::image();
    let faults = [
        ("/schemaVersion", json!(1)),
        ("/schemaVersion", json!(3)),
        ("/schemaVersion", json!("2")),
        ("/schemaVersion", json!(null)),
        ("/config", json!("sha256")),
        ("/config", json!({})),
        ("/config/digest", json!("sha256:short")),
        ("/config/digest", json!(7)),
        ("/config/size", json!(-1)),
        ("/config/size", json!("700")),
        ("/layers", json!({})),
        ("/layers", json!("layers")),
        ("/layers/0", json!(null)),
        ("/layers/0", json!({})),
        ("/layers/0/digest", json!("")),
        ("/layers/0/digest", json!("../../etc/passwd")),
        ("/layers/0/digest", json!(format!("sha256:{}", "A".repeat(64)))),
        ("/layers/0/digest", json!(format!("md5:{}", "a".repeat(32)))),
        ("/layers/0/size", json!(1.5)),
        ("/layers/0/size", json!(-700)),
    ];
    wrong_fields(t, &good, &faults).await
}

async fn indexes_that_are_wrong(t: &Target) -> Outcome {
    let good = Manifest::index_of(&[&Manifest::image()]);
    let faults = [
        ("/schemaVersion", json!(1)),
        ("/manifests", json!({})),
        ("/manifests", json!("manifests")),
        ("/manifests/0", json!(null)),
        ("/manifests/0/digest", json!("sha256:short")),
        ("/manifests/0/size", json!(-1)),
    ];
    wrong_fields(t, &good, &faults).await
}

async fn a_type_that_contradicts_the_document(t: &Target) -> Outcome {
    let (image, index) = (Manifest::image(), Manifest::index_of(&[]));
    refused(t, "an image sent as an index", OCI_INDEX, image.bytes()).await?;
    refused(t, "an index sent as an image", OCI_MANIFEST, index.bytes()).await?;
    refused(t, "an OCI image sent as Docker's", DOCKER_MANIFEST, image.bytes()).await
}

/// Docker's first schema is signed text of another age; the others are no manifests at all.
async fn types_that_are_no_manifest(t: &Target) -> Outcome {
    let bytes = Manifest::image().bytes();
    let kinds = [
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "text/plain",
        "application/octet-stream",
        "no type",
    ];
    for kind in kinds {
        refused(t, kind, kind, bytes.clone()).await?;
    }
    Ok(())
}

/// Documents that are small to send and large to understand.
async fn depth_and_number_without_end(t: &Target) -> Outcome {
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    refused(t, "200,000 lists in each other", OCI_MANIFEST, deep).await?;
    let huge = Manifest::image().document.to_string().replace("\"size\":700", "\"size\":1e400");
    refused(t, "a size without end", OCI_MANIFEST, huge).await?;
    let large =
        Manifest::image().document.to_string().replace("\"size\":700", "\"size\":99999999999999999999");
    refused(t, "a size beyond 64 bits", OCI_MANIFEST, large).await
}

async fn subjects_that_are_wrong(t: &Target) -> Outcome {
    let good = Manifest::artifact("application/vnd.example.note").about(&Manifest::image());
    let faults = [
        ("/subject", json!("sha256")),
        ("/subject", json!([])),
        ("/subject", json!({})),
        ("/subject/digest", json!("sha256:short")),
        ("/subject/digest", json!("../manifests/v1")),
        ("/artifactType", json!(7)),
        ("/artifactType", json!({"a": 1})),
    ];
    for (pointer, value) in faults {
        let mut document = good.document.clone();
        if let Some(place) = document.pointer_mut(pointer) {
            *place = value.clone();
        }
        let repo = t.fresh();
        repo.push_blobs_of(&good).await?;
        let put =
            repo.manifest(Method::PUT, "v1").header("content-type", OCI_MANIFEST).body(document.to_string());
        let reply = put.send().await?;
        reply
            .refused(&[400, 422], &["MANIFEST_INVALID", "DIGEST_INVALID"])
            .map_err(|f| Failure(format!("{pointer} = {value}: {f}")))?;
    }
    Ok(())
}
