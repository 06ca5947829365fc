//! R-STO-8: what usage says is what lies in the store.

use berth_registry_core::usage::Usage;

use super::{
    scrub::{World, hasty, scrub},
    *,
};

async fn listed(store: &Arc<dyn Store>, prefix: &str) -> u64 {
    let page = store.list(prefix, None, 1000).await.unwrap();
    assert!(!page.more);
    page.entries.iter().map(|entry| entry.meta.size).sum()
}

/// Within one per cent; the snapshot itself is written last, so it cannot count itself.
fn about(said: u64, lies: u64) {
    assert!(said.abs_diff(lies) * 100 <= lies, "usage says {said}, the store has {lies}");
}

async fn agrees(engine: &Engine, store: &Arc<dyn Store>) -> Usage {
    engine.usage(true).await.unwrap();
    let usage = engine.usage(true).await.unwrap();
    let data = listed(store, "d/").await;
    let said = &usage.store;
    about(said.blob_bytes + said.trash_bytes + said.upload_bytes, data);
    let all = listed(store, "").await;
    about(said.blob_bytes + said.trash_bytes + said.upload_bytes + said.record_bytes, all);
    usage
}

#[tokio::test]
async fn usage_agrees_with_the_store() {
    for directory in [false, true] {
        let world = World::new(directory, EngineOptions::default()).await;
        let (engine, store) = (&world.engine, &world.store);
        let usage = agrees(engine, store).await;
        let (app, other) = (&usage.repositories[&world.app], &usage.repositories[&world.other]);
        assert_eq!((app.blobs, app.manifests, app.tags), (2, 4, 4));
        assert_eq!((other.blobs, other.manifests, other.tags), (2, 1, 1));
        assert_eq!((app.shared_bytes, other.shared_bytes), (30_002, 30_002));
        assert_eq!(app.logical_bytes, app.unique_bytes + app.shared_bytes);
        let manifest = engine.get_manifest(&world.other, &tag("v1")).await.unwrap().bytes.len() as u64;
        assert_eq!(other.unique_bytes, manifest, "nobody else holds its manifest");
        assert_eq!(usage.tenants["team"].shared_bytes, 30_002);
        assert_eq!(usage.store.blob_bytes, 30_002);

        // An upload under way, and a repository that goes.
        let id = engine.begin_upload(&world.app, berth_registry_core::Algorithm::Sha256).await.unwrap();
        engine.append(&world.app, &id, None, body(pattern(5000))).await.unwrap();
        let before = engine.usage(false).await.unwrap();
        assert_eq!(before, usage, "the last snapshot, until someone asks for a new one");
        assert_eq!(agrees(engine, store).await.store.upload_bytes, 5000);
        engine.delete_manifest(&world.other, &world.image).await.unwrap();
        engine.delete_blob(&world.other, &world.layer).await.unwrap();
        engine.delete_blob(&world.other, &world.config).await.unwrap();
        let usage = agrees(engine, store).await;
        assert!(!usage.repositories.contains_key(&world.other));
        assert_eq!(usage.repositories[&world.app].shared_bytes, 0);
    }
}

#[tokio::test]
async fn a_second_look_costs_what_changed() {
    let (_, inner) = memory().await;
    let store = Faulty::new(inner);
    let engine = open(&(Arc::clone(&store) as Arc<dyn Store>)).await;
    // All in one shard of the inventory, as in a store with very many blobs.
    let mut pushed = 0;
    for i in 0.. {
        let bytes = Bytes::from(format!("blob {i}"));
        if Digest::sha256(&bytes).hex().starts_with("a7") {
            push_blob(&engine, &repo("a"), bytes).await;
            pushed += 1;
        }
        if pushed == 40 {
            break;
        }
    }
    engine.usage(true).await.unwrap();
    store.calls();
    engine.usage(true).await.unwrap();
    let calls = store.calls();
    assert!(calls.len() < 12, "two records a blob are not read again: {calls:#?}");
    push_blob(&engine, &repo("a"), "one more").await;
    store.calls();
    let usage = engine.usage(true).await.unwrap();
    assert!(store.calls().len() < 16);
    assert_eq!(usage.repositories[&repo("a")].blobs, 41);
    // Asking for what is known already is one request.
    engine.usage(false).await.unwrap();
    assert_eq!(store.calls().len(), 1);
}

#[tokio::test]
async fn the_scrub_takes_a_snapshot_for_all_replicas() {
    let world = World::new(false, hasty()).await;
    assert!(world.engine.last_usage().await.unwrap().is_none());
    scrub(&world.engine).await;
    let other = open(&world.store).await;
    assert_eq!(other.last_usage().await.unwrap().unwrap().repositories.len(), 2);
}
