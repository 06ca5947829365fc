//! Pull: what GET and HEAD of manifests and blobs answer (distribution-spec "Pull").

use reqwest::Method;
use serde_json::json;

use crate::case::cases;
use crate::support::content::{Blob, Manifest, OCI_INDEX, OCI_MANIFEST, unique, unknown_digest};
use crate::support::http::{Outcome, Target};

cases! { pull, Pull:
    Spec "R-OCI-1" the_api_is_announced,
    Spec "R-OCI-1" a_blob_by_digest,
    Spec "R-OCI-1" an_empty_blob,
    Spec "R-OCI-1" a_large_blob,
    Spec "R-OCI-1" an_unknown_blob,
    Spec "R-OCI-1" a_blob_of_an_unknown_repository,
    Spec "R-OCI-6" a_blob_of_another_repository,
    Spec "R-OCI-3" a_manifest_by_tag,
    Spec "R-OCI-3" a_manifest_by_digest,
    Spec "R-OCI-3" a_manifest_is_never_converted,
    Spec "R-OCI-1" an_unknown_manifest,
    Spec "R-OCI-1" a_manifest_of_an_unknown_repository,
    Spec "R-OCI-6" a_manifest_of_another_repository,
    Spec "R-OCI-3" a_name_of_many_parts,
    Spec "R-OCI-3" the_longest_tag,
}

/// "Determining Support".
async fn the_api_is_announced(t: &Target) -> Outcome {
    t.get("/v2/").await?.status(&[200])?;
    t.call(Method::HEAD, "/v2/").send().await?.status(&[200])?.bytes(b"")?;
    Ok(())
}

async fn reads_back(t: &Target, blob: Blob) -> Outcome {
    let repo = t.fresh();
    repo.push_blob(&blob).await?;
    repo.blob(Method::GET, &blob.digest)
        .send()
        .await?
        .status(&[200])?
        .header("docker-content-digest", &blob.digest)?
        .header("content-length", blob.bytes.len())?
        .bytes(&blob.bytes)?;
    repo.blob(Method::HEAD, &blob.digest)
        .send()
        .await?
        .status(&[200])?
        .header("docker-content-digest", &blob.digest)?
        .header("content-length", blob.bytes.len())?
        .bytes(b"")?;
    Ok(())
}

/// "Pulling blobs", "Checking if content exists in the registry".
async fn a_blob_by_digest(t: &Target) -> Outcome {
    reads_back(t, Blob::random(1500)).await
}

/// Nothing says that a blob has a byte.
async fn an_empty_blob(t: &Target) -> Outcome {
    reads_back(t, Blob::new("", "application/octet-stream")).await
}

/// Larger than one part of a multipart upload.
async fn a_large_blob(t: &Target) -> Outcome {
    reads_back(t, Blob::random(17 << 20)).await
}

async fn an_unknown_blob(t: &Target) -> Outcome {
    let (repo, digest) = (t.fresh(), unknown_digest());
    repo.push_blob(&Blob::random(10)).await?;
    repo.blob(Method::GET, &digest).send().await?.refused(&[404], &["BLOB_UNKNOWN"])?;
    repo.blob(Method::HEAD, &digest).send().await?.status(&[404])?.bytes(b"")?;
    Ok(())
}

async fn a_blob_of_an_unknown_repository(t: &Target) -> Outcome {
    let (repo, digest) = (t.fresh(), unknown_digest());
    repo.blob(Method::GET, &digest).send().await?.refused(&[404], &["BLOB_UNKNOWN", "NAME_UNKNOWN"])?;
    repo.lacks_blob(&digest).await
}

/// Content is shared below, never across repositories.
async fn a_blob_of_another_repository(t: &Target) -> Outcome {
    let (theirs, ours, blob) = (t.fresh(), t.fresh(), Blob::random(100));
    theirs.push_blob(&blob).await?;
    ours.push_blob(&Blob::random(10)).await?;
    ours.blob(Method::GET, &blob.digest).send().await?.refused(&[404], &["BLOB_UNKNOWN"])?;
    ours.lacks_blob(&blob.digest).await
}

async fn manifest_under(t: &Target, reference: impl Fn(&Manifest) -> String) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    let reference = reference(&image);
    repo.push(&image, &reference).await?;
    let bytes = image.bytes();
    for (method, body) in [(Method::GET, &bytes[..]), (Method::HEAD, b"")] {
        repo.manifest(method, &reference)
            .header("accept", OCI_MANIFEST)
            .send()
            .await?
            .status(&[200])?
            .header("content-type", OCI_MANIFEST)?
            .header("docker-content-digest", image.digest())?
            .header("content-length", bytes.len())?
            .bytes(body)?;
    }
    Ok(())
}

/// "Pulling manifests".
async fn a_manifest_by_tag(t: &Target) -> Outcome {
    manifest_under(t, |_| "v1.0".into()).await
}

async fn a_manifest_by_digest(t: &Target) -> Outcome {
    manifest_under(t, Manifest::digest).await
}

/// Whatever a client accepts, a digest names the same bytes: what was pushed, or a refusal.
async fn a_manifest_is_never_converted(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    let several = format!("{OCI_INDEX}, {OCI_MANIFEST}, */*;q=0.1");
    for accept in ["*/*", "application/json", OCI_INDEX, several.as_str()] {
        let reply = repo.manifest(Method::GET, "v1").header("accept", accept).send().await?;
        if reply.status(&[200, 404, 406])?.status == 200 {
            reply.bytes(&image.bytes())?.header("content-type", OCI_MANIFEST)?;
        }
    }
    let unasked = repo.manifest(Method::GET, &image.digest()).send().await?;
    unasked.status(&[200])?.bytes(&image.bytes())?;
    Ok(())
}

async fn an_unknown_manifest(t: &Target) -> Outcome {
    let repo = t.fresh();
    repo.push(&Manifest::image(), "known").await?;
    for reference in [String::from("unknown"), unknown_digest()] {
        let reply = repo.manifest(Method::GET, &reference).send().await?;
        reply.refused(&[404], &["MANIFEST_UNKNOWN"])?;
        repo.manifest(Method::HEAD, &reference).send().await?.status(&[404])?.bytes(b"")?;
    }
    Ok(())
}

async fn a_manifest_of_an_unknown_repository(t: &Target) -> Outcome {
    let repo = t.fresh();
    repo.lacks_manifest("latest").await?;
    repo.lacks_manifest(&unknown_digest()).await
}

async fn a_manifest_of_another_repository(t: &Target) -> Outcome {
    let (theirs, ours, image) = (t.fresh(), t.fresh(), Manifest::image());
    theirs.push(&image, "v1").await?;
    ours.push(&Manifest::image(), "v2").await?;
    ours.lacks_manifest(&image.digest()).await?;
    ours.lacks_manifest("v1").await
}

/// Every separator that the grammar of names has, and a name near the length that clients allow.
async fn a_name_of_many_parts(t: &Target) -> Outcome {
    let id = format!("{:016x}", unique());
    let long = format!("conformance/{id}/{}", vec!["part"; 32].join("/"));
    for name in [id.clone(), format!("c/{id}/a.b_c__d-e--f/0/{id}"), long] {
        let (repo, image) = (t.repository(&name), Manifest::image());
        repo.push(&image, "v1").await?;
        repo.has_manifest(&image, "v1").await?;
        repo.tags("").send().await?.status(&[200])?;
    }
    Ok(())
}

/// 128 characters, all kinds of them.
async fn the_longest_tag(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image().with("annotations", json!({"tag": "long"})));
    let tag = format!("_Az09.-_{}", "x".repeat(120));
    repo.push(&image, &tag).await?;
    repo.has_manifest(&image, &tag).await
}
