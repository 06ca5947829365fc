//! Push: a blob taken over from another repository of the registry (distribution-spec "Mounting a
//! blob from another repository").

use reqwest::Method;

use crate::case::cases;
use crate::support::content::{Blob, Manifest, unknown_digest};
use crate::support::http::{Outcome, Reply, Target};
use crate::support::repository::Repository;

cases! { mount, Push:
    Spec "R-OCI-2" from_a_repository_that_has_it,
    Spec "R-OCI-2" from_a_repository_that_lacks_it,
    Spec "R-OCI-2" from_a_repository_that_is_unknown,
    Spec "R-OCI-2" from_nowhere_in_particular,
    Berth "R-OCI-2" from_wherever_it_is,
    Spec "R-OCI-2" from_itself,
    Spec "R-OCI-2" a_name_that_is_none,
    Spec "R-OCI-2" a_digest_that_is_none,
    Berth "R-OCI-6" the_source_may_forget_it,
    Berth "R-OCI-2" many_at_once,
}

async fn mount(repo: &Repository, digest: &str, from: &str) -> Result<Reply, crate::support::http::Failure> {
    repo.post_upload(&format!("?mount={digest}&from={from}")).send().await
}

/// Not mounted: an upload has begun instead, and takes the blob.
async fn goes_on_as_upload(repo: &Repository, reply: &Reply, blob: &Blob) -> Outcome {
    let at = reply.status(&[202])?.location()?;
    repo.finish(&at, &blob.digest, &blob.bytes).send().await?.status(&[201])?;
    repo.has_blob(blob).await
}

async fn from_a_repository_that_has_it(t: &Target) -> Outcome {
    let (theirs, ours) = (t.fresh(), t.fresh());
    for blob in [Blob::random(1000), Blob::new("", "application/octet-stream")] {
        theirs.push_blob(&blob).await?;
        let reply = mount(&ours, &blob.digest, &theirs.name).await?;
        let at = reply.status(&[201])?.location()?;
        t.call_url(Method::GET, at).send().await?.status(&[200])?.bytes(&blob.bytes)?;
        ours.has_blob(&blob).await?;
        let image = Manifest::image_of(Blob::config(), vec![blob]);
        ours.push_blob(&image.blobs[0]).await?;
        ours.put_manifest(&image, "mounted").send().await?.status(&[201])?;
    }
    Ok(())
}

async fn from_a_repository_that_lacks_it(t: &Target) -> Outcome {
    let (theirs, ours, blob) = (t.fresh(), t.fresh(), Blob::random(1000));
    theirs.push_blob(&Blob::random(10)).await?;
    let reply = mount(&ours, &blob.digest, &theirs.name).await?;
    goes_on_as_upload(&ours, &reply, &blob).await
}

async fn from_a_repository_that_is_unknown(t: &Target) -> Outcome {
    let (theirs, ours, blob) = (t.fresh(), t.fresh(), Blob::random(1000));
    let reply = mount(&ours, &blob.digest, &theirs.name).await?;
    goes_on_as_upload(&ours, &reply, &blob).await
}

/// Without `from` the registry may find the blob where it likes, or begin an upload.
async fn from_nowhere_in_particular(t: &Target) -> Outcome {
    let (theirs, ours, blob) = (t.fresh(), t.fresh(), Blob::random(1000));
    theirs.push_blob(&blob).await?;
    let reply = ours.post_upload(&format!("?mount={}", blob.digest)).send().await?;
    if reply.status(&[201, 202])?.status == 202 {
        return goes_on_as_upload(&ours, &reply, &blob).await;
    }
    ours.has_blob(&blob).await?;
    let unknown = ours.post_upload(&format!("?mount={}", unknown_digest())).send().await?;
    unknown.status(&[202])?;
    Ok(())
}

/// Berth looks for the blob itself.
async fn from_wherever_it_is(t: &Target) -> Outcome {
    let (theirs, ours, blob) = (t.fresh(), t.fresh(), Blob::random(1000));
    theirs.push_blob(&blob).await?;
    ours.post_upload(&format!("?mount={}", blob.digest)).send().await?.status(&[201])?;
    ours.has_blob(&blob).await
}

async fn from_itself(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(1000));
    repo.push_blob(&blob).await?;
    let reply = mount(&repo, &blob.digest, &repo.name).await?;
    if reply.status(&[201, 202])?.status == 202 {
        return goes_on_as_upload(&repo, &reply, &blob).await;
    }
    repo.has_blob(&blob).await
}

/// A source that cannot exist is refused, or is one that does not have the blob.
async fn a_name_that_is_none(t: &Target) -> Outcome {
    let (repo, blob) = (t.fresh(), Blob::random(10));
    for from in ["UPPER", "a//b", "..%2F..%2Fetc", "-", "%00", ""] {
        let reply = mount(&repo, &blob.digest, from).await?;
        if reply.status(&[202, 400])?.status == 400 {
            reply.refused(&[400], &["NAME_INVALID"])?;
        }
    }
    repo.lacks_blob(&blob.digest).await
}

/// The same for what cannot be mounted.
async fn a_digest_that_is_none(t: &Target) -> Outcome {
    let (theirs, ours) = (t.fresh(), t.fresh());
    theirs.push_blob(&Blob::random(10)).await?;
    for digest in ["sha256:short", "sha256", "md5:d41d8cd98f00b204e9800998ecf8427e", "..%2F..", "%00"] {
        let reply = mount(&ours, digest, &theirs.name).await?;
        if reply.status(&[202, 400])?.status == 400 {
            reply.refused(&[400], &["DIGEST_INVALID", "UNSUPPORTED"])?;
        }
    }
    Ok(())
}

/// A mounted blob is the repository's own from then on.
async fn the_source_may_forget_it(t: &Target) -> Outcome {
    let (theirs, ours, blob) = (t.fresh(), t.fresh(), Blob::random(1000));
    theirs.push_blob(&blob).await?;
    mount(&ours, &blob.digest, &theirs.name).await?.status(&[201])?;
    theirs.blob(Method::DELETE, &blob.digest).send().await?.status(&[202])?;
    theirs.lacks_blob(&blob.digest).await?;
    ours.has_blob(&blob).await?;
    // What is deleted there can be taken back from here.
    mount(&theirs, &blob.digest, &ours.name).await?.status(&[201])?;
    theirs.has_blob(&blob).await
}

async fn many_at_once(t: &Target) -> Outcome {
    let (theirs, blob) = (t.fresh(), Blob::random(1000));
    theirs.push_blob(&blob).await?;
    let ours = t.fresh();
    let mounts = (0..12).map(|_| mount(&ours, &blob.digest, &theirs.name));
    for reply in futures::future::try_join_all(mounts).await? {
        reply.status(&[201])?;
    }
    ours.has_blob(&blob).await
}
