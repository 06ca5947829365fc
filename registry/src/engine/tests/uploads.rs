use std::collections::BTreeSet;

use berth_registry_core::Algorithm;
use rstest::rstest;

use super::*;

const MIB: usize = 1 << 20;

#[rstest]
#[case(0)]
#[case(1)]
#[case(100_000)]
#[case(4 * MIB)]
#[case(4 * MIB + 1)]
#[case(9 * MIB)]
#[tokio::test]
async fn a_blob_in_one_request(#[case] size: usize) {
    // R-OCI-2, monolithic
    for (engine, _root) in backends().await {
        let (repo, bytes) = (repo("a/b"), pattern(size));
        let digest = push_blob(&engine, &repo, bytes.clone()).await;
        assert_eq!(engine.stat_blob(&repo, &digest).await.unwrap().size, size as u64);
        assert!(read_all(&engine, &repo, &digest).await == bytes);
        assert_eq!(engine.catalog(None, 10).await.unwrap().items, ["a/b"]);
    }
}

#[rstest]
#[case(&[3, 5])]
#[case(&[0, 7])]
#[case(&[5 * MIB, 3])]
#[case(&[3, 5 * MIB])]
#[case(&[3 * MIB, 3 * MIB, 3 * MIB, 1])]
#[case(&[4 * MIB, 4 * MIB])]
#[tokio::test]
async fn a_blob_in_chunks_resumed_on_another_replica(#[case] chunks: &[usize]) {
    // R-OCI-2, chunked: every request goes to an engine of its own.
    let (_, store) = memory().await;
    let (repo, bytes) = (repo("a"), pattern(chunks.iter().sum()));
    let mut id = open(&store).await.begin_upload(&repo, Algorithm::Sha256).await.unwrap();
    let mut at = 0;
    for &size in &chunks[..chunks.len() - 1] {
        let chunk = body(bytes.slice(at..at + size));
        let appended = open(&store).await.append(&repo, &id, Some(at as u64), chunk).await.unwrap();
        at += size;
        assert_eq!(appended.offset, at as u64);
        assert_eq!(open(&store).await.upload_offset(&repo, &id).await.unwrap(), at as u64);
        id = appended.id;
    }
    let digest = Digest::sha256(&bytes);
    let last = body(bytes.slice(at..));
    open(&store).await.finish_upload(&repo, &id, Some(at as u64), last, &digest).await.unwrap();
    let engine = open(&store).await;
    assert!(read_all(&engine, &repo, &digest).await == bytes);
    assert_eq!(keys(&store, "d/").await.len(), 1, "nothing but the blob's bytes is left");
    assert!(matches!(engine.upload_offset(&repo, &id).await, Err(EngineError::UploadUnknown)));
    // A client whose answer was lost asks again.
    let again = engine.finish_upload(&repo, &id, None, body(""), &digest).await.unwrap();
    assert_eq!(again.size, bytes.len() as u64);
}

#[tokio::test]
async fn the_name_of_the_first_answer_goes_on_working() {
    let (engine, _) = memory().await;
    let repo = repo("a");
    let id = engine.begin_upload(&repo, Algorithm::Sha256).await.unwrap();
    engine.append(&repo, &id, None, body("abc")).await.unwrap();
    engine.append(&repo, &id, Some(3), body("def")).await.unwrap();
    let digest = Digest::sha256(b"abcdef");
    engine.finish_upload(&repo, &id, None, body(""), &digest).await.unwrap();
    assert_eq!(read_all(&engine, &repo, &digest).await, b"abcdef");
}

#[tokio::test]
async fn what_arrived_before_the_client_broke_off_is_kept() {
    for size in [10, 6 * MIB] {
        for (engine, _root) in backends().await {
            let (repo, bytes) = (repo("a"), pattern(size + 5));
            let id = engine.begin_upload(&repo, Algorithm::Sha256).await.unwrap();
            let error = engine.append(&repo, &id, None, broken(bytes.slice(..size))).await.unwrap_err();
            assert!(matches!(error, EngineError::Body(_)));
            let at = engine.upload_offset(&repo, &id).await.unwrap();
            assert_eq!(at, size as u64);
            let digest = Digest::sha256(&bytes);
            engine.finish_upload(&repo, &id, Some(at), body(bytes.slice(size..)), &digest).await.unwrap();
            assert!(read_all(&engine, &repo, &digest).await == bytes);
        }
    }
}

#[tokio::test]
async fn the_whole_blob_is_sent_again_under_the_first_name() {
    // R-OCI-2
    for (engine, _root) in backends().await {
        let (repo, bytes) = (repo("a"), pattern(3 * MIB));
        let digest = Digest::sha256(&bytes);
        let id = engine.begin_upload(&repo, Algorithm::Sha256).await.unwrap();
        let broken = broken(bytes.slice(..2 * MIB));
        let error = engine.finish_upload(&repo, &id, Some(0), broken, &digest).await.unwrap_err();
        assert!(matches!(error, EngineError::Body(_)), "{error}");
        // The server has not noticed yet that an earlier attempt is over.
        let (sender, waiting) = futures::channel::mpsc::unbounded();
        sender.unbounded_send(Ok(bytes.slice(..MIB))).unwrap();
        let (asked, seen) = tokio::sync::oneshot::channel();
        let waiting = futures::stream::once(async move {
            let _ = asked.send(());
            Ok(Bytes::new())
        })
        .chain(waiting);
        let earlier = tokio::spawn({
            let (engine, repo, id) = (engine.clone(), repo.clone(), id.clone());
            async move { engine.append(&repo, &id, Some(0), waiting.boxed()).await }
        });
        seen.await.unwrap();
        for _ in 0..2 {
            let whole = body(bytes.clone());
            let stat = engine.finish_upload(&repo, &id, Some(0), whole, &digest).await.unwrap();
            assert_eq!(stat.size, bytes.len() as u64);
        }
        drop(sender);
        assert_eq!(earlier.await.unwrap().unwrap().offset, MIB as u64);
        assert!(read_all(&engine, &repo, &digest).await == bytes);
        engine.cancel_upload(&repo, &id).await.unwrap();
        let late = engine.finish_upload(&repo, &id, Some(0), body(bytes), &digest).await;
        assert!(matches!(late, Err(EngineError::UploadUnknown)), "{late:?}");
    }
}

#[tokio::test]
async fn a_chunk_out_of_order_is_refused_with_the_true_offset() {
    let (engine, _) = memory().await;
    let repo = repo("a");
    let id = engine.begin_upload(&repo, Algorithm::Sha256).await.unwrap();
    let id = engine.append(&repo, &id, Some(0), body("abc")).await.unwrap().id;
    for offset in [0, 2, 4] {
        let error = engine.append(&repo, &id, Some(offset), body("x")).await.unwrap_err();
        assert!(matches!(error, EngineError::UploadOffset { actual: 3 }), "{error}");
    }
    let digest = Digest::sha256(b"abc");
    let error = engine.finish_upload(&repo, &id, Some(1), body(""), &digest).await.unwrap_err();
    assert!(matches!(error, EngineError::UploadOffset { actual: 3 }));
    engine.finish_upload(&repo, &id, Some(3), body(""), &digest).await.unwrap();
}

#[rstest]
#[case(10)]
#[case(5 * MIB)]
#[tokio::test]
async fn content_that_does_not_match_is_refused_and_removed(#[case] size: usize) {
    let (engine, store) = memory().await;
    let (repo, bytes) = (repo("a"), pattern(size));
    let wrong = Digest::sha256(b"other");
    let error = engine.put_blob(&repo, &wrong, body(bytes.clone())).await.unwrap_err();
    assert!(
        matches!(&error, EngineError::DigestMismatch { actual, .. } if *actual == Digest::sha256(&bytes))
    );
    let id = engine.begin_upload(&repo, Algorithm::Sha256).await.unwrap();
    let id = engine.append(&repo, &id, None, body(bytes)).await.unwrap().id;
    let error = engine.finish_upload(&repo, &id, None, body("more"), &wrong).await.unwrap_err();
    assert!(matches!(error, EngineError::DigestMismatch { .. }));
    assert!(matches!(engine.stat_blob(&repo, &wrong).await, Err(EngineError::BlobUnknown(_))));
    assert!(keys(&store, "d/").await.is_empty());
    assert!(matches!(engine.upload_offset(&repo, &id).await, Err(EngineError::UploadUnknown)));
}

#[tokio::test]
async fn another_algorithm_is_computed_when_asked_for() {
    let (engine, _) = memory().await;
    let (repo, bytes) = (repo("a"), pattern(3 * MIB));
    let digest = Algorithm::Sha512.digest(&bytes);
    // Said at the beginning; said late, when some bytes are there already; said late, in one request.
    for (begun, chunks) in [(Algorithm::Sha512, 2), (Algorithm::Sha256, 2), (Algorithm::Sha256, 1)] {
        let id = engine.begin_upload(&repo, begun).await.unwrap();
        let at = if chunks == 2 { 2 * MIB } else { 0 };
        let id = match at {
            0 => id,
            at => engine.append(&repo, &id, None, body(bytes.slice(..at))).await.unwrap().id,
        };
        engine.finish_upload(&repo, &id, None, body(bytes.slice(at..)), &digest).await.unwrap();
        assert!(read_all(&engine, &repo, &digest).await == bytes);
    }
    let wrong = Algorithm::Sha512.digest(b"");
    let id = engine.begin_upload(&repo, Algorithm::Sha256).await.unwrap();
    let id = engine.append(&repo, &id, None, body("x")).await.unwrap().id;
    let error = engine.finish_upload(&repo, &id, None, body(""), &wrong).await.unwrap_err();
    assert!(matches!(error, EngineError::DigestMismatch { .. }));
}

#[tokio::test]
async fn uploads_end_with_their_cancellation() {
    let (engine, store) = memory().await;
    let repo = repo("a");
    for size in [0, 10, 3 * MIB] {
        let id = engine.begin_upload(&repo, Algorithm::Sha256).await.unwrap();
        let id = match size {
            0 => id,
            size => engine.append(&repo, &id, None, body(pattern(size))).await.unwrap().id,
        };
        engine.cancel_upload(&repo, &id).await.unwrap();
        assert!(keys(&store, "d/").await.is_empty());
        let unknown = [
            engine.upload_offset(&repo, &id).await.map(|_| ()),
            engine.append(&repo, &id, None, body("x")).await.map(|_| ()),
            engine.finish_upload(&repo, &id, None, body(""), &Digest::sha256(b"")).await.map(|_| ()),
            engine.cancel_upload(&repo, &id).await,
        ];
        for result in unknown {
            assert!(matches!(result, Err(EngineError::UploadUnknown)), "{result:?}");
        }
    }
}

#[tokio::test]
async fn a_late_cancellation_does_not_take_the_blob() {
    let (engine, _) = memory().await;
    let repo = repo("a");
    let id = engine.begin_upload(&repo, Algorithm::Sha256).await.unwrap();
    let id = engine.append(&repo, &id, None, body("abc")).await.unwrap().id;
    let digest = Digest::sha256(b"abc");
    engine.finish_upload(&repo, &id, None, body(""), &digest).await.unwrap();
    assert!(matches!(engine.cancel_upload(&repo, &id).await, Err(EngineError::UploadUnknown)));
    assert_eq!(read_all(&engine, &repo, &digest).await, b"abc");
}

#[tokio::test]
async fn an_upload_belongs_to_its_repository() {
    let (engine, _) = memory().await;
    let id = engine.begin_upload(&repo("a"), Algorithm::Sha256).await.unwrap();
    assert!(matches!(engine.append(&repo("b"), &id, None, body("x")).await, Err(EngineError::UploadUnknown)));
    let made_up = UploadId("00000000000000000000000000.sha256.n.00".into());
    assert!(matches!(engine.upload_offset(&repo("a"), &made_up).await, Err(EngineError::UploadUnknown)));
}

#[tokio::test]
async fn two_requests_do_not_write_to_one_upload() {
    let (engine, store) = memory().await;
    let repo = repo("a");
    let id = engine.begin_upload(&repo, Algorithm::Sha256).await.unwrap();
    let (sender, waiting) = futures::channel::mpsc::unbounded();
    sender.unbounded_send(Ok(Bytes::from("abc"))).unwrap();
    let first = tokio::spawn({
        let (engine, repo, id) = (engine.clone(), repo.clone(), id.clone());
        async move { engine.append(&repo, &id, None, waiting.boxed()).await }
    });
    // The first one has begun as soon as a second one is refused.
    loop {
        match engine.append(&repo, &id, Some(7), body("x")).await {
            Err(EngineError::UploadBusy) => break,
            other => assert!(matches!(other, Err(EngineError::UploadOffset { actual: 0 })), "{other:?}"),
        }
        tokio::task::yield_now().await;
    }
    // Another replica does not see the first one, but only one of them can put its bytes on record.
    let elsewhere = open(&store).await.append(&repo, &id, Some(0), body("xy")).await.unwrap();
    drop(sender);
    let lost = first.await.unwrap().unwrap_err();
    assert!(matches!(lost, EngineError::UploadOffset { actual: 2 }), "{lost}");
    let digest = Digest::sha256(b"xy");
    engine.finish_upload(&repo, &elsewhere.id, Some(2), body(""), &digest).await.unwrap();
    assert_eq!(read_all(&engine, &repo, &digest).await, b"xy");
}

#[tokio::test]
async fn a_digest_is_stored_once_and_shared() {
    // R-OCI-6
    let (engine, store) = memory().await;
    let digest = push_blob(&engine, &repo("a"), "shared").await;
    assert!(matches!(engine.stat_blob(&repo("b"), &digest).await, Err(EngineError::BlobUnknown(_))));
    push_blob(&engine, &repo("b"), "shared").await;
    push_blob(&engine, &repo("b"), "shared").await;
    assert_eq!(keys(&store, "d/").await.len(), 1);
    assert_eq!(read_all(&engine, &repo("b"), &digest).await, b"shared");
}

#[tokio::test]
async fn a_mount_takes_over_without_bytes() {
    // R-OCI-2, mount
    let (engine, store) = memory().await;
    let digest = push_blob(&engine, &repo("a"), "shared").await;
    assert!(!engine.mount(&repo("b"), &repo("none"), &digest).await.unwrap());
    assert!(!engine.mount(&repo("b"), &repo("a"), &Digest::sha256(b"x")).await.unwrap());
    assert!(engine.mount(&repo("b"), &repo("a"), &digest).await.unwrap());
    assert!(engine.mount(&repo("b"), &repo("a"), &digest).await.unwrap());
    let fresh = open(&store).await;
    assert_eq!(read_all(&fresh, &repo("b"), &digest).await, b"shared");
    let holders: BTreeSet<_> = engine.repositories_with(&digest).await.unwrap().into_iter().collect();
    assert_eq!(holders, BTreeSet::from([repo("a"), repo("b")]));
    // Taking it out of one repository leaves the other alone.
    engine.delete_blob(&repo("a"), &digest).await.unwrap();
    assert_eq!(read_all(&fresh, &repo("b"), &digest).await, b"shared");
    assert!(matches!(engine.stat_blob(&repo("a"), &digest).await, Err(EngineError::BlobUnknown(_))));
    assert!(matches!(engine.delete_blob(&repo("a"), &digest).await, Err(EngineError::BlobUnknown(_))));
}

#[tokio::test]
async fn ranges_are_cut_as_http_means_them() {
    for (engine, _root) in backends().await {
        let (repo, bytes) = (repo("a"), pattern(300_000));
        let digest = push_blob(&engine, &repo, bytes.clone()).await;
        for (range, wanted) in [
            (ByteRange::From(0), 0..300_000),
            (ByteRange::From(299_999), 299_999..300_000),
            (ByteRange::Between(0, 0), 0..1),
            (ByteRange::Between(100_000, 999_999), 100_000..300_000),
            (ByteRange::Last(5), 299_995..300_000),
            (ByteRange::Last(999_999), 0..300_000),
        ] {
            let reader = engine.read_blob(&repo, &digest, Some(range)).await.unwrap();
            assert_eq!(
                (reader.size, reader.range.clone()),
                (300_000, wanted.start as u64..wanted.end as u64)
            );
            let read: Vec<Bytes> = reader.stream.try_collect().await.unwrap();
            assert!(read.concat() == bytes[wanted], "{range:?}");
        }
        for range in [ByteRange::From(300_000), ByteRange::Between(300_000, 300_001), ByteRange::Last(0)] {
            let error = engine.read_blob(&repo, &digest, Some(range)).await.unwrap_err();
            assert!(matches!(error, EngineError::RangeNotSatisfiable { size: 300_000 }), "{range:?}");
        }
    }
}

#[tokio::test]
async fn memory_for_parts_is_bounded_without_dead_lock() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let options = EngineOptions { upload_memory: 2 * MIB, ..EngineOptions::default() };
    let engine = Engine::open(store, options).await.unwrap();
    let bytes = pattern(3 * MIB + 17);
    let digest = Digest::sha256(&bytes);
    let repo = repo("a");
    let pushes = (0..24).map(|_| engine.put_blob(&repo, &digest, chunked(bytes.clone(), 100_000)));
    for result in futures::future::join_all(pushes).await {
        result.unwrap();
    }
    assert_eq!(engine.inner.part_memory.free(), 2, "every share was given back");
}

#[tokio::test(start_paused = true)]
async fn slow_clients_do_not_starve_others() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let options = EngineOptions { upload_memory: 2 * MIB, ..EngineOptions::default() };
    let engine = Engine::open(Arc::clone(&store), options).await.unwrap();
    let (slow_bytes, fast_bytes) = (pattern(MIB + 300_000), pattern(3 * MIB + 1));
    let (slow, fast) = (Digest::sha256(&slow_bytes), Digest::sha256(&fast_bytes));
    // Two clients take all the memory and then send nothing for long.
    let mut senders = Vec::new();
    let mut pushes = Vec::new();
    for name in ["a", "b"] {
        let (sender, receiver) = futures::channel::mpsc::unbounded();
        sender.unbounded_send(Ok(slow_bytes.slice(..200_000))).unwrap();
        senders.push(sender);
        let (engine, slow) = (engine.clone(), slow.clone());
        pushes.push(tokio::spawn(async move { engine.put_blob(&repo(name), &slow, receiver.boxed()).await }));
    }
    while engine.inner.part_memory.free() > 0 {
        tokio::task::yield_now().await;
    }
    engine.put_blob(&repo("c"), &fast, body(fast_bytes)).await.unwrap();
    for sender in senders {
        sender.unbounded_send(Ok(slow_bytes.slice(200_000..))).unwrap();
    }
    for push in pushes {
        push.await.unwrap().unwrap();
    }
    for name in ["a", "b"] {
        assert!(read_all(&engine, &repo(name), &slow).await == slow_bytes);
    }
    assert_eq!(keys(&store, "d/").await.len(), 2, "what was put aside is gone");
}
