//! How much work a dead blob is: requests are counted, time is virtual (each store call takes 20 ms of it), so that the
//! figures are the same on every machine. R-GC-2: at least 260 blobs a second; R-GC-3: no more of it with more content.

use berth_registry_core::record::{self, Blob, Candidate, Link, ManifestRecord, State};
use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    collect::{A_DAY_LATER, TEN_DAYS_LATER, run},
    *,
};

const BLOBS_OF_A_MANIFEST: usize = 10;

fn digest(text: &str) -> Digest {
    Digest::sha256(text.as_bytes())
}

/// Writes an image as a push months ago would have left it, without its bytes.
async fn seed(store: &dyn Store, repo: &RepositoryName, name: &str, state: State) {
    let old = Timestamp::UNIX_EPOCH;
    let blobs: Vec<_> = (0..BLOBS_OF_A_MANIFEST).map(|i| digest(&format!("{repo} {name} {i}"))).collect();
    for (i, blob) in blobs.iter().enumerate() {
        let data = format!("d/{i}/{}", blob.hex());
        let link = Link { state: State::Live, size: 1000, data: data.clone(), since: old };
        let record = Blob { state: State::Live, size: 1000, data, until: None };
        put(store, &key::link(blob, repo), record::encode(&link, "n").unwrap()).await;
        put(store, &key::blob(blob), record::encode(&record, "n").unwrap()).await;
    }
    let manifest = ManifestRecord {
        state,
        media_type: OCI_MANIFEST.to_owned(),
        blobs,
        manifests: Vec::new(),
        subject: None,
        artifact_type: None,
        author: None,
        pushed: old,
        died: (state == State::Dead).then_some(old),
        sparse: false,
    };
    let name = digest(&format!("{repo} {name}"));
    put(store, &key::manifest(repo, &name), record::encode_manifest(&manifest, "n", b"{}").unwrap()).await;
    if state == State::Dead {
        let candidate = Candidate::Manifest { repository: repo.clone(), digest: name };
        let body = record::encode(&candidate, "").unwrap();
        put(store, &key::candidate(old, Ulid::generate()), body).await;
    }
}

async fn put(store: &dyn Store, key: &str, body: Bytes) {
    store.put(key, body, PutMode::Create).await.unwrap();
}

/// A registry with so many live blobs, in repositories of a thousand, and so many dead ones in the last of them.
async fn registry(live: usize, dead: usize) -> Arc<dyn Store> {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let mut name = repo("r0");
    for i in 0..live / BLOBS_OF_A_MANIFEST {
        name = repo(&format!("r{}", i / 100));
        seed(store.as_ref(), &name, &i.to_string(), State::Live).await;
    }
    for i in 0..dead / BLOBS_OF_A_MANIFEST {
        seed(store.as_ref(), &name, &format!("gone {i}"), State::Dead).await;
    }
    store
}

#[tokio::test(start_paused = true)]
async fn at_least_260_blobs_a_second_over_a_store_of_20_ms() {
    const DEAD: u32 = 2_000;
    let inner = registry(1_000, DEAD as usize).await;
    let engine = open(&(Faulty::slow(inner, Duration::from_millis(20)) as Arc<dyn Store>)).await;
    let began = Instant::now();
    let (collected, lines) = run(&engine, A_DAY_LATER, false).await;
    assert_eq!((collected.dead, collected.failed), (u64::from(DEAD), 0), "{:?}", lines.first());
    let (purged, _) = run(&engine, TEN_DAYS_LATER, false).await;
    assert_eq!((purged.purged, purged.failed), (u64::from(DEAD), 0));
    let took = began.elapsed();
    let speed = f64::from(DEAD) / took.as_secs_f64();
    println!("{DEAD} dead blobs in {took:?} of virtual time: {speed:.0} a second, condemned to purged");
    println!("{} and {} requests", collected.requests, purged.requests);
    assert!(speed >= 260.0, "{speed:.0} a second");
}

/// Requests of the two runs that take these dead blobs from condemned to purged.
async fn requests(live: usize, dead: usize) -> (u64, u64) {
    let store = registry(live, dead).await;
    // What an earlier run has left: the index of references of the repository.
    let engine = open(&store).await;
    engine.find_reference(&repo(&format!("r{}", (live - 1) / 1000)), &digest("x")).await.unwrap();
    let began = std::time::Instant::now();
    let (collected, _) = run(&engine, A_DAY_LATER, false).await;
    let (purged, _) = run(&engine, TEN_DAYS_LATER, false).await;
    assert_eq!((collected.dead, purged.purged), (dead as u64, dead as u64));
    println!(
        "{live} live blobs, {dead} dead: {} + {} requests, {:?} of real time",
        collected.requests,
        purged.requests,
        began.elapsed()
    );
    (collected.requests, purged.requests)
}

#[tokio::test]
async fn requests_do_not_grow_with_the_registry() {
    let few = requests(10_000, 500).await;
    assert_eq!(few, requests(50_000, 500).await);
    assert!(few.0 + few.1 <= 19 * 500, "{few:?}");
}

/// The same with a million: a minute in a development build.
#[tokio::test]
#[ignore = "takes a minute"]
async fn requests_do_not_grow_with_a_million_blobs() {
    assert_eq!(requests(10_000, 500).await, requests(1_000_000, 500).await);
}
