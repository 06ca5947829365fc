//! What the client makes of a registry's answers: absent, unreachable, wrong, too large and refused are told apart,
//! and what helps is repeated. Shows R-CLIENT.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of this crate is test code")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::body::Body;
use berth_client::{Client, ClientError, Endpoint};
use berth_registry_core::{
    Descriptor, Digest, Reference,
    manifest::{OCI_EMPTY, OCI_INDEX, OCI_MANIFEST},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use rstest::rstest;
use support::{Fake, reply, reply_with, repository, status};

fn tag(name: &str) -> Reference {
    name.parse().unwrap()
}

fn descriptor(bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: OCI_EMPTY.into(),
        digest: Digest::sha256(bytes),
        size: bytes.len() as u64,
        urls: Vec::new(),
        artifact_type: None,
        annotations: std::collections::BTreeMap::new(),
        platform: None,
    }
}

#[tokio::test]
async fn a_manifest_is_raw_bytes_with_our_own_digest() {
    let fake = Fake::start(|_, _| reply(&[("content-type", "a/b; charset=utf-8")], " {} ")).await;
    let manifest = fake.client().manifest(&repository("a/b"), &tag("v1")).await.unwrap();
    assert_eq!(manifest.digest, Digest::sha256(b" {} "));
    assert_eq!((manifest.media_type.as_str(), &manifest.bytes[..]), ("a/b", &b" {} "[..]));
    let asked = &fake.asked()[0];
    assert_eq!(asked.path(), "/v2/a/b/manifests/v1");
    assert!(asked.headers.get_all("accept").iter().any(|value| value == OCI_INDEX));
}

#[tokio::test]
async fn a_registry_that_lies_about_a_digest_is_caught() {
    let lie = Digest::sha256(b"promised");
    let header = lie.to_string();
    let fake = Fake::start(move |_, _| reply(&[("docker-content-digest", &header)], "delivered")).await;
    for reference in [tag("v1"), Reference::Digest(lie.clone())] {
        let error = fake.client().manifest(&repository("a"), &reference).await.unwrap_err();
        assert_eq!(error.reason(), "DigestMismatch", "{error}");
    }
    let error = fake.client().blob(&repository("a"), &lie, 100).await.unwrap_err();
    assert_eq!(error.reason(), "DigestMismatch");
}

#[rstest]
#[case(404, "NotFound")]
#[case(401, "Unauthorized")]
#[case(403, "Denied")]
#[case(429, "Throttled")]
#[case(400, "Refused")]
#[case(307, "Protocol")]
#[case(500, "Unreachable")]
#[case(503, "Unreachable")]
#[tokio::test]
async fn each_status_has_its_reason(#[case] code: u16, #[case] reason: &str) {
    let fake = Fake::start(move |_, _| {
        reply_with(code, &[], r#"{"errors":[{"code":"CODE","message":"the registry's words"}]}"#)
    })
    .await;
    let error = fake.client().manifest(&repository("a"), &tag("v1")).await.unwrap_err();
    assert_eq!(error.reason(), reason, "{error}");
    if matches!(code, 400 | 403 | 500) {
        assert!(error.to_string().contains("CODE the registry's words"), "{error}");
    }
    let error = fake.client().manifest_digest(&repository("a"), &tag("v1")).await.unwrap_err();
    assert_eq!(error.reason(), reason, "{error}");
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let fake = Fake::start(|_, _| status(200)).await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = fake.client_with(|endpoint| endpoint.url = format!("http://{gone}"));
    let error = client.manifest(&repository("a"), &tag("v1")).await.unwrap_err();
    assert_eq!(error.reason(), "Unreachable");
    assert!(error.is_transient() && !error.is_not_found());
}

#[tokio::test]
async fn silence_ends() {
    let fake = Fake::start(|_, _| {
        let never = stream::pending::<Result<Vec<u8>, std::io::Error>>();
        reply(&[], Body::from_stream(never))
    })
    .await;
    let client = fake.client_with(|endpoint| endpoint.idle_timeout = Duration::from_millis(50));
    let error = client.manifest(&repository("a"), &tag("v1")).await.unwrap_err();
    assert_eq!(error.reason(), "Unreachable", "{error}");
}

#[tokio::test]
async fn what_may_pass_is_repeated_and_the_rest_is_not() {
    let failures = Arc::new(AtomicUsize::new(2));
    let left = Arc::clone(&failures);
    let fake = Fake::start(move |asked, _| match asked.path() {
        "/v2/a/manifests/flaky"
            if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() =>
        {
            status(503)
        }
        "/v2/a/manifests/flaky" => reply(&[], "{}"),
        _ => status(404),
    })
    .await;
    let client = fake.client_with(|endpoint| endpoint.retries = 3);
    client.manifest(&repository("a"), &tag("flaky")).await.unwrap();
    assert_eq!(fake.asked().len(), 3);
    client.manifest(&repository("a"), &tag("absent")).await.unwrap_err();
    assert_eq!(fake.asked().len(), 4, "an answer is not asked for again");
}

#[tokio::test]
async fn bodies_are_bounded_whether_announced_or_not() {
    let fake = Fake::start(|asked, _| {
        if asked.path().ends_with(&Digest::sha256(b"announced").to_string()) {
            return reply(&[], vec![0_u8; 101]);
        }
        let endless = stream::repeat_with(|| Ok::<_, std::io::Error>(vec![0_u8; 1000]));
        reply(&[], Body::from_stream(endless))
    })
    .await;
    for name in ["announced", "endless"] {
        let error =
            fake.client().blob(&repository("a"), &Digest::sha256(name.as_bytes()), 100).await.unwrap_err();
        assert!(matches!(error, ClientError::TooLarge { bound: 100, .. }), "{error}");
    }
    let error = fake.client().manifest(&repository("a"), &tag("v1")).await.unwrap_err();
    assert_eq!(error.reason(), "TooLarge");
}

#[tokio::test]
async fn lists_are_read_page_by_page() {
    let fake = Fake::start(|asked, _| match (asked.path(), asked.query()) {
        ("/v2/_catalog", "n=1000") => {
            reply(&[("link", r#"</v2/_catalog?n=1000&last=b>; rel="next""#)], r#"{"repositories":["a","b"]}"#)
        }
        ("/v2/_catalog", _) => reply(&[], r#"{"repositories":["c"]}"#),
        ("/v2/a/tags/list", "n=1000") => {
            reply(&[("link", r#"<?n=1000&last=v1>; rel="next""#)], r#"{"name":"a","tags":["v1"]}"#)
        }
        ("/v2/a/tags/list", _) => reply(&[], r#"{"name":"a","tags":null}"#),
        ("/v2/b/tags/list", _) => {
            reply(&[("link", r#"<http://127.0.0.2/v2/b/tags/list>; rel="next""#)], r#"{"tags":["v1"]}"#)
        }
        _ => status(404),
    })
    .await;
    let names = fake.client().catalog().await.unwrap();
    assert_eq!(names, ["a", "b", "c"].map(repository));
    let tags = fake.client().tags(&repository("a")).await.unwrap();
    assert_eq!(tags.iter().map(berth_registry_core::Tag::as_str).collect::<Vec<_>>(), ["v1"]);
    let error = fake.client().tags(&repository("b")).await.unwrap_err();
    assert_eq!(error.reason(), "Protocol", "a page elsewhere is not fetched");
}

fn index(entries: &[(&str, &str)]) -> String {
    let entries: Vec<_> = entries
        .iter()
        .map(|(name, artifact_type)| {
            serde_json::json!({
                "mediaType": OCI_MANIFEST, "digest": Digest::sha256(name.as_bytes()), "size": 1,
                "artifactType": artifact_type,
            })
        })
        .collect();
    serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).to_string()
}

#[tokio::test]
async fn referrers_come_from_the_api_filtered_by_us_if_not_by_the_registry() {
    let fake = Fake::start(|_, _| reply(&[], index(&[("1", "t/a"), ("2", "t/b")]))).await;
    let (client, digest) = (fake.client(), Digest::sha256(b"image"));
    let all = client.referrers(&repository("a"), &digest, None, 100).await.unwrap();
    assert_eq!(all.len(), 2);
    let some = client.referrers(&repository("a"), &digest, Some("t/b"), 100).await.unwrap();
    assert_eq!(some[0].digest, Digest::sha256(b"2"));
    assert_eq!(fake.asked()[1].query(), "artifactType=t%2Fb");
    let error = client.referrers(&repository("a"), &digest, None, 1).await.unwrap_err();
    assert!(matches!(error, ClientError::TooLarge { bound: 1, unit: "referrers", .. }), "{error}");
}

#[tokio::test]
async fn the_referrers_tag_answers_where_there_is_no_api() {
    let digest = Digest::sha256(b"image");
    let tag = format!("/v2/a/manifests/{}", digest.referrers_tag());
    let fake = Fake::start(move |asked, _| match asked.path() {
        path if path == tag => reply(&[("content-type", OCI_INDEX)], index(&[("1", "t/a"), ("2", "t/b")])),
        path if path.starts_with("/v2/broken") && path.contains("/manifests/") => status(500),
        _ => status(404),
    })
    .await;
    let client = fake.client();
    let some = client.referrers(&repository("a"), &digest, Some("t/a"), 100).await.unwrap();
    assert_eq!(some.len(), 1);
    assert!(client.referrers(&repository("none"), &digest, None, 100).await.unwrap().is_empty());
    let error = client.referrers(&repository("broken"), &digest, None, 100).await.unwrap_err();
    assert_eq!(error.reason(), "Unreachable", "an unanswered question is not an empty list");
}

/// A registry with one blob to read and an upload to take.
async fn with_blob(bytes: &'static [u8], served: &'static [u8]) -> Fake {
    let path = format!("/v2/from/blobs/{}", Digest::sha256(bytes));
    Fake::start(move |asked, _| match (asked.method.as_str(), asked.path()) {
        ("GET", asked) if asked == path => reply(&[], served),
        ("POST", "/v2/to/blobs/uploads/") if asked.query().contains("mount=") => status(201),
        ("POST", "/v2/to/blobs/uploads/") => reply_with(202, &[("location", "/upload/1?state=x")], ""),
        ("PUT", "/upload/1") => status(201),
        _ => status(404),
    })
    .await
}

#[tokio::test]
async fn a_blob_is_streamed_from_one_registry_to_another() {
    let bytes = b"some content";
    let (source, destination) = (with_blob(bytes, bytes).await, with_blob(b"", b"").await);
    let (from, to) = (repository("from"), repository("to"));
    let source = source.client();
    let client = destination.client();
    let copied = client.copy_blob(&to, &descriptor(bytes), (&source, &from), None).await.unwrap();
    assert_eq!(copied, berth_client::Copied::Sent(12));
    let put = destination.asked().pop().unwrap();
    assert_eq!((put.method.as_str(), &put.body[..]), ("PUT", &bytes[..]));
    assert!(put.query().starts_with("state=x&digest=sha256%3A"), "{}", put.query());
    assert_eq!(put.headers["content-length"], "12");

    let copied = client.copy_blob(&to, &descriptor(bytes), (&source, &from), Some(&from)).await.unwrap();
    assert_eq!(copied, berth_client::Copied::Mounted);
}

#[rstest]
#[case(b"other contnt", "DigestMismatch")]
#[case(b"some content and more", "Protocol")]
#[case(b"some", "Unreachable")]
#[tokio::test]
async fn a_source_that_sends_something_else_is_named(#[case] served: &'static [u8], #[case] reason: &str) {
    let bytes = b"some content";
    let (source, destination) = (with_blob(bytes, served).await, with_blob(b"", b"").await);
    let (from, to) = (repository("from"), repository("to"));
    let error = destination
        .client()
        .copy_blob(&to, &descriptor(bytes), (&source.client(), &from), None)
        .await
        .unwrap_err();
    assert_eq!(error.reason(), reason, "{error}");
    assert!(error.to_string().contains(&source.address.to_string()), "{error}");
    let stream = source.client().blob_stream(&from, &descriptor(bytes)).await.unwrap();
    assert!(stream.try_collect::<Vec<_>>().await.is_err());
}

#[tokio::test]
async fn a_long_upload_is_no_silence() {
    let destination = with_blob(b"", b"").await;
    let client = destination.client_with(|endpoint| endpoint.idle_timeout = Duration::from_millis(100));
    // Four pauses that are shorter than the silence that is allowed, and longer together.
    let slow = stream::iter(0..4).then(|n: u8| async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(vec![n].into())
    });
    let digest = Digest::sha256(&[0, 1, 2, 3]);
    client.put_blob_stream(&repository("to"), &digest, 4, slow.boxed()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_stands_still_ends() {
    let destination = with_blob(b"", b"").await;
    let stuck = stream::pending().boxed();
    let error = destination
        .client()
        .put_blob_stream(&repository("to"), &Digest::sha256(b"x"), 1, stuck)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ClientError::Unreachable { cause, .. } if cause.contains("did not move")),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_there_is_not_sent() {
    let fake = Fake::start(|asked, _| match asked.method.as_str() {
        "HEAD" => reply(&[("content-length", "3")], ""),
        _ => status(500),
    })
    .await;
    let client = fake.client();
    let (from, to) = (repository("from"), repository("to"));
    let copied = client.copy_blob(&to, &descriptor(b"abc"), (&client, &from), None).await.unwrap();
    assert_eq!(copied, berth_client::Copied::Present);
}

#[test]
fn an_endpoint_is_checked_before_it_is_used() {
    assert!(matches!(Client::new(Endpoint::new("registry")), Err(ClientError::Endpoint { .. })));
}
