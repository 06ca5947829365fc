//! Push beyond the specification: what Berth promises about manifests so that two racing jobs do not
//! overwrite each other: `ETag`, `If-Match`, `If-None-Match`, several tags in one request, no manifest
//! without its content.

use reqwest::Method;

use crate::case::cases;
use crate::support::content::{Manifest, OCI_MANIFEST};
use crate::support::http::{Failure, Outcome, Target, ensure};
use crate::support::repository::Repository;

cases! { conditional, Push:
    Berth "R-OCI-1" a_manifest_without_its_content,
    Berth "R-OCI-1" a_revalidated_pull,
    Berth "R-OCI-1" create_only,
    Berth "R-OCI-1" replace_what_was_seen,
    Berth "R-OCI-1" delete_what_was_seen,
    Berth "R-OCI-1" one_of_many_creators_wins,
    Berth "R-OCI-1" one_of_many_movers_wins,
    Berth "R-OCI-1" several_tags_in_one_request,
    Berth "R-OCI-1" several_tags_of_which_one_is_none,
    Berth "R-OCI-1" a_manifest_too_large,
}

/// Berth keeps no manifest that cannot be pulled whole.
async fn a_manifest_without_its_content(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    let refused = |manifest: Manifest| {
        let repo = repo.clone();
        async move {
            let reply = repo.put_manifest(&manifest, "v1").send().await?;
            let missing = reply.refused(&[400, 404, 422], &["MANIFEST_BLOB_UNKNOWN"])?.json()?;
            let named = manifest.document.to_string();
            let detail = missing["errors"][0]["detail"].to_string();
            let digest = detail.split("sha256:").nth(1).and_then(|rest| rest.get(..64)).unwrap_or("none");
            ensure!(named.contains(digest), "the error names no missing digest: {missing}");
            repo.lacks_manifest("v1").await
        }
    };
    refused(image.clone()).await?;
    repo.push_blob(&image.blobs[0]).await?;
    repo.push_blob(&image.blobs[1]).await?;
    refused(image.clone()).await?;
    refused(Manifest::index_of(&[&image])).await?;
    repo.push(&image, "v1").await?;
    repo.put_manifest(&Manifest::index_of(&[&image]), "v2").send().await?.status(&[201])?;
    Ok(())
}

async fn etag(repo: &Repository, reference: &str) -> Result<String, Failure> {
    let head = repo.manifest(Method::HEAD, reference).header("accept", OCI_MANIFEST).send().await?;
    Ok(head.status(&[200])?.value("etag")?.to_owned())
}

/// A client that has the bytes is told so in few.
async fn a_revalidated_pull(t: &Target) -> Outcome {
    let (repo, old, new) = (t.fresh(), Manifest::image(), Manifest::image());
    repo.push(&old, "v1").await?;
    let seen = etag(&repo, "v1").await?;
    let again = || repo.manifest(Method::GET, "v1").header("if-none-match", &seen).send();
    again().await?.status(&[304])?.bytes(b"")?;
    repo.push(&new, "v1").await?;
    again().await?.status(&[200])?.bytes(&new.bytes())?;
    Ok(())
}

async fn create_only(t: &Target) -> Outcome {
    let (repo, first, second) = (t.fresh(), Manifest::image(), Manifest::image());
    repo.push_blobs_of(&first).await?;
    repo.push_blobs_of(&second).await?;
    let create = |image: &Manifest| repo.put_manifest(image, "v1").header("if-none-match", "*").send();
    create(&first).await?.status(&[201])?;
    create(&second).await?.refused(&[412], &["DENIED", "MANIFEST_INVALID", "UNSUPPORTED"])?;
    repo.has_manifest(&first, "v1").await
}

async fn replace_what_was_seen(t: &Target) -> Outcome {
    let (repo, first, second, third) = (t.fresh(), Manifest::image(), Manifest::image(), Manifest::image());
    repo.push(&first, "v1").await?;
    repo.push_blobs_of(&second).await?;
    repo.push_blobs_of(&third).await?;
    let seen = etag(&repo, "v1").await?;
    let replace = |image: &Manifest| repo.put_manifest(image, "v1").header("if-match", &seen).send();
    replace(&second).await?.status(&[201])?;
    replace(&third).await?.refused(&[412], &[])?;
    repo.has_manifest(&second, "v1").await?;
    let absent = repo.put_manifest(&third, "v2").header("if-match", &seen).send().await?;
    absent.refused(&[412], &[])?;
    repo.lacks_manifest("v2").await
}

async fn delete_what_was_seen(t: &Target) -> Outcome {
    let (repo, first, second) = (t.fresh(), Manifest::image(), Manifest::image());
    repo.push(&first, "v1").await?;
    let seen = etag(&repo, "v1").await?;
    repo.push(&second, "v1").await?;
    let delete = |seen: &str| repo.manifest(Method::DELETE, "v1").header("if-match", seen).send();
    delete(&seen).await?.refused(&[412], &[])?;
    repo.has_manifest(&second, "v1").await?;
    delete(&etag(&repo, "v1").await?).await?.status(&[202])?;
    repo.lacks_manifest("v1").await
}

/// Sends one conditional PUT for each image at once: exactly one is told 201, and it is what stands.
async fn exactly_one_wins(
    repo: &Repository,
    images: &[Manifest],
    header: &'static str,
    value: &str,
) -> Outcome {
    let puts = images.iter().map(|image| repo.put_manifest(image, "v1").header(header, value).send());
    let replies = futures::future::try_join_all(puts).await?;
    let winners: Vec<_> = replies.iter().zip(images).filter(|(reply, _)| reply.status == 201).collect();
    for reply in &replies {
        reply.status(&[201, 412])?;
    }
    ensure!(winners.len() == 1, "{} of {} conditional pushes won", winners.len(), images.len());
    repo.has_manifest(winners[0].1, "v1").await
}

async fn ten_images(repo: &Repository) -> Result<Vec<Manifest>, Failure> {
    let images: Vec<_> = (0..10).map(|_| Manifest::image()).collect();
    futures::future::try_join_all(images.iter().map(|image| repo.push_blobs_of(image))).await?;
    Ok(images)
}

async fn one_of_many_creators_wins(t: &Target) -> Outcome {
    let repo = t.fresh();
    let images = ten_images(&repo).await?;
    exactly_one_wins(&repo, &images, "if-none-match", "*").await
}

async fn one_of_many_movers_wins(t: &Target) -> Outcome {
    let repo = t.fresh();
    let images = ten_images(&repo).await?;
    repo.push(&Manifest::image(), "v1").await?;
    let seen = etag(&repo, "v1").await?;
    exactly_one_wins(&repo, &images, "if-match", &seen).await
}

/// distribution-spec 1.2: `?tag=` with a digest, ten and more of them, each answered in `OCI-Tag`.
async fn several_tags_in_one_request(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push_blobs_of(&image).await?;
    let tags: Vec<_> = (0..12).map(|i| format!("v{i}")).collect();
    let query = tags.iter().map(|tag| format!("tag={tag}")).collect::<Vec<_>>().join("&");
    let reply = repo.put_manifest(&image, &format!("{}?{query}", image.digest())).send().await?;
    let values = reply.status(&[201])?.headers.get_all("oci-tag");
    let told: Vec<_> =
        values.iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).map(str::trim).collect();
    for tag in &tags {
        ensure!(told.contains(&tag.as_str()), "OCI-Tag does not name {tag}: {told:?}");
        repo.has_manifest(&image, tag).await?;
    }
    Ok(())
}

async fn several_tags_of_which_one_is_none(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push_blobs_of(&image).await?;
    let reply = repo.put_manifest(&image, &format!("{}?tag=good&tag=.bad", image.digest())).send().await?;
    reply.refused(&[400], &[])?;
    repo.lacks_manifest("good").await
}

/// A limit that is told: 413, not a broken connection.
async fn a_manifest_too_large(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image().annotated(&[("large", &"A".repeat(9 << 20))]));
    repo.push_blobs_of(&image).await?;
    let reply = repo.put_manifest(&image, "v1").send().await?;
    reply.refused(&[413], &["MANIFEST_INVALID", "SIZE_INVALID"])?;
    repo.lacks_manifest("v1").await
}
