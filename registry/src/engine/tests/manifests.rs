use berth_registry_core::{
    manifest::{DOCKER_MANIFEST, InvalidManifest, OCI_INDEX},
    record::{self, TagRecord},
};
use rstest::rstest;

use super::*;

async fn with_blobs(engine: &Engine, repo: &RepositoryName) -> [Digest; 2] {
    [push_blob(engine, repo, "config").await, push_blob(engine, repo, "layer").await]
}

fn index(children: &[&Digest]) -> Bytes {
    let child = |d: &&Digest| format!(r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{d}","size":1}}"#);
    let children: Vec<_> = children.iter().map(child).collect();
    format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{}]}}"#, children.join(",")).into()
}

#[tokio::test]
async fn a_manifest_by_tag_and_by_digest() {
    // R-OCI-3
    for (engine, _root) in backends().await {
        let repo = repo("team/app");
        let [config, layer] = with_blobs(&engine, &repo).await;
        let bytes = image(&[&config, &layer], "");
        let digest = push(&engine, &repo, "v1", bytes.clone()).await;
        assert_eq!(digest, Digest::sha256(&bytes));
        for reference in [tag("v1"), Reference::Digest(digest.clone())] {
            let stored = engine.get_manifest(&repo, &reference).await.unwrap();
            assert_eq!(stored.bytes, bytes, "the exact bytes");
            assert_eq!((stored.digest.clone(), stored.media_type.as_str()), (digest.clone(), OCI_MANIFEST));
            let stat = engine.stat_manifest(&repo, &reference).await.unwrap();
            assert_eq!((stat.digest, stat.size), (digest.clone(), bytes.len() as u64));
        }
        assert_eq!(engine.tags(&repo, None, 100).await.unwrap().items, ["v1"]);
        let elsewhere = engine.get_manifest(&super::repo("team/other"), &Reference::Digest(digest)).await;
        assert!(matches!(elsewhere, Err(EngineError::ManifestUnknown(_))));
    }
}

#[tokio::test]
async fn pushed_by_digest_the_bytes_must_match() {
    let (engine, _) = memory().await;
    let repo = repo("a");
    let [config, _] = with_blobs(&engine, &repo).await;
    let bytes = image(&[&config], "");
    for algorithm in [berth_registry_core::Algorithm::Sha256, berth_registry_core::Algorithm::Sha512] {
        let right = Reference::Digest(algorithm.digest(&bytes));
        engine.put_manifest(&repo, &right, None, bytes.clone(), PutOptions::default()).await.unwrap();
        assert_eq!(engine.get_manifest(&repo, &right).await.unwrap().bytes, bytes);
        let wrong = Reference::Digest(algorithm.digest(b"x"));
        let error =
            engine.put_manifest(&repo, &wrong, None, bytes.clone(), PutOptions::default()).await.unwrap_err();
        assert!(matches!(error, EngineError::DigestMismatch { .. }));
    }
    assert!(engine.tags(&repo, None, 10).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn a_manifest_needs_its_blobs_in_its_own_repository() {
    let (engine, store) = memory().await;
    let [config, layer] = with_blobs(&engine, &repo("other")).await;
    let here = repo("a");
    push_blob(&engine, &here, "config").await;
    let bytes = image(&[&config, &layer], "");
    let error = try_push(&engine, &here, "v1", None, bytes.clone()).await.unwrap_err();
    assert!(
        matches!(&error, EngineError::ManifestBlobUnknown(missing) if *missing == [layer.clone()]),
        "{error}"
    );
    assert!(error.to_string().contains(&layer.to_string()));
    assert!(engine.get_manifest(&here, &tag("v1")).await.is_err());
    assert!(engine.get_manifest(&here, &Reference::Digest(Digest::sha256(&bytes))).await.is_err());
    assert!(keys(&store, "n/a!t/").await.is_empty());
    push_blob(&engine, &here, "layer").await;
    push(&engine, &here, "v1", bytes).await;
}

#[tokio::test]
async fn layers_kept_elsewhere_are_not_asked_for() {
    let (engine, _) = memory().await;
    let repo = repo("a");
    let [config, _] = with_blobs(&engine, &repo).await;
    let text = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{config}","size":6}},"layers":[{{"mediaType":"l","digest":"{}","size":1,"urls":["https://example.com/x"]}}]}}"#,
        Digest::sha256(b"far away")
    );
    try_push(&engine, &repo, "t", Some(DOCKER_MANIFEST), text).await.unwrap();
    assert_eq!(engine.get_manifest(&repo, &tag("t")).await.unwrap().media_type, DOCKER_MANIFEST);
}

#[tokio::test]
async fn an_index_needs_its_children_unless_sparse() {
    let (engine, store) = memory().await;
    let repo = repo("a");
    let [config, layer] = with_blobs(&engine, &repo).await;
    let child = push(&engine, &repo, "child", image(&[&config, &layer], "")).await;
    push(&engine, &repo, "multi", index(&[&child])).await;
    let absent = Digest::sha256(b"absent");
    let sparse = index(&[&child, &absent]);
    let error = try_push(&engine, &repo, "s", None, sparse.clone()).await.unwrap_err();
    assert!(matches!(error, EngineError::ManifestBlobUnknown(missing) if missing == [absent]));
    let options = EngineOptions { sparse_manifests: true, ..EngineOptions::default() };
    push(&Engine::open(store, options).await.unwrap(), &repo, "s", sparse).await;
}

#[tokio::test]
async fn sparse_manifests_lack_what_was_never_there_not_what_was_taken_away() {
    let options = EngineOptions { sparse_manifests: true, ..EngineOptions::default() };
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let (engine, repo) = (Engine::open(store, options).await.unwrap(), repo("a"));
    let [config, layer] = with_blobs(&engine, &repo).await;
    let absent = Digest::sha256(b"absent");
    push(&engine, &repo, "image", image(&[&config, &absent], "")).await;
    push(&engine, &repo, "index", index(&[&absent])).await;
    engine.delete_blob(&repo, &layer).await.unwrap();
    let error = try_push(&engine, &repo, "t", None, image(&[&config, &layer], "")).await.unwrap_err();
    assert!(matches!(error, EngineError::ManifestBlobUnknown(missing) if missing == [layer]));
}

#[tokio::test]
async fn an_immutable_tag_goes_only_by_a_lifecycle_rule() {
    let options = EngineOptions { immutable_tags: vec!["v*".parse().unwrap()], ..EngineOptions::default() };
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let (engine, repo) = (Engine::open(Arc::clone(&store), options).await.unwrap(), repo("a"));
    let [config, layer] = with_blobs(&engine, &repo).await;
    let (one, two) = (image(&[&config], ""), image(&[&layer], ""));
    let first = push(&engine, &repo, "v1", one.clone()).await;
    let immutable = |result: Result<(), EngineError>| matches!(result, Err(EngineError::TagImmutable { .. }));
    assert!(immutable(try_push(&engine, &repo, "v1", None, two.clone()).await.map(drop)));
    assert!(immutable(engine.delete_tag(&repo, &"v1".parse().unwrap(), &Condition::None).await));
    assert!(immutable(engine.delete_manifest(&repo, &first).await));
    engine.expire_manifest(&repo, &first).await.unwrap();
    let second = push(&engine, &repo, "v1", two.clone()).await;
    assert_eq!(engine.get_manifest(&repo, &tag("v1")).await.unwrap().digest, second);

    // A removal that was cut short left the tag: it is as good as absent.
    engine.expire_manifest(&repo, &second).await.unwrap();
    let left = record::encode(&TagRecord { digest: second, media_type: "a/b".into(), size: 1 }, "").unwrap();
    store.put(&key::tag(&repo, "v1"), left, PutMode::Create).await.unwrap();
    push(&engine, &repo, "v1", one).await;
    assert!(immutable(try_push(&engine, &repo, "v1", None, two).await.map(drop)));
}

#[rstest]
#[case(None, "{}")]
#[case(Some(OCI_INDEX), r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#)]
#[case(Some("text/plain"), r#"{"schemaVersion":2}"#)]
#[case(None, "not json")]
#[tokio::test]
async fn what_is_no_manifest_is_refused(#[case] media_type: Option<&str>, #[case] text: &'static str) {
    let (engine, _) = memory().await;
    let put = try_push(&engine, &repo("a"), "t", media_type, text).await;
    assert!(matches!(put, Err(EngineError::ManifestInvalid(_))));
}

#[tokio::test]
async fn manifests_have_a_greatest_size() {
    let (engine, _) = memory().await;
    let repo = repo("a");
    let [config, _] = with_blobs(&engine, &repo).await;
    let sized = |size: usize| {
        let empty = image(&[&config], r#""annotations":{"x":""},"#).len();
        image(&[&config], &format!(r#""annotations":{{"x":"{}"}},"#, "y".repeat(size - empty)))
    };
    push(&engine, &repo, "t", sized(4 << 20)).await;
    let put = try_push(&engine, &repo, "t", None, sized((4 << 20) + 1)).await;
    assert!(matches!(put, Err(EngineError::ManifestInvalid(InvalidManifest::TooLarge(_)))));
}

#[tokio::test]
async fn deleting_a_manifest_takes_its_tags_and_its_place_among_the_referrers() {
    for (engine, _root) in backends().await {
        let repo = repo("a");
        let [config, layer] = with_blobs(&engine, &repo).await;
        let first = push(&engine, &repo, "v1", image(&[&config, &layer], "")).await;
        push(&engine, &repo, "latest", image(&[&config, &layer], "")).await;
        let second = push(&engine, &repo, "latest", image(&[&config], "")).await;
        let signature = push(&engine, &repo, "sig", attached(&config, &second, "sig", "x")).await;
        assert_eq!(engine.referrers(&repo, &second, None).await.unwrap().len(), 1);

        engine.delete_manifest(&repo, &first).await.unwrap();
        assert_eq!(engine.tags(&repo, None, 10).await.unwrap().items, ["latest", "sig"], "moved tags stay");
        assert!(engine.get_manifest(&repo, &tag("v1")).await.is_err());
        assert!(engine.get_manifest(&repo, &Reference::Digest(first.clone())).await.is_err());
        assert!(matches!(engine.delete_manifest(&repo, &first).await, Err(EngineError::ManifestUnknown(_))));

        engine.delete_manifest(&repo, &signature).await.unwrap();
        assert!(engine.referrers(&repo, &second, None).await.unwrap().is_empty());
        // Pushed again it is back, with a new life.
        push(&engine, &repo, "v1", image(&[&config, &layer], "")).await;
        push(&engine, &repo, "sig", attached(&config, &second, "sig", "x")).await;
        assert_eq!(engine.get_manifest(&repo, &tag("v1")).await.unwrap().digest, first);
        assert_eq!(engine.referrers(&repo, &second, None).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_blob_that_a_manifest_needs_is_not_deleted() {
    let (engine, _) = memory().await;
    let repo = repo("a");
    let [config, layer] = with_blobs(&engine, &repo).await;
    let manifest = push(&engine, &repo, "v1", image(&[&config, &layer], "")).await;
    let error = engine.delete_blob(&repo, &layer).await.unwrap_err();
    assert!(matches!(&error, EngineError::BlobReferenced { manifest: by, .. } if *by == manifest), "{error}");
    assert_eq!(read_all(&engine, &repo, &layer).await, b"layer");
    engine.delete_manifest(&repo, &manifest).await.unwrap();
    engine.delete_blob(&repo, &layer).await.unwrap();
    assert!(matches!(engine.read_blob(&repo, &layer, None).await, Err(EngineError::BlobUnknown(_))));
    let gone = try_push(&engine, &repo, "v1", None, image(&[&config, &layer], "")).await;
    assert!(matches!(gone, Err(EngineError::ManifestBlobUnknown(_))));
    push_blob(&engine, &repo, "layer").await;
    push(&engine, &repo, "v1", image(&[&config, &layer], "")).await;
}

#[tokio::test]
async fn tags_are_deleted_alone() {
    let (engine, store) = memory().await;
    let repo = repo("a");
    let [config, _] = with_blobs(&engine, &repo).await;
    let digest = push(&engine, &repo, "v1", image(&[&config], "")).await;
    let name: Tag = "v1".parse().unwrap();
    let other = Condition::Matches(Digest::sha256(b"x"));
    let refused = engine.delete_tag(&repo, &name, &other).await.unwrap_err();
    assert!(matches!(refused, EngineError::Precondition { actual: Some(actual) } if actual == digest));
    engine.delete_tag(&repo, &name, &Condition::Matches(digest.clone())).await.unwrap();
    assert!(matches!(
        engine.delete_tag(&repo, &name, &Condition::None).await,
        Err(EngineError::ManifestUnknown(_))
    ));
    engine.get_manifest(&repo, &Reference::Digest(digest)).await.unwrap();
    assert_eq!(keys(&store, "n/a!h/v1/").await.len(), 2, "both changes are on record");
}

#[tokio::test]
async fn conditions_on_tags_hold() {
    let (engine, _) = memory().await;
    let repo = repo("a");
    let [config, layer] = with_blobs(&engine, &repo).await;
    let (one, two) = (image(&[&config], ""), image(&[&config, &layer], ""));
    let put = |bytes: &Bytes, condition: Condition| {
        let (engine, repo, bytes) = (engine.clone(), repo.clone(), bytes.clone());
        async move {
            let options = PutOptions { condition, ..PutOptions::default() };
            engine.put_manifest(&repo, &tag("t"), None, bytes, options).await
        }
    };
    let first = put(&one, Condition::Absent).await.unwrap().digest;
    assert!(matches!(
        put(&two, Condition::Absent).await,
        Err(EngineError::Precondition { actual: Some(actual) }) if actual == first
    ));
    let stale = Condition::Matches(Digest::sha256(b"x"));
    assert!(matches!(put(&two, stale).await, Err(EngineError::Precondition { .. })));
    put(&two, Condition::Matches(first.clone())).await.unwrap();
    assert!(matches!(put(&one, Condition::Matches(first)).await, Err(EngineError::Precondition { .. })));
}

#[tokio::test]
async fn one_push_may_set_several_tags() {
    let (engine, _) = memory().await;
    let repo = repo("a");
    let [config, _] = with_blobs(&engine, &repo).await;
    let tags: Vec<Tag> = vec!["v1".parse().unwrap(), "v1.2".parse().unwrap()];
    let options = PutOptions { author: Some("me"), tags: &tags, condition: Condition::None };
    let bytes = image(&[&config], "");
    let digest = Reference::Digest(Digest::sha256(&bytes));
    engine.put_manifest(&repo, &digest, None, bytes, options).await.unwrap();
    assert_eq!(engine.tags(&repo, None, 10).await.unwrap().items, ["v1", "v1.2"]);
}

#[tokio::test]
async fn lists_are_paged_in_order() {
    // R-OCI-4
    for (engine, _root) in backends().await {
        let unknown = engine.tags(&repo("none"), None, 10).await;
        assert!(matches!(unknown, Err(EngineError::NameUnknown(_))));
        let names = ["a", "a-b", "a.b", "a/b", "a0", "b"];
        for name in names.iter().rev() {
            let repo = repo(name);
            let [config, _] = with_blobs(&engine, &repo).await;
            for tag in ["b", "A", "a", "a.1", "a-1", "_", "0"] {
                push(&engine, &repo, tag, image(&[&config], "")).await;
            }
        }
        assert_eq!(engine.catalog(None, 100).await.unwrap(), page(&names, false));
        assert_eq!(engine.catalog(None, 2).await.unwrap(), page(&["a", "a-b"], true));
        assert_eq!(engine.catalog(Some("a.b"), 2).await.unwrap(), page(&["a/b", "a0"], true));
        assert_eq!(engine.catalog(Some("a0"), 2).await.unwrap(), page(&["b"], false));
        let sorted = ["0", "A", "_", "a", "a-1", "a.1", "b"];
        let a = repo("a");
        assert_eq!(engine.tags(&a, None, 100).await.unwrap(), page(&sorted, false));
        assert_eq!(engine.tags(&a, Some("_"), 2).await.unwrap(), page(&["a", "a-1"], true));
        assert_eq!(engine.tags(&a, Some("a"), 4).await.unwrap(), page(&["a-1", "a.1", "b"], false));
        assert_eq!(engine.tags(&a, Some("zzz"), 4).await.unwrap(), page(&[], false));
        assert_eq!(engine.tags(&a, None, 0).await.unwrap(), page(&[], false));
    }
}

fn page(items: &[&str], more: bool) -> Page<String> {
    Page { items: items.iter().map(ToString::to_string).collect(), more }
}

#[tokio::test]
async fn referrers_are_listed_with_what_they_say() {
    // R-OCI-5
    for (engine, _root) in backends().await {
        let repo = repo("a");
        let [config, _] = with_blobs(&engine, &repo).await;
        let subject = Digest::sha256(b"not pushed yet");
        assert!(engine.referrers(&repo, &subject, None).await.unwrap().is_empty());
        let bytes = attached(&config, &subject, "application/sig", "n0");
        let put = try_push(&engine, &repo, "s", None, bytes.clone()).await.unwrap();
        assert_eq!(put.subject.as_ref(), Some(&subject));
        for i in 1..6 {
            let kind = if i % 2 == 0 { "application/sig" } else { "application/sbom" };
            let bytes = attached(&config, &subject, kind, &format!("n{i}"));
            let digest = Reference::Digest(Digest::sha256(&bytes));
            engine.put_manifest(&repo, &digest, None, bytes, PutOptions::default()).await.unwrap();
        }
        for _ in 0..2 {
            let all = engine.referrers(&repo, &subject, None).await.unwrap();
            assert_eq!(all.len(), 6);
            let first = all.iter().find(|descriptor| descriptor.digest == put.digest).unwrap();
            assert_eq!(first.artifact_type.as_deref(), Some("application/sig"));
            assert_eq!(first.annotations["note"], "n0");
            assert_eq!((first.size, first.media_type.as_str()), (bytes.len() as u64, OCI_MANIFEST));
            let signatures = engine.referrers(&repo, &subject, Some("application/sig")).await.unwrap();
            assert_eq!(signatures.len(), 3);
            assert!(engine.referrers(&repo, &subject, Some("other")).await.unwrap().is_empty());
        }
        engine.delete_manifest(&repo, &put.digest).await.unwrap();
        assert_eq!(
            engine.referrers(&repo, &subject, None).await.unwrap().len(),
            5,
            "the index is not believed"
        );
    }
}

#[tokio::test]
async fn images_are_seen_as_rules_judge_them() {
    let (engine, _) = memory().await;
    let repo = repo("a");
    let [config, layer] = with_blobs(&engine, &repo).await;
    let child = push(&engine, &repo, "child", image(&[&config, &layer], "")).await;
    let parent = push(&engine, &repo, "multi", index(&[&child])).await;
    push(&engine, &repo, "other", index(&[&child])).await;
    let bytes = attached(&config, &parent, "sig", "");
    let reference = Reference::Digest(Digest::sha256(&bytes));
    let signature =
        engine.put_manifest(&repo, &reference, None, bytes, PutOptions::default()).await.unwrap().digest;
    let gone = push(&engine, &repo, "gone", image(&[&config], "")).await;
    engine.delete_manifest(&repo, &gone).await.unwrap();
    let images = engine.images(&repo).await.unwrap();
    assert_eq!(images.len(), 3);
    let find = |digest: &Digest| images.iter().find(|image| image.digest == *digest).unwrap();
    let names = |digest| find(digest).tags.iter().map(Tag::as_str).collect::<Vec<_>>();
    assert_eq!(names(&parent), ["multi", "other"]);
    assert_eq!(find(&parent).children, std::slice::from_ref(&child));
    assert_eq!(find(&signature).subject, Some(parent.clone()));
    assert!(names(&signature).is_empty());
}
