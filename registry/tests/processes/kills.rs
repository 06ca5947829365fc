//! The real process dies at each of its store calls (invariant 1, R-STO-3): what it acknowledged is there when it is
//! back, nothing broken is shown, and the client's next attempt succeeds. The proxy of `support::faulty` counts the calls
//! and kills; the binary is the one that is shipped.

use std::fmt::Write as _;

use futures::future::{BoxFuture, FutureExt as _};
use reqwest::Method;
use reqwest::Url;

use crate::Test;
use crate::support::content::{Blob, Manifest};
use crate::support::faulty::{Fault, Faulty};
use crate::support::http::{Failure, Outcome, Target, ensure};
use crate::support::repository::Repository;
use crate::support::s3::S3;

/// What one client wants of a registry, in this order.
struct Story {
    small: Blob,
    large: Blob,
    base: Manifest,
    image: Manifest,
    index: Manifest,
    note: Manifest,
    repo: String,
    other: String,
}

/// One request, or a few that belong together; what must hold once it was acknowledged.
struct Step {
    name: &'static str,
    act: for<'a> fn(&'a Story, &'a Target) -> BoxFuture<'a, Outcome>,
    holds: for<'a> fn(&'a Story, &'a Target) -> BoxFuture<'a, Outcome>,
}

impl Story {
    fn new(target: &Target) -> Self {
        let (small, large) = (Blob::random(900), Blob::random((8 << 20) + 500));
        let base = Manifest::image_of(Blob::config(), vec![small.clone()]);
        let image = Manifest::image_of(small.clone().with_type("application/json"), vec![large.clone()]);
        let index = Manifest::index_of(&[&base, &image]);
        let note = Manifest::artifact("application/vnd.example.note").about(&image);
        let repo = target.fresh().name;
        Self { other: format!("{repo}/other"), repo, small, large, base, image, index, note }
    }

    fn at(&self, target: &Target) -> Repository {
        target.repository(&self.repo)
    }
}

/// A deletion that was done already is as good as done.
async fn gone(repo: &Repository, reference: &str) -> Outcome {
    repo.manifest(Method::DELETE, reference).send().await?.status(&[202, 404]).map(|_| ())
}

async fn undelete(story: &Story, to: &Target) -> Outcome {
    let wanted = serde_json::json!({"repository": story.repo, "digest": story.index.digest()});
    let call = to.call(Method::POST, "/berth/v1/undelete").body(wanted.to_string().into_bytes());
    call.send().await?.status(&[200]).map(|_| ())
}

async fn in_chunks(repo: &Repository, blob: &Blob) -> Outcome {
    let half = blob.bytes.len() / 2;
    let reply = repo.chunk(Method::PATCH, repo.begin().await?, 0, &blob.bytes[..half]).send().await?;
    let at: Url = reply.status(&[202])?.location()?;
    let reply = repo.chunk(Method::PATCH, at, half, &blob.bytes[half..]).send().await?;
    let at = reply.status(&[202])?.location()?;
    repo.finish(&at, &blob.digest, b"").send().await?.status(&[201]).map(|_| ())
}

async fn tagged(repo: &Repository, manifest: &Manifest, tag: &str) -> Outcome {
    repo.put_manifest(manifest, tag).send().await?.status(&[201]).map(|_| ())
}

const STORY: &[Step] = &[
    Step {
        name: "a blob",
        act: |story, to| async move { story.at(to).push_blob(&story.small).await }.boxed(),
        holds: |story, to| async move { story.at(to).has_blob(&story.small).await }.boxed(),
    },
    Step {
        name: "a blob in chunks",
        act: |story, to| async move { in_chunks(&story.at(to), &story.large).await }.boxed(),
        holds: |story, to| async move { story.at(to).has_blob(&story.large).await }.boxed(),
    },
    Step {
        name: "a mount",
        act: |story, to| {
            async move {
                let query = format!("?mount={}&from={}", story.small.digest, story.repo);
                let reply = to.repository(&story.other).post_upload(&query).send().await?;
                reply.status(&[201]).map(|_| ())
            }
            .boxed()
        },
        holds: |story, to| async move { to.repository(&story.other).has_blob(&story.small).await }.boxed(),
    },
    Step {
        name: "a manifest with a new tag",
        act: |story, to| {
            async move {
                story.at(to).push_blob(&story.base.blobs[0]).await?;
                tagged(&story.at(to), &story.base, "v1").await
            }
            .boxed()
        },
        holds: |story, to| async move { story.at(to).has_manifest(&story.base, "v1").await }.boxed(),
    },
    Step {
        name: "a manifest without a tag",
        act: |story, to| {
            async move { tagged(&story.at(to), &story.image, &story.image.digest()).await }.boxed()
        },
        holds: |story, to| {
            async move { story.at(to).has_manifest(&story.image, &story.image.digest()).await }.boxed()
        },
    },
    Step {
        name: "a tag that moves to an index",
        act: |story, to| async move { tagged(&story.at(to), &story.index, "v1").await }.boxed(),
        holds: |story, to| async move { story.at(to).has_manifest(&story.index, "v1").await }.boxed(),
    },
    Step {
        name: "a referrer",
        act: |story, to| async move { story.at(to).push_untagged(&story.note).await.map(|_| ()) }.boxed(),
        holds: |story, to| {
            async move {
                let reply = story.at(to).referrers(&story.image.digest()).send().await?;
                let listed = reply.status(&[200])?.json()?["manifests"].as_array().map_or(0, Vec::len);
                ensure!(listed == 1, "{listed} referrers are listed");
                Ok(())
            }
            .boxed()
        },
    },
    Step {
        name: "a tag that is deleted",
        act: |story, to| async move { gone(&story.at(to), "v1").await }.boxed(),
        holds: |story, to| async move { story.at(to).lacks_manifest("v1").await }.boxed(),
    },
    Step {
        name: "an index that is deleted",
        act: |story, to| async move { gone(&story.at(to), &story.index.digest()).await }.boxed(),
        holds: |story, to| async move { story.at(to).lacks_manifest(&story.index.digest()).await }.boxed(),
    },
    Step {
        name: "an index that is undeleted",
        act: |story, to| async move { undelete(story, to).await }.boxed(),
        holds: |story, to| {
            async move { story.at(to).has_manifest(&story.index, &story.index.digest()).await }.boxed()
        },
    },
    Step {
        name: "a blob that is deleted",
        act: |story, to| {
            async move {
                let repo = to.repository(&story.other);
                repo.blob(Method::DELETE, &story.small.digest).send().await?.status(&[202, 404]).map(|_| ())
            }
            .boxed()
        },
        // Another replica may believe for seconds that it is there (HEAD does not).
        holds: |story, to| {
            async move { to.repository(&story.other).lacks_blob(&story.small.digest).await }.boxed()
        },
    },
];

/// What holds at the end of the story: what was neither deleted nor moved.
async fn whole(story: &Story, target: &Target) -> Outcome {
    let repo = story.at(target);
    for manifest in [&story.base, &story.image] {
        repo.has_manifest(manifest, &manifest.digest()).await?;
        for blob in &manifest.blobs {
            repo.has_blob(blob).await?;
        }
    }
    Ok(())
}

/// The story once for each of these calls.
async fn story_of(calls: impl Iterator<Item = usize>, faults: &[Fault]) -> Test {
    let Some(s3) = S3::start().await else { return Ok(()) };
    let proxy = Faulty::before(s3.port).await;
    let options = S3::options_at(proxy.port, "images", "kills/");
    let survivor = s3.options("kills/").start().await;
    let mut points = 0;
    let mut victim = options.start().await;
    for n in calls {
        let before = points;
        for &fault in faults {
            if victim.process.ended() {
                victim = options.start().await;
            }
            let (first, second) = (victim.target(), survivor.target());
            let story = Story::new(&first);
            proxy.strike(n, fault, victim.process.id().expect("it runs"));
            let mut log = String::new();
            let mut told = Vec::new();
            for step in STORY {
                let told_so = (step.act)(&story, &first).await;
                let _ = write!(log, "\n  {}: {told_so:?}", step.name);
                let why =
                    |error: Failure| Failure(format!("{fault:?} at call {n}, {}: {error}{log}", step.name));
                if told_so.is_ok() {
                    // The process that acknowledged it may be dead; another one shows it.
                    (step.holds)(&story, &second).await.map_err(why)?;
                } else {
                    ensure!(proxy.struck(), "{} fails without a fault:{log}", step.name);
                    (step.act)(&story, &second).await.map_err(why)?;
                    (step.holds)(&story, &second).await.map_err(why)?;
                }
                told.push(told_so.is_ok());
            }
            whole(&story, &second).await?;
            points += usize::from(proxy.struck());
        }
        if points == before {
            break;
        }
    }
    ensure!(points > 0, "no store call was met");
    println!("{points} fault points in the real process");
    Ok(())
}

const FAULTS: [Fault; 5] = [Fault::KillBefore, Fault::KillAfter, Fault::Refuse, Fault::Lose, Fault::Delay];

/// A sample for every run of the tests; the matrix inside of the process has all calls.
#[tokio::test]
async fn a_process_that_dies_at_a_store_call() -> Test {
    story_of((0..).step_by(19), &FAULTS[..2]).await
}

/// Every call: `cargo test -p berth-registry --test processes -- --ignored --nocapture every_store_call`.
#[tokio::test]
#[ignore = "starts several hundred processes"]
async fn a_process_that_dies_at_every_store_call() -> Test {
    story_of(0.., &FAULTS).await
}

/// Asks for a scrub without reading bytes; whether it came to its end.
async fn scrub(target: &Target) -> Result<bool, Failure> {
    let call = target.call(Method::POST, "/berth/v1/scrub").body(br#"{"verifyBytes":false}"#.to_vec());
    let reply = call.send().await?;
    let lines = String::from_utf8_lossy(&reply.status(&[200])?.body).into_owned();
    let last = lines.lines().last().and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    Ok(last.is_some_and(|line| line["kind"] == "summary" && line["failed"] == 0))
}

/// R-STO-6: a repository has lost its hold on a blob. A scrub that dies at one of these calls breaks nothing, and another
/// process ends its work.
async fn scrub_of(calls: impl Iterator<Item = usize>, faults: &[Fault]) -> Test {
    let Some(s3) = S3::start().await else { return Ok(()) };
    let proxy = Faulty::before(s3.port).await;
    let options = S3::options_at(proxy.port, "images", "scrub/");
    let survivor = s3.options("scrub/").start().await;
    let (repo, image) = (survivor.target().fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    let hex = image.blobs[1].digest.trim_start_matches("sha256:").to_owned();
    let link = format!("scrub/l/sha256/{}/{hex}/{}!", &hex[..2], repo.name);
    let mut victim = options.start().await;
    let mut points = 0;
    for n in calls {
        let before = points;
        for &fault in faults {
            if victim.process.ended() {
                victim = options.start().await;
            }
            s3.lose(&link);
            proxy.strike(n, fault, victim.process.id().expect("it runs"));
            let told = scrub(&victim.target()).await;
            let why = |error: Failure| Failure(format!("{fault:?} at call {n}, {told:?}: {error}"));
            ensure!(
                scrub(&survivor.target()).await?,
                "{fault:?} at call {n}: no other process ends the scrub"
            );
            repo.has_manifest(&image, "v1").await.map_err(why)?;
            for blob in &image.blobs {
                repo.has_blob(blob).await.map_err(why)?;
            }
            points += usize::from(proxy.struck());
        }
        if points == before {
            break;
        }
    }
    ensure!(points > 0, "no store call was met");
    println!("{points} fault points in a scrub of the real process");
    Ok(())
}

#[tokio::test]
async fn a_process_that_dies_in_a_scrub() -> Test {
    scrub_of((0..).step_by(23), &FAULTS[..2]).await
}

/// Every call: `cargo test -p berth-registry --test processes -- --ignored --nocapture every_call_of_a_scrub`.
#[tokio::test]
#[ignore = "starts several hundred processes"]
async fn a_process_that_dies_at_every_call_of_a_scrub() -> Test {
    scrub_of(0.., &FAULTS).await
}
