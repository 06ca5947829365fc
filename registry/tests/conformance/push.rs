//! Push: blobs in one request, in two, as a stream, in chunks (distribution-spec "Pushing blobs").

use bytes::Bytes;
use reqwest::Method;

use crate::case::cases;
use crate::support::content::Blob;
use crate::support::http::{Failure, Outcome, Reply, Target};
use crate::support::repository::Repository;

cases! { push, Push:
    Spec "R-OCI-2" post_then_put,
    Spec "R-OCI-2" post_then_put_of_unknown_length,
    Spec "R-OCI-2" a_single_post,
    Berth "R-OCI-2" a_single_post_is_enough,
    Spec "R-OCI-2" a_stream_in_one_patch,
    Spec "R-OCI-2" chunks_and_an_empty_put,
    Spec "R-OCI-2" chunks_with_the_last_in_the_put,
    Spec "R-OCI-2" patches_without_ranges_follow_each_other,
    Spec "R-OCI-2" large_chunks_of_uneven_size,
    Spec "R-OCI-2" an_empty_blob_in_every_way,
    Spec "R-OCI-2" the_same_blob_again,
    Spec "R-OCI-6" one_blob_from_many_clients,
    Spec "R-OCI-6" one_blob_into_many_repositories,
    Spec "R-OCI-2" bytes_of_another_digest,
}

/// The answer to the last request of an upload: 201, a `Location` that serves the blob.
async fn completed(repo: &Repository, reply: &Reply, blob: &Blob) -> Outcome {
    reply.status(&[201])?;
    if reply.headers.contains_key("docker-content-digest") {
        reply.header("docker-content-digest", &blob.digest)?;
    }
    let at = reply.location()?;
    repo.target.call_url(Method::GET, at).send().await?.status(&[200])?.bytes(&blob.bytes)?;
    repo.has_blob(blob).await
}

/// "POST then PUT".
async fn post_then_put(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(5000));
    let at = repo.begin().await?;
    let reply = repo.finish(&at, &blob.digest, &blob.bytes).send().await?;
    completed(&repo, &reply, &blob).await
}

async fn post_then_put_of_unknown_length(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(5000));
    let at = repo.begin().await?;
    let reply = repo.finish(&at, &blob.digest, b"").streamed(pieces(&blob, 999)).send().await?;
    completed(&repo, &reply, &blob).await
}

fn single_post(repo: &Repository, blob: &Blob) -> crate::support::http::Call {
    repo.call(Method::POST, &format!("blobs/uploads/?digest={}", blob.digest))
        .header("content-type", "application/octet-stream")
        .body(blob.bytes.clone())
}

/// "Single POST": a registry that does not know it answers 202, and the client goes on with a PUT.
async fn a_single_post(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(5000));
    let reply = single_post(&repo, &blob).send().await?;
    if reply.status(&[201, 202])?.status == 202 {
        let at = reply.location()?;
        let reply = repo.finish(&at, &blob.digest, &blob.bytes).send().await?;
        return completed(&repo, &reply, &blob).await;
    }
    completed(&repo, &reply, &blob).await
}

async fn a_single_post_is_enough(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(5000));
    let reply = single_post(&repo, &blob).send().await?;
    completed(&repo, &reply, &blob).await?;
    let streamed = Blob::random(5000);
    let reply = single_post(&repo, &streamed).streamed(pieces(&streamed, 700)).send().await?;
    completed(&repo, &reply, &streamed).await
}

/// The way of docker and containerd: one PATCH of unknown length, without a range.
async fn a_stream_in_one_patch(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(300_000));
    let at = repo.begin().await?;
    let reply = t
        .call_url(Method::PATCH, at)
        .header("content-type", "application/octet-stream")
        .streamed(pieces(&blob, 10_000))
        .send()
        .await?;
    reply.status(&[202])?.header("range", format!("0-{}", blob.bytes.len() - 1))?;
    let reply = repo.finish(&reply.location()?, &blob.digest, b"").send().await?;
    completed(&repo, &reply, &blob).await
}

/// Sends chunks of the given sizes; the answer to the last is returned.
async fn chunked(repo: &Repository, blob: &Blob, sizes: &[usize]) -> Result<Reply, Failure> {
    let mut at = repo.begin().await?;
    let (mut start, mut last) = (0, None);
    for size in sizes {
        let end = start + size;
        let reply = repo.chunk(Method::PATCH, at, start, &blob.bytes[start..end]).send().await?;
        reply.status(&[202])?.header("range", format!("0-{}", end - 1))?;
        (at, start, last) = (reply.location()?, end, Some(reply));
    }
    last.ok_or_else(|| Failure("no chunks".into()))
}

/// "Pushing a blob in chunks".
async fn chunks_and_an_empty_put(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(3000));
    let reply = chunked(&repo, &blob, &[1000, 1000, 1000]).await?;
    let reply = repo.finish(&reply.location()?, &blob.digest, b"").send().await?;
    completed(&repo, &reply, &blob).await
}

async fn chunks_with_the_last_in_the_put(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(3000));
    let reply = chunked(&repo, &blob, &[1000, 1000]).await?;
    let at = crate::support::repository::with_digest(&reply.location()?, &blob.digest);
    let reply = repo.chunk(Method::PUT, at, 2000, &blob.bytes[2000..]).send().await?;
    completed(&repo, &reply, &blob).await
}

/// Without `Content-Range` a PATCH continues where the last one ended.
async fn patches_without_ranges_follow_each_other(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(3000));
    let mut at = repo.begin().await?;
    for piece in pieces(&blob, 800) {
        let reply = t.call_url(Method::PATCH, at).body(piece).send().await?;
        at = reply.status(&[202])?.location()?;
    }
    let reply = repo.finish(&at, &blob.digest, b"").send().await?;
    completed(&repo, &reply, &blob).await
}

/// Chunks that fit no part size of any store.
async fn large_chunks_of_uneven_size(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(14_680_077));
    let reply = chunked(&repo, &blob, &[5 << 20, 1, (6 << 20) + 7, 100]).await?;
    let sent = (5 << 20) + 1 + (6 << 20) + 7 + 100;
    let reply = repo.finish(&reply.location()?, &blob.digest, &blob.bytes[sent..]).send().await?;
    completed(&repo, &reply, &blob).await
}

async fn an_empty_blob_in_every_way(t: &Target) -> Outcome {
    let blob = Blob::new("", "application/octet-stream");
    let repo = t.fresh();
    let at = repo.begin().await?;
    completed(&repo, &repo.finish(&at, &blob.digest, b"").send().await?, &blob).await?;
    let repo = t.fresh();
    let at = repo.begin().await?;
    let reply = t.call_url(Method::PATCH, at).streamed(vec![]).send().await?;
    let at = reply.status(&[202])?.location()?;
    completed(&repo, &repo.finish(&at, &blob.digest, b"").send().await?, &blob).await
}

async fn the_same_blob_again(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(1000));
    repo.push_blob(&blob).await?;
    repo.push_blob(&blob).await?;
    repo.has_blob(&blob).await
}

/// Many uploads of one digest into one repository: each is told 201, one content remains.
async fn one_blob_from_many_clients(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(40_000));
    let pushes = (0..12).map(|_| repo.push_blob(&blob));
    futures::future::try_join_all(pushes).await?;
    repo.has_blob(&blob).await
}

async fn one_blob_into_many_repositories(t: &Target) -> Outcome {
    let blob = Blob::random(40_000);
    let repositories: Vec<_> = (0..8).map(|_| t.fresh()).collect();
    futures::future::try_join_all(repositories.iter().map(|repo| repo.push_blob(&blob))).await?;
    futures::future::try_join_all(repositories.iter().map(|repo| repo.has_blob(&blob))).await?;
    Ok(())
}

/// The digest decides: other bytes are refused whichever way they came, and leave nothing behind.
async fn bytes_of_another_digest(t: &Target) -> Outcome {
    let (repo, promised, sent) = (t.fresh(), Blob::random(3000), Blob::random(3000));
    let refused = |reply: Reply| reply.refused(&[400], &["DIGEST_INVALID"]).map(|_| ());

    let at = repo.begin().await?;
    refused(repo.finish(&at, &promised.digest, &sent.bytes).send().await?)?;

    let reply = chunked(&repo, &sent, &[1500, 1500]).await?;
    refused(repo.finish(&reply.location()?, &promised.digest, b"").send().await?)?;

    let at = repo.begin().await?;
    let reply = t.call_url(Method::PATCH, at).streamed(pieces(&sent, 1000)).send().await?;
    refused(repo.finish(&reply.location()?, &promised.digest, b"").send().await?)?;

    let lying = Blob { bytes: sent.bytes.clone(), ..promised.clone() };
    let reply = single_post(&repo, &lying).send().await?;
    if reply.status(&[400, 202])?.status == 400 {
        refused(reply)?;
    }
    repo.lacks_blob(&promised.digest).await?;
    repo.lacks_blob(&sent.digest).await
}

/// The bytes of a blob in pieces of one size.
fn pieces(blob: &Blob, size: usize) -> Vec<Bytes> {
    (0..blob.bytes.len())
        .step_by(size)
        .map(|i| blob.bytes.slice(i..(i + size).min(blob.bytes.len())))
        .collect()
}
