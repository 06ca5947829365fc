//! Push: manifests of every kind, by tag and by digest, kept byte for byte (distribution-spec
//! "Pushing Manifests", "Pushing Manifests with Subject").

use bytes::Bytes;
use reqwest::Method;
use serde_json::json;

use crate::case::cases;
use crate::support::content::{
    Blob, Manifest, OCI_EMPTY, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, sha256, unknown_digest,
};
use crate::support::http::{Outcome, Target, ensure};
use crate::support::repository::Repository;

cases! { manifests, Push:
    Spec "R-OCI-3" an_image,
    Spec "R-OCI-3" a_docker_image,
    Spec "R-OCI-3" a_docker_list,
    Spec "R-OCI-3" an_index,
    Spec "R-OCI-3" an_index_of_indexes,
    Spec "R-OCI-3" an_empty_index,
    Spec "R-OCI-3" artifacts_of_any_kind,
    Spec "R-OCI-3" an_artifact_without_content,
    Spec "R-OCI-3" no_layers,
    Spec "R-OCI-3" the_same_layer_twice,
    Spec "R-OCI-3" layers_kept_elsewhere,
    Spec "R-OCI-3" descriptors_with_their_data,
    Spec "R-OCI-3" fields_that_nobody_knows,
    Spec "R-OCI-3" spaces_and_order_of_the_bytes,
    Spec "R-OCI-3" a_type_with_parameters,
    Spec "R-OCI-3" a_manifest_of_four_megabytes,
    Spec "R-OCI-5" a_subject,
    Spec "R-OCI-5" a_subject_that_is_not_here_yet,
    Spec "R-OCI-5" an_index_with_a_subject,
    Spec "R-OCI-1" a_tag_that_moves,
    Spec "R-OCI-1" several_tags_of_one_manifest,
    Spec "R-OCI-1" the_same_manifest_again,
    Spec "R-OCI-1" missing_content,
    Spec "R-OCI-1" content_of_another_repository,
    Spec "R-OCI-1" a_digest_of_other_bytes,
}

/// Pushes by tag, checks the answer, reads back by tag and digest.
async fn keeps(repo: &Repository, manifest: &Manifest, tag: &str) -> Outcome {
    let reply = repo.push(manifest, tag).await?;
    if reply.headers.contains_key("docker-content-digest") {
        reply.header("docker-content-digest", manifest.digest())?;
    }
    let at = reply.location()?;
    let pulled = repo.target.call_url(Method::GET, at).header("accept", &manifest.media_type).send().await?;
    pulled.status(&[200])?.bytes(&manifest.bytes())?;
    repo.has_manifest(manifest, tag).await?;
    repo.has_manifest(manifest, &manifest.digest()).await
}

async fn an_image(t: &Target) -> Outcome {
    let (repo, by_digest) = (t.fresh(), Manifest::image());
    keeps(&repo, &Manifest::image(), "v1").await?;
    let reply = repo.push_untagged(&by_digest).await?;
    reply.location()?;
    repo.has_manifest(&by_digest, &by_digest.digest()).await
}

async fn a_docker_image(t: &Target) -> Outcome {
    keeps(&t.fresh(), &Manifest::image().dockerized(), "v1").await
}

async fn two_platforms(repo: &Repository) -> Result<Manifest, crate::support::http::Failure> {
    let (amd, arm) = (Manifest::image(), Manifest::image());
    repo.push_untagged(&amd).await?;
    repo.push_untagged(&arm).await?;
    let mut index = Manifest::index_of(&[&amd, &arm]);
    index.document["manifests"][0]["platform"] = json!({"os": "linux", "architecture": "amd64"});
    index.document["manifests"][1]["platform"] = json!({"os": "linux", "architecture": "arm64"});
    Ok(index)
}

async fn a_docker_list(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image().dockerized());
    repo.push_untagged(&image).await?;
    keeps(&repo, &Manifest::index_of(&[&image]).dockerized(), "v1").await
}

async fn an_index(t: &Target) -> Outcome {
    let repo = t.fresh();
    let index = two_platforms(&repo).await?;
    keeps(&repo, &index, "v1").await
}

async fn an_index_of_indexes(t: &Target) -> Outcome {
    let repo = t.fresh();
    let (one, two) = (two_platforms(&repo).await?, two_platforms(&repo).await?);
    repo.push_untagged(&one).await?;
    repo.push_untagged(&two).await?;
    keeps(&repo, &Manifest::index_of(&[&one, &two]), "v1").await
}

async fn an_empty_index(t: &Target) -> Outcome {
    keeps(&t.fresh(), &Manifest::index_of(&[]), "v1").await
}

/// Charts, bills of materials, modules: the registry asks for no known type.
async fn artifacts_of_any_kind(t: &Target) -> Outcome {
    let chart = Manifest::image_of(
        Blob::config().with_type("application/vnd.cncf.helm.config.v1+json"),
        vec![Blob::random(200).with_type("application/vnd.cncf.helm.chart.content.v1.tar+gzip")],
    );
    let wasm = Manifest::image_of(
        Blob::config().with_type("application/vnd.wasm.config.v0+json"),
        vec![Blob::random(200).with_type("application/wasm")],
    );
    let sbom =
        Manifest::artifact("application/spdx+json").annotated(&[("org.example.made-by", "a test, mostly")]);
    let repo = t.fresh();
    for (tag, artifact) in [("chart", chart), ("wasm", wasm), ("sbom", sbom)] {
        keeps(&repo, &artifact, tag).await?;
    }
    Ok(())
}

async fn an_artifact_without_content(t: &Target) -> Outcome {
    let artifact = Manifest::image_of(Blob::empty_json(), vec![Blob::empty_json()])
        .with("artifactType", json!("application/vnd.example.mark"));
    ensure!(artifact.document["config"]["mediaType"] == OCI_EMPTY, "the test's own manifest is wrong");
    keeps(&t.fresh(), &artifact, "v1").await
}

async fn no_layers(t: &Target) -> Outcome {
    keeps(&t.fresh(), &Manifest::image_of(Blob::config(), vec![]), "v1").await
}

async fn the_same_layer_twice(t: &Target) -> Outcome {
    let layer = Blob::random(100);
    keeps(&t.fresh(), &Manifest::image_of(Blob::config(), vec![layer.clone(), layer]), "v1").await
}

/// Layers that may not be distributed are named with their URLs and never pushed.
async fn layers_kept_elsewhere(t: &Target) -> Outcome {
    let mut image = Manifest::image();
    for kind in ["tar", "tar+gzip"] {
        let layer = json!({
            "mediaType": format!("application/vnd.oci.image.layer.nondistributable.v1.{kind}"),
            "digest": unknown_digest(), "size": 12345, "urls": ["https://layers.example.com/layer"],
        });
        image.document["layers"].as_array_mut().into_iter().for_each(|layers| layers.push(layer.clone()));
    }
    keeps(&t.fresh(), &image, "v1").await?;
    let mut docker = Manifest::image().dockerized();
    docker.document["layers"][0] = json!({
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "digest": unknown_digest(), "size": 12345, "urls": ["https://layers.example.com/layer"],
    });
    keeps(&t.fresh(), &docker, "v1").await
}

async fn descriptors_with_their_data(t: &Target) -> Outcome {
    let image = Manifest::image_of(Blob::empty_json(), vec![Blob::new("hello", OCI_LAYER)]);
    let mut image = image.annotated(&[("org.example", "data")]);
    image.document["config"]["data"] = json!("e30=");
    image.document["layers"][0]["data"] = json!("aGVsbG8=");
    keeps(&t.fresh(), &image, "v1").await
}

async fn fields_that_nobody_knows(t: &Target) -> Outcome {
    let image = Manifest::image().with("org.example.field", json!({"deep": [1, null, {"ü": "\u{1f40b}"}]}));
    keeps(&t.fresh(), &image, "v1").await
}

/// A digest is of bytes, not of meaning: nothing is parsed and written again.
async fn spaces_and_order_of_the_bytes(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push_blobs_of(&image).await?;
    let text = serde_json::to_string_pretty(&image.document).unwrap_or_default();
    let bytes = Bytes::from(format!("\n\t{}\r\n  \n", text.replace('/', "\\/")));
    let put = repo.manifest(Method::PUT, "v1").header("content-type", OCI_MANIFEST).body(bytes.clone());
    put.send().await?.status(&[201])?;
    for reference in [String::from("v1"), sha256(&bytes)] {
        let reply = repo.manifest(Method::GET, &reference).header("accept", OCI_MANIFEST).send().await?;
        reply.status(&[200])?.bytes(&bytes)?;
    }
    Ok(())
}

/// "The registry SHOULD ignore parameters on the `Content-Type` header."
async fn a_type_with_parameters(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push_blobs_of(&image).await?;
    let kind = format!("{OCI_MANIFEST}; charset=utf-8");
    let put = repo.manifest(Method::PUT, "v1").header("content-type", &kind).body(image.bytes());
    put.send().await?.status(&[201])?;
    repo.has_manifest(&image, "v1").await
}

/// "At least 4 megabytes".
async fn a_manifest_of_four_megabytes(t: &Target) -> Outcome {
    let room = 4_000_000 - Manifest::image().bytes().len() - 200;
    let image = Manifest::image().annotated(&[("org.example.large", &"A".repeat(room))]);
    keeps(&t.fresh(), &image, "v1").await
}

async fn a_subject(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    let artifact = Manifest::artifact("application/vnd.example.signature").about(&image);
    repo.push(&artifact, "signature").await?.header("oci-subject", image.digest())?;
    repo.push_untagged(&artifact).await?.header("oci-subject", image.digest())?;
    // Nothing is said where there is no subject.
    repo.push(&Manifest::image(), "v2").await?.without("oci-subject")?;
    Ok(())
}

/// "in either order"
async fn a_subject_that_is_not_here_yet(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    let artifact = Manifest::artifact("application/vnd.example.signature").about(&image);
    repo.push_untagged(&artifact).await?.header("oci-subject", image.digest())?;
    repo.has_manifest(&artifact, &artifact.digest()).await
}

async fn an_index_with_a_subject(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    let index =
        Manifest::index_of(&[]).with("artifactType", json!("application/vnd.example.set")).about(&image);
    ensure!(index.media_type == OCI_INDEX, "the test's own manifest is wrong");
    repo.push_untagged(&index).await?.header("oci-subject", image.digest())?;
    Ok(())
}

async fn a_tag_that_moves(t: &Target) -> Outcome {
    let (repo, old, new) = (t.fresh(), Manifest::image(), Manifest::image());
    repo.push(&old, "latest").await?;
    repo.push(&new, "latest").await?;
    repo.has_manifest(&new, "latest").await?;
    repo.has_manifest(&old, &old.digest()).await?;
    repo.put_manifest(&old, "latest").send().await?.status(&[201])?;
    repo.has_manifest(&old, "latest").await
}

async fn several_tags_of_one_manifest(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    for tag in ["1.2.3", "1.2", "1", "latest"] {
        repo.push(&image, tag).await?;
    }
    for tag in ["1.2.3", "1.2", "1", "latest"] {
        repo.has_manifest(&image, tag).await?;
    }
    Ok(())
}

async fn the_same_manifest_again(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push_blobs_of(&image).await?;
    let pushes = (0..8).map(|_| repo.put_manifest(&image, "v1").send());
    for reply in futures::future::try_join_all(pushes).await? {
        reply.status(&[201])?;
    }
    repo.has_manifest(&image, "v1").await
}

/// A registry may take a manifest whose content is missing; if it does not, it says `MANIFEST_BLOB_UNKNOWN`.
pub(crate) async fn unknown_content(repo: &Repository, manifest: &Manifest) -> Outcome {
    let reply = repo.put_manifest(manifest, "v1").send().await?;
    if reply.status(&[201, 400, 404, 422])?.status != 201 {
        reply.refused(&[400, 404, 422], &["MANIFEST_BLOB_UNKNOWN"])?;
        repo.lacks_manifest("v1").await?;
        repo.lacks_manifest(&manifest.digest()).await?;
    }
    Ok(())
}

async fn missing_content(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push_blob(&image.blobs[1]).await?;
    unknown_content(&repo, &image).await?;
    unknown_content(&repo, &Manifest::index_of(&[&image])).await
}

async fn content_of_another_repository(t: &Target) -> Outcome {
    let (theirs, ours, image) = (t.fresh(), t.fresh(), Manifest::image());
    theirs.push(&image, "v1").await?;
    unknown_content(&ours, &image).await?;
    unknown_content(&ours, &Manifest::index_of(&[&image])).await
}

async fn a_digest_of_other_bytes(t: &Target) -> Outcome {
    let (repo, image) = (t.fresh(), Manifest::image());
    repo.push_blobs_of(&image).await?;
    let digest = unknown_digest();
    let reply = repo.put_manifest(&image, &digest).send().await?;
    reply.refused(&[400], &["DIGEST_INVALID", "MANIFEST_INVALID"])?;
    repo.lacks_manifest(&digest).await?;
    repo.lacks_manifest(&image.digest()).await
}
