//! Content management: what deletion removes, what it leaves, and that what was deleted can be pushed
//! again (distribution-spec "Content Management").

use reqwest::Method;
use serde_json::json;

use crate::case::cases;
use crate::support::content::{Blob, Manifest, unknown_digest};
use crate::support::http::{Call, Outcome, Target, ensure};

cases! { management, Management:
    Spec "R-OCI-1" a_tag,
    Spec "R-OCI-1" a_manifest_with_its_tags,
    Spec "R-OCI-1" a_blob,
    Spec "R-OCI-1" an_index_but_not_its_children,
    Spec "R-OCI-1" what_is_not_there,
    Spec "R-OCI-1" what_was_never_a_repository,
    Spec "R-OCI-1" pushed_again_after_deletion,
    Spec "R-OCI-6" only_in_one_repository,
    Spec "R-OCI-1" references_that_are_none,
    Berth "R-OCI-1" what_others_need,
    Berth "R-OCI-1" all_of_a_repository,
    Berth "R-OCI-1" by_many_at_once,
    Berth "R-GC-4" undeleted_by_tag_and_by_digest,
    Berth "R-GC-4" undelete_requests_that_are_none,
    Berth "R-GC-4" a_tag_as_of_a_time,
    Berth "R-GC-5" explained,
    Berth "R-GC-1" collected_as_a_dry_run,
}

/// "Deleting tags": the manifest and its other tags stay.
async fn a_tag(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    repo.push(&image, "v2").await?;
    repo.manifest(Method::DELETE, "v1").send().await?.status(&[202])?;
    repo.lacks_manifest("v1").await?;
    repo.has_manifest(&image, "v2").await?;
    repo.has_manifest(&image, &image.digest()).await?;
    let tags = repo.tag_list("").await?;
    ensure!(tags == ["v2"], "the list still has {tags:?}");
    Ok(())
}

/// "Deleting Manifests": every tag that points there goes too.
async fn a_manifest_with_its_tags(t: &Target) -> Outcome {
    let (repo, gone, kept) = (t.fresh(), Manifest::image(), Manifest::image());
    for tag in ["v1", "v2"] {
        repo.push(&gone, tag).await?;
    }
    repo.push(&gone, "moved").await?;
    repo.push(&kept, "moved").await?;
    repo.manifest(Method::DELETE, &gone.digest()).send().await?.status(&[202])?;
    for reference in ["v1", "v2", &gone.digest()] {
        repo.lacks_manifest(reference).await?;
        repo.manifest(Method::HEAD, reference).send().await?.status(&[404])?;
    }
    repo.has_manifest(&kept, "moved").await?;
    let tags = repo.tag_list("").await?;
    ensure!(tags == ["moved"], "the list still has {tags:?}");
    Ok(())
}

/// "Deleting Blobs".
async fn a_blob(t: &Target) -> Outcome {
    let (repo, gone, kept) = (t.fresh(), Blob::random(100), Blob::random(100));
    repo.push_blob(&gone).await?;
    repo.push_blob(&kept).await?;
    repo.blob(Method::DELETE, &gone.digest).send().await?.status(&[202])?;
    repo.lacks_blob(&gone.digest).await?;
    repo.blob(Method::GET, &gone.digest).send().await?.refused(&[404], &["BLOB_UNKNOWN"])?;
    repo.has_blob(&kept).await
}

async fn an_index_but_not_its_children(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push_untagged(&image).await?;
    let index = Manifest::index_of(&[&image]);
    repo.push(&index, "v1").await?;
    repo.manifest(Method::DELETE, &index.digest()).send().await?.status(&[202])?;
    repo.lacks_manifest("v1").await?;
    repo.has_manifest(&image, &image.digest()).await
}

async fn what_is_not_there(t: &Target) -> Outcome {
    let (repo, image, blob) = (t.fresh(), Manifest::image(), Blob::random(10));
    repo.push(&image, "v1").await?;
    repo.push_blob(&blob).await?;
    repo.manifest(Method::DELETE, "v2").send().await?.refused(&[404], &["MANIFEST_UNKNOWN"])?;
    repo.manifest(Method::DELETE, &unknown_digest()).send().await?.refused(&[404], &["MANIFEST_UNKNOWN"])?;
    repo.blob(Method::DELETE, &unknown_digest()).send().await?.refused(&[404], &["BLOB_UNKNOWN"])?;
    // The second time there is nothing left to delete.
    for (first, code) in [(true, ""), (false, "MANIFEST_UNKNOWN")] {
        let reply = repo.manifest(Method::DELETE, &image.digest()).send().await?;
        if first {
            reply.status(&[202])?
        } else {
            reply.refused(&[404], &[code])?
        };
    }
    repo.blob(Method::DELETE, &blob.digest).send().await?.status(&[202])?;
    repo.blob(Method::DELETE, &blob.digest).send().await?.refused(&[404], &["BLOB_UNKNOWN"])?;
    Ok(())
}

async fn what_was_never_a_repository(t: &Target) -> Outcome {
    let repo = t.fresh();
    let unknown = &["NAME_UNKNOWN", "MANIFEST_UNKNOWN", "BLOB_UNKNOWN"];
    repo.manifest(Method::DELETE, "v1").send().await?.refused(&[404], unknown)?;
    repo.manifest(Method::DELETE, &unknown_digest()).send().await?.refused(&[404], unknown)?;
    repo.blob(Method::DELETE, &unknown_digest()).send().await?.refused(&[404], unknown)?;
    Ok(())
}

/// Deletion leaves nothing that stands in the way of the same content.
async fn pushed_again_after_deletion(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    for _ in 0..3 {
        repo.push(&image, "v1").await?;
        repo.has_manifest(&image, "v1").await?;
        for blob in &image.blobs {
            repo.has_blob(blob).await?;
        }
        repo.manifest(Method::DELETE, &image.digest()).send().await?.status(&[202])?;
        repo.lacks_manifest("v1").await?;
        for blob in &image.blobs {
            repo.blob(Method::DELETE, &blob.digest).send().await?.status(&[202])?;
            repo.lacks_blob(&blob.digest).await?;
        }
    }
    repo.push(&image, "v1").await?;
    repo.manifest(Method::DELETE, "v1").send().await?.status(&[202])?;
    repo.put_manifest(&image, "v1").send().await?.status(&[201])?;
    repo.has_manifest(&image, "v1").await
}

async fn only_in_one_repository(t: &Target) -> Outcome {
    let (one, two, image) = (t.fresh(), t.fresh(), Manifest::image());
    one.push(&image, "v1").await?;
    two.push(&image, "v1").await?;
    one.manifest(Method::DELETE, &image.digest()).send().await?.status(&[202])?;
    for blob in &image.blobs {
        one.blob(Method::DELETE, &blob.digest).send().await?.status(&[202])?;
    }
    two.has_manifest(&image, "v1").await?;
    for blob in &image.blobs {
        one.lacks_blob(&blob.digest).await?;
        two.has_blob(blob).await?;
    }
    Ok(())
}

async fn references_that_are_none(t: &Target) -> Outcome {
    let repo = t.fresh();
    repo.push(&Manifest::image(), "v1").await?;
    for reference in ["sha256:short", ".tag", "a%20b", "%00", "sha256:"] {
        repo.manifest(Method::DELETE, reference).send().await?.refused(&[400, 404], &[])?;
        repo.blob(Method::DELETE, reference).send().await?.refused(&[400, 404], &[])?;
    }
    Ok(())
}

/// No live manifest lacks a blob: deleting one that a manifest needs is refused, and says so.
async fn what_others_need(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push_untagged(&image).await?;
    let index = Manifest::index_of(&[&image]);
    repo.push(&index, "v1").await?;
    let layer = &image.blobs[1];
    repo.blob(Method::DELETE, &layer.digest)
        .send()
        .await?
        .refused(&[403, 405, 409], &["DENIED", "UNSUPPORTED"])?;
    repo.has_manifest(&index, "v1").await?;
    repo.has_manifest(&image, &image.digest()).await?;
    repo.has_blob(layer).await?;
    // From the top down everything can go.
    repo.manifest(Method::DELETE, &index.digest()).send().await?.status(&[202])?;
    repo.manifest(Method::DELETE, &image.digest()).send().await?.status(&[202])?;
    repo.blob(Method::DELETE, &layer.digest).send().await?.status(&[202])?;
    Ok(())
}

/// A repository whose last tag is gone lists none, and takes new ones.
async fn all_of_a_repository(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    repo.manifest(Method::DELETE, &image.digest()).send().await?.status(&[202])?;
    let reply = repo.tags("").send().await?;
    if reply.status(&[200, 404])?.status == 200 {
        let tags = crate::support::repository::strings(&reply, "tags")?;
        ensure!(tags.is_empty(), "the list still has {tags:?}");
    }
    repo.push(&image, "v2").await?;
    let tags = repo.tag_list("").await?;
    ensure!(tags == ["v2"], "got {tags:?}");
    Ok(())
}

/// One is told that it deleted; the others that there is nothing, or the same.
async fn by_many_at_once(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    let digest = image.digest();
    let deletes = (0..8).map(|_| repo.manifest(Method::DELETE, &digest).send());
    let replies = futures::future::try_join_all(deletes).await?;
    for reply in &replies {
        reply.status(&[202, 404])?;
    }
    ensure!(replies.iter().any(|reply| reply.status == 202), "nobody deleted it");
    repo.lacks_manifest("v1").await
}

fn undelete(t: &Target, body: &serde_json::Value) -> Call {
    t.call(Method::POST, "/berth/v1/undelete").body(body.to_string().into_bytes())
}

/// What was deleted a moment ago comes back, whole.
async fn undeleted_by_tag_and_by_digest(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    for what in [json!({"tag": "v1"}), json!({"digest": image.digest()}), json!({})] {
        repo.manifest(Method::DELETE, &image.digest()).send().await?.status(&[202])?;
        repo.lacks_manifest("v1").await?;
        let mut request = what.clone();
        request["repository"] = repo.name.clone().into();
        let report = undelete(t, &request).send().await?.status(&[200])?.json()?;
        ensure!(report["restored"][0]["digest"] == image.digest(), "{what}: {report}");
        ensure!(report["restored"][0]["tags"] == json!(["v1"]), "{what}: {report}");
        repo.has_manifest(&image, "v1").await?;
        for blob in &image.blobs {
            repo.has_blob(blob).await?;
        }
    }
    Ok(())
}

async fn undelete_requests_that_are_none(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    let (name, digest) = (&repo.name, image.digest());
    for request in [
        json!({}),
        json!({"repository": "A!"}),
        json!({"repository": name, "tag": "v1", "digest": digest}),
        json!({"repository": name, "tag": "v1", "since": "2026-01-01T00:00:00Z"}),
        json!({"repository": name, "since": "yesterday"}),
        json!({"repository": name, "tags": ["v1"]}),
    ] {
        undelete(t, &request).send().await?.refused(&[400], &["UNSUPPORTED"])?;
    }
    let never = json!({"repository": name, "digest": unknown_digest()});
    undelete(t, &never).send().await?.refused(&[404], &["MANIFEST_UNKNOWN"])?;
    t.call(Method::GET, "/berth/v1/undelete").send().await?.status(&[405])?;
    Ok(())
}

/// A pull as of a time, by the registry's own clock.
async fn a_tag_as_of_a_time(t: &Target) -> Outcome {
    let (repo, one, two) = (t.fresh(), Manifest::image(), Manifest::image());
    repo.push(&one, "v1").await?;
    let between = jiff::Timestamp::now();
    repo.push(&two, "v1").await?;
    repo.has_manifest(&one, &format!("v1?at={between}")).await?;
    let head = repo.manifest(Method::HEAD, &format!("v1?at={between}")).send().await?;
    head.status(&[200])?.header("docker-content-digest", one.digest())?;
    repo.has_manifest(&two, "v1?at=2100-01-01T00:00:00Z").await?;
    repo.lacks_manifest("v1?at=2001-01-01T00:00:00Z").await?;
    for wrong in ["v1?at=now".to_owned(), "v1?at=".to_owned(), format!("{}?at={between}", one.digest())] {
        repo.manifest(Method::GET, &wrong).send().await?.refused(&[400], &["UNSUPPORTED"])?;
    }
    Ok(())
}

async fn explained(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    let ask = |reference: &str| {
        t.call(Method::GET, &format!("/berth/v1/explain?repository={}&reference={reference}", repo.name))
    };
    let told = ask(&image.blobs[1].digest).send().await?.status(&[200])?.json()?;
    let chain = json!([[{"kind": "manifest", "name": image.digest()}, {"kind": "tag", "name": "v1"}]]);
    ensure!(told["keptBy"] == chain && told["state"] == "live", "{told}");
    repo.manifest(Method::DELETE, &image.digest()).send().await?.status(&[202])?;
    let told = ask("v1").send().await?.status(&[200])?.json()?;
    ensure!(told["state"] == "dead" && told["removal"]["by"] == "gc", "{told}");
    ask(&unknown_digest()).send().await?.refused(&[404], &["BLOB_UNKNOWN"])?;
    ask("never").send().await?.refused(&[404], &["MANIFEST_UNKNOWN"])?;
    t.call(Method::GET, "/berth/v1/explain").send().await?.refused(&[400], &["UNSUPPORTED"])?;
    Ok(())
}

/// The collector may run beside all other cases, and of what is young it takes nothing.
async fn collected_as_a_dry_run(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    let reply = t.call(Method::POST, "/berth/v1/gc").body(b"{\"dryRun\":true}".to_vec()).send().await?;
    // Another one may be running.
    if reply.status(&[200, 409])?.status == 200 {
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        let last: serde_json::Value =
            serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap_or_default();
        ensure!(last["kind"] == "summary" && last["dryRun"] == true && last["failed"] == 0, "{text}");
    }
    repo.has_manifest(&image, "v1").await
}
