//! The memory for parts under clients of all kinds: whoever comes, whatever they do, all uploads end, and all memory
//! comes back. Time is virtual: a dead-lock shows as a day that passes.

use std::sync::OnceLock;

use proptest::prelude::*;

use super::*;

const MIB: usize = 1 << 20;

/// How a client sends its blob.
#[derive(Clone, Debug)]
struct Manner {
    size: usize,
    chunk: usize,
    /// Between two chunks.
    pause: Duration,
    /// After so many chunks it is gone.
    gone: Option<usize>,
}

fn manner() -> impl Strategy<Value = Manner> {
    let size = prop_oneof![0..100_000_usize, (MIB - 3)..(MIB + 3), 0..3 * MIB];
    let chunk = prop_oneof![1000..20_000_usize, 60_000..200_000_usize];
    let pause = prop_oneof![Just(0_u64), 1..50_u64, 500..5000_u64];
    (size, chunk, pause, proptest::option::weighted(0.2, 0..20_usize)).prop_map(
        |(size, chunk, pause, gone)| Manner { size, chunk, pause: Duration::from_millis(pause), gone },
    )
}

fn content(number: usize, size: usize) -> Bytes {
    static CONTENT: OnceLock<Bytes> = OnceLock::new();
    CONTENT.get_or_init(|| pattern(3 * MIB + 100)).slice(number..number + size)
}

fn sent(bytes: &Bytes, manner: &Manner) -> ByteStream {
    let pause = manner.pause;
    let chunks = chunked(bytes.clone(), manner.chunk);
    let end = stream::iter(manner.gone.map(|_| Err(std::io::ErrorKind::UnexpectedEof.into())));
    let chunks = chunks.take(manner.gone.unwrap_or(usize::MAX)).chain(end);
    chunks
        .then(move |chunk| async move {
            tokio::time::sleep(pause).await;
            chunk
        })
        .boxed()
}

async fn uploads(manners: &[Manner], shares: usize) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let options = EngineOptions { upload_memory: shares * MIB, ..EngineOptions::default() };
    let slow = Faulty::slow(Arc::clone(&store), Duration::from_millis(20));
    let engine = Engine::open(slow, options).await.unwrap();
    let repo = repo("a");
    let pushes = manners.iter().enumerate().map(|(number, manner)| {
        let (engine, repo, bytes) = (engine.clone(), repo.clone(), content(number, manner.size));
        let digest = Digest::sha256(&bytes);
        async move {
            if number % 2 == 0 {
                return engine.put_blob(&repo, &digest, sent(&bytes, manner)).await.map(|_| bytes);
            }
            let id = engine.begin_upload(&repo, berth_registry_core::Algorithm::Sha256).await?;
            let id = match engine.append(&repo, &id, None, sent(&bytes, manner)).await {
                Ok(appended) => appended.id,
                Err(error) => {
                    let _ = engine.cancel_upload(&repo, &id).await;
                    return Err(error);
                }
            };
            engine.finish_upload(&repo, &id, None, body(""), &digest).await.map(|_| bytes)
        }
    });
    let day = Duration::from_hours(24);
    let ended = tokio::time::timeout(day, futures::future::join_all(pushes)).await.expect("a dead-lock");
    let mut whole = std::collections::BTreeSet::new();
    for (result, manner) in ended.into_iter().zip(manners) {
        match result {
            Ok(bytes) => {
                assert!(read_all(&engine, &repo, &Digest::sha256(&bytes)).await == bytes);
                whole.insert(Digest::sha256(&bytes));
            }
            Err(EngineError::Body(_)) => assert!(manner.gone.is_some()),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(engine.inner.part_memory.free(), shares, "every share came back");
    assert_eq!(keys(&store, "d/").await.len(), whole.len(), "nothing but blobs is left");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn all_uploads_end_and_all_memory_comes_back(
        manners in proptest::collection::vec(manner(), 1..8),
        shares in 2..4_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(uploads(&manners, shares));
    }
}

#[tokio::test]
async fn one_push_too_many_is_told_to_wait() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let engine =
        Engine::open(store, EngineOptions { max_uploads: 1, ..EngineOptions::default() }).await.unwrap();
    let (repo, digest) = (repo("a"), Digest::sha256(b"abc"));
    let (sender, receiver) = futures::channel::mpsc::unbounded();
    let first = tokio::spawn({
        let (engine, repo, digest) = (engine.clone(), repo.clone(), digest.clone());
        async move { engine.put_blob(&repo, &digest, receiver.boxed()).await }
    });
    while engine.inner.uploads.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    let refused = engine.put_blob(&repo, &digest, body("abc")).await;
    assert!(matches!(refused, Err(EngineError::TooManyUploads)));
    sender.unbounded_send(Ok(Bytes::from("abc"))).unwrap();
    drop(sender);
    first.await.unwrap().unwrap();
    engine.put_blob(&repo, &digest, body("abc")).await.unwrap();
}
