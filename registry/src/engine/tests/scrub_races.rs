//! The scrub beside writers, deleters and another scrub, all in a hurry; and killed at every store call. R-STO-6.

use std::sync::atomic::AtomicBool;

use berth_registry_core::{key, record::Blob, scrub::Treatment};

use super::{
    scrub::{hasty, scrub, scrub_as, unlimited},
    *,
};

/// Pushes an image until it is accepted: what the scrub takes from under an upload that it believes to be old, the
/// client is told of and uploads again.
async fn push_until_accepted(
    engine: &Engine,
    repo: &RepositoryName,
    name: &str,
    contents: [Bytes; 2],
) -> Bytes {
    let digests = [Digest::sha256(&contents[0]), Digest::sha256(&contents[1])];
    let manifest = image(&[&digests[0], &digests[1]], "");
    loop {
        for (digest, bytes) in digests.iter().zip(&contents) {
            match engine.put_blob(repo, digest, body(bytes.clone())).await {
                Ok(_) | Err(EngineError::UploadLost) => {}
                Err(error) => panic!("{error}"),
            }
        }
        match try_push(engine, repo, name, None, manifest.clone()).await {
            Ok(_) => return manifest,
            Err(EngineError::ManifestBlobUnknown(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

async fn is_whole(engine: &Engine, repo: &RepositoryName, name: &str, contents: &[Bytes; 2]) {
    engine.get_manifest(repo, &tag(name)).await.unwrap_or_else(|e| panic!("{repo}:{name}: {e}"));
    for bytes in contents {
        assert!(read_all(engine, repo, &Digest::sha256(bytes)).await == *bytes, "{repo}:{name}");
    }
}

/// Nothing acknowledged is lost while scrubs without any patience run in a loop.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn beside_writers_nothing_is_lost() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let done = Arc::new(AtomicBool::new(false));
    let replica = || Engine::open(Arc::clone(&store), hasty());
    // Opened before: scrubs without patience sweep the object away with which an opening replica probes the store.
    let mut replicas = Vec::new();
    for _ in 0..6 {
        replicas.push(replica().await.unwrap());
    }
    let mut scrubs = Vec::new();
    for engine in replicas.split_off(4) {
        let done = done.clone();
        scrubs.push(tokio::spawn(async move {
            let mut runs = 0;
            while !done.load(Ordering::SeqCst) {
                scrub_as(&engine, unlimited()).await;
                runs += 1;
            }
            runs
        }));
    }
    let writers = replicas.into_iter().enumerate().map(|(writer, engine)| {
        tokio::spawn(async move {
            let name = repo(if writer % 2 == 0 { "a" } else { "b" });
            for round in 0..12 {
                let own = Bytes::from(format!("layer {writer} {round}"));
                // Shared by all, and pushed and deleted all the time.
                let contents = [Bytes::from(format!("config {}", round % 3)), own];
                let tag_name = format!("t{writer}-{round}");
                let manifest = push_until_accepted(&engine, &name, &tag_name, contents.clone()).await;
                is_whole(&engine, &name, &tag_name, &contents).await;
                if round % 3 == 2 {
                    engine.delete_manifest(&name, &Digest::sha256(&manifest)).await.unwrap();
                } else {
                    tokio::task::yield_now().await;
                    is_whole(&engine, &name, &tag_name, &contents).await;
                }
            }
        })
    });
    for writer in futures::future::join_all(writers).await {
        writer.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    for runs in futures::future::join_all(scrubs).await {
        assert!(runs.unwrap() > 0);
    }
    let engine = replica().await.unwrap();
    for writer in 0..4 {
        for round in (0..12).filter(|round| round % 3 != 2) {
            let name = repo(if writer % 2 == 0 { "a" } else { "b" });
            let contents =
                [format!("config {}", round % 3), format!("layer {writer} {round}")].map(Bytes::from);
            is_whole(&engine, &name, &format!("t{writer}-{round}"), &contents).await;
        }
    }
    scrub(&engine).await;
    assert!(scrub(&engine).await.is_empty());
}

/// A sound store stays sound and has nothing wrong with it, whatever goes on: no scrub raises a false alarm.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn beside_writers_and_collectors_nothing_is_wrong() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let done = Arc::new(AtomicBool::new(false));
    let collector = {
        let options = EngineOptions { undelete_window: std::time::Duration::ZERO, ..hasty() };
        let engine = Engine::open(Arc::clone(&store), options).await.unwrap();
        let done = done.clone();
        tokio::spawn(async move {
            while !done.load(Ordering::SeqCst) {
                let (lines, mut receiver) = tokio::sync::mpsc::channel(1);
                let listen = async move { while receiver.recv().await.is_some() {} };
                tokio::join!(engine.collect(false, lines), listen);
            }
        })
    };
    let scrubber = {
        let (engine, done) = (open(&store).await, done.clone());
        tokio::spawn(async move {
            let mut wrong = Vec::new();
            while !done.load(Ordering::SeqCst) {
                let (findings, summary) = scrub_as(&engine, unlimited()).await;
                assert_eq!(summary.counts.failed, 0);
                wrong.extend(findings.into_iter().filter(|found| found.treatment != Treatment::Repaired));
            }
            wrong
        })
    };
    let writers = (0..4).map(|writer| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let (engine, name) = (open(&store).await, repo(if writer % 2 == 0 { "a" } else { "b" }));
            for round in 0..20 {
                let own = Bytes::from(format!("layer {writer} {round}"));
                let contents = [Bytes::from(format!("config {}", round % 3)), own];
                let tag_name = format!("t{writer}-{round}");
                let manifest = push_until_accepted(&engine, &name, &tag_name, contents.clone()).await;
                is_whole(&engine, &name, &tag_name, &contents).await;
                if round % 2 == 0 {
                    engine.delete_manifest(&name, &Digest::sha256(&manifest)).await.unwrap();
                }
            }
        })
    });
    for writer in futures::future::join_all(writers).await {
        writer.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    collector.await.unwrap();
    let wrong = scrubber.await.unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let engine = open(&store).await;
    for (writer, round) in (0..4).flat_map(|writer| (1..20).step_by(2).map(move |round| (writer, round))) {
        let name = repo(if writer % 2 == 0 { "a" } else { "b" });
        let contents = [format!("config {}", round % 3), format!("layer {writer} {round}")].map(Bytes::from);
        is_whole(&engine, &name, &format!("t{writer}-{round}"), &contents).await;
    }
    scrub(&engine).await;
    assert!(scrub(&engine).await.is_empty());
}

/// Killed at any store call, the next scrub ends the work: the bad blob is not served, and what can be mended is.
#[tokio::test]
async fn killed_anywhere_it_is_ended_by_the_next() {
    let (a, bytes) = (repo("a"), pattern(3000));
    let mut points = 0;
    for n in 0.. {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let other = open(&store).await;
        let (config, layer) = (push_blob(&other, &a, "{}").await, push_blob(&other, &a, bytes.clone()).await);
        push(&other, &a, "v1", image(&[&config, &layer], "")).await;
        assert!(other.mount(&repo("b"), &a, &layer).await.unwrap());
        store.delete(&key::blob(&config)).await.unwrap();
        let bad = other.read_record::<Blob>(&key::blob(&layer)).await.unwrap().unwrap().0.data;
        store.put(&bad, pattern(2999), PutMode::Overwrite).await.unwrap();

        let faulty = Faulty::new(Arc::clone(&store));
        let engine = open(&(Arc::clone(&faulty) as Arc<dyn Store>)).await;
        faulty.calls();
        faulty.fail(n, if n % 2 == 0 { Failure::Request } else { Failure::Answer }, true);
        scrub_as(&engine, unlimited()).await;
        let reached = faulty.calls().len() > n;
        // It ends what was begun; what failed in passing, the one after it finds.
        scrub_as(&other, unlimited()).await;
        let last = scrub(&other).await;
        assert!(last.iter().all(|finding| finding.treatment == Treatment::Reported), "call {n}: {last:#?}");
        let served = open(&store).await.read_blob(&a, &layer, None).await;
        assert!(matches!(served, Err(EngineError::BlobUnknown(_))), "call {n}");
        assert_eq!(read_all(&other, &a, &config).await, b"{}", "call {n}");
        push_blob(&other, &a, bytes.clone()).await;
        assert!(read_all(&other, &a, &layer).await == bytes, "call {n}");
        let healed = scrub(&other).await;
        assert!(healed.is_empty(), "call {n}: {healed:#?}");
        if !reached {
            break;
        }
        points += 1;
    }
    assert!(points > 40, "only {points} points were reached");
}
