//! Collects what `berth-trust` judges: the manifests and layers that may hold signatures of one image or attestations
//! about it, in all of cosign's formats. Collecting believes nothing; it only must not mistake an unanswered question for an absent
//! signature, and must not read more than the bounds allow. Where the pieces are read is a [`Source`]: a registry by HTTP
//! here, its own store in the registry's gate, so that both come to the same evidence.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
};

use berth_registry_core::{
    Descriptor, Digest, ImageReference, Manifest, Reference, RepositoryName, Tag,
    manifest::{MAX_MANIFEST, OCI_EMPTY, OCI_MANIFEST},
};
use berth_trust::{Artifact, Bounds, Described, Evidence, Index, kind};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};

use crate::{
    client::Client,
    error::ClientError,
    manifest::RawManifest,
    pack::{self, Pack},
};

/// Requests under way at once for one image.
const PARALLEL: usize = 4;

/// The digest of an image: the one that it names, else the one that its tag points to now. Resolve once, and use the
/// digest for everything that follows. [`ClientError::NotFound`] means that the registry answered and has no such image.
pub async fn resolve(client: &Client, image: &ImageReference) -> Result<Digest, ClientError> {
    match (&image.digest, &image.tag) {
        (Some(digest), _) => Ok(digest.clone()),
        (None, Some(tag)) => client.resolve_tag(&image.repository, tag).await,
        (None, None) => Err(client.protocol(&image.to_string(), "it names neither a tag nor a digest")),
    }
}

/// All evidence for one manifest of a repository: the classic signatures and attestations under their tags, and the
/// referrers that may hold either (referrers API, or the fallback tag where there is none). An image without any gives
/// evidence without artifacts; every other failure is an error, [`ClientError::TooLarge`] among them.
pub async fn fetch_evidence(
    client: &Client,
    repository: &RepositoryName,
    digest: &Digest,
    bounds: &Bounds,
) -> Result<Evidence, ClientError> {
    let pack = Pack::fetch(client, repository, &Reference::Digest(digest.clone())).await?;
    complete(client, repository, digest, &pack, bounds).await
}

/// The evidence for the digest that `image` names now, with as few requests as the registry allows. `None`: the
/// registry answered, and has no such image.
pub(crate) async fn fetch_for(
    client: &Client,
    image: &ImageReference,
    bounds: &Bounds,
) -> Result<Option<Evidence>, ClientError> {
    let pack = match pack::reference(image) {
        Some(reference) => Pack::fetch(client, &image.repository, &reference).await?,
        None => Pack::default(),
    };
    let digest = match pack.digest() {
        Some(digest) => digest.clone(),
        None => match resolve(client, image).await {
            Ok(digest) => digest,
            Err(ClientError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        },
    };
    let mut evidence = complete(client, &image.repository, &digest, &pack, bounds).await?;
    if let (Some(_), Some(tag)) = (&image.digest, &image.tag) {
        evidence.indexes.extend(fetch_index(client, &image.repository, tag, &digest, bounds).await?);
    }
    Ok(Some(evidence))
}

/// Takes from the pack what is in it, and asks for the rest.
async fn complete(
    client: &Client,
    repository: &RepositoryName,
    digest: &Digest,
    pack: &Pack,
    bounds: &Bounds,
) -> Result<Evidence, ClientError> {
    collect(&Remote { client, repository, pack }, digest, bounds).await
}

/// A repository that evidence is read from. `None` means that it was asked and does not have it.
pub trait Source: Sync {
    /// Why it could not be asked.
    type Error: Send;

    /// A manifest. `reference` is a digest, or the tag of a classic signature.
    fn manifest<'a>(
        &'a self,
        reference: &'a Reference,
    ) -> BoxFuture<'a, Result<Option<RawManifest>, Self::Error>>;

    /// What refers to a manifest; more than `bound` may be an error.
    fn referrers<'a>(
        &'a self,
        digest: &'a Digest,
        bound: usize,
    ) -> BoxFuture<'a, Result<Vec<Descriptor>, Self::Error>>;

    /// The bytes of a blob, at most `size`.
    fn blob<'a>(&'a self, digest: &'a Digest, size: u64)
    -> BoxFuture<'a, Result<Option<Bytes>, Self::Error>>;

    /// There are more of `what` than `bound` of `unit`.
    fn too_large(&self, what: &str, bound: u64, unit: &'static str) -> Self::Error;
}

/// All evidence for one manifest, without that of indexes above it.
pub async fn collect<S: Source>(source: &S, digest: &Digest, bounds: &Bounds) -> Result<Evidence, S::Error> {
    let collecting = Collecting { source, bounds, total: AtomicUsize::new(0) };
    let (signatures, attestations, referrers) = futures::try_join!(
        collecting.classic(digest, "sig"),
        collecting.classic(digest, "att"),
        collecting.referrers(digest)
    )?;
    let mut artifacts: Vec<_> = signatures.into_iter().chain(attestations).chain(referrers).collect();
    artifacts.sort();
    artifacts.dedup();
    let described = if artifacts.iter().any(is_notary) { collecting.describe(digest).await? } else { None };
    Ok(Evidence { subject: digest.clone(), described, artifacts, indexes: Vec::new() })
}

/// An index that lists `digest`, if `tag` points to one now, with the evidence for it: what is stated about the index is
/// stated about its children. For images that are named by tag and digest, where the digest is that of one platform.
pub async fn fetch_index(
    client: &Client,
    repository: &RepositoryName,
    tag: &Tag,
    digest: &Digest,
    bounds: &Bounds,
) -> Result<Option<Index>, ClientError> {
    let manifest = match client.manifest(repository, &Reference::Tag(tag.clone())).await {
        Ok(manifest) => manifest,
        Err(ClientError::NotFound { .. }) => return Ok(None),
        Err(other) => return Err(other),
    };
    let parsed = Manifest::parse(Some(manifest.media_type.as_str()), &manifest.bytes);
    let children = parsed.map(|parsed| parsed.manifests).unwrap_or_default();
    if children.iter().all(|child| child.digest != *digest) {
        return Ok(None);
    }
    let Evidence { artifacts, .. } = fetch_evidence(client, repository, &manifest.digest, bounds).await?;
    Ok(Some(Index { digest: manifest.digest, manifest: manifest.bytes.to_vec(), artifacts }))
}

fn is_notary(artifact: &Artifact) -> bool {
    Manifest::parse(Some(OCI_MANIFEST), &artifact.manifest)
        .is_ok_and(|manifest| Artifact::is_notary(&manifest))
}

/// A registry, and what it told in one answer.
struct Remote<'a> {
    client: &'a Client,
    repository: &'a RepositoryName,
    pack: &'a Pack,
}

impl Source for Remote<'_> {
    type Error = ClientError;

    fn manifest<'a>(
        &'a self,
        reference: &'a Reference,
    ) -> BoxFuture<'a, Result<Option<RawManifest>, ClientError>> {
        async move {
            let by_digest;
            let reference = match reference {
                Reference::Tag(tag) => match self.pack.tag(tag) {
                    None => reference,
                    Some(Err(_)) => return Ok(None),
                    Some(Ok(digest)) => {
                        by_digest = Reference::Digest(digest.clone());
                        &by_digest
                    }
                },
                Reference::Digest(_) => reference,
            };
            if let Reference::Digest(digest) = reference
                && let Some(manifest) = self.pack.manifest(digest)
            {
                return Ok(Some(manifest));
            }
            found(self.client.manifest(self.repository, reference).await)
        }
        .boxed()
    }

    fn referrers<'a>(
        &'a self,
        digest: &'a Digest,
        bound: usize,
    ) -> BoxFuture<'a, Result<Vec<Descriptor>, ClientError>> {
        async move {
            match self.pack.referrers() {
                Some(listed) if listed.len() <= bound => Ok(listed.to_vec()),
                _ => self.client.referrers(self.repository, digest, None, bound).await,
            }
        }
        .boxed()
    }

    fn blob<'a>(
        &'a self,
        digest: &'a Digest,
        size: u64,
    ) -> BoxFuture<'a, Result<Option<Bytes>, ClientError>> {
        async move {
            match self.pack.blob(digest) {
                Some(bytes) => Ok(Some(bytes)),
                None => found(self.client.blob(self.repository, digest, size).await),
            }
        }
        .boxed()
    }

    fn too_large(&self, what: &str, bound: u64, unit: &'static str) -> ClientError {
        ClientError::TooLarge {
            host: self.client.host().to_owned(),
            what: format!("{what} of {}", self.repository),
            bound,
            unit,
        }
    }
}

fn found<T>(answer: Result<T, ClientError>) -> Result<Option<T>, ClientError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(ClientError::NotFound { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

struct Collecting<'a, S> {
    source: &'a S,
    bounds: &'a Bounds,
    /// Bytes read so far.
    total: AtomicUsize,
}

impl<S: Source> Collecting<'_, S> {
    /// What the image's own manifest is.
    async fn describe(&self, digest: &Digest) -> Result<Option<Described>, S::Error> {
        let manifest = self.source.manifest(&Reference::Digest(digest.clone())).await?;
        let Some(RawManifest { bytes, media_type, .. }) = manifest else { return Ok(None) };
        self.count(bytes.len())?;
        Ok(Some(Described { media_type, size: bytes.len() as u64 }))
    }

    /// What stands under the tag `sha256-….sig` or `.att`.
    async fn classic(&self, digest: &Digest, suffix: &str) -> Result<Option<Artifact>, S::Error> {
        let tag = format!("{}.{suffix}", digest.referrers_tag()).parse::<Tag>();
        // The digest of an algorithm whose text fits into no tag has no such signatures.
        let Ok(tag) = tag else { return Ok(None) };
        match self.source.manifest(&Reference::Tag(tag)).await? {
            Some(manifest) => self.artifact(manifest, true).await,
            None => Ok(None),
        }
    }

    async fn referrers(&self, digest: &Digest) -> Result<Vec<Artifact>, S::Error> {
        let listed = self.source.referrers(digest, self.bounds.referrers).await?;
        // The list may leave the type out or name the config's; only a type that says "something else" is believed.
        let candidates = listed.into_iter().filter(|referrer| {
            let artifact_type = referrer.artifact_type.as_deref().unwrap_or_default();
            kind::is_evidence(artifact_type) || matches!(artifact_type, "" | OCI_EMPTY)
        });
        let candidates: BTreeSet<_> = candidates.map(|referrer| referrer.digest).collect();
        stream::iter(candidates)
            .map(|referrer| async move {
                match self.source.manifest(&Reference::Digest(referrer)).await? {
                    Some(manifest) => self.artifact(manifest, false).await,
                    // Listed a moment ago, or left behind in the fallback index: it is not there to be believed.
                    None => Ok(None),
                }
            })
            .buffer_unordered(PARALLEL)
            .try_filter_map(|artifact| async move { Ok(artifact) })
            .try_collect()
            .await
    }

    /// A manifest with the layers that may be statements. One that is no manifest at all is only kept where statements
    /// were expected, so that the verdict can say that it is malformed.
    async fn artifact(&self, manifest: RawManifest, expected: bool) -> Result<Option<Artifact>, S::Error> {
        self.count(manifest.bytes.len())?;
        let media_type = Some(manifest.media_type.as_str());
        let wanted: BTreeMap<Digest, u64> = match Manifest::parse(media_type, &manifest.bytes) {
            Ok(parsed) if Artifact::is_evidence(&parsed) => {
                Artifact::statements(&parsed).map(|(_, layer)| (layer.digest.clone(), layer.size)).collect()
            }
            Ok(_) if !expected => return Ok(None),
            _ => BTreeMap::new(),
        };
        if wanted.len() > self.bounds.referrers {
            return Err(self.too_large("signed statements", self.bounds.referrers, "layers"));
        }
        let layers = stream::iter(wanted)
            .map(|(digest, size)| self.layer(digest, size))
            .buffer_unordered(PARALLEL)
            .try_filter_map(|layer| async move { Ok(layer) })
            .try_collect()
            .await?;
        Ok(Some(Artifact { manifest: manifest.bytes.to_vec(), layers }))
    }

    async fn layer(&self, digest: Digest, size: u64) -> Result<Option<(Digest, Vec<u8>)>, S::Error> {
        if size > self.bounds.layer as u64 {
            return Err(self.too_large(
                "the layer of a signature or attestation",
                self.bounds.layer,
                "bytes",
            ));
        }
        // Counted before it is read: the descriptor's size is also the most that will be read.
        self.count(usize::try_from(size).unwrap_or(usize::MAX))?;
        // A statement without its layer is malformed, which the verdict says; it does not hide the others.
        let bytes = self.source.blob(&digest, size).await?;
        Ok(bytes.map(|bytes| (digest, bytes.to_vec())))
    }

    fn count(&self, bytes: usize) -> Result<(), S::Error> {
        let before = self.total.fetch_add(bytes.min(MAX_MANIFEST.max(self.bounds.layer)), Ordering::Relaxed);
        if before + bytes > self.bounds.total {
            return Err(self.too_large("the evidence for an image", self.bounds.total, "bytes"));
        }
        Ok(())
    }

    fn too_large(&self, what: &str, bound: usize, unit: &'static str) -> S::Error {
        self.source.too_large(what, bound as u64, unit)
    }
}
