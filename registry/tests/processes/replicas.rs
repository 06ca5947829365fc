//! Several servers on one bucket: any of them answers any request (R-STO-3, R-OCI-2).

use reqwest::{Method, Url};

use crate::Test;
use crate::support::content::{Blob, Manifest};
use crate::support::http::{Failure, Target, ensure};
use crate::support::process::eventually;
use crate::support::repository::{Repository, strings};
use crate::support::s3::S3;
use crate::support::server::Server;

/// The same address at another replica.
fn moved(at: &Url, to: &Target) -> Url {
    let mut url = to.base().clone();
    url.set_path(at.path());
    url.set_query(at.query());
    url
}

struct Pair {
    _s3: S3,
    first: Server,
    second: Server,
}

impl Pair {
    async fn start() -> Option<Self> {
        let s3 = S3::start().await?;
        let options = s3.options("replicas/").flag("--immutable-tags", "fixed-*");
        let (first, second) = (options.start().await, options.start().await);
        Some(Self { _s3: s3, first, second })
    }

    /// One repository, as each replica shows it.
    fn repository(&self) -> (Repository, Repository) {
        let here = self.first.target().fresh();
        let there = self.second.target().repository(&here.name);
        (here, there)
    }
}

/// R-OCI-2: begun on one, continued on the other, finished on the first, asked for on both.
#[tokio::test]
async fn an_upload_moves_between_replicas() -> Test {
    let Some(pair) = Pair::start().await else { return Ok(()) };
    // Small chunks stay in the session, large ones become parts of the stored object: both must move.
    for cut in [1000, (5 << 20) + 11, 11 << 20] {
        let ((here, there), blob) = (pair.repository(), Blob::random(13 << 20));
        let at = here.begin().await?;
        let at = moved(&at, &there.target);
        let reply = there.chunk(Method::PATCH, at, 0, &blob.bytes[..cut]).send().await?;
        let at = moved(&reply.status(&[202])?.location()?, &here.target);
        let state = here.target.call_url(Method::GET, at.clone()).send().await?;
        state.status(&[204])?.header("range", format!("0-{}", cut - 1))?;
        let reply = here.chunk(Method::PATCH, at, cut, &blob.bytes[cut..cut + 500]).send().await?;
        let at = moved(&reply.status(&[202])?.location()?, &there.target);
        let reply = there.finish(&at, &blob.digest, &blob.bytes[cut + 500..]).send().await?;
        reply.status(&[201])?;
        here.has_blob(&blob).await?;
        there.has_blob(&blob).await?;
    }
    Ok(())
}

/// R-OCI-2, R-STO-3: the replica that held an upload dies; the other goes on from what was acknowledged.
#[tokio::test]
async fn an_upload_survives_its_replica() -> Test {
    let Some(mut pair) = Pair::start().await else { return Ok(()) };
    let ((here, there), blob) = (pair.repository(), Blob::random(7 << 20));
    let half = blob.bytes.len() / 2;
    let reply = here.chunk(Method::PATCH, here.begin().await?, 0, &blob.bytes[..half]).send().await?;
    let at = moved(&reply.status(&[202])?.location()?, &there.target);
    pair.first.process.kill().await;
    let reply = there.chunk(Method::PATCH, at, half, &blob.bytes[half..]).send().await?;
    let at = reply.status(&[202])?.location()?;
    there.finish(&at, &blob.digest, b"").send().await?.status(&[201])?;
    there.has_blob(&blob).await
}

/// R-STO-3: what one replica acknowledged, the other shows at once; what one deleted, the other forgets.
#[tokio::test]
async fn replicas_agree() -> Test {
    let Some(pair) = Pair::start().await else { return Ok(()) };
    let ((here, there), old, new) = (pair.repository(), Manifest::image(), Manifest::image());
    here.push(&old, "v1").await?;
    there.has_manifest(&old, "v1").await?;
    there.push(&new, "v1").await?;
    here.has_manifest(&new, "v1").await?;
    here.has_manifest(&old, &old.digest()).await?;
    there.manifest(Method::DELETE, &old.digest()).send().await?.status(&[202])?;
    let digest = old.digest();
    // Whether a digest is live may be remembered for seconds, never for long.
    eventually("a deleted manifest is gone from the other replica", || async {
        here.manifest(Method::GET, &digest).send().await.is_ok_and(|reply| reply.status == 404)
    })
    .await;
    there.manifest(Method::DELETE, "v1").send().await?.status(&[202])?;
    eventually("a deleted tag is gone from the other replica", || async {
        here.manifest(Method::GET, "v1").send().await.is_ok_and(|reply| reply.status == 404)
    })
    .await;
    Ok(())
}

/// R-OCI-5: two replicas take referrers of one subject at once; none is lost.
#[tokio::test]
async fn referrers_from_both_replicas() -> Test {
    let Some(pair) = Pair::start().await else { return Ok(()) };
    let ((here, there), image) = (pair.repository(), Manifest::image());
    here.push(&image, "v1").await?;
    let artifacts: Vec<_> =
        (0..30).map(|_| Manifest::artifact("application/vnd.example.note").about(&image)).collect();
    let pushes = artifacts.iter().enumerate().map(|(i, artifact)| {
        let repo = if i % 2 == 0 { &here } else { &there };
        repo.push_untagged(artifact)
    });
    futures::future::try_join_all(pushes).await?;
    for repo in [&here, &there] {
        let list = repo.referrers(&image.digest()).send().await?.status(&[200])?.json()?;
        let count = list["manifests"].as_array().map_or(0, Vec::len);
        ensure!(count == artifacts.len(), "{count} of {} referrers are listed", artifacts.len());
    }
    Ok(())
}

/// R-STO-3: a tag that may only be created, and one that may never move, is created once, whichever replica is asked.
#[tokio::test]
async fn one_creator_wins_across_replicas() -> Test {
    let Some(pair) = Pair::start().await else { return Ok(()) };
    let creations = [("v1", "*", 412), ("fixed-1", "", 409)];
    for (tag, condition, lost) in creations.repeat(4) {
        let (here, there) = pair.repository();
        let images: Vec<_> = (0..8).map(|_| Manifest::image()).collect();
        futures::future::try_join_all(images.iter().map(|image| here.push_blobs_of(image))).await?;
        let puts = images.iter().enumerate().map(|(i, image)| {
            let repo = if i % 2 == 0 { &here } else { &there };
            let put = repo.put_manifest(image, tag);
            if condition.is_empty() { put.send() } else { put.header("if-none-match", condition).send() }
        });
        let replies = futures::future::try_join_all(puts).await?;
        for reply in &replies {
            reply.status(&[201, lost])?;
        }
        let winner = replies.iter().position(|reply| reply.status == 201);
        let winner = winner.ok_or_else(|| Failure("nobody created the tag".into()))?;
        let count = replies.iter().filter(|reply| reply.status == 201).count();
        ensure!(count == 1, "{count} pushes created the same tag");
        here.has_manifest(&images[winner], tag).await?;
        there.has_manifest(&images[winner], tag).await?;
    }
    Ok(())
}

/// R-STO-3: both replicas push tags into one repository at once; each shows all of them.
#[tokio::test]
async fn tags_from_both_replicas() -> Test {
    let Some(pair) = Pair::start().await else { return Ok(()) };
    let ((here, there), image) = (pair.repository(), Manifest::image());
    here.push_blobs_of(&image).await?;
    let tags: Vec<_> = (0..40).map(|i| format!("v{i:02}")).collect();
    let puts = tags.iter().enumerate().map(|(i, tag)| {
        let repo = if i % 2 == 0 { &here } else { &there };
        repo.put_manifest(&image, tag).send()
    });
    for reply in futures::future::try_join_all(puts).await? {
        reply.status(&[201])?;
    }
    for repo in [&here, &there] {
        let found = strings(&repo.tags("").send().await?, "tags")?;
        ensure!(found == tags, "the tags are {found:?}");
    }
    Ok(())
}
