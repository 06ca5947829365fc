//! Errors: every malformed request gets a 4xx in the specification's JSON shape, never a 5xx, never
//! silence (distribution-spec "Error Codes").

use reqwest::Method;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::case::cases;
use crate::support::content::{Blob, Manifest, unknown_digest};
use crate::support::http::{Failure, Outcome, Reply, Target, ensure};

cases! { errors, Pull:
    Spec "R-OCI-1" names_that_are_none,
    Spec "R-OCI-1" digests_that_are_none,
    Spec "R-OCI-1" tags_that_are_none,
    Spec "R-OCI-2" upload_ids_that_are_none,
    Spec "R-OCI-2" final_digests_that_are_none,
    Spec "R-OCI-1" paths_that_lead_nowhere,
    Spec "R-OCI-1" methods_that_do_not_apply,
    Spec "R-OCI-1" bytes_that_are_no_request,
    Spec "R-OCI-1" headers_that_are_odd,
    Berth "R-OCI-1" every_error_says_what_to_do,
    Berth "R-OCI-1" a_name_too_long,
    Spec "R-AUTH-1" nobody_may_enter_a_closed_registry,
}

/// Names outside the grammar, as they stand in a URL.
const NAMES: &[&str] = &[
    "UPPER", "under_", "_under", "-dash", "dash-", "dot.", "a//b", "a..b", "a.-b", "a___b", "a__b_", "a/-b",
    "a/B", "a%20b", "%C3%BC", "a%00b", "a%0Ab", "..%2fa", "a%2F%2Fb", "a:b", "a@b", "a+b", "a%25b", "%ff",
    "a!b", "a!m", "a*",
];

fn at_least_refused(what: &str, reply: &Reply, codes: &[&str]) -> Outcome {
    reply.refused(&[400, 404], codes).map(|_| ()).map_err(|f| Failure(format!("{what}: {f}")))
}

async fn names_that_are_none(t: &Target) -> Outcome {
    let (digest, codes) = (unknown_digest(), &["NAME_INVALID", "NAME_UNKNOWN", "UNSUPPORTED"]);
    for name in NAMES {
        let repo = t.repository(name);
        for call in [
            repo.manifest(Method::GET, "v1"),
            repo.put_manifest(&Manifest::index_of(&[]), "v1"),
            repo.manifest(Method::DELETE, "v1"),
            repo.blob(Method::GET, &digest),
            repo.blob(Method::DELETE, &digest),
            repo.post_upload(""),
            repo.tags(""),
            repo.referrers(&digest),
        ] {
            at_least_refused(name, &call.send().await?, codes)?;
        }
        repo.blob(Method::HEAD, &digest).send().await?.status(&[400, 404])?.bytes(b"")?;
    }
    Ok(())
}

/// Digests outside the grammar or of no algorithm that the registry knows.
const DIGESTS: &[&str] = &[
    "sha256:",
    "sha256:short",
    "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde",
    "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0",
    "sha256:0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF",
    "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdeg",
    "SHA256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "sha512:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "sha999:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "md5:d41d8cd98f00b204e9800998ecf8427e",
    ":0123456789abcdef",
    "sha256::",
    "sha256:%00",
    "sha256:..%2F..%2F..%2Fetc%2Fpasswd",
    "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde%0a",
];

async fn digests_that_are_none(t: &Target) -> Outcome {
    let repo = t.fresh();
    repo.push(&Manifest::image(), "v1").await?;
    let codes = &[
        "DIGEST_INVALID",
        "BLOB_UNKNOWN",
        "MANIFEST_UNKNOWN",
        "MANIFEST_INVALID",
        "UNSUPPORTED",
        "NAME_INVALID",
    ];
    for digest in DIGESTS {
        for call in [
            repo.blob(Method::GET, digest),
            repo.blob(Method::DELETE, digest),
            repo.manifest(Method::GET, digest),
            repo.manifest(Method::DELETE, digest),
            repo.put_manifest(&Manifest::index_of(&[]), digest),
        ] {
            at_least_refused(digest, &call.send().await?, codes)?;
        }
        repo.blob(Method::HEAD, digest).send().await?.status(&[400, 404])?.bytes(b"")?;
        repo.manifest(Method::HEAD, digest).send().await?.status(&[400, 404])?.bytes(b"")?;
    }
    Ok(())
}

async fn tags_that_are_none(t: &Target) -> Outcome {
    let repo = t.fresh();
    repo.push(&Manifest::image(), "v1").await?;
    let long = "x".repeat(129);
    let codes = &["MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID", "DIGEST_INVALID", "UNSUPPORTED"];
    for tag in [".dot", "-dash", "a%20b", "%C3%BC", "a%00", "a%2Fb", "a+b", "a*", "a!b", "a%0a", "%ff", &long]
    {
        at_least_refused(tag, &repo.put_manifest(&Manifest::index_of(&[]), tag).send().await?, codes)?;
        at_least_refused(tag, &repo.manifest(Method::GET, tag).send().await?, codes)?;
        at_least_refused(tag, &repo.manifest(Method::DELETE, tag).send().await?, codes)?;
    }
    let tags = repo.tag_list("").await?;
    ensure!(tags == ["v1"], "a refused tag is listed: {tags:?}");
    Ok(())
}

async fn upload_ids_that_are_none(t: &Target) -> Outcome {
    let repo = t.fresh();
    repo.push_blob(&Blob::random(10)).await?;
    let codes = &["BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID", "NAME_INVALID", "UNSUPPORTED"];
    for id in ["x", "..%2F..", "%00", "a%20b", "-1", "%ff", "0", &"f".repeat(500), "..%2f..%2fv2"] {
        let path = format!("blobs/uploads/{id}");
        for method in [Method::GET, Method::PATCH, Method::DELETE] {
            at_least_refused(id, &repo.call(method, &path).body("x").send().await?, codes)?;
        }
        let put = repo.call(Method::PUT, &format!("{path}?digest={}", unknown_digest())).body("x");
        at_least_refused(id, &put.send().await?, codes)?;
    }
    Ok(())
}

/// The digest that ends an upload, missing or malformed; the upload itself can still be ended well.
async fn final_digests_that_are_none(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(10));
    for digest in DIGESTS.iter().copied().chain(["", "%20", "x"]) {
        let at = repo.begin().await?;
        let joint = if at.query().is_some() { '&' } else { '?' };
        let wrong = format!("{at}{joint}digest={digest}");
        let wrong = reqwest::Url::parse(&wrong).map_err(|e| Failure(format!("{wrong}: {e}")))?;
        let reply = t.call_url(Method::PUT, wrong).body(blob.bytes.clone()).send().await?;
        reply
            .refused(&[400], &["DIGEST_INVALID", "UNSUPPORTED"])
            .map_err(|f| Failure(format!("{digest}: {f}")))?;
        let single =
            repo.call(Method::POST, &format!("blobs/uploads/?digest={digest}")).body(blob.bytes.clone());
        let reply = single.send().await?;
        // 202: a registry that does not know the single POST has begun an upload.
        if reply.status(&[400, 202])?.status == 400 {
            reply.refused(&[400], &["DIGEST_INVALID", "UNSUPPORTED"])?;
        }
    }
    let at = repo.begin().await?;
    let reply = t.call_url(Method::PUT, at).body(blob.bytes.clone()).send().await?;
    reply.refused(&[400], &["DIGEST_INVALID"])?;
    repo.lacks_blob(&blob.digest).await
}

async fn paths_that_lead_nowhere(t: &Target) -> Outcome {
    let name = &t.fresh().name;
    for path in [
        format!("/v2/{name}"),
        format!("/v2/{name}/"),
        format!("/v2/{name}/blobs"),
        format!("/v2/{name}/blobs/"),
        format!("/v2/{name}/manifests"),
        format!("/v2/{name}/manifests/"),
        format!("/v2/{name}/tags"),
        format!("/v2/{name}/tags/list/more"),
        format!("/v2/{name}/referrers"),
        format!("/v2/{name}/referrers/"),
        "/v2/manifests/v1".into(),
        "/v2/tags/list".into(),
        "/v2/_unknown".into(),
        "/v2/%".into(),
        "/v1/".into(),
        "/v3/".into(),
    ] {
        t.get(&path).await?.status(&[400, 404, 405])?;
    }
    Ok(())
}

async fn methods_that_do_not_apply(t: &Target) -> Outcome {
    let (repo, digest) = (t.fresh(), unknown_digest());
    repo.push(&Manifest::image(), "v1").await?;
    for call in [
        repo.manifest(Method::POST, "v1"),
        repo.manifest(Method::PATCH, "v1"),
        repo.blob(Method::PUT, &digest),
        repo.blob(Method::POST, &digest),
        repo.call(Method::POST, "tags/list"),
        repo.call(Method::DELETE, "tags/list"),
        repo.call(Method::PUT, &format!("referrers/{digest}")),
        repo.call(Method::DELETE, "blobs/uploads/"),
        t.call(Method::POST, "/v2/"),
        t.call(Method::DELETE, "/v2/_catalog"),
    ] {
        call.send().await?.status(&[404, 405])?;
    }
    Ok(())
}

/// Written to the socket, because no client library would send them: a refusal or a closed
/// connection, and a server that serves the next request.
async fn bytes_that_are_no_request(t: &Target) -> Outcome {
    let Some(address) = t.plain_address() else { return Ok(()) };
    let login = t.authorization().map(|value| format!("authorization: {value}\r\n")).unwrap_or_default();
    let long = "x".repeat(70_000);
    for head in [
        "GET /v2/../../../../etc/passwd HTTP/1.1\r\n".to_owned(),
        "GET /v2/a/../../b/tags/list HTTP/1.1\r\n".into(),
        "GET /v2/a/./tags/list HTTP/1.1\r\n".into(),
        "GET //v2// HTTP/1.1\r\n".into(),
        "GET /v2/a\\b/tags/list HTTP/1.1\r\n".into(),
        "GET /v2/%zz/tags/list HTTP/1.1\r\n".into(),
        "GET /v2/a/tags/list?n=%zz HTTP/1.1\r\n".into(),
        "GET http://elsewhere.example/v2/a/tags/list HTTP/1.1\r\n".into(),
        "FETCH /v2/a/tags/list HTTP/1.1\r\n".into(),
        "GET /v2/a/tags/list HTTP/1.1\r\nrange: bytes=\u{1}\r\n".into(),
        "POST /v2/a/blobs/uploads/ HTTP/1.1\r\ncontent-length: x\r\n".into(),
        "POST /v2/a/blobs/uploads/ HTTP/1.1\r\ncontent-length: -1\r\n".into(),
        "PUT /v2/a/manifests/v1 HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n".into(),
        "PUT /v2/a/manifests/v1 HTTP/1.1\r\ntransfer-encoding: gzip\r\n".into(),
        format!("GET /v2/{long}/tags/list HTTP/1.1\r\n"),
        format!("GET /v2/a/tags/list HTTP/1.1\r\nx: {long}\r\n"),
        "this is not HTTP\r\n".into(),
        "\u{16}\u{3}\u{1}".into(),
    ] {
        let line = head.lines().next().unwrap_or_default().chars().take(80).collect::<String>();
        let request = format!("{head}host: {address}\r\n{login}connection: close\r\n\r\n");
        let answer = raw(&address, request.as_bytes()).await;
        let status = answer.strip_prefix("HTTP/1.1 ").or_else(|| answer.strip_prefix("HTTP/1.0 "));
        // A redirect to the path without dots is an answer as well; 501 and 505 are for what is not HTTP/1.1.
        let fine = status.is_none_or(|s| ["3", "4", "501", "505"].iter().any(|good| s.starts_with(good)));
        ensure!(fine, "{line}: answered {}", answer.lines().next().unwrap_or_default());
    }
    t.get("/v2/").await?.status(&[200])?;
    Ok(())
}

/// Writes bytes, returns what comes back until the server closes; a broken connection is an answer too.
async fn raw(address: &str, request: &[u8]) -> String {
    let Ok(mut socket) = TcpStream::connect(address).await else { return String::new() };
    let (mut answer, limit) = (Vec::new(), std::time::Duration::from_secs(30));
    let exchange = async {
        let _ = socket.write_all(request).await;
        let _ = socket.shutdown().await;
        let _ = socket.read_to_end(&mut answer).await;
    };
    let _ = tokio::time::timeout(limit, exchange).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Headers that a client may send by mistake never make a good request a fault of the server.
async fn headers_that_are_odd(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    let odd = [
        ("accept", ";;;"),
        ("accept", ""),
        ("accept-encoding", "gzip, br, zstd"),
        ("content-type", "/"),
        ("if-none-match", "\"unfinished"),
        ("if-none-match", ","),
        ("if-modified-since", "yesterday"),
        ("content-range", "bytes"),
        ("expect", "nothing"),
    ];
    for (name, value) in odd {
        let reply = repo.manifest(Method::GET, "v1").header(name, value).send().await?;
        if reply.status(&[200, 400, 404, 406, 417])?.status == 200 {
            reply.bytes(&image.bytes())?;
        }
    }
    Ok(())
}

/// Berth's errors have a message and a `detail` with the way out.
async fn every_error_says_what_to_do(t: &Target) -> Outcome {
    let (repo, digest) = (t.fresh(), unknown_digest());
    repo.push(&Manifest::image(), "v1").await?;
    for call in [
        repo.manifest(Method::GET, "v2"),
        repo.manifest(Method::GET, ".bad"),
        repo.blob(Method::GET, &digest),
        repo.blob(Method::GET, "sha256:short"),
        repo.call(Method::GET, "blobs/uploads/unknown"),
        repo.tags("?n=x"),
        repo.put_manifest(&Manifest::image(), "v2"),
        t.repository("UPPER").tags(""),
        t.fresh().tags(""),
        t.call(Method::GET, "/v2/nowhere"),
        repo.manifest(Method::POST, "v1"),
    ] {
        let reply = call.send().await?;
        let body = reply.refused(&[400, 404, 405], &[])?.json()?;
        let filled =
            |value: &Value| !matches!(value, Value::Null) && value != "" && *value != serde_json::json!({});
        let error = &body["errors"][0];
        ensure!(
            filled(&error["message"]) && filled(&error["detail"]),
            "an error without message or detail: {body}"
        );
    }
    Ok(())
}

/// A name that no client could pull is not taken.
async fn a_name_too_long(t: &Target) -> Outcome {
    for name in ["x".repeat(256), vec!["part"; 60].join("/")] {
        let reply = t.repository(&name).post_upload("").send().await?;
        reply.refused(&[400], &["NAME_INVALID"])?;
    }
    Ok(())
}

/// Where a login is needed, every request without one is answered 401, and how to log in.
async fn nobody_may_enter_a_closed_registry(t: &Target) -> Outcome {
    if !t.is_logged_in() {
        return Ok(());
    }
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    let stranger = t.anonymous();
    let theirs = stranger.repository(&repo.name);
    let digest = &image.blobs[0].digest;
    for call in [
        stranger.call(Method::GET, "/v2/"),
        stranger.call(Method::GET, "/v2/_catalog"),
        theirs.manifest(Method::GET, "v1"),
        theirs.put_manifest(&image, "v2"),
        theirs.manifest(Method::DELETE, "v1"),
        theirs.blob(Method::GET, digest),
        theirs.blob(Method::DELETE, digest),
        theirs.post_upload(""),
        theirs.tags(""),
        theirs.referrers(&image.digest()),
        // What is malformed is not told from what is forbidden.
        theirs.manifest(Method::GET, ".bad"),
        stranger.repository("UPPER").tags(""),
    ] {
        let reply = call.send().await?;
        reply.refused(&[401], &["UNAUTHORIZED"])?;
        let challenge = reply.value("www-authenticate")?;
        ensure!(
            challenge.starts_with("Basic ") || challenge.starts_with("Bearer "),
            "challenge {challenge:?}"
        );
    }
    Ok(())
}
