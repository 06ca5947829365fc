//! Push to a server with `--sparse-manifests`: an image or index of which some content was never
//! pushed is kept as it is; content that was taken away must come back first.

use reqwest::Method;

use crate::case::cases;
use crate::support::content::{Blob, Manifest};
use crate::support::http::{Outcome, Target};

cases! { sparse, Push:
    Extra "R-OCI-1" an_image_without_any_blob,
    Extra "R-OCI-1" an_image_with_some_of_its_layers,
    Extra "R-OCI-1" an_index_with_some_of_its_images,
    Extra "R-OCI-1" the_rest_comes_later,
    Extra "R-OCI-6" a_blob_of_another_repository_stays_there,
    Extra "R-OCI-6" a_blob_that_was_deleted,
    Extra "R-OCI-6" an_image_that_was_deleted,
}

async fn an_image_without_any_blob(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.put_manifest(&image, "v1").send().await?.status(&[201])?;
    repo.has_manifest(&image, "v1").await?;
    repo.has_manifest(&image, &image.digest()).await?;
    repo.lacks_blob(&image.blobs[0].digest).await
}

async fn an_image_with_some_of_its_layers(t: &Target) -> Outcome {
    let repo = t.fresh();
    let image = Manifest::image_of(Blob::config(), vec![Blob::random(100), Blob::random(200)]);
    repo.push_blob(&image.blobs[0]).await?;
    repo.push_blob(&image.blobs[2]).await?;
    repo.put_manifest(&image, "v1").send().await?.status(&[201])?;
    repo.has_manifest(&image, "v1").await?;
    repo.has_blob(&image.blobs[2]).await?;
    repo.lacks_blob(&image.blobs[1].digest).await
}

/// The usual case: a mirror of the platforms that somebody runs.
async fn an_index_with_some_of_its_images(t: &Target) -> Outcome {
    let (repo, here, elsewhere) = (t.fresh(), Manifest::image(), Manifest::image());
    repo.push_untagged(&here).await?;
    let index = Manifest::index_of(&[&here, &elsewhere]);
    repo.put_manifest(&index, "v1").send().await?.status(&[201])?;
    repo.has_manifest(&index, "v1").await?;
    repo.has_manifest(&here, &here.digest()).await?;
    repo.lacks_manifest(&elsewhere.digest()).await
}

async fn the_rest_comes_later(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    let index = Manifest::index_of(&[&image]);
    repo.put_manifest(&index, "v1").send().await?.status(&[201])?;
    repo.push_untagged(&image).await?;
    repo.has_manifest(&image, &image.digest()).await?;
    for blob in &image.blobs {
        repo.has_blob(blob).await?;
        // What a manifest names is held, whichever came first.
        repo.blob(Method::DELETE, &blob.digest).send().await?.refused(&[409], &["DENIED"])?;
    }
    Ok(())
}

/// Naming a digest gives no right to read it.
async fn a_blob_of_another_repository_stays_there(t: &Target) -> Outcome {
    let (theirs, ours, image) = (t.fresh(), t.fresh(), Manifest::image());
    theirs.push(&image, "v1").await?;
    ours.put_manifest(&image, "v1").send().await?.status(&[201])?;
    ours.lacks_blob(&image.blobs[1].digest).await
}

/// A client that saw the blob a moment ago must not believe that it still is there.
async fn a_blob_that_was_deleted(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push_blobs_of(&image).await?;
    repo.blob(Method::DELETE, &image.blobs[1].digest).send().await?.status(&[202])?;
    let reply = repo.put_manifest(&image, "v1").send().await?;
    reply.refused(&[404], &["MANIFEST_BLOB_UNKNOWN"])?;
    repo.lacks_manifest("v1").await?;
    repo.push(&image, "v1").await?;
    repo.has_manifest(&image, "v1").await
}

async fn an_image_that_was_deleted(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push_untagged(&image).await?;
    repo.manifest(Method::DELETE, &image.digest()).send().await?.status(&[202])?;
    let reply = repo.put_manifest(&Manifest::index_of(&[&image]), "v1").send().await?;
    reply.refused(&[404], &["MANIFEST_BLOB_UNKNOWN"])?;
    repo.lacks_manifest("v1").await
}
