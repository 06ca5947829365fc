//! Push: the life of an upload session: out of order, asked for its state, cut off, resumed,
//! cancelled, finished (distribution-spec "Pushing a blob in chunks", "Cancel a blob upload").

use reqwest::{Method, Url};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::case::cases;
use crate::support::content::Blob;
use crate::support::http::{Failure, Outcome, Reply, Target, ensure};
use crate::support::repository::{Repository, with_digest};

cases! { sessions, Push:
    Spec "R-OCI-2" the_state_of_a_new_upload,
    Spec "R-OCI-2" the_state_between_chunks,
    Spec "R-OCI-2" a_chunk_too_far_ahead,
    Spec "R-OCI-2" a_chunk_sent_twice,
    Spec "R-OCI-2" a_first_chunk_not_at_zero,
    Spec "R-OCI-2" a_last_chunk_out_of_order,
    Spec "R-OCI-2" resumed_after_a_lost_connection,
    Spec "R-OCI-2" a_cancelled_upload,
    Spec "R-OCI-2" a_finished_upload,
    Spec "R-OCI-2" an_unknown_upload,
    Spec "R-OCI-6" an_upload_of_another_repository,
    Spec "R-OCI-2" two_uploads_at_once,
    Spec "R-OCI-2" a_content_range_that_is_none,
    Berth "R-OCI-2" a_request_that_is_read_too_late,
    Berth "R-OCI-2" the_whole_blob_sent_again,
    Berth "R-OCI-2" a_wrong_digest_names_what_came,
}

/// The session at this address holds so many bytes; returns its present address.
async fn holds(repo: &Repository, at: Url, bytes: usize) -> Result<Url, Failure> {
    let reply = repo.target.call_url(Method::GET, at).send().await?;
    reply.status(&[204])?.header("range", format!("0-{}", bytes.saturating_sub(1)))?.location()
}

async fn first_chunk(repo: &Repository, blob: &Blob, length: usize) -> Result<Url, Failure> {
    let at = repo.begin().await?;
    let reply = repo.chunk(Method::PATCH, at, 0, &blob.bytes[..length]).send().await?;
    reply.status(&[202])?.location()
}

/// Finishes the session at this address after so many bytes.
async fn finishes(repo: &Repository, at: &Url, blob: &Blob, sent: usize) -> Outcome {
    let reply = repo.finish(at, &blob.digest, &blob.bytes[sent..]).send().await?;
    reply.status(&[201])?;
    repo.has_blob(blob).await
}

async fn the_state_of_a_new_upload(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(100));
    let at = repo.begin().await?;
    let at = holds(&repo, at, 0).await?;
    finishes(&repo, &at, &blob, 0).await
}

async fn the_state_between_chunks(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(1000));
    let at = first_chunk(&repo, &blob, 400).await?;
    let at = holds(&repo, at, 400).await?;
    let reply = repo.chunk(Method::PATCH, at, 400, &blob.bytes[400..900]).send().await?;
    let at = holds(&repo, reply.status(&[202])?.location()?, 900).await?;
    finishes(&repo, &at, &blob, 900).await
}

/// Sends a chunk that must be refused, then asks for the state and finishes.
async fn refused_then_finished(t: &Target, sent: usize, start: usize, end: usize) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(1000));
    let at = if sent == 0 { repo.begin().await? } else { first_chunk(&repo, &blob, sent).await? };
    let reply = repo.chunk(Method::PATCH, at.clone(), start, &blob.bytes[start..end]).send().await?;
    reply.status(&[416])?;
    let at = holds(&repo, at, sent).await?;
    finishes(&repo, &at, &blob, sent).await
}

async fn a_chunk_too_far_ahead(t: &Target) -> Outcome {
    refused_then_finished(t, 300, 500, 700).await
}

async fn a_chunk_sent_twice(t: &Target) -> Outcome {
    refused_then_finished(t, 300, 0, 300).await
}

async fn a_first_chunk_not_at_zero(t: &Target) -> Outcome {
    refused_then_finished(t, 0, 300, 600).await
}

/// The same for the closing PUT.
async fn a_last_chunk_out_of_order(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(1000));
    let at = first_chunk(&repo, &blob, 300).await?;
    let wrong = with_digest(&at, &blob.digest);
    let reply = repo.chunk(Method::PUT, wrong.clone(), 500, &blob.bytes[500..]).send().await?;
    reply.status(&[416])?;
    repo.lacks_blob(&blob.digest).await?;
    holds(&repo, at, 300).await?;
    // A client may well ask with the address that it just used, digest included.
    let at = holds(&repo, wrong, 300).await?;
    let mut at = at;
    at.set_query(without_digest(&at).as_deref());
    finishes(&repo, &at, &blob, 300).await
}

/// The query of an address without the digest that the test put there.
fn without_digest(at: &Url) -> Option<String> {
    let kept: Vec<_> = at.query()?.split('&').filter(|pair| !pair.starts_with("digest=")).collect();
    (!kept.is_empty()).then(|| kept.join("&"))
}

/// The connection ends in the middle of a PATCH; the client asks how far it came and goes on.
async fn resumed_after_a_lost_connection(t: &Target) -> Outcome {
    let Some(address) = t.plain_address() else { return Ok(()) };
    let (repo, blob) = (t.fresh(), Blob::random(200_000));
    let at = first_chunk(&repo, &blob, 1000).await?;
    // It says where it begins: should it be read only after the upload went on, it must add nothing.
    let range = format!("PATCH {} HTTP/1.1\r\ncontent-range: 1000-{}", path(&at), blob.bytes.len() - 1);
    break_off(t, &address, &range, &blob.bytes[1000..], 89_000).await?;
    resume(&repo, at, &blob).await
}

/// Sends a request of which only so many bytes of the body come; `head` is its first line, and more fields if need be.
async fn break_off(t: &Target, address: &str, head: &str, body: &[u8], come: usize) -> Outcome {
    let broken = |e: std::io::Error| Failure(format!("cannot write to {address}: {e}"));
    let authorization =
        t.authorization().map(|value| format!("authorization: {value}\r\n")).unwrap_or_default();
    let head = format!(
        "{head}\r\nhost: {address}\r\n{authorization}content-type: application/octet-stream\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    let mut socket = TcpStream::connect(address).await.map_err(broken)?;
    socket.write_all(head.as_bytes()).await.map_err(broken)?;
    socket.write_all(&body[..come]).await.map_err(broken)?;
    socket.shutdown().await.map_err(broken)
}

/// A request without `Content-Range` broke off and is read only after the client went on: its address tells that its
/// bytes belong elsewhere. An address that was given out earlier goes on working for all but bytes without a place.
async fn a_request_that_is_read_too_late(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(1000));
    let new = repo.begin().await?;
    let reply = repo.chunk(Method::PATCH, new.clone(), 0, &blob.bytes[..300]).send().await?;
    let early = reply.status(&[202])?.location()?;
    let late = |method: Method, at: &Url| {
        let at = if method == Method::PUT { with_digest(at, &blob.digest) } else { at.clone() };
        repo.target.call_url(method, at).body(blob.bytes[300..700].to_vec())
    };
    let reply = late(Method::PATCH, &early).send().await?;
    let at = reply.status(&[202])?.location()?;
    for (method, old) in [(Method::PATCH, &new), (Method::PATCH, &early), (Method::PUT, &early)] {
        let reply = late(method, old).send().await?;
        reply.status(&[416])?.header("range", "0-699")?;
        ensure!(reply.location()? == at, "416 names {}, not {at}", reply.location()?);
    }
    ensure!(holds(&repo, new.clone(), 700).await? == at, "an old address leads elsewhere");
    let reply = repo.chunk(Method::PATCH, early.clone(), 700, &blob.bytes[700..]).send().await?;
    reply.status(&[202])?;
    finishes(&repo, &new, &blob, 1000).await
}

/// containerd and oras send the blob in one PUT, and all of it again, to the same address, when the connection broke, on
/// 408, 429 and 5xx. Whatever came before, and if it is none of this blob, must not be in the way.
async fn the_whole_blob_sent_again(t: &Target) -> Outcome {
    let Some(address) = t.plain_address() else { return Ok(()) };
    let (repo, blob) = (t.fresh(), Blob::random(200_000));
    let at = repo.begin().await?;
    let put = format!("PUT {} HTTP/1.1", path(&with_digest(&at, &blob.digest)));
    break_off(t, &address, &put, &blob.bytes, 90_000).await?;
    repo.finish(&at, &blob.digest, &blob.bytes).send().await?.status(&[201])?;
    repo.has_blob(&blob).await?;
    let (at, other) = (repo.begin().await?, Blob::random(1000));
    repo.chunk(Method::PATCH, at.clone(), 0, &blob.bytes[..300]).send().await?.status(&[202])?;
    repo.finish(&at, &other.digest, &blob.bytes).send().await?.refused(&[400], &["DIGEST_INVALID"])?;
    repo.lacks_blob(&other.digest).await?;
    repo.finish(&at, &other.digest, &other.bytes).send().await?.status(&[201])?;
    repo.has_blob(&other).await?;
    holds(&repo, at, 300).await.map(|_| ())
}

/// The path and query of a URL, as a request line has them.
fn path(url: &Url) -> String {
    url.query().map_or_else(|| url.path().into(), |query| format!("{}?{query}", url.path()))
}

/// What a client does after a failure: ask, send the rest, and ask again while told 416, because the
/// server may still be keeping what the broken request brought.
async fn resume(repo: &Repository, mut at: Url, blob: &Blob) -> Outcome {
    for _ in 0..20 {
        let reply = repo.target.call_url(Method::GET, at).send().await?;
        let kept = kept(&reply)?;
        ensure!(kept >= 1000, "an acknowledged chunk of 1000 bytes is gone: {kept} are left");
        at = reply.location()?;
        let reply = repo.chunk(Method::PATCH, at.clone(), kept, &blob.bytes[kept..]).send().await?;
        if reply.status(&[202, 416])?.status == 202 {
            return finishes(repo, &reply.location()?, blob, blob.bytes.len()).await;
        }
    }
    Err(Failure("the upload never comes to rest".into()))
}

/// The bytes that a state answer says are kept.
fn kept(reply: &Reply) -> Result<usize, Failure> {
    let range = reply.status(&[204])?.value("range")?;
    let end = range.strip_prefix("0-").and_then(|end| end.parse::<usize>().ok());
    end.map(|end| end + 1).ok_or_else(|| reply.failure(format!("Range is {range:?}")))
}

async fn a_cancelled_upload(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(1000));
    let at = first_chunk(&repo, &blob, 500).await?;
    t.call_url(Method::DELETE, at.clone()).send().await?.status(&[204])?;
    gone(&repo, &at, &blob).await?;
    t.call_url(Method::DELETE, at).send().await?.refused(&[404], &["BLOB_UPLOAD_UNKNOWN"])?;
    repo.lacks_blob(&blob.digest).await
}

async fn a_finished_upload(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(1000));
    let at = first_chunk(&repo, &blob, 500).await?;
    finishes(&repo, &at, &blob, 500).await?;
    gone(&repo, &at, &Blob::random(10)).await
}

/// Every use of a session that is over says so.
async fn gone(repo: &Repository, at: &Url, blob: &Blob) -> Outcome {
    let calls = [
        repo.target.call_url(Method::GET, at.clone()),
        repo.target.call_url(Method::PATCH, at.clone()).body(blob.bytes.clone()),
        repo.finish(at, &blob.digest, &blob.bytes),
    ];
    for call in calls {
        call.send().await?.refused(&[404], &["BLOB_UPLOAD_UNKNOWN"])?;
    }
    Ok(())
}

/// Identifiers that no upload has, of the right form and of any.
async fn an_unknown_upload(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(10));
    repo.push_blob(&blob).await?;
    for id in ["0b8d1d4c-5c3e-4f43-9d3f-3a1c7c1d2e3f", "01JD0000000000000000000000"] {
        let path = format!("blobs/uploads/{id}");
        for method in [Method::GET, Method::PATCH, Method::DELETE] {
            let reply = repo.call(method, &path).body("x").send().await?;
            reply.refused(&[404], &["BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"])?;
        }
        let reply =
            repo.call(Method::PUT, &format!("{path}?digest={}", blob.digest)).body("x").send().await?;
        reply.refused(&[404], &["BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"])?;
    }
    Ok(())
}

/// A session belongs to the repository in which it began.
async fn an_upload_of_another_repository(t: &Target) -> Outcome {
    let (theirs, ours, blob) = (t.fresh(), t.fresh(), Blob::random(1000));
    let at = first_chunk(&theirs, &blob, 500).await?;
    let moved = at.as_str().replace(&theirs.name, &ours.name);
    let moved = Url::parse(&moved).map_err(|e| Failure(format!("{moved}: {e}")))?;
    if moved != at {
        let codes = &["BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"];
        t.call_url(Method::GET, moved.clone()).send().await?.refused(&[404, 400], codes)?;
        let reply = ours.finish(&moved, &blob.digest, &blob.bytes[500..]).send().await?;
        reply.refused(&[404, 400], codes)?;
        ours.lacks_blob(&blob.digest).await?;
    }
    finishes(&theirs, &at, &blob, 500).await
}

async fn two_uploads_at_once(t: &Target) -> Outcome {
    let (repo, one, two) = (t.fresh(), Blob::random(1000), Blob::random(1000));
    let first = first_chunk(&repo, &one, 500).await?;
    let second = first_chunk(&repo, &two, 300).await?;
    ensure!(first != second, "two uploads share the address {first}");
    finishes(&repo, &first, &one, 500).await?;
    finishes(&repo, &second, &two, 300).await
}

/// The header has one form, `<first>-<last>`, and must agree with the body.
async fn a_content_range_that_is_none(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(100));
    for range in
        ["-", "0", "0-", "-99", "a-b", "99-0", "0-50", "0-999", "0-99999999999999999999999", "0-99,0-99"]
    {
        let at = repo.begin().await?;
        let reply = t
            .call_url(Method::PATCH, at)
            .header("content-range", range)
            .body(blob.bytes.clone())
            .send()
            .await?;
        reply.refused(&[400, 416], &["BLOB_UPLOAD_INVALID", "SIZE_INVALID"])?;
    }
    Ok(())
}

/// Berth's errors say what to do: here, the digest of what arrived.
async fn a_wrong_digest_names_what_came(t: &Target) -> Outcome {
    let (repo, promised, sent) = (t.fresh(), Blob::random(100), Blob::random(100));
    let at = repo.begin().await?;
    let reply = repo.finish(&at, &promised.digest, &sent.bytes).send().await?;
    let body = reply.refused(&[400], &["DIGEST_INVALID"])?.json()?.to_string();
    ensure!(body.contains(&sent.digest), "the error does not name {}: {body}", sent.digest);
    Ok(())
}
