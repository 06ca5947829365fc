//! All that may be needed to judge an image, gathered for one answer (`pack`): what cosign's tags point to, what refers
//! to the image, and their small layers. Large ones are left out; whoever needs them asks for them.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use berth_registry_core::{
    Descriptor, Digest, Manifest, Reference, RepositoryName, Tag,
    pack::{Pack, PackedManifest},
};
use futures::{TryStreamExt as _, future};

use super::{
    Engine, EngineError, StoredManifest,
    gather::{gather, work},
};

/// Referrers that are gathered.
const REFERRERS: usize = 100;
/// Bytes of one layer, and of a manifest beside the image's own.
const EACH: u64 = 512 * 1024;
/// Bytes of all manifests and layers together, beside the image's own manifest.
const TOTAL: u64 = 4 * 1024 * 1024;

impl Engine {
    /// What is known about the image that a reference names now.
    pub async fn evidence(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Pack, EngineError> {
        let image = self.get_manifest(repository, reference).await?;
        let digest = image.digest.clone();
        let tags: Vec<Tag> = ["", ".sig", ".att"]
            .iter()
            .filter_map(|end| format!("{}{end}", digest.referrers_tag()).parse().ok())
            .collect();
        let tagged = tags.iter().map(|tag| work(self.present(repository, Reference::Tag(tag.clone()))));
        let (tagged, referrers) =
            future::try_join(gather(tagged.collect()), self.referrers(repository, &digest, None)).await?;
        let mut left = TOTAL;
        let wanted = affordable(&referrers, &mut left);
        let reads =
            wanted.into_iter().map(|digest| work(self.present(repository, Reference::Digest(digest))));
        let attached = gather(reads.collect()).await?;
        let named =
            tags.into_iter().zip(tagged.iter().map(|found| found.as_ref().map(|found| found.digest.clone())));
        let named = named.collect();
        let manifests: Vec<_> = tagged.into_iter().chain(attached).flatten().collect();
        let layers: BTreeSet<_> = manifests.iter().flat_map(layers).collect();
        let layers: Vec<_> = layers.into_iter().filter(|(_, size)| take(*size, &mut left)).collect();
        let blobs =
            gather(layers.iter().map(|(digest, _)| work(self.small_blob(repository, digest))).collect());
        let blobs = blobs.await?.into_iter().flatten().collect();
        let packed = |manifest: StoredManifest| {
            let (media_type, bytes) = (manifest.media_type, BASE64_STANDARD.encode(&manifest.bytes));
            (manifest.digest, PackedManifest { media_type, bytes })
        };
        Ok(Pack {
            digest,
            tags: named,
            referrers: (referrers.len() <= REFERRERS).then_some(referrers),
            manifests: manifests.into_iter().chain([image]).map(packed).collect::<BTreeMap<_, _>>(),
            blobs,
        })
    }

    /// A manifest, or that there is none.
    async fn present(
        &self,
        repository: &RepositoryName,
        reference: Reference,
    ) -> Result<Option<StoredManifest>, EngineError> {
        match self.get_manifest(repository, &reference).await {
            Ok(manifest) => Ok(Some(manifest)),
            Err(EngineError::ManifestUnknown(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A layer as it goes into the answer, if it is there.
    async fn small_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<(Digest, String)>, EngineError> {
        let blob = match self.read_blob(repository, digest, None).await {
            Ok(blob) if blob.size <= EACH => blob,
            // The manifest lied about its size, or its layer is gone: neither keeps the rest from being told.
            Ok(_) | Err(EngineError::BlobUnknown(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let bytes: Vec<u8> = blob
            .stream
            .try_fold(Vec::new(), |mut all, chunk| async move {
                all.extend_from_slice(&chunk);
                Ok(all)
            })
            .await?;
        Ok(Some((digest.clone(), BASE64_STANDARD.encode(bytes))))
    }
}

/// The referrers that fit into the answer, small ones first: signatures are.
fn affordable(referrers: &[Descriptor], left: &mut u64) -> Vec<Digest> {
    let mut by_size: Vec<_> = referrers.iter().map(|referrer| (referrer.size, &referrer.digest)).collect();
    by_size.sort_unstable();
    by_size.truncate(REFERRERS);
    by_size.retain(|(size, _)| take(*size, left));
    by_size.into_iter().map(|(_, digest)| digest.clone()).collect()
}

fn take(size: u64, left: &mut u64) -> bool {
    let fits = size <= EACH && size <= *left;
    if fits {
        *left -= size;
    }
    fits
}

fn layers(manifest: &StoredManifest) -> Vec<(Digest, u64)> {
    let parsed = Manifest::parse(Some(&manifest.media_type), &manifest.bytes);
    let layers = parsed.map(|parsed| parsed.layers).unwrap_or_default();
    layers.into_iter().map(|layer| (layer.digest, layer.size)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(name: &str, size: u64) -> Descriptor {
        let digest = Digest::sha256(name.as_bytes());
        serde_json::from_value(serde_json::json!({"mediaType": "a/b", "digest": digest, "size": size}))
            .unwrap()
    }

    /// A large bill of materials does not take the room of a signature.
    #[test]
    fn small_referrers_come_first_and_all_together_are_bounded() {
        let mut referrers: Vec<_> = (0..20).map(|number| descriptor(&number.to_string(), EACH)).collect();
        referrers.push(descriptor("signature", 700));
        referrers.push(descriptor("huge", EACH + 1));
        let mut left = TOTAL;
        let taken = affordable(&referrers, &mut left);
        assert_eq!(taken[0], Digest::sha256(b"signature"));
        assert_eq!(taken.len() as u64, 1 + (TOTAL - 700) / EACH);
    }
}
