//! Fault injection at every store call (invariant 1): whatever fails, nothing acknowledged is lost, nothing broken is
//! shown, and the client's next attempt succeeds.

use std::sync::OnceLock;

use berth_registry_core::Algorithm;
use futures::future::BoxFuture;

use super::*;

const FAILURES: [(Failure, bool); 4] =
    [(Failure::Request, false), (Failure::Answer, false), (Failure::Request, true), (Failure::Answer, true)];

/// One operation of a client, with what was there before and what must be there after it was acknowledged.
pub(super) struct Case<T> {
    pub(super) prepare: fn(Engine) -> BoxFuture<'static, T>,
    pub(super) act: fn(Engine, T) -> BoxFuture<'static, Result<(), EngineError>>,
    pub(super) holds: fn(Engine, T) -> BoxFuture<'static, bool>,
}

/// Fails each call of the operation in each way; tries again on another replica.
pub(super) async fn survives<T: Clone>(case: Case<T>) {
    let mut points = 0;
    for (failure, crash) in FAILURES {
        for n in 0..200 {
            let inner: Arc<dyn Store> = Arc::new(MemoryStore::default());
            let context = (case.prepare)(open(&inner).await).await;
            let faulty = Faulty::new(Arc::clone(&inner));
            let engine = open(&(Arc::clone(&faulty) as Arc<dyn Store>)).await;
            faulty.calls();
            faulty.fail(n, failure, crash);
            let result = (case.act)(engine, context.clone()).await;
            let reached = faulty.calls().len() > n;
            let other = open(&inner).await;
            if result.is_ok() {
                assert!(
                    (case.holds)(other.clone(), context.clone()).await,
                    "acknowledged and lost: {failure:?} of call {n}, crash {crash}"
                );
            }
            whole(&inner, &other).await;
            let retry = (case.act)(other.clone(), context.clone()).await;
            retry.unwrap_or_else(|e| panic!("{failure:?} of call {n}, crash {crash}: the retry fails: {e}"));
            assert!((case.holds)(other.clone(), context).await, "{failure:?} of call {n}, crash {crash}");
            whole(&inner, &other).await;
            if !reached {
                break;
            }
            points += 1;
        }
    }
    assert!(points >= 8, "only {points} points were reached");
    println!("{points} fault points");
}

/// Every manifest that can be read has blobs that can be read; every tag leads to a manifest, unless it died.
async fn whole(store: &Arc<dyn Store>, engine: &Engine) {
    for name in engine.catalog(None, 1000).await.unwrap().items {
        let repo = repo(&name);
        for image in engine.images(&repo).await.unwrap() {
            let stored = engine.get_manifest(&repo, &Reference::Digest(image.digest.clone())).await.unwrap();
            let manifest =
                berth_registry_core::Manifest::parse(Some(&stored.media_type), &stored.bytes).unwrap();
            for blob in manifest.blobs() {
                let bytes = read_all(&open(store).await, &repo, &blob.digest).await;
                assert!(blob.digest.matches(&bytes));
            }
        }
    }
}

pub(super) fn small() -> Bytes {
    pattern(1000)
}

fn large() -> Bytes {
    static LARGE: OnceLock<Bytes> = OnceLock::new();
    LARGE.get_or_init(|| pattern((2 << 20) + 500)).clone()
}

async fn has(engine: Engine, name: &str, bytes: Bytes) -> bool {
    match engine.read_blob(&repo(name), &Digest::sha256(&bytes), None).await {
        Ok(reader) => reader.stream.try_collect::<Vec<_>>().await.unwrap().concat() == bytes,
        Err(EngineError::BlobUnknown(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_blob_in_one_request() {
    survives(Case {
        prepare: |_| Box::pin(async {}),
        act: |engine, ()| {
            Box::pin(async move {
                let digest = Digest::sha256(&small());
                engine.put_blob(&repo("a"), &digest, body(small())).await.map(|_| ())
            })
        },
        holds: |engine, ()| Box::pin(has(engine, "a", small())),
    })
    .await;
}

#[tokio::test]
async fn a_large_blob_in_one_request() {
    survives(Case {
        prepare: |_| Box::pin(async {}),
        act: |engine, ()| {
            Box::pin(async move {
                let digest = Digest::sha256(&large());
                engine.put_blob(&repo("a"), &digest, body(large())).await.map(|_| ())
            })
        },
        holds: |engine, ()| Box::pin(has(engine, "a", large())),
    })
    .await;
}

/// The client goes on with the same upload: it asks where it stands and sends the rest, or begins anew if it is told
/// that the upload is gone.
async fn go_on(engine: Engine, id: UploadId, bytes: Bytes) -> Result<(), EngineError> {
    let (repo, digest) = (repo("a"), Digest::sha256(&bytes));
    let (id, offset) = match engine.upload_offset(&repo, &id).await {
        Ok(offset) => (id, offset),
        Err(EngineError::UploadUnknown) => (engine.begin_upload(&repo, Algorithm::Sha256).await?, 0),
        Err(error) => return Err(error),
    };
    let rest = bytes.slice(usize::try_from(offset).unwrap()..);
    match engine.finish_upload(&repo, &id, Some(offset), body(rest), &digest).await {
        Err(EngineError::UploadLost | EngineError::UploadUnknown) => {
            engine.put_blob(&repo, &digest, body(bytes)).await.map(|_| ())
        }
        other => other.map(|_| ()),
    }
}

#[tokio::test]
async fn the_end_of_a_small_upload() {
    survives(Case {
        prepare: |engine| {
            Box::pin(async move {
                let id = engine.begin_upload(&repo("a"), Algorithm::Sha256).await.unwrap();
                engine.append(&repo("a"), &id, None, body(small().slice(..600))).await.unwrap().id
            })
        },
        act: |engine, id| Box::pin(go_on(engine, id, small())),
        holds: |engine, _| Box::pin(has(engine, "a", small())),
    })
    .await;
}

#[tokio::test]
async fn the_end_of_a_large_upload() {
    survives(Case {
        prepare: |engine| {
            Box::pin(async move {
                let id = engine.begin_upload(&repo("a"), Algorithm::Sha256).await.unwrap();
                engine.append(&repo("a"), &id, None, body(large().slice(..1_500_000))).await.unwrap().id
            })
        },
        act: |engine, id| Box::pin(go_on(engine, id, large())),
        holds: |engine, _| Box::pin(has(engine, "a", large())),
    })
    .await;
}

#[tokio::test]
async fn a_whole_blob_beside_what_came_before() {
    // The client knows the first name only, and sends everything again to it.
    survives(Case {
        prepare: |engine| {
            Box::pin(async move {
                let id = engine.begin_upload(&repo("a"), Algorithm::Sha256).await.unwrap();
                engine.append(&repo("a"), &id, Some(0), body(small())).await.unwrap();
                id
            })
        },
        act: |engine, id| {
            Box::pin(async move {
                let digest = Digest::sha256(&large());
                engine.finish_upload(&repo("a"), &id, Some(0), body(large()), &digest).await.map(|_| ())
            })
        },
        holds: |engine, _| Box::pin(has(engine, "a", large())),
    })
    .await;
}

#[tokio::test]
async fn a_chunk() {
    // An acknowledged chunk is there on another replica; one that was not acknowledged can be sent again.
    survives(Case {
        prepare: |engine| {
            Box::pin(async move { engine.begin_upload(&repo("a"), Algorithm::Sha256).await.unwrap() })
        },
        act: |engine, id| {
            Box::pin(async move {
                let at = engine.upload_offset(&repo("a"), &id).await?;
                let rest = large().slice(usize::try_from(at).unwrap()..);
                if rest.is_empty() {
                    return Ok(());
                }
                engine.append(&repo("a"), &id, Some(at), body(rest)).await.map(|_| ())
            })
        },
        holds: |engine, id| {
            Box::pin(async move {
                let at = engine.upload_offset(&repo("a"), &id).await.unwrap();
                at == large().len() as u64
            })
        },
    })
    .await;
}

#[tokio::test]
async fn a_mount() {
    survives(Case {
        prepare: |engine| Box::pin(async move { push_blob(&engine, &repo("a"), small()).await }),
        act: |engine, digest| {
            Box::pin(async move {
                assert!(engine.mount(&repo("b"), &repo("a"), &digest).await?, "the source is there");
                Ok(())
            })
        },
        holds: |engine, _| Box::pin(has(engine, "b", small())),
    })
    .await;
}

pub(super) fn signed() -> Bytes {
    attached(&Digest::sha256(&small()), &Digest::sha256(b"subject"), "sig", "n")
}

#[tokio::test]
async fn a_manifest_with_a_tag_and_a_subject() {
    survives(Case {
        prepare: |engine| Box::pin(async move { push_blob(&engine, &repo("a"), small()).await }),
        act: |engine, _| {
            Box::pin(async move {
                engine
                    .put_manifest(&repo("a"), &tag("v1"), None, signed(), PutOptions::default())
                    .await
                    .map(|_| ())
            })
        },
        holds: |engine, _| {
            Box::pin(async move {
                let by_tag = engine.get_manifest(&repo("a"), &tag("v1")).await;
                let listed = engine.referrers(&repo("a"), &Digest::sha256(b"subject"), None).await.unwrap();
                by_tag.is_ok_and(|stored| stored.bytes == signed()) && listed.len() == 1
            })
        },
    })
    .await;
}

#[tokio::test]
async fn a_manifest_on_condition() {
    survives(Case {
        prepare: |engine| {
            Box::pin(async move {
                let config = push_blob(&engine, &repo("a"), small()).await;
                push(&engine, &repo("a"), "v1", image(&[&config], "")).await
            })
        },
        act: |engine, before| {
            Box::pin(async move {
                let condition = Condition::Matches(before);
                let options = PutOptions { condition, ..PutOptions::default() };
                match engine.put_manifest(&repo("a"), &tag("v1"), None, signed(), options).await {
                    // Its own success, the answer to which was lost.
                    Err(EngineError::Precondition { actual: Some(digest) })
                        if digest == Digest::sha256(&signed()) =>
                    {
                        Ok(())
                    }
                    other => other.map(|_| ()),
                }
            })
        },
        holds: |engine, _| {
            Box::pin(async move {
                let stored = engine.get_manifest(&repo("a"), &tag("v1")).await;
                stored.is_ok_and(|stored| stored.bytes == signed())
            })
        },
    })
    .await;
}

#[tokio::test]
async fn deleting_a_manifest() {
    survives(Case {
        prepare: |engine| {
            Box::pin(async move {
                push_blob(&engine, &repo("a"), small()).await;
                push(&engine, &repo("a"), "v1", signed()).await
            })
        },
        act: |engine, digest| {
            Box::pin(async move {
                match engine.delete_manifest(&repo("a"), &digest).await {
                    Err(EngineError::ManifestUnknown(_)) => Ok(()),
                    other => other,
                }
            })
        },
        holds: |engine, digest| {
            Box::pin(async move {
                let by_digest = engine.get_manifest(&repo("a"), &Reference::Digest(digest)).await;
                let by_tag = engine.get_manifest(&repo("a"), &tag("v1")).await;
                by_digest.is_err() && by_tag.is_err()
            })
        },
    })
    .await;
}

#[tokio::test]
async fn deleting_a_blob() {
    survives(Case {
        prepare: |engine| Box::pin(async move { push_blob(&engine, &repo("a"), small()).await }),
        act: |engine, digest| {
            Box::pin(async move {
                match engine.delete_blob(&repo("a"), &digest).await {
                    Err(EngineError::BlobUnknown(_)) => Ok(()),
                    other => other,
                }
            })
        },
        holds: |engine, _| Box::pin(async move { !has(engine, "a", small()).await }),
    })
    .await;
}

#[tokio::test]
async fn a_collection() {
    // The layer of the image that is deleted is also another image's; its config is nobody's.
    survives(Case {
        prepare: |engine| {
            Box::pin(async move {
                let (config, layer) = (
                    push_blob(&engine, &repo("a"), "{}").await,
                    push_blob(&engine, &repo("a"), small()).await,
                );
                let gone = push(&engine, &repo("a"), "gone", image(&[&config, &layer], "")).await;
                push(&engine, &repo("a"), "kept", image(&[&layer], "")).await;
                assert!(engine.mount(&repo("b"), &repo("a"), &layer).await.unwrap());
                push(&engine, &repo("b"), "kept", image(&[&layer], "")).await;
                engine.delete_manifest(&repo("a"), &gone).await.unwrap();
                config
            })
        },
        act: |engine, _| {
            Box::pin(async move {
                for later in [collect::A_DAY_LATER, collect::TEN_DAYS_LATER] {
                    let (summary, _) = collect::run(&engine, later, false).await;
                    if summary.failed > 0 || !summary.complete {
                        return Err(EngineError::Store(StoreError::Unreachable("the collector".into())));
                    }
                }
                Ok(())
            })
        },
        holds: |engine, config| {
            Box::pin(async move {
                let store = &engine.inner.store;
                let (links, data) = (keys(store, "l/").await, keys(store, "d/").await);
                let left = [
                    keys(store, "q/").await,
                    keys(store, "z/").await,
                    keys(store, &key::blob(&config)).await,
                ];
                (links.len(), data.len(), left.concat().len()) == (2, 1, 0)
            })
        },
    })
    .await;
}

#[tokio::test]
async fn a_collection_of_uploads() {
    survives(Case {
        prepare: |engine| {
            Box::pin(async move {
                for bytes in [small(), large()] {
                    let id = engine.begin_upload(&repo("a"), Algorithm::Sha256).await.unwrap();
                    engine.append(&repo("a"), &id, None, body(bytes)).await.unwrap();
                }
                let id = engine.begin_upload(&repo("a"), Algorithm::Sha256).await.unwrap();
                engine.append(&repo("a"), &id, None, body("unnamed")).await.unwrap();
                let digest = Digest::sha256(b"unnamed");
                engine.finish_upload(&repo("a"), &id, None, body(""), &digest).await.unwrap();
            })
        },
        act: |engine, ()| {
            Box::pin(async move {
                let options = EngineOptions { upload_lease: Duration::ZERO, ..EngineOptions::default() };
                let engine = Engine::open(engine.inner.store.clone(), options).await?;
                for later in [collect::A_DAY_LATER, collect::TEN_DAYS_LATER] {
                    let (summary, _) = collect::run(&engine, later, false).await;
                    if summary.failed > 0 || !summary.complete {
                        return Err(EngineError::Store(StoreError::Unreachable("the collector".into())));
                    }
                }
                Ok(())
            })
        },
        holds: |engine, ()| {
            Box::pin(async move {
                let store = &engine.inner.store;
                keys(store, "u/").await.is_empty() && keys(store, "d/").await.is_empty()
            })
        },
    })
    .await;
}

#[tokio::test]
async fn an_undelete() {
    survives(Case {
        prepare: |engine| {
            Box::pin(async move {
                push_blob(&engine, &repo("a"), small()).await;
                let digest = push(&engine, &repo("a"), "v1", signed()).await;
                engine.delete_manifest(&repo("a"), &digest).await.unwrap();
                collect::run(&engine, collect::A_DAY_LATER, false).await;
                digest
            })
        },
        act: |engine, digest| {
            Box::pin(async move {
                let request = berth_registry_core::job::UndeleteRequest {
                    repository: repo("a"),
                    tag: Some("v1".parse().unwrap()),
                    digest: None,
                    since: None,
                };
                engine.undelete(&request, None).await?;
                engine.get_manifest(&repo("a"), &Reference::Digest(digest)).await.map(|_| ())
            })
        },
        holds: |engine, _| {
            Box::pin(async move {
                engine.get_manifest(&repo("a"), &tag("v1")).await.is_ok() && has(engine, "a", small()).await
            })
        },
    })
    .await;
}
