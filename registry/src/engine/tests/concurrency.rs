use std::collections::BTreeSet;

use futures::future::join_all;

use super::{collect::run, *};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writers_of_one_digest_keep_one_copy() {
    let (_, store) = memory().await;
    let bytes = pattern(200_000);
    let digest = Digest::sha256(&bytes);
    let pushes = (0..24).map(|i| {
        let (store, bytes, digest) = (Arc::clone(&store), bytes.clone(), digest.clone());
        tokio::spawn(async move {
            let repo = repo(if i % 2 == 0 { "a" } else { "b" });
            open(&store).await.put_blob(&repo, &digest, body(bytes)).await.unwrap();
        })
    });
    for push in join_all(pushes).await {
        push.unwrap();
    }
    assert_eq!(keys(&store, "d/").await.len(), 1, "losers give their bytes back");
    for name in ["a", "b"] {
        assert!(read_all(&open(&store).await, &repo(name), &digest).await == bytes);
    }
}

#[tokio::test(start_paused = true)]
async fn many_writers_at_a_slow_store_all_get_their_turn() {
    // A layer that all jobs of a build push at once, to a store that takes its time.
    let store = Faulty::slow(Arc::new(MemoryStore::default()), Duration::from_millis(10));
    let engine = open(&(store as Arc<dyn Store>)).await;
    let (repo, digest) = (repo("a"), Digest::sha256(b"layer"));
    for result in join_all((0..40).map(|_| engine.put_blob(&repo, &digest, body("layer")))).await {
        result.unwrap();
    }
    assert_eq!(read_all(&engine, &repo, &digest).await, b"layer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_referrers_at_once_are_all_listed() {
    // R-OCI-5
    for (engine, _root) in backends().await {
        let repo = repo("a");
        let config = push_blob(&engine, &repo, "{}").await;
        let subject = push(&engine, &repo, "v1", image(&[&config], "")).await;
        let pushes = (0..60).map(|i| {
            let (engine, repo) = (engine.clone(), repo.clone());
            let bytes = attached(&config, &subject, "sig", &i.to_string());
            tokio::spawn(async move {
                let reference = Reference::Digest(Digest::sha256(&bytes));
                let put =
                    engine.put_manifest(&repo, &reference, None, bytes, PutOptions::default()).await.unwrap();
                let listed = engine.referrers(&repo, &put.subject.unwrap(), None).await.unwrap();
                assert!(listed.iter().any(|d| d.digest == put.digest), "acknowledged, so listed");
            })
        });
        for push in join_all(pushes).await {
            push.unwrap();
        }
        assert_eq!(engine.referrers(&repo, &subject, None).await.unwrap().len(), 60);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_conditional_writers_exactly_one_wins() {
    for (engine, _root) in backends().await {
        let repo = repo("a");
        let config = push_blob(&engine, &repo, "{}").await;
        let base = push(&engine, &repo, "t", image(&[&config], "")).await;
        for condition in [Condition::Matches(base.clone()), Condition::Absent] {
            let name = if condition == Condition::Absent { "new" } else { "t" };
            let writers = (0..8).map(|i| {
                let (engine, repo, condition) = (engine.clone(), repo.clone(), condition.clone());
                let bytes = image(&[&config], &format!(r#""annotations":{{"n":"{i}"}},"#));
                tokio::spawn(async move {
                    let options = PutOptions { condition, ..PutOptions::default() };
                    match engine.put_manifest(&repo, &tag(name), None, bytes, options).await {
                        Ok(put) => Some(put.digest),
                        Err(EngineError::Precondition { .. }) => None,
                        Err(error) => panic!("{error}"),
                    }
                })
            });
            let won: Vec<_> =
                join_all(writers).await.into_iter().filter_map(|writer| writer.unwrap()).collect();
            assert_eq!(won.len(), 1);
            assert_eq!(engine.get_manifest(&repo, &tag(name)).await.unwrap().digest, won[0]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_writers_of_an_immutable_tag_one_decides() {
    // Two replicas of one store: each has an engine of its own.
    let options = EngineOptions { immutable_tags: vec!["v*".parse().unwrap()], ..EngineOptions::default() };
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let one = Engine::open(Arc::clone(&store), options.clone()).await.unwrap();
    let two = Engine::open(Arc::clone(&store), options).await.unwrap();
    let repo = repo("a");
    let config = push_blob(&one, &repo, "{}").await;
    for round in 0..20 {
        let name = format!("v{round}");
        let writers = (0..8).map(|i| {
            let (engine, repo, name) =
                (if i % 2 == 0 { &one } else { &two }.clone(), repo.clone(), name.clone());
            let bytes = image(&[&config], &format!(r#""annotations":{{"n":"{}"}},"#, i / 2));
            tokio::spawn(async move {
                match try_push(&engine, &repo, &name, None, bytes).await {
                    Ok(put) => Some(put.digest),
                    Err(EngineError::TagImmutable { .. }) => None,
                    Err(error) => panic!("{error}"),
                }
            })
        });
        let told: Vec<_> = join_all(writers).await.into_iter().filter_map(|writer| writer.unwrap()).collect();
        let stands = one.get_manifest(&repo, &tag(&name)).await.unwrap().digest;
        assert_eq!(told, [stands.clone(), stands], "the two who agree succeed, nobody else");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_of_one_tag_leave_one_of_their_manifests() {
    let (_, store) = memory().await;
    let repo = repo("a");
    let config = push_blob(&open(&store).await, &repo, "{}").await;
    let manifests: Vec<_> =
        (0..16).map(|i| image(&[&config], &format!(r#""annotations":{{"n":"{i}"}},"#))).collect();
    let writers = manifests.iter().cloned().map(|bytes| {
        let (store, repo) = (Arc::clone(&store), repo.clone());
        tokio::spawn(async move { push(&open(&store).await, &repo, "t", bytes).await })
    });
    let pushed: BTreeSet<_> = join_all(writers).await.into_iter().map(|writer| writer.unwrap()).collect();
    let engine = open(&store).await;
    assert!(pushed.contains(&engine.get_manifest(&repo, &tag("t")).await.unwrap().digest));
    for digest in pushed {
        engine.get_manifest(&repo, &Reference::Digest(digest)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn blobs_deleted_under_pushes_never_leave_a_broken_image() {
    // Invariant 2 with real threads: whoever loses is told so, and what is live is whole.
    let (_, store) = memory().await;
    let repo = repo("a");
    let config = push_blob(&open(&store).await, &repo, "{}").await;
    for round in 0..30 {
        let layer = push_blob(&open(&store).await, &repo, format!("layer {round}")).await;
        let bytes = image(&[&config, &layer], "");
        let name = format!("t{round}");
        let pusher = {
            let (store, repo, bytes, name) = (Arc::clone(&store), repo.clone(), bytes.clone(), name.clone());
            tokio::spawn(async move {
                open(&store).await.put_manifest(&repo, &tag(&name), None, bytes, PutOptions::default()).await
            })
        };
        let deleter = {
            let (store, repo, layer) = (Arc::clone(&store), repo.clone(), layer.clone());
            tokio::spawn(async move { open(&store).await.delete_blob(&repo, &layer).await })
        };
        let (put, deletion) = (pusher.await.unwrap(), deleter.await.unwrap());
        let engine = open(&store).await;
        match (&put, &deletion) {
            (Ok(_), Err(EngineError::BlobReferenced { .. })) => {
                engine.get_manifest(&repo, &tag(&name)).await.unwrap();
                assert_eq!(read_all(&engine, &repo, &layer).await, format!("layer {round}").into_bytes());
            }
            (Err(EngineError::ManifestBlobUnknown(_)), Ok(())) => {
                assert!(engine.get_manifest(&repo, &tag(&name)).await.is_err());
            }
            // The deleter saw the pending manifest, which was withdrawn then: both lose, nothing is broken.
            (Err(EngineError::ManifestBlobUnknown(_)), Err(EngineError::BlobReferenced { .. })) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// R-OCI-3: a push by tag whose last step comes after the deletion of its manifest. The tag leads nowhere, which is a
/// clean answer, and the collector takes it away.
#[tokio::test]
async fn a_tag_that_comes_after_the_deletion_of_its_manifest() {
    for (engine, _root) in backends().await {
        let repo = repo("a");
        let bytes = image(&[&push_blob(&engine, &repo, "{}").await], "");
        let (digest, v1) = (Digest::sha256(&bytes), "v1".parse::<Tag>().unwrap());
        let size = bytes.len() as u64;
        engine.put_hint(&repo, &digest, &v1).await.unwrap();
        let by_digest = Reference::Digest(digest.clone());
        engine.put_manifest(&repo, &by_digest, None, bytes, PutOptions::default()).await.unwrap();
        engine.delete_manifest(&repo, &digest).await.unwrap();
        let target = TagRecord { digest, media_type: OCI_MANIFEST.into(), size };
        engine.move_tag(&repo, &v1, &target, &Condition::None, None).await.unwrap();

        let led = engine.get_manifest(&repo, &tag("v1")).await;
        assert!(matches!(led, Err(EngineError::ManifestUnknown(_))), "{led:?}");
        assert_eq!(engine.tags(&repo, None, 10).await.unwrap().items, ["v1"]);
        let (summary, lines) = run(&engine, jiff::SignedDuration::ZERO, false).await;
        assert_eq!(summary.failed, 0, "{lines:#?}");
        assert!(engine.tags(&repo, None, 10).await.unwrap().items.is_empty());
    }
}

/// R-OCI-3: whoever comes first, a manifest that lives at the end has the tag that it was pushed by, also after the
/// collector has run.
#[tokio::test(start_paused = true)]
async fn a_push_by_tag_beside_the_deletion_of_its_manifest() {
    let (mut alive, mut dead) = (0, 0);
    for _ in 0..200 {
        let store = Faulty::uneven(Arc::new(MemoryStore::default()));
        let engine = open(&(store as Arc<dyn Store>)).await;
        let repo = repo("a");
        let bytes = image(&[&push_blob(&engine, &repo, "{}").await], "");
        let digest = push(&engine, &repo, "v1", bytes.clone()).await;
        let push = try_push(&engine, &repo, "v1", None, bytes);
        let (pushed, deleted) = futures::future::join(push, engine.delete_manifest(&repo, &digest)).await;
        pushed.unwrap();
        deleted.unwrap();
        let lives = engine.get_manifest(&repo, &Reference::Digest(digest.clone())).await.is_ok();
        let tagged = |led: Result<StoredManifest, EngineError>| match led {
            Ok(stored) => stored.digest == digest,
            Err(EngineError::ManifestUnknown(_)) => false,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(tagged(engine.get_manifest(&repo, &tag("v1")).await), lives);
        run(&engine, jiff::SignedDuration::ZERO, false).await;
        let tags = engine.tags(&repo, None, 10).await.unwrap().items;
        assert_eq!(tags.len(), usize::from(lives), "{tags:?}");
        *(if lives { &mut alive } else { &mut dead }) += 1;
    }
    assert!(alive > 0 && dead > 0, "{alive} lived and {dead} died: there was no race");
}
