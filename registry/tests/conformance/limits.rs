//! What is too much, and how that is told: numbers of descriptors and tags, and lists that do not fit into one answer.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::case::cases;
use crate::support::content::{Manifest, OCI_INDEX, OCI_MANIFEST};
use crate::support::http::{Failure, Outcome, Target, ensure};

cases! { limits, Push:
    Berth "R-OCI-3" as_many_layers_as_there_may_be,
    Berth "R-OCI-3" as_many_images_as_there_may_be,
    Berth "R-OCI-1" as_many_tags_as_one_request_may_set,
    Berth "R-OCI-5" referrers_that_do_not_fit_into_one_index,
}

const MOST: usize = 4096;
const MOST_TAGS: usize = 100;

/// The same descriptor over and over: what is counted is what the manifest says.
fn repeated(manifest: &Manifest, field: &str, count: usize) -> Manifest {
    let one = manifest.document[field][0].clone();
    manifest.clone().with(field, Value::from(vec![one; count]))
}

async fn limited(t: &Target, manifest: &Manifest, field: &str) -> Outcome {
    let repo = t.fresh();
    repo.push_blobs_of(manifest).await?;
    repo.put_manifest(&repeated(manifest, field, MOST), "most").send().await?.status(&[201])?;
    let reply = repo.put_manifest(&repeated(manifest, field, MOST + 1), "more").send().await?;
    let body = reply.refused(&[400], &["MANIFEST_INVALID"])?.json()?.to_string();
    ensure!(body.contains("4096"), "the error does not name the limit: {body}");
    repo.lacks_manifest("more").await
}

async fn as_many_layers_as_there_may_be(t: &Target) -> Outcome {
    let image = Manifest::image();
    ensure!(image.media_type == OCI_MANIFEST, "the test's own manifest is wrong");
    limited(t, &image, "layers").await
}

async fn as_many_images_as_there_may_be(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push_untagged(&image).await?;
    let index = Manifest::index_of(&[&image]);
    ensure!(index.media_type == OCI_INDEX, "the test's own manifest is wrong");
    repo.put_manifest(&repeated(&index, "manifests", MOST), "most").send().await?.status(&[201])?;
    let reply = repo.put_manifest(&repeated(&index, "manifests", MOST + 1), "more").send().await?;
    reply.refused(&[400], &["MANIFEST_INVALID"])?;
    repo.lacks_manifest("more").await
}

/// distribution-spec 1.2: "MAY return a 414". All tags or none.
async fn as_many_tags_as_one_request_may_set(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push_blobs_of(&image).await?;
    let tagged = |count: usize| {
        let tags = (0..count).map(|i| format!("tag=v{i:03}")).collect::<Vec<_>>().join("&");
        repo.put_manifest(&image, &format!("{}?{tags}", image.digest()))
    };
    let reply = tagged(MOST_TAGS + 1).send().await?;
    let body = reply.refused(&[414], &["MANIFEST_INVALID"])?.json()?.to_string();
    ensure!(body.contains("100"), "the error does not name the limit: {body}");
    repo.lacks_manifest("v000").await?;
    tagged(MOST_TAGS).send().await?.status(&[201])?;
    ensure!(repo.tag_list("").await?.len() == MOST_TAGS, "not all tags are there");
    Ok(())
}

/// Clients read no index of more than 4 MiB; annotations are part of the list.
async fn referrers_that_do_not_fit_into_one_index(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    let mut pushed = BTreeSet::new();
    for i in 0..4 {
        let note = i.to_string().repeat(1_700_000);
        let artifact =
            Manifest::artifact("application/vnd.example+note").annotated(&[("note", &note)]).about(&image);
        repo.push_untagged(&artifact).await?;
        pushed.insert(artifact.digest());
    }
    for filter in ["", "?artifactType=application/vnd.example%2Bnote"] {
        let mut at = repo.referrers(&format!("{}{filter}", image.digest()));
        let mut found = Vec::new();
        for _ in 0..2 {
            let reply = at.send().await?;
            let body = reply.status(&[200])?.json()?;
            ensure!(body["mediaType"] == json!(OCI_INDEX), "a page is no index");
            let digests =
                body["manifests"].as_array().ok_or_else(|| Failure("a page without manifests".into()))?;
            ensure!(digests.len() == 2, "a page of {} referrers", digests.len());
            found.extend(digests.iter().filter_map(|one| one["digest"].as_str().map(String::from)));
            let Ok(link) = reply.value("link") else { break };
            let next = link.strip_prefix('<').and_then(|link| link.split_once(">; rel=\"next\""));
            let (path, _) = next.ok_or_else(|| Failure(format!("Link is {link:?}")))?;
            at = t.call(reqwest::Method::GET, path);
        }
        ensure!(
            found.len() == 4 && found.into_iter().collect::<BTreeSet<_>>() == pushed,
            "not each referrer once"
        );
    }
    Ok(())
}
