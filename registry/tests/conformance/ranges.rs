//! Pull: parts of blobs (RFC 9110 section 14), as clients use them to resume a download.

use reqwest::Method;

use crate::case::cases;
use crate::support::content::Blob;
use crate::support::http::{Outcome, Target, ensure};

cases! { ranges, Pull:
    Spec "R-OCI-1" parts_of_a_blob,
    Spec "R-OCI-1" parts_that_do_not_exist,
    Spec "R-OCI-1" headers_that_are_no_ranges,
    Spec "R-OCI-1" several_parts_at_once,
    Spec "R-OCI-1" a_part_of_an_empty_blob,
    Spec "R-OCI-1" a_range_of_a_head_request,
    Berth "R-OCI-1" ranges_are_announced,
    Berth "R-OCI-1" an_unsatisfiable_range_names_the_size,
    Berth "R-OCI-1" a_download_resumed_in_pieces,
}

const SIZE: usize = 2000;

/// `Range`, first byte, byte after the last.
const PARTS: &[(&str, usize, usize)] = &[
    ("bytes=0-0", 0, 1),
    ("bytes=0-1999", 0, SIZE),
    ("bytes=300-1200", 300, 1201),
    ("bytes=1999-1999", 1999, SIZE),
    ("bytes=1000-", 1000, SIZE),
    ("bytes=-1", 1999, SIZE),
    ("bytes=-700", 1300, SIZE),
    ("bytes=-5000", 0, SIZE),
    ("bytes=1500-9999", 1500, SIZE),
];

async fn parts_of_a_blob(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(SIZE));
    repo.push_blob(&blob).await?;
    for (range, from, to) in PARTS {
        repo.blob(Method::GET, &blob.digest)
            .header("range", range)
            .send()
            .await?
            .status(&[206])?
            .header("content-range", format!("bytes {from}-{}/{SIZE}", to - 1))?
            .header("content-length", to - from)?
            .bytes(&blob.bytes[*from..*to])?;
    }
    Ok(())
}

/// Beyond the end, and an end before its start: no such part.
async fn parts_that_do_not_exist(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(SIZE));
    repo.push_blob(&blob).await?;
    for range in ["bytes=2000-", "bytes=2000-2000", "bytes=5000-9000", "bytes=700-0"] {
        repo.blob(Method::GET, &blob.digest).header("range", range).send().await?.status(&[416])?;
    }
    Ok(())
}

/// A unit or syntax that the server does not know is ignored or refused, never a fault.
async fn headers_that_are_no_ranges(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(SIZE));
    repo.push_blob(&blob).await?;
    let odd = [
        "bytes",
        "BYTES=0-9",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=0x1-2",
        "bytes=1",
        "bytes=--1",
        "lines=0-1",
        "=0-1",
        "0-1",
        "bytes=0-18446744073709551615",
        "bytes=0-99999999999999999999999999",
        "bytes=99999999999999999999999999-",
        "bytes=1-2-3",
        "bytes=+1-2",
    ];
    for range in odd {
        let reply = repo.blob(Method::GET, &blob.digest).header("range", range).send().await?;
        if reply.status(&[200, 206, 400, 416])?.status == 200 {
            reply.bytes(&blob.bytes)?;
        }
    }
    Ok(())
}

/// Several parts may be given, or all bytes, or none; never the bytes of the wrong place.
async fn several_parts_at_once(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(SIZE));
    repo.push_blob(&blob).await?;
    let reply = repo.blob(Method::GET, &blob.digest).header("range", "bytes=0-9,20-29").send().await?;
    match reply.status(&[200, 206, 416])?.status {
        200 => reply.bytes(&blob.bytes).map(|_| ()),
        206 => {
            let kind = reply.value("content-type")?;
            ensure!(kind.starts_with("multipart/byteranges"), "two ranges, one 206 of type {kind}");
            Ok(())
        }
        _ => Ok(()),
    }
}

async fn a_part_of_an_empty_blob(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::new("", "application/octet-stream"));
    repo.push_blob(&blob).await?;
    for range in ["bytes=0-", "bytes=0-0", "bytes=-1"] {
        let reply = repo.blob(Method::GET, &blob.digest).header("range", range).send().await?;
        reply.status(&[200, 206, 416])?.bytes_if(&[200, 206], b"")?;
    }
    Ok(())
}

/// RFC 9110 defines ranges for GET only; HEAD tells the whole size or that of the part.
async fn a_range_of_a_head_request(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(SIZE));
    repo.push_blob(&blob).await?;
    let reply = repo.blob(Method::HEAD, &blob.digest).header("range", "bytes=0-9").send().await?;
    let whole = reply.status(&[200, 206])?.status == 200;
    reply.header("content-length", if whole { SIZE } else { 10 })?.bytes(b"")?;
    Ok(())
}

async fn ranges_are_announced(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(SIZE));
    repo.push_blob(&blob).await?;
    for method in [Method::GET, Method::HEAD] {
        repo.blob(method, &blob.digest).send().await?.status(&[200])?.header("accept-ranges", "bytes")?;
    }
    Ok(())
}

/// RFC 9110 section 15.5.17: what a client needs in order to ask again.
async fn an_unsatisfiable_range_names_the_size(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(SIZE));
    repo.push_blob(&blob).await?;
    for range in ["bytes=2000-", "bytes=-0"] {
        let reply = repo.blob(Method::GET, &blob.digest).header("range", range).send().await?;
        reply.status(&[416])?.header("content-range", format!("bytes */{SIZE}"))?;
    }
    Ok(())
}

/// A blob of several store parts, fetched over their borders.
async fn a_download_resumed_in_pieces(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random((12 << 20) + 17));
    repo.push_blob(&blob).await?;
    let (size, step) = (blob.bytes.len(), (5 << 20) + 1);
    for from in (0..size).step_by(step) {
        let to = (from + step).min(size);
        let call = repo.blob(Method::GET, &blob.digest).header("range", &format!("bytes={from}-{}", to - 1));
        call.send().await?.status(&[206])?.bytes(&blob.bytes[from..to])?;
    }
    Ok(())
}
