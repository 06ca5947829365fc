//! Push to and deletion in a server with `--immutable-tags 'fixed-*'`: such a tag never moves and
//! never goes, whatever races for it; every other tag does.

use futures::future::try_join_all;
use reqwest::Method;

use crate::case::cases;
use crate::support::content::Manifest;
use crate::support::http::{Failure, Outcome, Reply, Target, ensure};
use crate::support::repository::Repository;

cases! { immutable, Push:
    Extra "R-OCI-1" it_does_not_move,
    Extra "R-OCI-1" the_same_image_again,
    Extra "R-OCI-1" other_tags_move,
    Extra "R-OCI-1" not_on_a_condition_either,
    Extra "R-OCI-1" not_among_others,
    Extra "R-OCI-1" it_is_not_deleted,
    Extra "R-OCI-1" nor_is_its_image,
    Extra "R-OCI-1" one_of_many_decides,
    Extra "R-OCI-1" many_who_agree,
}

fn refuses(reply: &Reply) -> Outcome {
    let body = reply.refused(&[409], &["DENIED"])?.json()?;
    let (message, detail) = (&body["errors"][0]["message"], &body["errors"][0]["detail"]);
    ensure!(message.to_string().contains("immutable"), "the error does not say why: {body}");
    ensure!(detail.to_string().contains("lifecycle"), "the error does not say what to do: {body}");
    Ok(())
}

async fn two_images(repo: &Repository) -> Result<(Manifest, Manifest), Failure> {
    let (first, second) = (Manifest::image(), Manifest::image());
    repo.push_blobs_of(&first).await?;
    repo.push_blobs_of(&second).await?;
    Ok((first, second))
}

async fn it_does_not_move(t: &Target) -> Outcome {
    let repo = t.fresh();
    let (first, second) = two_images(&repo).await?;
    repo.push(&first, "fixed-1").await?;
    refuses(&repo.put_manifest(&second, "fixed-1").send().await?)?;
    repo.has_manifest(&first, "fixed-1").await?;
    // What was refused leaves nothing.
    repo.lacks_manifest(&second.digest()).await?;
    repo.put_manifest(&second, "fixed-2").send().await?.status(&[201])?;
    Ok(())
}

async fn the_same_image_again(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    for _ in 0..2 {
        repo.push(&image, "fixed-1").await?;
        repo.has_manifest(&image, "fixed-1").await?;
    }
    Ok(())
}

async fn other_tags_move(t: &Target) -> Outcome {
    let repo = t.fresh();
    let (first, second) = two_images(&repo).await?;
    for tag in ["latest", "not-fixed-1", "fixed"] {
        repo.push(&first, tag).await?;
        repo.push(&second, tag).await?;
        repo.has_manifest(&second, tag).await?;
        repo.manifest(Method::DELETE, tag).send().await?.status(&[202])?;
    }
    Ok(())
}

async fn not_on_a_condition_either(t: &Target) -> Outcome {
    let repo = t.fresh();
    let (first, second) = two_images(&repo).await?;
    let create = |image: &Manifest| repo.put_manifest(image, "fixed-1").header("if-none-match", "*").send();
    create(&first).await?.status(&[201])?;
    create(&second).await?.refused(&[412], &["DENIED"])?;
    let seen = format!("\"{}\"", first.digest());
    let replace = |image: &Manifest| repo.put_manifest(image, "fixed-1").header("if-match", &seen).send();
    refuses(&replace(&second).await?)?;
    replace(&first).await?.status(&[201])?;
    refuses(&repo.manifest(Method::DELETE, "fixed-1").header("if-match", &seen).send().await?)?;
    repo.has_manifest(&first, "fixed-1").await
}

/// `?tag=` with one that may not move: none moves.
async fn not_among_others(t: &Target) -> Outcome {
    let repo = t.fresh();
    let (first, second) = two_images(&repo).await?;
    repo.push(&first, "fixed-1").await?;
    repo.push(&first, "latest").await?;
    let several = format!("{}?tag=latest&tag=fixed-1&tag=new", second.digest());
    refuses(&repo.put_manifest(&second, &several).send().await?)?;
    repo.has_manifest(&first, "latest").await?;
    repo.lacks_manifest("new").await
}

async fn it_is_not_deleted(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push(&image, "fixed-1").await?;
    refuses(&repo.manifest(Method::DELETE, "fixed-1").send().await?)?;
    repo.has_manifest(&image, "fixed-1").await?;
    repo.manifest(Method::DELETE, "fixed-2").send().await?.refused(&[404], &["MANIFEST_UNKNOWN"])?;
    Ok(())
}

async fn nor_is_its_image(t: &Target) -> Outcome {
    let repo = t.fresh();
    let (image, other) = two_images(&repo).await?;
    repo.push(&image, "fixed-1").await?;
    repo.push(&image, "latest").await?;
    refuses(&repo.manifest(Method::DELETE, &image.digest()).send().await?)?;
    repo.has_manifest(&image, "fixed-1").await?;
    repo.has_manifest(&image, "latest").await?;
    repo.push(&other, "latest").await?;
    repo.manifest(Method::DELETE, &other.digest()).send().await?.status(&[202])?;
    Ok(())
}

async fn ten_images(repo: &Repository) -> Result<Vec<Manifest>, Failure> {
    let images: Vec<_> = (0..10).map(|_| Manifest::image()).collect();
    try_join_all(images.iter().map(|image| repo.push_blobs_of(image))).await?;
    Ok(images)
}

async fn one_of_many_decides(t: &Target) -> Outcome {
    let repo = t.fresh();
    let images = ten_images(&repo).await?;
    let replies = try_join_all(images.iter().map(|image| repo.put_manifest(image, "fixed-1").send())).await?;
    let winners: Vec<_> = replies.iter().zip(&images).filter(|(reply, _)| reply.status == 201).collect();
    ensure!(winners.len() == 1, "{} of {} pushes to an immutable tag won", winners.len(), images.len());
    for reply in replies.iter().filter(|reply| reply.status != 201) {
        refuses(reply)?;
    }
    repo.has_manifest(winners[0].1, "fixed-1").await
}

async fn many_who_agree(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push_blobs_of(&image).await?;
    for reply in try_join_all((0..10).map(|_| repo.put_manifest(&image, "fixed-1").send())).await? {
        reply.status(&[201])?;
    }
    repo.has_manifest(&image, "fixed-1").await
}
