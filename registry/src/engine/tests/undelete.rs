//! What was deleted comes back while its bytes are there (R-GC-4), and what keeps something is told (R-GC-5).

use berth_registry_core::{
    config::LifecycleRule,
    job::{Explanation, Keeper, UndeleteReport, UndeleteRequest},
    manifest::OCI_INDEX,
    record::State,
};
use jiff::{SignedDuration, Timestamp};

use super::{
    collect::{A_DAY_LATER, TEN_DAYS_LATER, run},
    *,
};

fn whole(repository: &RepositoryName) -> UndeleteRequest {
    UndeleteRequest { repository: repository.clone(), tag: None, digest: None, since: None }
}

async fn undelete(engine: &Engine, request: UndeleteRequest) -> UndeleteReport {
    engine.undelete(&request, Some("tester")).await.unwrap()
}

async fn push_image(engine: &Engine, repo: &RepositoryName, name: &str) -> Digest {
    let config = push_blob(engine, repo, format!("{{\"{name}\":1}}")).await;
    let layer = push_blob(engine, repo, format!("layer of {name}")).await;
    push(engine, repo, name, image(&[&config, &layer], "")).await
}

async fn can_be_pulled(engine: &Engine, repo: &RepositoryName, name: &str) -> bool {
    let Ok(stored) = engine.get_manifest(repo, &tag(name)).await else { return false };
    let manifest = berth_registry_core::Manifest::parse(Some(&stored.media_type), &stored.bytes).unwrap();
    for blob in manifest.blobs() {
        assert!(blob.digest.matches(&read_all(engine, repo, &blob.digest).await));
    }
    true
}

/// History is kept by the millisecond: waits for the next one.
async fn tick() {
    let now = Timestamp::now().as_millisecond();
    while Timestamp::now().as_millisecond() == now {
        tokio::task::yield_now().await;
    }
}

fn index_of(child: &Digest) -> Bytes {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{{"mediaType":"{OCI_MANIFEST}","digest":"{child}","size":1}}]}}"#
    )
    .into()
}

#[tokio::test]
async fn a_manifest_comes_back_with_its_tags_before_and_after_it_was_collected() {
    for collected in [false, true] {
        let (engine, store) = memory().await;
        let repo = repo("a");
        let digest = push_image(&engine, &repo, "v1").await;
        let stored = engine.get_manifest(&repo, &tag("v1")).await.unwrap();
        push(&engine, &repo, "latest", stored.bytes.clone()).await;
        engine.delete_manifest(&repo, &digest).await.unwrap();
        if collected {
            assert_eq!(run(&engine, A_DAY_LATER, false).await.0.dead, 2);
        }
        let request = UndeleteRequest { digest: Some(digest.clone()), ..whole(&repo) };
        let report = undelete(&engine, request.clone()).await;
        assert_eq!(report.restored.len(), 1);
        let tags: Vec<_> = report.restored[0].tags.iter().map(ToString::to_string).collect();
        assert_eq!(tags, ["latest", "v1"]);
        assert!(can_be_pulled(&engine, &repo, "v1").await && can_be_pulled(&engine, &repo, "latest").await);
        assert_eq!(undelete(&engine, request).await, UndeleteReport::default(), "nothing is left to do");
        // What was on its way out is not taken any more.
        for later in [A_DAY_LATER, TEN_DAYS_LATER] {
            let (summary, lines) = run(&engine, later, false).await;
            assert_eq!((summary.dead, summary.purged, summary.failed), (0, 0, 0), "{lines:#?}");
        }
        assert!(can_be_pulled(&open(&store).await, &repo, "v1").await);
    }
}

#[tokio::test]
async fn a_tag_means_again_what_it_meant_last() {
    let (engine, _) = memory().await;
    let repo = repo("a");
    let first = push_image(&engine, &repo, "v1").await;
    tick().await;
    engine.delete_tag(&repo, &"v1".parse().unwrap(), &Condition::None).await.unwrap();
    tick().await;
    let request = UndeleteRequest { tag: Some("v1".parse().unwrap()), ..whole(&repo) };
    assert_eq!(undelete(&engine, request.clone()).await.restored[0].digest, first);
    assert!(can_be_pulled(&engine, &repo, "v1").await);
    // A tag that means something else by now is left alone.
    let second = push_image(&engine, &repo, "v2").await;
    let bytes = engine.get_manifest(&repo, &tag("v2")).await.unwrap().bytes;
    push(&engine, &repo, "v1", bytes).await;
    engine.delete_manifest(&repo, &first).await.unwrap();
    assert!(undelete(&engine, request).await.restored.is_empty());
    assert_eq!(engine.get_manifest(&repo, &tag("v1")).await.unwrap().digest, second);
    let unknown = UndeleteRequest { tag: Some("never".parse().unwrap()), ..whole(&repo) };
    assert!(matches!(engine.undelete(&unknown, None).await, Err(EngineError::ManifestUnknown(_))));
}

#[tokio::test]
async fn a_repository_comes_back_since_a_time() {
    let (engine, _) = memory().await;
    let repo = repo("a");
    let old = push_image(&engine, &repo, "old").await;
    engine.delete_manifest(&repo, &old).await.unwrap();
    let since = Timestamp::now();
    let child = push_image(&engine, &repo, "child").await;
    let index = push(&engine, &repo, "index", index_of(&child)).await;
    push_image(&engine, &repo, "tagged").await;
    engine.delete_manifest(&repo, &index).await.unwrap();
    engine.delete_manifest(&repo, &child).await.unwrap();
    tick().await;
    engine.delete_tag(&repo, &"tagged".parse().unwrap(), &Condition::None).await.unwrap();
    run(&engine, A_DAY_LATER, false).await;
    let report = undelete(&engine, UndeleteRequest { since: Some(since), ..whole(&repo) }).await;
    assert_eq!((report.restored.len(), report.lost.len()), (3, 0), "{report:#?}");
    assert_eq!(engine.tags(&repo, None, 10).await.unwrap().items, ["child", "index", "tagged"]);
    assert!(can_be_pulled(&engine, &repo, "child").await && can_be_pulled(&engine, &repo, "tagged").await);
    assert_eq!(undelete(&engine, whole(&repo)).await.restored.len(), 1, "the older one");
    assert!(can_be_pulled(&engine, &repo, "old").await);
}

#[tokio::test]
async fn what_was_purged_is_lost_and_says_so() {
    let (engine, store) = memory().await;
    let repo = repo("a");
    let shared = push_blob(&engine, &repo, "shared").await;
    let gone = push_image(&engine, &repo, "gone").await;
    let layers = [&shared, &Digest::sha256(b"layer of gone")];
    let half = push(&engine, &repo, "half", image(&layers, "")).await;
    push(&engine, &repo, "kept", image(&[&shared], "")).await;
    for digest in [&gone, &half] {
        engine.delete_manifest(&repo, digest).await.unwrap();
    }
    // The records of the manifests stay, as they would if these had been pushed and deleted again.
    run(&engine, A_DAY_LATER, false).await;
    for entry in keys(&store, "z/").await {
        let body = crate::store::read(store.as_ref(), &entry).await.unwrap().0;
        if String::from_utf8_lossy(&body).contains("manifest") {
            store.delete(&entry).await.unwrap();
        }
    }
    assert_eq!(run(&engine, TEN_DAYS_LATER, false).await.0.purged, 2);
    let request = UndeleteRequest { digest: Some(half), ..whole(&repo) };
    assert!(matches!(engine.undelete(&request, None).await, Err(EngineError::Reclaimed(_))));
    let report = undelete(&engine, whole(&repo)).await;
    assert_eq!((report.restored.len(), report.lost.len()), (0, 2));
    assert!(can_be_pulled(&engine, &repo, "kept").await);
}

#[tokio::test]
async fn a_pull_as_of_a_time() {
    let (engine, _) = memory().await;
    let repo = repo("a");
    let before = Timestamp::now();
    tick().await;
    let first = push_image(&engine, &repo, "v").await;
    tick().await;
    let one = Timestamp::now();
    let config = push_blob(&engine, &repo, "{}").await;
    tick().await;
    let second = push(&engine, &repo, "v", image(&[&config], "")).await;
    tick().await;
    let two = Timestamp::now();
    engine.delete_manifest(&repo, &second).await.unwrap();
    tick().await;
    let three = Timestamp::now();
    let name: Tag = "v".parse().unwrap();
    let at = async |at| engine.get_manifest_as_of(&repo, &name, at).await.ok().map(|stored| stored.digest);
    assert_eq!(at(before).await, None);
    assert_eq!(at(one).await, Some(first));
    assert_eq!(at(two).await, Some(second));
    assert_eq!(at(three).await, None, "deleted with its manifest");
}

async fn explain(engine: &Engine, reference: &Reference, rules: &str) -> Explanation {
    let rules: Vec<LifecycleRule> = serde_yaml::from_str(rules).unwrap();
    engine.explain(&repo("a"), reference, &rules).await.unwrap()
}

#[tokio::test]
async fn chains_rules_and_dates_are_told() {
    let (engine, _) = memory().await;
    let repo = repo("a");
    let child = push_image(&engine, &repo, "child").await;
    engine.delete_tag(&repo, &"child".parse().unwrap(), &Condition::None).await.unwrap();
    let index = push(&engine, &repo, "index", index_of(&child)).await;
    let layer = Reference::Digest(Digest::sha256(b"layer of child"));

    let told = explain(&engine, &layer, "[]").await;
    let chain = [
        Keeper::Manifest(child.clone()),
        Keeper::Index(index.clone()),
        Keeper::Tag("index".parse().unwrap()),
    ];
    assert_eq!(
        (told.kept_by.as_slice(), told.state, &told.removal),
        (&[chain.to_vec()][..], State::Live, &None)
    );
    let told = explain(&engine, &tag("index"), "[{priority: 3, olderThan: 30d}]").await;
    let removal = told.removal.unwrap();
    assert_eq!((removal.by.as_str(), removal.rule), ("prune", Some(3)));
    let days = removal.at.duration_since(Timestamp::now());
    assert!(days > SignedDuration::from_hours(719) && days < SignedDuration::from_hours(721), "{days}");

    engine.delete_manifest(&repo, &index).await.unwrap();
    let told = explain(&engine, &tag("index"), "[]").await;
    assert_eq!((told.state, told.removal.unwrap().by.as_str()), (State::Dead, "gc"));
    let told = explain(&engine, &Reference::Digest(child.clone()), "[]").await;
    assert!(told.kept_by.is_empty() && told.removal.is_none(), "{told:?}");
    engine.delete_manifest(&repo, &child).await.unwrap();
    run(&engine, A_DAY_LATER, false).await;
    let told = explain(&engine, &layer, "[]").await;
    assert_eq!((told.state, told.removal.unwrap().by.as_str()), (State::Dead, "gc"));
    let unknown = Reference::Digest(Digest::sha256(b"never"));
    assert!(engine.explain(&repo, &unknown, &[]).await.is_err());
}
