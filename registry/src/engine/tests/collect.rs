//! The collector: what it takes, what it leaves, and that pushes beside it lose nothing (R-GC-1, invariants 2 to 4).

use berth_registry_core::{
    Algorithm,
    job::{GcLine, GcSummary},
    record::{self, ManifestRecord, State},
};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc::channel;

use super::*;

/// Longer than the lease, shorter than the window.
pub(super) const A_DAY_LATER: SignedDuration = SignedDuration::from_hours(25);
/// Longer than lease and window together.
pub(super) const TEN_DAYS_LATER: SignedDuration = SignedDuration::from_hours(240);

/// One run, as if it were so much later; its summary and its lines.
pub(super) async fn run(engine: &Engine, later: SignedDuration, dry: bool) -> (GcSummary, Vec<GcLine>) {
    let (sender, mut receiver) = channel(1);
    let collected = engine.collect_at(Timestamp::now() + later, dry, sender);
    let lines = async {
        let mut lines = Vec::new();
        while let Some(line) = receiver.recv().await {
            lines.push(line);
        }
        lines
    };
    futures::future::join(collected, lines).await
}

/// A run that must do all of its work.
async fn collect(engine: &Engine, later: SignedDuration) -> GcSummary {
    let (summary, lines) = run(engine, later, false).await;
    assert!(summary.complete && summary.failed == 0, "{lines:#?}");
    summary
}

/// An image of these layers with a config of its own; its digest.
async fn push_image(engine: &Engine, repo: &RepositoryName, name: &str, layers: &[&str]) -> Digest {
    let mut blobs = vec![push_blob(engine, repo, format!("{{\"config\":\"{name}\"}}")).await];
    for layer in layers {
        blobs.push(push_blob(engine, repo, (*layer).to_owned()).await);
    }
    push(engine, repo, name, image(&blobs.iter().collect::<Vec<_>>(), "")).await
}

fn layer(text: &str) -> Digest {
    Digest::sha256(text.as_bytes())
}

async fn is_there(engine: &Engine, repo: &RepositoryName, text: &str) -> bool {
    engine.stat_blob(repo, &layer(text)).await.is_ok()
}

/// R-GC-1: what one image shares with another one stays; the rest goes, its bytes after the window.
#[tokio::test]
async fn a_deleted_image_goes_and_what_it_shares_stays() {
    let (engine, store) = memory().await;
    let repo = repo("a");
    let gone = push_image(&engine, &repo, "gone", &["shared", "own"]).await;
    push_image(&engine, &repo, "kept", &["shared"]).await;
    engine.delete_manifest(&repo, &gone).await.unwrap();

    let (dry, would) = run(&engine, A_DAY_LATER, true).await;
    assert_eq!((dry.dead, dry.purged, dry.complete), (2, 0, true));
    assert!(is_there(&engine, &repo, "own").await, "a dry run changes nothing");
    let (summary, did) = run(&engine, A_DAY_LATER, false).await;
    assert_eq!((summary.dead, summary.purged, summary.failed), (2, 0, 0), "{did:#?}");
    assert_eq!((summary.examined, summary.condemned, summary.spared), (3 + 2, 2 + 2, 1));
    assert_eq!(would.len(), did.len(), "a dry run says what would be done");
    assert!(did.iter().any(|line| matches!(line, GcLine::Unlinked { digest, reason, .. }
        if *digest == layer("own") && reason.contains(&gone.to_string()))));
    assert!(!is_there(&engine, &repo, "own").await);
    assert!(is_there(&engine, &repo, "shared").await);
    assert_eq!(keys(&store, "d/").await.len(), 4, "bytes stay through the window");
    assert!(keys(&store, "q/").await.is_empty());

    let summary = collect(&engine, TEN_DAYS_LATER).await;
    assert_eq!((summary.purged, summary.dead), (2, 0));
    assert_eq!(summary.bytes_freed, "own".len() as u64 + "{\"config\":\"gone\"}".len() as u64);
    assert_eq!(keys(&store, "d/").await.len(), 2);
    for prefix in ["q/", "z/", &key::links(&layer("own")), &key::blob(&layer("own")), "n/a!g/"] {
        let left = keys(&store, prefix).await;
        assert!(left.iter().all(|key| key.ends_with("/kept")), "{left:?}");
    }
    let idle = collect(&engine, TEN_DAYS_LATER).await;
    assert!(idle.examined == 0 && idle.requests <= 4, "nothing is left to do: {idle:?}");
    assert_eq!(read_all(&engine, &repo, &layer("shared")).await, b"shared");
}

/// R-GC-1: a blob of two repositories lives while one of them holds it.
#[tokio::test]
async fn a_blob_of_two_repositories() {
    let (engine, store) = memory().await;
    let (one, two) = (repo("one"), repo("two"));
    let (first, second) =
        (push_image(&engine, &one, "v", &["layer"]).await, push_image(&engine, &two, "v", &["layer"]).await);
    engine.delete_manifest(&one, &first).await.unwrap();
    assert_eq!(collect(&engine, A_DAY_LATER).await.dead, 0);
    assert!(!is_there(&engine, &one, "layer").await);
    assert_eq!(read_all(&engine, &two, &layer("layer")).await, b"layer");
    engine.delete_manifest(&two, &second).await.unwrap();
    assert_eq!(collect(&engine, A_DAY_LATER).await.dead, 2);
    collect(&engine, TEN_DAYS_LATER).await;
    assert!(keys(&store, "d/").await.is_empty());
}

/// R-GC-1: an index holds on to no blobs of its children; they are their own roots.
#[tokio::test]
async fn an_index_and_its_children() {
    let (engine, _) = memory().await;
    let repo = repo("a");
    let child = push_image(&engine, &repo, "child", &["layer"]).await;
    let bytes = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"mediaType":"{OCI_MANIFEST}","digest":"{child}","size":1}}]}}"#,
        berth_registry_core::manifest::OCI_INDEX
    );
    let index = push(&engine, &repo, "index", bytes.into()).await;
    engine.delete_tag(&repo, &"child".parse().unwrap(), &Condition::None).await.unwrap();
    engine.delete_manifest(&repo, &index).await.unwrap();
    assert_eq!(collect(&engine, A_DAY_LATER).await.dead, 0, "the child lives");
    assert!(is_there(&engine, &repo, "layer").await);
    engine.delete_manifest(&repo, &child).await.unwrap();
    assert_eq!(collect(&engine, A_DAY_LATER).await.dead, 2);
}

/// Someone may be about to push a manifest that names a young link: the candidate waits.
#[tokio::test]
async fn links_younger_than_the_lease_wait() {
    let (engine, store) = memory().await;
    let repo = repo("a");
    let gone = push_image(&engine, &repo, "gone", &["layer"]).await;
    engine.delete_manifest(&repo, &gone).await.unwrap();
    assert_eq!(collect(&engine, SignedDuration::ZERO).await.condemned, 0);
    assert!(is_there(&engine, &repo, "layer").await);
    assert_eq!(keys(&store, "q/").await.len(), 1);
    assert_eq!(collect(&engine, A_DAY_LATER).await.dead, 2);
    assert!(keys(&store, "q/").await.is_empty());
}

/// A client deletes a blob that no manifest names.
#[tokio::test]
async fn a_deleted_blob() {
    let (engine, store) = memory().await;
    let repo = repo("a");
    let digest = push_blob(&engine, &repo, "bytes").await;
    engine.delete_blob(&repo, &digest).await.unwrap();
    assert_eq!(collect(&engine, SignedDuration::ZERO).await.dead, 1);
    assert_eq!(collect(&engine, TEN_DAYS_LATER).await.bytes_freed, 5);
    assert!(keys(&store, "d/").await.is_empty());
}

/// A push that died between its steps holds on to nothing for ever.
#[tokio::test]
async fn pending_leftovers() {
    let (engine, store) = memory().await;
    let repo = repo("a");
    let gone = push_image(&engine, &repo, "gone", &["one", "two"]).await;
    // Another manifest over the same layer, whose writer died right after its first write.
    let bytes = image(&[&layer("{}"), &layer("one")], "");
    let record = ManifestRecord::pending(
        &berth_registry_core::Manifest::parse(None, &bytes).unwrap(),
        None,
        Timestamp::now(),
    );
    let left = key::manifest(&repo, &Digest::sha256(&bytes));
    let body = record::encode_manifest(&record, "n", &bytes).unwrap();
    store.put(&left, body, PutMode::Create).await.unwrap();
    // And a link whose writer died.
    let link = record::Link { state: State::Pending, size: 3, data: "d/x".into(), since: Timestamp::now() };
    let key = key::link(&layer("two"), &repo);
    store.put(&key, record::encode(&link, "n").unwrap(), PutMode::Overwrite).await.unwrap();

    engine.delete_manifest(&repo, &gone).await.unwrap();
    let young = collect(&engine, SignedDuration::ZERO).await;
    assert_eq!((young.dead, young.condemned), (0, 0), "its writer may still be at work");
    // The abandoned manifest is found while its layers are looked at; its own candidate may sort before those of the run.
    let (first, mut lines) = run(&engine, A_DAY_LATER, false).await;
    let (second, more) = run(&engine, A_DAY_LATER, false).await;
    lines.extend(more);
    assert_eq!((first.dead + second.dead, first.failed + second.failed), (3, 0), "{lines:#?}");
    assert!(lines.iter().any(|line| matches!(line, GcLine::Abandoned { .. })), "{lines:#?}");
    collect(&engine, TEN_DAYS_LATER).await;
    for prefix in ["d/", "l/", "b/", "q/", "z/", "n/a!m/"] {
        assert_eq!(keys(&store, prefix).await, [""; 0], "{prefix}");
    }
}

/// R-OCI-2: uploads that nobody goes on with, and those that ended.
#[tokio::test]
async fn uploads() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let options = EngineOptions { upload_lease: Duration::ZERO, ..EngineOptions::default() };
    let engine = Engine::open(Arc::clone(&store), options).await.unwrap();
    let repo = repo("a");
    let begun = async |bytes: Bytes| {
        let id = engine.begin_upload(&repo, Algorithm::Sha256).await.unwrap();
        engine.append(&repo, &id, None, body(bytes)).await.unwrap().id
    };
    let idle = begun(pattern((2 << 20) + 7)).await;
    let cancelled = begun(pattern(10)).await;
    engine.cancel_upload(&repo, &cancelled).await.unwrap();
    let unnamed = begun(Bytes::from_static(b"unnamed")).await;
    engine.finish_upload(&repo, &unnamed, None, body(""), &layer("unnamed")).await.unwrap();
    let named = begun(Bytes::from_static(b"named")).await;
    engine.finish_upload(&repo, &named, None, body(""), &layer("named")).await.unwrap();
    push(&engine, &repo, "v1", image(&[&layer("named")], "")).await;
    assert_eq!(keys(&store, "u/").await.len(), 4);

    let summary = collect(&engine, SignedDuration::from_secs(1)).await;
    assert_eq!((summary.sessions, summary.dead), (4, 1));
    assert!(keys(&store, "u/").await.is_empty());
    assert!(matches!(
        engine.append(&repo, &idle, Some(5), body("x")).await,
        Err(EngineError::UploadOffset { actual: 0 })
    ));
    assert!(is_there(&engine, &repo, "named").await && !is_there(&engine, &repo, "unnamed").await);
    collect(&engine, TEN_DAYS_LATER).await;
    assert_eq!(keys(&store, "d/").await.len(), 1, "only the blob that a manifest names");
}

/// A store whose conditional DELETE is not to be trusted keeps its tombstones.
#[tokio::test]
async fn tombstones_stay_where_they_cannot_be_removed_safely() {
    let store: Arc<dyn Store> = Faulty::careless(Arc::new(MemoryStore::default()));
    let engine = open(&store).await;
    let repo = repo("a");
    let gone = push_image(&engine, &repo, "gone", &["layer"]).await;
    engine.delete_manifest(&repo, &gone).await.unwrap();
    assert_eq!(collect(&engine, A_DAY_LATER).await.dead, 2);
    assert_eq!(collect(&engine, TEN_DAYS_LATER).await.purged, 2);
    assert!(keys(&store, "d/").await.is_empty());
    assert_eq!((keys(&store, "l/").await.len(), keys(&store, "n/a!m/").await.len()), (2, 1));
    push_image(&engine, &repo, "gone", &["layer"]).await;
    assert_eq!(read_all(&engine, &repo, &layer("layer")).await, b"layer");
}

/// A client that skips blobs which the registry says to have, as all do, and begins anew if that was too late.
async fn push_like_a_client(engine: &Engine, repo: &RepositoryName, name: &str) {
    let layers = [format!("{{\"{name}\":1}}"), "base".to_owned(), format!("layer of {name}")];
    let digests: Vec<_> = layers.iter().map(|text| layer(text)).collect();
    let manifest = image(&digests.iter().collect::<Vec<_>>(), "");
    loop {
        for (text, digest) in layers.iter().zip(&digests) {
            while engine.stat_blob(repo, digest).await.is_err() {
                match engine.put_blob(repo, digest, body(text.clone())).await {
                    Ok(_) => break,
                    // Its bytes were reclaimed in the middle: only where there is no window at all.
                    Err(EngineError::UploadLost) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
        match engine.put_manifest(repo, &tag(name), None, manifest.clone(), PutOptions::default()).await {
            Ok(_) => return,
            Err(EngineError::ManifestBlobUnknown(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Invariants 2 and 3: images are pushed and deleted over and over beside collectors without patience, whose window is
/// over at once. What stands in the end can be read; what does not, is gone to the last byte.
#[tokio::test(start_paused = true)]
async fn pushed_again_while_it_is_collected() {
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let store: Arc<dyn Store> = Faulty::uneven(Arc::clone(&inner));
    let options = EngineOptions {
        upload_lease: Duration::ZERO,
        undelete_window: Duration::ZERO,
        link_cache: Duration::ZERO,
        ..EngineOptions::default()
    };
    let (engine, other) = (
        Engine::open(Arc::clone(&store), options.clone()).await.unwrap(),
        Engine::open(Arc::clone(&store), options).await.unwrap(),
    );
    let repos = [repo("a"), repo("b")];
    let collector = async |engine: &Engine, rounds: usize| {
        for _ in 0..rounds {
            run(engine, SignedDuration::from_secs(2), false).await;
        }
    };
    let writers = futures::future::join_all((0..6).map(|writer| {
        let (engine, repo) = (if writer % 2 == 0 { &engine } else { &other }, &repos[writer % 2]);
        async move {
            let name = format!("v{writer}");
            for round in 0..12 {
                push_like_a_client(engine, repo, &name).await;
                let stored = engine.get_manifest(repo, &tag(&name)).await.unwrap();
                whole_manifest(engine, repo, &stored).await;
                if round < 11 || writer < 4 {
                    engine.delete_manifest(repo, &stored.digest).await.unwrap();
                }
            }
        }
    }));
    futures::join!(writers, collector(&engine, 60), collector(&other, 60));
    for repo in &repos {
        for image in engine.images(repo).await.unwrap() {
            let stored = engine.get_manifest(repo, &Reference::Digest(image.digest)).await.unwrap();
            whole_manifest(&engine, repo, &stored).await;
        }
    }
    for _ in 0..3 {
        collect(&engine, SignedDuration::from_secs(4)).await;
    }
    // Two images are left, in two repositories: two configs, two layers, one base.
    assert_eq!(keys(&inner, "d/").await.len(), 5);
    assert_eq!(keys(&inner, "l/").await.len(), 6);
    assert_eq!(keys(&inner, "z/").await.len() + keys(&inner, "q/").await.len(), 0);
}

async fn whole_manifest(engine: &Engine, repo: &RepositoryName, stored: &StoredManifest) {
    let manifest = berth_registry_core::Manifest::parse(Some(&stored.media_type), &stored.bytes).unwrap();
    for blob in manifest.blobs() {
        assert!(blob.digest.matches(&read_all(engine, repo, &blob.digest).await), "{}", blob.digest);
    }
}

/// An explicit DELETE of a blob is refused by what the index of references knows, too.
#[tokio::test]
async fn the_index_of_references_is_not_believed_over_the_records() {
    let (engine, store) = memory().await;
    let repo = repo("a");
    for i in 0..8 {
        push_image(&engine, &repo, &format!("v{i}"), &[&format!("layer {i}")]).await;
    }
    let needed = |result| matches!(result, Err(EngineError::BlobReferenced { .. }));
    assert!(needed(engine.delete_blob(&repo, &layer("layer 3")).await));
    assert_eq!(keys(&store, "n/a!i/").await, [key::reference_index(&repo)]);
    // A manifest that the index does not know, and one that it knows and that is gone.
    push_image(&open(&store).await, &repo, "new", &["new layer"]).await;
    let gone = engine.get_manifest(&repo, &tag("v3")).await.unwrap().digest;
    engine.delete_manifest(&repo, &gone).await.unwrap();
    assert!(needed(engine.delete_blob(&repo, &layer("new layer")).await));
    engine.delete_blob(&repo, &layer("layer 3")).await.unwrap();
    // One that is damaged is no index.
    store.put(&key::reference_index(&repo), Bytes::from_static(b"{"), PutMode::Overwrite).await.unwrap();
    assert!(needed(engine.delete_blob(&repo, &layer("layer 4")).await));
}
