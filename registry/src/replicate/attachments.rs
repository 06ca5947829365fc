//! What belongs to an image without being part of it: referrers, and the tags under which older clients keep signatures,
//! attestations and SBOMs. They are compared in every pass, because they arrive after the image.

use berth_client::{ClientError, RawManifest};
use berth_registry_core::{Algorithm, Descriptor, Digest, Reference, Tag, manifest::OCI_INDEX};
use futures::{FutureExt as _, future::BoxFuture};

use super::graph::{Copier, CopyError, Pair};

/// Referrers of one manifest that are brought.
const MAX_REFERRERS: usize = 1000;

/// Levels of referrers of referrers that are followed.
const MAX_DEPTH: usize = 4;

/// cosign's suffixes of the digest's tag.
const SUFFIXES: [&str; 3] = [".sig", ".att", ".sbom"];

/// Whether a tag belongs to another manifest rather than naming an image: `sha256-<hex>`, with or without a suffix.
pub(super) fn is_attachment(tag: &Tag) -> bool {
    let Some((algorithm, rest)) = tag.as_str().split_once('-') else { return false };
    let hex = SUFFIXES.iter().find_map(|suffix| rest.strip_suffix(suffix)).unwrap_or(rest);
    algorithm.parse::<Algorithm>().is_ok()
        && hex.len() == 64
        && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl Copier {
    /// Brings what refers to an image and to each of its parts; returns whether the destination lacked any of it.
    pub(super) async fn attachments_of_image(&self, pair: &Pair, digest: &Digest) -> Result<bool, CopyError> {
        let mut changed = false;
        for part in self.parts(pair, digest, 0).await? {
            changed |= self.tagged(pair, &part).await?;
            changed |= self.referrers(pair, &part, 0).await?;
        }
        Ok(changed)
    }

    /// cosign's tags.
    async fn tagged(&self, pair: &Pair, subject: &Digest) -> Result<bool, CopyError> {
        let mut changed = false;
        for suffix in SUFFIXES {
            let name = format!("{}{suffix}", subject.referrers_tag());
            let Some(tag) = pair.attachments.iter().find(|tag| tag.as_str() == name) else { continue };
            let digest = match self.source.manifest_digest(&pair.from, &Reference::Tag(tag.clone())).await {
                Ok(digest) => digest,
                Err(ClientError::NotFound { .. }) => continue,
                Err(other) => return Err(other.into()),
            };
            self.manifest(pair, &digest, 0).await?;
            changed |= self.tag(pair, tag, &digest).await?;
        }
        Ok(changed)
    }

    /// Referrers, and theirs.
    fn referrers<'a>(
        &'a self,
        pair: &'a Pair,
        subject: &'a Digest,
        depth: usize,
    ) -> BoxFuture<'a, Result<bool, CopyError>> {
        async move {
            let wanted = self.source_referrers(pair, subject).await?;
            // An index under a fallback tag is not content-addressed, so it could name its own subject.
            if wanted.is_empty() || depth > MAX_DEPTH {
                return Ok(false);
            }
            let there = self.destination.referrers(&pair.to, subject, None, MAX_REFERRERS).await?;
            let mut changed = false;
            for referrer in &wanted {
                if !there.iter().any(|known| known.digest == referrer.digest) {
                    changed |= self.referrer(pair, subject, referrer).await?;
                }
                changed |= self.tagged(pair, &referrer.digest).await?;
                changed |= self.referrers(pair, &referrer.digest, depth + 1).await?;
            }
            Ok(changed)
        }
        .boxed()
    }

    /// What the source lists, by its API and under the fallback tag: some clients write the tag although there is an API.
    async fn source_referrers(&self, pair: &Pair, subject: &Digest) -> Result<Vec<Descriptor>, CopyError> {
        let mut listed = self.source.referrers(&pair.from, subject, None, MAX_REFERRERS).await?;
        let tag = subject.referrers_tag();
        if pair.attachments.iter().any(|known| known.as_str() == tag) {
            listed.extend(self.source.tagged_referrers(&pair.from, subject, MAX_REFERRERS).await?);
        }
        listed.sort_by(|a, b| a.digest.cmp(&b.digest));
        listed.dedup_by(|a, b| a.digest == b.digest);
        Ok(listed)
    }

    /// One referrer that the destination does not list. If it still does not after the push, it has no referrers API,
    /// and the index under the fallback tag is ours to keep.
    async fn referrer(
        &self,
        pair: &Pair,
        subject: &Digest,
        referrer: &Descriptor,
    ) -> Result<bool, CopyError> {
        let present = self.has(pair, &referrer.digest).await?;
        let (raw, manifest) = match self.with_content(pair, &referrer.digest, 0).await {
            Ok(read) => read,
            // Left behind in a fallback index, or deleted since it was listed.
            Err(CopyError::Client(ClientError::NotFound { .. })) => return Ok(false),
            Err(other) => return Err(other),
        };
        let descriptor = Descriptor {
            media_type: manifest.media_type.clone(),
            size: raw.bytes.len() as u64,
            artifact_type: manifest.artifact_type.clone(),
            annotations: manifest.annotations.clone(),
            ..referrer.clone()
        };
        let listed = self.put(pair, &Reference::Digest(referrer.digest.clone()), raw).await?;
        if listed {
            return Ok(true);
        }
        Ok(self.list(pair, subject, descriptor).await? || !present)
    }

    /// Adds an entry to the fallback index at the destination (distribution-spec, "Referrers Tag Schema"); returns
    /// whether it was missing.
    async fn list(&self, pair: &Pair, subject: &Digest, referrer: Descriptor) -> Result<bool, CopyError> {
        let _alone = self.index.lock().await;
        let mut entries = self.destination.tagged_referrers(&pair.to, subject, MAX_REFERRERS).await?;
        if entries.iter().any(|entry| entry.digest == referrer.digest) {
            return Ok(false);
        }
        entries.push(referrer);
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
        let bytes = bytes::Bytes::from(index.to_string());
        let raw = RawManifest { digest: Digest::sha256(&bytes), media_type: OCI_INDEX.to_owned(), bytes };
        let tag = subject.referrers_tag();
        if let Ok(tag) = tag.parse() {
            self.put(pair, &Reference::Tag(tag), raw).await?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[rstest]
    #[case(format!("sha256-{HEX}"), true)]
    #[case(format!("sha256-{HEX}.sig"), true)]
    #[case(format!("sha512-{HEX}.sbom"), true)]
    #[case(format!("sha256-{HEX}.tar"), false)]
    #[case(format!("md5-{HEX}"), false)]
    #[case("sha256-123".to_owned(), false)]
    #[case("v1".to_owned(), false)]
    fn tags_of_attachments(#[case] tag: String, #[case] attached: bool) {
        assert_eq!(is_attachment(&tag.parse().unwrap()), attached);
    }
}
