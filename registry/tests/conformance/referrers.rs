//! Content discovery: what is attached to a manifest (distribution-spec "Listing Referrers").

use std::collections::BTreeSet;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::Method;
use serde_json::{Value, json};

use crate::case::cases;
use crate::support::content::{Blob, Manifest, OCI_INDEX, sha256, unknown_digest};
use crate::support::http::{Failure, Outcome, Reply, Target, ensure};
use crate::support::repository::Repository;

cases! { referrers, Discovery:
    Spec "R-OCI-5" none,
    Spec "R-OCI-5" none_in_an_unknown_repository,
    Spec "R-OCI-5" artifacts_with_their_descriptors,
    Spec "R-OCI-5" the_type_of_an_image_is_its_configs,
    Spec "R-OCI-5" an_index_with_and_without_a_type,
    Spec "R-OCI-5" one_type_only,
    Spec "R-OCI-5" attached_before_the_subject,
    Spec "R-OCI-5" one_that_is_deleted,
    Spec "R-OCI-5" the_subject_is_deleted,
    Spec "R-OCI-5" many_writers_at_once,
    Spec "R-OCI-5" referrers_of_referrers,
    Spec "R-OCI-6" none_of_another_repository,
    Spec "R-OCI-5" digests_that_are_none,
    Berth "R-OCI-5" the_same_artifact_again,
    Berth "R-OCI-5" two_hundred_of_them,
    Berth "R-OCI-5" a_list_that_is_not_json_inside_json,
    Berth "R-SIG-1" the_evidence_for_an_image_in_one_answer,
    Berth "R-SIG-1" evidence_about_nothing,
}

/// The descriptors of one answer, which must be an image index.
fn descriptors(reply: &Reply) -> Result<Vec<Value>, Failure> {
    reply.status(&[200])?.header("content-type", OCI_INDEX)?;
    let index = reply.json()?;
    ensure!(index["schemaVersion"] == 2 && index["mediaType"] == OCI_INDEX, "no image index: {index}");
    index["manifests"].as_array().cloned().ok_or_else(|| Failure(format!("manifests is no array: {index}")))
}

/// All referrers, along `Link`; `query` begins with `?` or is empty.
async fn list(repo: &Repository, subject: &str, query: &str) -> Result<Vec<Value>, Failure> {
    let mut reply = repo.referrers(&format!("{subject}{query}")).send().await?;
    let mut all = descriptors(&reply)?;
    while let Some(next) = reply.next_page()? {
        reply = repo.target.call_url(Method::GET, next).send().await?;
        all.extend(descriptors(&reply)?);
    }
    Ok(all)
}

/// The list is exactly of these manifests.
fn exactly(found: &[Value], expected: &[&Manifest]) -> Outcome {
    let digests: Vec<_> = found.iter().filter_map(|d| d["digest"].as_str().map(String::from)).collect();
    let (set, wanted): (BTreeSet<_>, BTreeSet<_>) =
        (digests.iter().cloned().collect(), expected.iter().map(|m| m.digest()).collect());
    ensure!(
        set == wanted && digests.len() == set.len(),
        "expected the referrers {wanted:?}, got {digests:?}"
    );
    Ok(())
}

async fn none(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    exactly(&list(&repo, &image.digest(), "").await?, &[])?;
    exactly(&list(&repo, &unknown_digest(), "").await?, &[])
}

/// "the registry MUST NOT return a `404 Not Found`"
async fn none_in_an_unknown_repository(t: &Target) -> Outcome {
    exactly(&list(&t.fresh(), &unknown_digest(), "").await?, &[])
}

async fn artifacts_with_their_descriptors(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    let notes = [
        ("org.example.note", "first, \"quoted\""),
        ("org.opencontainers.image.created", "2026-01-01T00:00:00Z"),
    ];
    let signature =
        Manifest::artifact("application/vnd.example.signature.v1").annotated(&notes).about(&image);
    let sbom = Manifest::artifact("application/spdx+json").about(&image);
    repo.push(&signature, "signature").await?;
    repo.push_untagged(&sbom).await?;
    repo.push(&Manifest::artifact("application/spdx+json").about(&Manifest::image()), "unrelated").await?;
    let found = list(&repo, &image.digest(), "").await?;
    exactly(&found, &[&signature, &sbom])?;
    for manifest in [&signature, &sbom] {
        let entry =
            found.iter().find(|entry| entry["digest"] == manifest.digest()).cloned().unwrap_or_default();
        let mut expected = manifest.descriptor();
        expected["artifactType"] = manifest.document["artifactType"].clone();
        for field in ["mediaType", "size", "artifactType"] {
            ensure!(entry[field] == expected[field], "{field} of {entry} is not {}", expected[field]);
        }
        let annotations = manifest.document.get("annotations").cloned().unwrap_or_else(|| json!({}));
        let told = entry.get("annotations").filter(|a| !a.is_null()).cloned().unwrap_or_else(|| json!({}));
        ensure!(told == annotations, "annotations are {told}, not {annotations}");
    }
    Ok(())
}

async fn the_type_of_an_image_is_its_configs(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    let config = Blob::config().with_type("application/vnd.example.config.v1+json");
    let attached = Manifest::image_of(config, vec![Blob::random(10)]).about(&image);
    repo.push_untagged(&attached).await?;
    let empty = Manifest::image().with("artifactType", json!("")).about(&image);
    repo.push_untagged(&empty).await?;
    let found = list(&repo, &image.digest(), "").await?;
    exactly(&found, &[&attached, &empty])?;
    for (manifest, expected) in [
        (&attached, "application/vnd.example.config.v1+json"),
        (&empty, "application/vnd.oci.image.config.v1+json"),
    ] {
        let entry =
            found.iter().find(|entry| entry["digest"] == manifest.digest()).cloned().unwrap_or_default();
        ensure!(entry["artifactType"] == expected, "artifactType of {entry} is not {expected}");
    }
    Ok(())
}

/// An index has no configuration to take a type from.
async fn an_index_with_and_without_a_type(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    let typed =
        Manifest::index_of(&[]).with("artifactType", json!("application/vnd.example.set")).about(&image);
    let untyped = Manifest::index_of(&[]).about(&image);
    repo.push_untagged(&typed).await?;
    repo.push_untagged(&untyped).await?;
    let found = list(&repo, &image.digest(), "").await?;
    exactly(&found, &[&typed, &untyped])?;
    for entry in &found {
        let expected = (entry["digest"] == typed.digest()).then(|| json!("application/vnd.example.set"));
        ensure!(entry.get("artifactType") == expected.as_ref(), "artifactType of {entry}");
        ensure!(entry["mediaType"] == OCI_INDEX, "mediaType of {entry}");
    }
    Ok(())
}

/// A registry that filters says so; one that does not returns all.
async fn one_type_only(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    let kinds =
        ["application/vnd.example.a+json", "application/vnd.example.b", "application/vnd.example.b.c"];
    let artifacts = kinds.map(|kind| Manifest::artifact(kind).about(&image));
    for artifact in &artifacts {
        repo.push_untagged(artifact).await?;
    }
    for (kind, artifact) in kinds.iter().zip(&artifacts) {
        let encoded = kind.replace('/', "%2F").replace('+', "%2B");
        let query = format!("{}?artifactType={encoded}", image.digest());
        let reply = repo.referrers(&query).send().await?;
        let found = descriptors(&reply)?;
        if reply.headers.contains_key("oci-filters-applied") {
            reply.header("oci-filters-applied", "artifactType")?;
            exactly(&found, &[artifact])?;
        } else {
            exactly(&found, &artifacts.each_ref())?;
        }
    }
    let none = repo.referrers(&format!("{}?artifactType=application/none", image.digest())).send().await?;
    if none.headers.contains_key("oci-filters-applied") {
        exactly(&descriptors(&none)?, &[])?;
    }
    // Nothing was asked, nothing was applied.
    repo.referrers(&image.digest()).send().await?.status(&[200])?.without("oci-filters-applied")?;
    Ok(())
}

async fn attached_before_the_subject(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    let artifact = Manifest::artifact("application/vnd.example.signature").about(&image);
    repo.push_untagged(&artifact).await?;
    exactly(&list(&repo, &image.digest(), "").await?, &[&artifact])?;
    repo.push(&image, "v1").await?;
    exactly(&list(&repo, &image.digest(), "").await?, &[&artifact])
}

async fn one_that_is_deleted(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    let (one, two) = (
        Manifest::artifact("application/vnd.example.a").about(&image),
        Manifest::artifact("application/vnd.example.a").about(&image),
    );
    repo.push_untagged(&one).await?;
    repo.push_untagged(&two).await?;
    repo.manifest(Method::DELETE, &one.digest()).send().await?.status(&[202])?;
    exactly(&list(&repo, &image.digest(), "").await?, &[&two])?;
    repo.push_untagged(&one).await?;
    exactly(&list(&repo, &image.digest(), "").await?, &[&one, &two])
}

/// A list is asked for by digest: it needs no manifest of that digest.
async fn the_subject_is_deleted(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push_untagged(&image).await?;
    let artifact = Manifest::artifact("application/vnd.example.a").about(&image);
    repo.push_untagged(&artifact).await?;
    repo.manifest(Method::DELETE, &image.digest()).send().await?.status(&[202])?;
    let found = list(&repo, &image.digest(), "").await?;
    if repo.manifest(Method::HEAD, &artifact.digest()).send().await?.status == 200 {
        exactly(&found, &[&artifact])
    } else {
        exactly(&found, &[])
    }
}

async fn many_writers_at_once(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    let artifacts: Vec<_> =
        (0..24).map(|_| Manifest::artifact("application/vnd.example.a").about(&image)).collect();
    futures::future::try_join_all(artifacts.iter().map(|artifact| repo.push_untagged(artifact))).await?;
    exactly(&list(&repo, &image.digest(), "").await?, &artifacts.iter().collect::<Vec<_>>())
}

async fn referrers_of_referrers(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    let sbom = Manifest::artifact("application/spdx+json").about(&image);
    let signature = Manifest::artifact("application/vnd.example.signature").about(&sbom);
    for manifest in [&image, &sbom, &signature] {
        repo.push_untagged(manifest).await?;
    }
    exactly(&list(&repo, &image.digest(), "").await?, &[&sbom])?;
    exactly(&list(&repo, &sbom.digest(), "").await?, &[&signature])
}

async fn none_of_another_repository(t: &Target) -> Outcome {
    let (theirs, ours, image) = (t.fresh(), t.fresh(), Manifest::image());
    theirs.push(&image, "v1").await?;
    ours.push(&image, "v1").await?;
    theirs.push_untagged(&Manifest::artifact("application/vnd.example.a").about(&image)).await?;
    exactly(&list(&ours, &image.digest(), "").await?, &[])
}

async fn digests_that_are_none(t: &Target) -> Outcome {
    let repo = t.fresh();
    repo.push(&Manifest::image(), "v1").await?;
    for digest in ["sha256:short", "v1", "sha256", "sha256:", "%00", "sha256:%00"] {
        repo.referrers(digest).send().await?.refused(&[400], &["DIGEST_INVALID", "UNSUPPORTED"])?;
    }
    Ok(())
}

async fn the_same_artifact_again(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    let artifact = Manifest::artifact("application/vnd.example.a").about(&image);
    for reference in [artifact.digest(), "tag".into(), "other".into()] {
        repo.push(&artifact, &reference).await?;
    }
    exactly(&list(&repo, &image.digest(), "").await?, &[&artifact])
}

/// More than any first page, with and without a filter.
async fn two_hundred_of_them(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    let layer = Blob::random(20);
    repo.push_blob(&layer).await?;
    repo.push_blob(&Blob::empty_json()).await?;
    let artifacts: Vec<_> = (0..200)
        .map(|i| {
            Manifest::image_of(Blob::empty_json(), vec![layer.clone()])
                .with(
                    "artifactType",
                    json!(["application/vnd.example.even", "application/vnd.example.odd"][i % 2]),
                )
                .annotated(&[("org.example.number", &i.to_string())])
                .about(&image)
        })
        .collect();
    for some in artifacts.chunks(20) {
        let puts = some.iter().map(|artifact| repo.put_manifest(artifact, &artifact.digest()).send());
        for reply in futures::future::try_join_all(puts).await? {
            reply.status(&[201])?;
        }
    }
    exactly(&list(&repo, &image.digest(), "").await?, &artifacts.iter().collect::<Vec<_>>())?;
    let odd = list(&repo, &image.digest(), "?artifactType=application/vnd.example.odd").await?;
    exactly(&odd, &artifacts.iter().skip(1).step_by(2).collect::<Vec<_>>())
}

/// Annotations are data of others: whatever they hold, the list stays JSON that says the same.
async fn a_list_that_is_not_json_inside_json(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    let nasty = "\"}],\"manifests\":[{\u{0}\u{1f40b}\\\n";
    let artifact =
        Manifest::artifact("application/vnd.example.a").annotated(&[("org.example", nasty)]).about(&image);
    repo.push_untagged(&artifact).await?;
    let found = list(&repo, &image.digest(), "").await?;
    exactly(&found, &[&artifact])?;
    ensure!(found[0]["annotations"]["org.example"] == nasty, "the annotation came back as {}", found[0]);
    ensure!(artifact.digest() == sha256(&artifact.bytes()), "the test's own manifest changed");
    Ok(())
}

/// `GET /berth/v1/evidence`: signatures under their tag and as referrers, with their layers, and what is not there.
async fn the_evidence_for_an_image_in_one_answer(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    let layer = Blob::random(300).with_type("application/vnd.dev.cosign.simplesigning.v1+json");
    let signature = Manifest::image_of(Blob::config(), vec![layer.clone()]);
    let tag = image.digest().replace(':', "-");
    repo.push(&signature, &format!("{tag}.sig")).await?;
    let attached = Manifest::artifact("application/vnd.dev.sigstore.bundle.v0.3+json").about(&image);
    repo.push_untagged(&attached).await?;
    // A large layer is named, and not sent along.
    let large = Blob::random(600 * 1024);
    let inventory = Manifest::image_of(Blob::config(), vec![large.clone()]).about(&image);
    repo.push_untagged(&inventory).await?;
    for reference in ["v1", &image.digest()] {
        let pack = evidence(&repo, reference).await?.status(&[200])?.json()?;
        ensure!(pack["digest"] == image.digest(), "another image: {pack}");
        ensure!(pack["tags"][format!("{tag}.sig")] == signature.digest(), "no signature: {}", pack["tags"]);
        ensure!(
            pack["tags"].get(format!("{tag}.att")) == Some(&Value::Null),
            "not said to be absent: {}",
            pack["tags"]
        );
        let referrers = pack["referrers"].as_array().cloned().unwrap_or_default();
        exactly(&referrers, &[&attached, &inventory])?;
        for manifest in [&image, &signature, &attached, &inventory] {
            let packed = &pack["manifests"][manifest.digest()];
            ensure!(packed["bytes"] == BASE64_STANDARD.encode(manifest.bytes()), "not its bytes: {packed}");
            ensure!(packed["mediaType"] == manifest.media_type, "not its type: {packed}");
        }
        ensure!(pack["blobs"][&layer.digest] == BASE64_STANDARD.encode(&layer.bytes), "the layer is missing");
        ensure!(pack["blobs"].get(&large.digest).is_none(), "the large layer is there");
    }
    Ok(())
}

async fn evidence_about_nothing(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    evidence(&repo, "v1").await?.refused(&[404], &["MANIFEST_UNKNOWN", "NAME_UNKNOWN"])?;
    repo.push(&image, "v1").await?;
    let pack = evidence(&repo, "v1").await?.status(&[200])?.json()?;
    ensure!(pack["referrers"] == json!([]) && pack["blobs"] == json!({}), "something is attached: {pack}");
    evidence(&repo, "v2").await?.refused(&[404], &["MANIFEST_UNKNOWN", "NAME_UNKNOWN"])?;
    t.call(Method::GET, "/berth/v1/evidence").send().await?.refused(&[400], &["UNSUPPORTED"])?;
    t.call(Method::POST, "/berth/v1/evidence").send().await?.status(&[405])?;
    Ok(())
}

async fn evidence(repo: &Repository, reference: &str) -> Result<Reply, Failure> {
    let path = format!("/berth/v1/evidence?repository={}&reference={reference}", repo.name);
    repo.target.call(Method::GET, &path).send().await
}
