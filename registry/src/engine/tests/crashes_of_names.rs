//! The fault matrix of what gives names to content: indexes, tags that move or go, and the listing of referrers.

use super::{
    crashes::{Case, signed, small, survives},
    *,
};

#[tokio::test]
async fn an_index() {
    survives(Case {
        prepare: |engine| {
            Box::pin(async move {
                let config = push_blob(&engine, &repo("a"), small()).await;
                push(&engine, &repo("a"), "child", image(&[&config], "")).await
            })
        },
        act: |engine, child| {
            Box::pin(
                async move { try_push(&engine, &repo("a"), "v1", None, index(&child)).await.map(|_| ()) },
            )
        },
        holds: |engine, child| {
            Box::pin(async move {
                let stored = engine.get_manifest(&repo("a"), &tag("v1")).await;
                let present =
                    engine.get_manifest(&repo("a"), &Reference::Digest(child.clone())).await.is_ok();
                present && stored.is_ok_and(|stored| stored.bytes == index(&child))
            })
        },
    })
    .await;
}

fn index(child: &Digest) -> Bytes {
    let descriptor = format!(r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{child}","size":1}}"#);
    let media_type = "application/vnd.oci.image.index.v1+json";
    format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[{descriptor}]}}"#).into()
}

#[tokio::test]
async fn a_tag_that_moves() {
    survives(Case {
        prepare: |engine| {
            Box::pin(async move {
                let config = push_blob(&engine, &repo("a"), small()).await;
                let before = push(&engine, &repo("a"), "v1", image(&[&config], "")).await;
                push(&engine, &repo("a"), "next", signed()).await;
                before
            })
        },
        act: |engine, _| {
            Box::pin(async move { try_push(&engine, &repo("a"), "v1", None, signed()).await.map(|_| ()) })
        },
        holds: |engine, before| {
            Box::pin(async move {
                let by_tag = engine.get_manifest(&repo("a"), &tag("v1")).await;
                let old = engine.get_manifest(&repo("a"), &Reference::Digest(before)).await;
                old.is_ok() && by_tag.is_ok_and(|stored| stored.bytes == signed())
            })
        },
    })
    .await;
}

#[tokio::test]
async fn deleting_a_tag() {
    survives(Case {
        prepare: |engine| {
            Box::pin(async move {
                push_blob(&engine, &repo("a"), small()).await;
                push(&engine, &repo("a"), "v1", signed()).await
            })
        },
        act: |engine, _| {
            Box::pin(async move {
                match engine.delete_tag(&repo("a"), &"v1".parse().unwrap(), &Condition::None).await {
                    Err(EngineError::ManifestUnknown(_)) => Ok(()),
                    other => other,
                }
            })
        },
        holds: |engine, digest| {
            Box::pin(async move {
                let by_tag = engine.get_manifest(&repo("a"), &tag("v1")).await;
                by_tag.is_err() && engine.get_manifest(&repo("a"), &Reference::Digest(digest)).await.is_ok()
            })
        },
    })
    .await;
}

#[tokio::test]
async fn listing_referrers() {
    // Reading writes a cache: a broken one must never be believed.
    survives(Case {
        prepare: |engine| {
            Box::pin(async move {
                let config = push_blob(&engine, &repo("a"), small()).await;
                let subject = push(&engine, &repo("a"), "v1", image(&[&config], "")).await;
                for i in 0..5 {
                    let bytes = attached(&config, &subject, "sig", &i.to_string());
                    push(&engine, &repo("a"), &format!("s{i}"), bytes).await;
                }
                subject
            })
        },
        act: |engine, subject| {
            Box::pin(async move {
                assert_eq!(engine.referrers(&repo("a"), &subject, None).await?.len(), 5);
                Ok(())
            })
        },
        holds: |engine, subject| {
            Box::pin(async move { engine.referrers(&repo("a"), &subject, None).await.unwrap().len() == 5 })
        },
    })
    .await;
}
