//! R-STO-6: a store is damaged in every way; the scrub finds exactly that, repairs what can be repaired, and finds
//! nothing the second time but what only people can help with.

use std::{collections::BTreeMap, time::Duration};

use berth_registry_core::{
    key,
    manifest::OCI_INDEX,
    record::{self, Blob, Link, State},
    scrub::{Damage, Finding, ScrubLine, ScrubRequest, ScrubSummary, Treatment},
};
use futures::future::BoxFuture;
use rstest::rstest;
use tokio::sync::mpsc::unbounded_channel;

use super::*;

/// Runs a scrub and collects its findings.
pub(super) async fn scrub_as(engine: &Engine, request: ScrubRequest) -> (Vec<Finding>, ScrubSummary) {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let (findings, collected) = unbounded_channel();
    let listen = async move {
        while let Some(line) = receiver.recv().await {
            if let ScrubLine::Finding(finding) = line {
                findings.send(finding).unwrap();
            }
        }
    };
    let (summary, ()) = tokio::join!(engine.scrub_by(request, sender, 1), listen);
    let mut collected = collected;
    let mut findings = Vec::new();
    while let Ok(finding) = collected.try_recv() {
        findings.push(finding);
    }
    (findings, summary)
}

pub(super) fn unlimited() -> ScrubRequest {
    ScrubRequest { rate: 0, ..ScrubRequest::default() }
}

pub(super) async fn scrub(engine: &Engine) -> Vec<Finding> {
    let (findings, summary) = scrub_as(engine, unlimited()).await;
    assert_eq!(summary.counts.failed, 0, "{findings:#?}");
    findings
}

fn kinds(findings: &[Finding]) -> BTreeMap<Damage, (usize, Treatment)> {
    let mut kinds = BTreeMap::new();
    for finding in findings {
        kinds.entry(finding.damage).or_insert((0, finding.treatment)).0 += 1;
    }
    kinds
}

/// What is written is old at once.
pub(super) fn hasty() -> EngineOptions {
    EngineOptions { upload_lease: Duration::ZERO, ..EngineOptions::default() }
}

/// A store with something of every kind.
pub(super) struct World {
    pub store: Arc<dyn Store>,
    pub engine: Engine,
    pub app: RepositoryName,
    pub other: RepositoryName,
    pub config: Digest,
    /// Held by both repositories.
    pub layer: Digest,
    pub image: Digest,
    pub signature: Digest,
    pub child: Digest,
    _root: Option<tempfile::TempDir>,
}

impl World {
    pub(super) async fn new(directory: bool, options: EngineOptions) -> Self {
        let root = directory.then(|| tempfile::tempdir().unwrap());
        let store: Arc<dyn Store> = match &root {
            Some(root) => Arc::new(DirectoryStore::open(root.path()).unwrap()),
            None => Arc::new(MemoryStore::default()),
        };
        let engine = Engine::open(Arc::clone(&store), options).await.unwrap();
        let (app, other) = (repo("team/app"), repo("b"));
        let config = push_blob(&engine, &app, "{}").await;
        let layer = push_blob(&engine, &app, pattern(30_000)).await;
        let image_bytes = image(&[&config, &layer], "");
        let image_digest = push(&engine, &app, "v1", image_bytes.clone()).await;
        let signature = push(&engine, &app, "sig", attached(&config, &image_digest, "a/sig", "s")).await;
        let child =
            push(&engine, &app, "arm", image(&[&config, &layer], r#""annotations":{"a":"b"},"#)).await;
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{{"mediaType":"{OCI_MANIFEST}","digest":"{child}","size":1}}]}}"#
        );
        push(&engine, &app, "all", Bytes::from(index)).await;
        assert!(engine.mount(&other, &app, &layer).await.unwrap());
        push_blob(&engine, &other, "{}").await;
        push(&engine, &other, "v1", image_bytes).await;
        Self { store, engine, app, other, config, layer, image: image_digest, signature, child, _root: root }
    }

    pub(super) async fn blob(&self, digest: &Digest) -> Blob {
        self.engine.read_record::<Blob>(&key::blob(digest)).await.unwrap().unwrap().0
    }

    async fn bytes(&self, key: &str) -> Vec<u8> {
        read(self.store.as_ref(), key).await.unwrap().0.to_vec()
    }

    pub(super) async fn put(&self, key: &str, body: impl Into<Bytes>) {
        self.store.put(key, body.into(), PutMode::Overwrite).await.unwrap();
    }

    async fn delete(&self, key: &str) {
        self.store.delete(key).await.unwrap();
    }

    /// Flips a bit at the end of an object.
    pub(super) async fn flip(&self, key: &str) {
        let mut bytes = self.bytes(key).await;
        *bytes.last_mut().unwrap() ^= 1;
        self.put(key, bytes).await;
    }

    /// All objects and their versions, but the scrub's own.
    async fn versions(&self) -> Vec<(String, Etag)> {
        let mut entries = Vec::new();
        for prefix in ["b/", "c/", "d/", "l/", "n/", "q/", "u/", "x/", "z/"] {
            let page = self.store.list(prefix, None, 1000).await.unwrap();
            entries.extend(page.entries.into_iter().map(|entry| (entry.key, entry.meta.etag)));
        }
        entries
    }

    async fn is_whole(&self, repository: &RepositoryName, name: &str) -> bool {
        self.engine.get_manifest(repository, &tag(name)).await.is_ok()
            && read_all(&self.engine, repository, &self.layer).await == pattern(30_000)
    }
}

type Harm = fn(Arc<World>) -> BoxFuture<'static, ()>;

macro_rules! harm {
    ($world:ident => $body:block) => {
        |$world: Arc<World>| -> BoxFuture<'static, ()> { Box::pin(async move { $body }) }
    };
}

/// `first`: what is found and what is done; `second`: what is still there afterwards.
#[rstest]
#[case::nothing(harm!(_w => {}), &[], &[])]
#[case::corrupt_bytes(
    harm!(w => { w.flip(&w.blob(&w.layer).await.data).await; }),
    &[(Damage::CorruptBlob, 1, Treatment::Quarantined), (Damage::MissingBlob, 3, Treatment::Reported)],
    &[(Damage::MissingBlob, 3, Treatment::Reported)]
)]
#[case::truncated_bytes(
    harm!(w => { w.put(&w.blob(&w.layer).await.data, pattern(100)).await; }),
    &[(Damage::TruncatedBlob, 1, Treatment::Quarantined), (Damage::MissingBlob, 3, Treatment::Reported)],
    &[(Damage::MissingBlob, 3, Treatment::Reported)]
)]
#[case::lost_bytes(
    harm!(w => { w.delete(&w.blob(&w.layer).await.data).await; }),
    &[(Damage::MissingData, 1, Treatment::Quarantined), (Damage::MissingBlob, 3, Treatment::Reported)],
    &[(Damage::MissingBlob, 3, Treatment::Reported)]
)]
#[case::lost_blob_record(
    harm!(w => { w.delete(&key::blob(&w.layer)).await; }),
    &[(Damage::LinkWithoutBlob, 1, Treatment::Repaired)], &[]
)]
#[case::unreadable_blob_record(
    harm!(w => { w.put(&key::blob(&w.layer), "{").await; }),
    &[(Damage::DamagedRecord, 1, Treatment::Quarantined), (Damage::LinkWithoutBlob, 1, Treatment::Repaired)], &[]
)]
#[case::lost_link(
    harm!(w => { w.delete(&key::link(&w.layer, &w.other)).await; }),
    &[(Damage::MissingBlob, 1, Treatment::Repaired)], &[]
)]
#[case::unreadable_link(
    harm!(w => { w.put(&key::link(&w.layer, &w.other), "garbage").await; }),
    &[(Damage::DamagedRecord, 1, Treatment::Quarantined), (Damage::MissingBlob, 1, Treatment::Repaired)], &[]
)]
#[case::link_that_leads_nowhere(
    harm!(w => { let link = Link { state: State::Live, size: 30_000, data: "d/zz/none".into(), since: jiff::Timestamp::now() };
        w.put(&key::link(&w.layer, &w.other), record::encode(&link, "n").unwrap()).await; }),
    &[(Damage::StaleLink, 1, Treatment::Repaired)], &[]
)]
#[case::unreadable_head_of_a_manifest(
    harm!(w => { let key = key::manifest(&w.app, &w.image);
        let mut bytes = w.bytes(&key).await;
        bytes[0] = b'x';
        w.put(&key, bytes).await; }),
    &[(Damage::DamagedRecord, 1, Treatment::Repaired)], &[]
)]
#[case::corrupt_manifest(
    harm!(w => { w.flip(&key::manifest(&w.app, &w.image)).await; }),
    &[(Damage::CorruptManifest, 1, Treatment::Quarantined), (Damage::TagWithoutManifest, 1, Treatment::Reported)],
    &[(Damage::TagWithoutManifest, 1, Treatment::Reported)]
)]
#[case::truncated_manifest(
    harm!(w => { w.put(&key::manifest(&w.app, &w.image), "{\"nonce\"").await; }),
    &[(Damage::DamagedRecord, 1, Treatment::Quarantined), (Damage::TagWithoutManifest, 1, Treatment::Reported)],
    &[(Damage::TagWithoutManifest, 1, Treatment::Reported)]
)]
#[case::lost_manifest(
    harm!(w => { w.delete(&key::manifest(&w.app, &w.image)).await; }),
    &[(Damage::TagWithoutManifest, 1, Treatment::Repaired)], &[]
)]
#[case::lost_child(
    harm!(w => { w.delete(&key::manifest(&w.app, &w.child)).await; }),
    &[(Damage::MissingChild, 1, Treatment::Reported), (Damage::TagWithoutManifest, 1, Treatment::Repaired)],
    &[(Damage::MissingChild, 1, Treatment::Reported)]
)]
#[case::lost_referrer(
    harm!(w => { w.delete(&key::referrer(&w.app, &w.image, Some("a/sig"), &w.signature)).await; }),
    &[(Damage::MissingReferrer, 1, Treatment::Repaired)], &[]
)]
#[case::unreadable_referrer(
    harm!(w => { w.put(&key::referrer(&w.app, &w.image, Some("a/sig"), &w.signature), "?").await; }),
    &[(Damage::MissingReferrer, 1, Treatment::Repaired)], &[]
)]
#[case::lost_hint(
    harm!(w => { w.delete(&key::hint(&w.app, &w.image, &"v1".parse().unwrap())).await; }),
    &[(Damage::MissingHint, 1, Treatment::Repaired)], &[]
)]
#[case::unreadable_tag(
    harm!(w => { w.put(&key::tag(&w.app, "v1"), "?").await; }),
    &[(Damage::DamagedRecord, 1, Treatment::Repaired)], &[]
)]
#[case::lost_catalog_entry(
    harm!(w => { w.delete(&key::catalog("team/app")).await; }),
    &[(Damage::MissingCatalogEntry, 1, Treatment::Repaired)], &[]
)]
#[case::foreign_object(
    harm!(w => { w.put("x/y", "?").await; }),
    &[(Damage::UnknownObject, 1, Treatment::Reported)], &[(Damage::UnknownObject, 1, Treatment::Reported)]
)]
#[case::unreadable_trash(
    harm!(w => { w.put("z/2026010203/x", "?").await; }),
    &[(Damage::DamagedRecord, 1, Treatment::Repaired)], &[]
)]
#[tokio::test]
async fn damage_is_found_and_repaired(
    #[case] harm: Harm,
    #[case] first: &[(Damage, usize, Treatment)],
    #[case] second: &[(Damage, usize, Treatment)],
    #[values(false, true)] directory: bool,
) {
    let world = Arc::new(World::new(directory, EngineOptions::default()).await);
    harm(world.clone()).await;
    let expected = |found: &[(Damage, usize, Treatment)]| -> BTreeMap<_, _> {
        found.iter().map(|&(damage, count, treatment)| (damage, (count, treatment))).collect()
    };

    let before = world.versions().await;
    let (dry, summary) = scrub_as(&world.engine, ScrubRequest { dry_run: true, ..unlimited() }).await;
    assert_eq!(world.versions().await, before, "a dry run changes nothing");
    assert!(summary.dry_run && summary.counts.failed == 0);
    // What only shows after the first repairs, and what the catalog lacks, a dry run does not see.
    assert!(dry.is_empty() == (first.is_empty() || first[0].0 == Damage::MissingCatalogEntry), "{dry:#?}");

    assert_eq!(kinds(&scrub(&world.engine).await), expected(first));
    assert_eq!(kinds(&scrub(&world.engine).await), expected(second));
    if second.is_empty() && first.first().is_none_or(|(damage, ..)| *damage != Damage::TagWithoutManifest) {
        assert!(world.is_whole(&world.app, "v1").await && world.is_whole(&world.other, "v1").await);
    }
}

/// What crashes and deletions leave behind goes once it is older than the lease.
#[rstest]
#[case::orphan(harm!(w => { w.put("d/zz/orphan", "bytes").await; }), Damage::OrphanData, Treatment::Repaired)]
#[case::probe(harm!(w => { w.put("p/probe", "").await; }), Damage::PendingLeftover, Treatment::Repaired)]
#[case::pending_link(
    harm!(w => { let link = Link { state: State::Pending, size: 1, data: "d/zz/none".into(), since: jiff::Timestamp::UNIX_EPOCH };
        w.put(&key::link(&w.layer, &repo("c")), record::encode(&link, "n").unwrap()).await; }),
    Damage::PendingLeftover, Treatment::Repaired
)]
#[case::unnamed_link(
    harm!(w => { drop(push_blob(&w.engine, &repo("c"), "no manifest follows").await); }),
    Damage::UnnamedLink, Treatment::HandedOver
)]
#[case::hint(
    harm!(w => { w.put(&key::hint(&w.app, &w.image, &"gone".parse().unwrap()), "").await; }),
    Damage::HintWithoutTag, Treatment::Repaired
)]
#[case::referrer(
    harm!(w => { w.put(&key::referrer(&w.app, &w.image, Some("x"), &w.layer), "{}").await; }),
    Damage::ReferrerWithoutManifest, Treatment::Repaired
)]
#[case::cache(
    harm!(w => { w.put(&key::referrer_index(&w.app, &w.child), "{}").await; }),
    Damage::StaleCache, Treatment::Repaired
)]
#[tokio::test]
async fn leftovers_go(
    #[case] harm: Harm,
    #[case] damage: Damage,
    #[case] treatment: Treatment,
    #[values(false, true)] directory: bool,
) {
    let world = Arc::new(World::new(directory, EngineOptions::default()).await);
    harm(world.clone()).await;
    assert_eq!(kinds(&scrub(&world.engine).await), BTreeMap::new(), "too young to judge");
    let hasty = Engine::open(Arc::clone(&world.store), hasty()).await.unwrap();
    assert_eq!(kinds(&scrub(&hasty).await), BTreeMap::from([(damage, (1, treatment))]));
    assert_eq!(kinds(&scrub(&hasty).await), BTreeMap::new());
    assert!(world.is_whole(&world.app, "v1").await && world.is_whole(&world.other, "v1").await);
}

/// R-STO-6: what a tag pointed to is remembered for the undelete window, and its last hundred moves beyond that.
#[tokio::test]
async fn old_history_goes() {
    let world = World::new(false, EngineOptions::default()).await;
    let now = jiff::Timestamp::now();
    let (v1, gone) = ("v1".parse::<Tag>().unwrap(), "gone".parse::<Tag>().unwrap());
    for hours in 0..240 {
        let at = now - jiff::SignedDuration::from_hours(hours);
        let change = record::TagChange { digest: Some(world.image.clone()), at, author: None };
        for tag in [&v1, &gone] {
            let key = key::history(&world.app, tag, at, ulid::Ulid::generate());
            world.put(&key, record::encode(&change, "").unwrap()).await;
        }
    }
    let far = EngineOptions { undelete_window: Duration::from_hours(24), ..EngineOptions::default() };
    let count = async |tag: &Tag| keys(&world.store, &key::history_of(&world.app, tag)).await.len();
    for (options, left) in [(EngineOptions::default(), 168), (far, 100)] {
        let engine = Engine::open(Arc::clone(&world.store), options).await.unwrap();
        assert!(kinds(&scrub(&engine).await).keys().eq([&Damage::OldHistory]));
        assert!(count(&v1).await.abs_diff(left) <= 2, "{} are left, not {left}", count(&v1).await);
        assert_eq!(kinds(&scrub(&engine).await), BTreeMap::new());
    }
    assert!(count(&gone).await > 0, "removed within the window");
}

#[rstest]
#[tokio::test]
async fn what_is_corrupt_is_never_served_and_a_push_heals_it(#[values(false, true)] directory: bool) {
    let world = World::new(directory, EngineOptions::default()).await;
    let World { engine, app, other, layer, .. } = &world;
    let bad = world.blob(layer).await.data;
    world.flip(&bad).await;
    let found = scrub(engine).await;
    assert_eq!(found[0].digest.as_ref(), Some(layer));
    for repository in [app, other] {
        assert!(matches!(engine.read_blob(repository, layer, None).await, Err(EngineError::BlobUnknown(_))));
        assert!(matches!(engine.stat_blob(repository, layer).await, Err(EngineError::BlobUnknown(_))));
    }
    assert!(!engine.mount(&repo("c"), app, layer).await.unwrap(), "the client is told to upload");
    let refused = try_push(engine, app, "v2", None, image(&[layer], "")).await;
    assert!(matches!(refused, Err(EngineError::ManifestBlobUnknown(missing)) if missing == [layer.clone()]));
    assert_eq!(world.blob(layer).await.state, State::Purged);
    assert_eq!(keys(&world.store, "z/").await.len(), 1, "the bad bytes are kept for the window, then go");
    world.store.head(&bad).await.unwrap();

    push_blob(engine, app, pattern(30_000)).await;
    assert_ne!(world.blob(layer).await.data, bad, "under a key of its own");
    assert!(read_all(engine, app, layer).await == pattern(30_000));
    // The other repository gets it back as well, without a push of its own.
    let healed = kinds(&scrub(engine).await);
    assert_eq!(healed, BTreeMap::from([(Damage::MissingBlob, (1, Treatment::Repaired))]));
    assert!(world.is_whole(app, "v1").await && world.is_whole(other, "v1").await);
    assert!(scrub(engine).await.is_empty());
}

#[tokio::test]
async fn presence_and_size_alone_are_checked_on_request() {
    let world = World::new(false, EngineOptions::default()).await;
    let quick = ScrubRequest { verify_bytes: false, ..unlimited() };
    world.flip(&world.blob(&world.layer).await.data).await;
    let (found, summary) = scrub_as(&world.engine, quick.clone()).await;
    assert!(found.is_empty() && summary.counts.bytes == 0, "{found:#?}");
    world.put(&world.blob(&world.config).await.data, "{ }").await;
    let (found, _) = scrub_as(&world.engine, quick).await;
    assert_eq!(kinds(&found)[&Damage::TruncatedBlob], (1, Treatment::Quarantined));
}

#[tokio::test]
async fn intact_bytes_that_a_link_still_names_are_used() {
    // The record was replaced by one that names nothing; the links know better.
    let world = World::new(false, EngineOptions::default()).await;
    let lost = Blob { data: "d/zz/none".into(), ..world.blob(&world.layer).await };
    world.put(&key::blob(&world.layer), record::encode(&lost, "n").unwrap()).await;
    let found = kinds(&scrub(&world.engine).await);
    assert_eq!(found, BTreeMap::from([(Damage::MissingData, (1, Treatment::Repaired))]));
    assert!(world.is_whole(&world.app, "v1").await && world.is_whole(&world.other, "v1").await);
    assert!(scrub(&world.engine).await.is_empty());
}

#[tokio::test]
async fn an_interrupted_scrub_is_gone_on_with() {
    let world = World::new(false, EngineOptions::default()).await;
    let faulty = Faulty::new(Arc::clone(&world.store));
    let engine = open(&(Arc::clone(&faulty) as Arc<dyn Store>)).await;
    let (_, whole) = scrub_as(&engine, unlimited()).await;
    let calls = {
        faulty.calls();
        scrub_as(&engine, unlimited()).await;
        faulty.calls()
    };
    let at = calls.iter().position(|call| call.starts_with("LIST n/")).unwrap();
    faulty.fail(at, Failure::Request, true);
    let (_, first) = scrub_as(&engine, unlimited()).await;
    assert!(first.counts.failed > 0);
    let (_, second) = scrub_as(&world.engine, unlimited()).await;
    assert!(second.resumed && second.started == first.started);
    assert_eq!(second.counts.blobs, whole.counts.blobs, "no blob twice, none left out");
    let (_, third) = scrub_as(&world.engine, unlimited()).await;
    assert!(!third.resumed, "the second one came to the end");
}

#[tokio::test(start_paused = true)]
async fn bytes_are_read_no_faster_than_told() {
    let world = World::new(false, EngineOptions::default()).await;
    let begun = tokio::time::Instant::now();
    let (_, summary) = scrub_as(&world.engine, ScrubRequest { rate: 1000, ..ScrubRequest::default() }).await;
    let least = Duration::from_secs(summary.counts.bytes / 1000);
    assert!(
        summary.counts.bytes > 30_000 && begun.elapsed() >= least,
        "the clock of the test, not of the wall"
    );
}

#[tokio::test]
async fn what_was_never_pushed_is_no_damage_and_is_not_taken_from_others() {
    // R-OCI: sparse manifests; nobody comes by the blobs of another repository this way.
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let options = EngineOptions { sparse_manifests: true, ..EngineOptions::default() };
    let sparse = Engine::open(Arc::clone(&store), options).await.unwrap();
    let secret = push_blob(&sparse, &repo("theirs"), "secret").await;
    push(&sparse, &repo("mine"), "v1", image(&[&secret], "")).await;
    for engine in [sparse, open(&store).await] {
        assert!(scrub(&engine).await.is_empty());
        assert!(engine.stat_blob(&repo("mine"), &secret).await.is_err());
    }
}
