//! Content management: what deletion removes, what it leaves, and that what was deleted can be pushed
//! again (distribution-spec "Content Management").

use reqwest::Method;

use crate::case::cases;
use crate::support::content::{Blob, Manifest, unknown_digest};
use crate::support::http::{Outcome, Target, ensure};

cases! { management, Management:
    Spec "R-OCI-1" a_tag,
    Spec "R-OCI-1" a_manifest_with_its_tags,
    Spec "R-OCI-1" a_blob,
    Spec "R-OCI-1" an_index_but_not_its_children,
    Spec "R-OCI-1" what_is_not_there,
    Spec "R-OCI-1" what_was_never_a_repository,
    Spec "R-OCI-1" pushed_again_after_deletion,
    Spec "R-OCI-6" only_in_one_repository,
    Spec "R-OCI-1" references_that_are_none,
    Berth "R-OCI-1" what_others_need,
    Berth "R-OCI-1" all_of_a_repository,
    Berth "R-OCI-1" by_many_at_once,
}

/// "Deleting tags": the manifest and its other tags stay.
async fn a_tag(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    repo.push(&image, "v2").await?;
    repo.manifest(Method::DELETE, "v1").send().await?.status(&[202])?;
    repo.lacks_manifest("v1").await?;
    repo.has_manifest(&image, "v2").await?;
    repo.has_manifest(&image, &image.digest()).await?;
    let tags = repo.tag_list("").await?;
    ensure!(tags == ["v2"], "the list still has {tags:?}");
    Ok(())
}

/// "Deleting Manifests": every tag that points there goes too.
async fn a_manifest_with_its_tags(t: &Target) -> Outcome {
    let (repo, gone, kept) = (t.fresh(), Manifest::image(), Manifest::image());
    for tag in ["v1", "v2"] {
        repo.push(&gone, tag).await?;
    }
    repo.push(&gone, "moved").await?;
    repo.push(&kept, "moved").await?;
    repo.manifest(Method::DELETE, &gone.digest()).send().await?.status(&[202])?;
    for reference in ["v1", "v2", &gone.digest()] {
        repo.lacks_manifest(reference).await?;
        repo.manifest(Method::HEAD, reference).send().await?.status(&[404])?;
    }
    repo.has_manifest(&kept, "moved").await?;
    let tags = repo.tag_list("").await?;
    ensure!(tags == ["moved"], "the list still has {tags:?}");
    Ok(())
}

/// "Deleting Blobs".
async fn a_blob(t: &Target) -> Outcome {
    let (repo, gone, kept) = (t.fresh(), Blob::random(100), Blob::random(100));
    repo.push_blob(&gone).await?;
    repo.push_blob(&kept).await?;
    repo.blob(Method::DELETE, &gone.digest).send().await?.status(&[202])?;
    repo.lacks_blob(&gone.digest).await?;
    repo.blob(Method::GET, &gone.digest).send().await?.refused(&[404], &["BLOB_UNKNOWN"])?;
    repo.has_blob(&kept).await
}

async fn an_index_but_not_its_children(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push_untagged(&image).await?;
    let index = Manifest::index_of(&[&image]);
    repo.push(&index, "v1").await?;
    repo.manifest(Method::DELETE, &index.digest()).send().await?.status(&[202])?;
    repo.lacks_manifest("v1").await?;
    repo.has_manifest(&image, &image.digest()).await
}

async fn what_is_not_there(t: &Target) -> Outcome {
    let (repo, image, blob) = (t.fresh(), Manifest::image(), Blob::random(10));
    repo.push(&image, "v1").await?;
    repo.push_blob(&blob).await?;
    repo.manifest(Method::DELETE, "v2").send().await?.refused(&[404], &["MANIFEST_UNKNOWN"])?;
    repo.manifest(Method::DELETE, &unknown_digest()).send().await?.refused(&[404], &["MANIFEST_UNKNOWN"])?;
    repo.blob(Method::DELETE, &unknown_digest()).send().await?.refused(&[404], &["BLOB_UNKNOWN"])?;
    // The second time there is nothing left to delete.
    for (first, code) in [(true, ""), (false, "MANIFEST_UNKNOWN")] {
        let reply = repo.manifest(Method::DELETE, &image.digest()).send().await?;
        if first {
            reply.status(&[202])?
        } else {
            reply.refused(&[404], &[code])?
        };
    }
    repo.blob(Method::DELETE, &blob.digest).send().await?.status(&[202])?;
    repo.blob(Method::DELETE, &blob.digest).send().await?.refused(&[404], &["BLOB_UNKNOWN"])?;
    Ok(())
}

async fn what_was_never_a_repository(t: &Target) -> Outcome {
    let repo = t.fresh();
    let unknown = &["NAME_UNKNOWN", "MANIFEST_UNKNOWN", "BLOB_UNKNOWN"];
    repo.manifest(Method::DELETE, "v1").send().await?.refused(&[404], unknown)?;
    repo.manifest(Method::DELETE, &unknown_digest()).send().await?.refused(&[404], unknown)?;
    repo.blob(Method::DELETE, &unknown_digest()).send().await?.refused(&[404], unknown)?;
    Ok(())
}

/// Deletion leaves nothing that stands in the way of the same content.
async fn pushed_again_after_deletion(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    for _ in 0..3 {
        repo.push(&image, "v1").await?;
        repo.has_manifest(&image, "v1").await?;
        for blob in &image.blobs {
            repo.has_blob(blob).await?;
        }
        repo.manifest(Method::DELETE, &image.digest()).send().await?.status(&[202])?;
        repo.lacks_manifest("v1").await?;
        for blob in &image.blobs {
            repo.blob(Method::DELETE, &blob.digest).send().await?.status(&[202])?;
            repo.lacks_blob(&blob.digest).await?;
        }
    }
    repo.push(&image, "v1").await?;
    repo.manifest(Method::DELETE, "v1").send().await?.status(&[202])?;
    repo.put_manifest(&image, "v1").send().await?.status(&[201])?;
    repo.has_manifest(&image, "v1").await
}

async fn only_in_one_repository(t: &Target) -> Outcome {
    let (one, two, image) = (t.fresh(), t.fresh(), Manifest::image());
    one.push(&image, "v1").await?;
    two.push(&image, "v1").await?;
    one.manifest(Method::DELETE, &image.digest()).send().await?.status(&[202])?;
    for blob in &image.blobs {
        one.blob(Method::DELETE, &blob.digest).send().await?.status(&[202])?;
    }
    two.has_manifest(&image, "v1").await?;
    for blob in &image.blobs {
        one.lacks_blob(&blob.digest).await?;
        two.has_blob(blob).await?;
    }
    Ok(())
}

async fn references_that_are_none(t: &Target) -> Outcome {
    let repo = t.fresh();
    repo.push(&Manifest::image(), "v1").await?;
    for reference in ["sha256:short", ".tag", "a%20b", "%00", "sha256:"] {
        repo.manifest(Method::DELETE, reference).send().await?.refused(&[400, 404], &[])?;
        repo.blob(Method::DELETE, reference).send().await?.refused(&[400, 404], &[])?;
    }
    Ok(())
}

/// No live manifest lacks a blob: deleting one that a manifest needs is refused, and says so.
async fn what_others_need(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push_untagged(&image).await?;
    let index = Manifest::index_of(&[&image]);
    repo.push(&index, "v1").await?;
    let layer = &image.blobs[1];
    repo.blob(Method::DELETE, &layer.digest)
        .send()
        .await?
        .refused(&[403, 405, 409], &["DENIED", "UNSUPPORTED"])?;
    repo.has_manifest(&index, "v1").await?;
    repo.has_manifest(&image, &image.digest()).await?;
    repo.has_blob(layer).await?;
    // From the top down everything can go.
    repo.manifest(Method::DELETE, &index.digest()).send().await?.status(&[202])?;
    repo.manifest(Method::DELETE, &image.digest()).send().await?.status(&[202])?;
    repo.blob(Method::DELETE, &layer.digest).send().await?.status(&[202])?;
    Ok(())
}

/// A repository whose last tag is gone lists none, and takes new ones.
async fn all_of_a_repository(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    repo.manifest(Method::DELETE, &image.digest()).send().await?.status(&[202])?;
    let reply = repo.tags("").send().await?;
    if reply.status(&[200, 404])?.status == 200 {
        let tags = crate::support::repository::strings(&reply, "tags")?;
        ensure!(tags.is_empty(), "the list still has {tags:?}");
    }
    repo.push(&image, "v2").await?;
    let tags = repo.tag_list("").await?;
    ensure!(tags == ["v2"], "got {tags:?}");
    Ok(())
}

/// One is told that it deleted; the others that there is nothing, or the same.
async fn by_many_at_once(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    let digest = image.digest();
    let deletes = (0..8).map(|_| repo.manifest(Method::DELETE, &digest).send());
    let replies = futures::future::try_join_all(deletes).await?;
    for reply in &replies {
        reply.status(&[202, 404])?;
    }
    ensure!(replies.iter().any(|reply| reply.status == 202), "nobody deleted it");
    repo.lacks_manifest("v1").await
}
