//! Push and pull by sha512, announced with `digest-algorithm` or only by the digest at the end:
//! clients of version 1.1 know nothing of the parameter.

use reqwest::Method;
use serde_json::json;

use crate::case::cases;
use crate::support::content::{Blob, Manifest, OCI_MANIFEST, sha512};
use crate::support::http::{Failure, Outcome, Target};
use crate::support::repository::Repository;

cases! { sha512, Push:
    Spec "R-OCI-1" a_blob_by_post_then_put,
    Spec "R-OCI-1" a_blob_by_a_single_post,
    Spec "R-OCI-1" a_blob_as_a_stream,
    Spec "R-OCI-1" a_blob_in_chunks,
    Spec "R-OCI-1" an_empty_blob,
    Spec "R-OCI-1" a_blob_that_is_another,
    Spec "R-OCI-1" a_mounted_blob,
    Spec "R-OCI-1" a_manifest,
    Spec "R-OCI-1" an_index,
    Spec "R-OCI-1" a_manifest_that_is_another,
    Berth "R-OCI-1" an_announced_algorithm,
    Berth "R-OCI-1" an_unknown_algorithm,
    Berth "R-OCI-1" a_mixed_image,
    Berth "R-OCI-5" a_referrer,
}

async fn stands(repo: &Repository, blob: &Blob) -> Outcome {
    let reply = repo.blob(Method::HEAD, &blob.digest).send().await?;
    reply.status(&[200])?.header("docker-content-digest", &blob.digest)?;
    repo.has_blob(blob).await
}

async fn a_blob_by_post_then_put(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(900).as_sha512());
    repo.push_blob(&blob).await?;
    stands(&repo, &blob).await
}

async fn a_blob_by_a_single_post(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(900).as_sha512());
    let path = format!("blobs/uploads/?digest={}", blob.digest);
    let reply = repo.call(Method::POST, &path).body(blob.bytes.clone()).send().await?;
    if reply.status(&[201, 202])?.status == 202 {
        repo.finish(&reply.location()?, &blob.digest, &blob.bytes).send().await?.status(&[201])?;
    }
    stands(&repo, &blob).await
}

async fn a_blob_as_a_stream(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(90_000).as_sha512());
    let at = repo.begin().await?;
    let reply = t.call_url(Method::PATCH, at).streamed(vec![blob.bytes.clone()]).send().await?;
    let at = reply.status(&[202])?.location()?;
    repo.finish(&at, &blob.digest, b"").send().await?.status(&[201])?;
    stands(&repo, &blob).await
}

/// Two chunks; large ones, so that the first leaves memory before the algorithm is known.
async fn in_chunks(repo: &Repository, begin: &str, blob: &Blob) -> Outcome {
    let reply = repo.post_upload(begin).send().await?;
    let at = reply.status(&[202])?.location()?;
    let middle = blob.bytes.len() / 2;
    let reply = repo.chunk(Method::PATCH, at, 0, &blob.bytes[..middle]).send().await?;
    let reply = repo
        .chunk(Method::PATCH, reply.status(&[202])?.location()?, middle, &blob.bytes[middle..])
        .send()
        .await?;
    let at = reply.status(&[202])?.location()?;
    repo.finish(&at, &blob.digest, b"").send().await?.status(&[201])?;
    stands(repo, blob).await
}

async fn a_blob_in_chunks(t: &Target) -> Outcome {
    in_chunks(&t.fresh(), "", &Blob::random(13 << 20).as_sha512()).await
}

async fn an_empty_blob(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::new("", "application/octet-stream").as_sha512());
    repo.push_blob(&blob).await?;
    stands(&repo, &blob).await
}

async fn a_blob_that_is_another(t: &Target) -> Outcome {
    let (repo, promised, sent) = (t.fresh(), Blob::random(900).as_sha512(), Blob::random(900));
    let at = repo.begin().await?;
    let reply = repo.finish(&at, &promised.digest, &sent.bytes).send().await?;
    reply.refused(&[400], &["DIGEST_INVALID"])?;
    repo.lacks_blob(&promised.digest).await
}

async fn a_mounted_blob(t: &Target) -> Outcome {
    let (theirs, ours, blob) = (t.fresh(), t.fresh(), Blob::random(900).as_sha512());
    theirs.push_blob(&blob).await?;
    let reply = ours.post_upload(&format!("?mount={}&from={}", blob.digest, theirs.name)).send().await?;
    if reply.status(&[201, 202])?.status == 202 {
        return Err(Failure("a sha512 blob is not mounted".into()));
    }
    stands(&ours, &blob).await
}

async fn a_manifest(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    let digest = sha512(&image.bytes());
    let reply = repo.push(&image, &digest).await?;
    reply.header("docker-content-digest", &digest)?;
    for method in [Method::GET, Method::HEAD] {
        let reply = repo.manifest(method, &digest).header("accept", OCI_MANIFEST).send().await?;
        reply.status(&[200])?.header("docker-content-digest", &digest)?;
    }
    repo.has_manifest(&image, &digest).await?;
    repo.manifest(Method::DELETE, &digest).send().await?.status(&[202])?;
    repo.lacks_manifest(&digest).await
}

/// Every descriptor by sha512, from the index to the layers.
async fn an_index(t: &Target) -> Outcome {
    let repo = t.fresh();
    let mut index = Manifest::index_of(&[]);
    for _ in 0..2 {
        let image = Manifest::image_of(Blob::config().as_sha512(), vec![Blob::random(100).as_sha512()]);
        let digest = sha512(&image.bytes());
        repo.push(&image, &digest).await?;
        let mut child = image.descriptor();
        child["digest"] = json!(digest);
        index.document["manifests"].as_array_mut().into_iter().for_each(|list| list.push(child.clone()));
    }
    let digest = sha512(&index.bytes());
    repo.push(&index, &digest).await?.header("docker-content-digest", &digest)?;
    repo.has_manifest(&index, &digest).await
}

async fn a_manifest_that_is_another(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push_blobs_of(&image).await?;
    let reply = repo.put_manifest(&image, &sha512(b"something else")).send().await?;
    reply.refused(&[400], &["DIGEST_INVALID", "MANIFEST_INVALID"])?;
    Ok(())
}

/// distribution-spec 1.2: the parameter lets a server hash while the bytes pass.
async fn an_announced_algorithm(t: &Target) -> Outcome {
    let repo = t.fresh();
    in_chunks(&repo, "?digest-algorithm=sha512", &Blob::random(3000).as_sha512()).await?;
    in_chunks(&repo, "?digest-algorithm=sha256", &Blob::random(3000)).await?;
    // A promise that is not kept costs a second reading, not the upload.
    in_chunks(&repo, "?digest-algorithm=sha256", &Blob::random(3000).as_sha512()).await?;
    in_chunks(&repo, "?digest-algorithm=sha512", &Blob::random(3000)).await
}

async fn an_unknown_algorithm(t: &Target) -> Outcome {
    for name in ["md5", "sha1", "SHA512", "sha512:", ""] {
        let reply = t.fresh().post_upload(&format!("?digest-algorithm={name}")).send().await?;
        reply.refused(&[400], &["DIGEST_INVALID", "UNSUPPORTED"])?;
    }
    Ok(())
}

/// One image whose parts are named by different algorithms.
async fn a_mixed_image(t: &Target) -> Outcome {
    let repo = t.fresh();
    let image =
        Manifest::image_of(Blob::config().as_sha512(), vec![Blob::random(100), Blob::random(90).as_sha512()]);
    repo.push(&image, "mixed").await?;
    repo.has_manifest(&image, "mixed").await
}

/// A subject named by sha512 has its own list.
async fn a_referrer(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    let digest = sha512(&image.bytes());
    repo.push(&image, &digest).await?;
    let mut subject = image.descriptor();
    subject["digest"] = json!(digest);
    let artifact = Manifest::artifact("application/vnd.example.note").with("subject", subject);
    repo.push_untagged(&artifact).await?.header("oci-subject", &digest)?;
    let list = repo.referrers(&digest).send().await?.status(&[200])?.json()?;
    let found = list["manifests"][0]["digest"] == json!(artifact.digest());
    crate::support::http::ensure!(found, "the referrer is not listed: {list}");
    Ok(())
}
