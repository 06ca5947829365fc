//! Manifests (distribution-spec, "Pushing manifests", "Pulling manifests", "Deleting manifests"): the record becomes
//! live only when everything that it refers to is there; tags and referrers follow.

use berth_registry_core::{
    Descriptor, Digest, Manifest, Reference, RepositoryName, Tag, key,
    protocol::{self, DeleteManifest, Deleted, Put},
    record::{self, Candidate, ManifestRecord, TagRecord},
};
use bytes::Bytes;
use futures::future;
use jiff::Timestamp;

use super::{
    Condition, Engine, EngineError, ManifestStat, PutManifest, PutOptions, StoredManifest,
    drive::{Place, damaged},
    gather::{gather, work},
    tags::SeenTag,
};

impl Engine {
    /// Writes a manifest and points tags to it. `media_type`: the announced Content-Type.
    pub async fn put_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        media_type: Option<&str>,
        bytes: Bytes,
        options: PutOptions<'_>,
    ) -> Result<PutManifest, EngineError> {
        let manifest = Manifest::parse(media_type, &bytes)?;
        let digest = match reference {
            Reference::Tag(_) => Digest::sha256(&bytes),
            Reference::Digest(expected) if expected.matches(&bytes) => expected.clone(),
            Reference::Digest(expected) => {
                let actual = expected.algorithm().digest(&bytes);
                return Err(EngineError::DigestMismatch { expected: expected.clone(), actual });
            }
        };
        let mut tags: Vec<(&Tag, &Condition)> =
            options.tags.iter().map(|tag| (tag, &Condition::None)).collect();
        if let Reference::Tag(tag) = reference {
            tags.retain(|(other, _)| *other != tag);
            tags.push((tag, &options.condition));
        }

        let _changing = self.changing(repository);
        // A push that cannot end well leaves nothing behind; of two that race for a tag, `move_tag` lets one win.
        let unconditional = tags.iter().filter(|(_, condition)| **condition == Condition::None);
        gather(
            unconditional
                .map(|(tag, _)| work(self.check_immutable(repository, tag, Some(&digest))))
                .collect(),
        )
        .await?;

        let now = Timestamp::now();
        let sparse = self.options().sparse_manifests;
        let record = ManifestRecord { sparse, ..ManifestRecord::pending(&manifest, options.author, now) };
        let size = bytes.len() as u64;
        let place = Place { references: Some(&record), ..Place::new(repository, &digest) };
        let machine = protocol::PutManifest::new(record.clone(), bytes, sparse);
        let (put, (), _) = future::try_join3(
            self.drive(machine, &place),
            self.enter_catalog(repository),
            gather(tags.iter().map(|(tag, _)| work(self.put_hint(repository, &digest, tag))).collect()),
        )
        .await?;
        let live = match put {
            Put::Live(live) => live,
            Put::Missing(missing) => return Err(EngineError::ManifestBlobUnknown(missing)),
        };

        let target = TagRecord { digest: digest.clone(), media_type: live.media_type.clone(), size };
        let subject = live.subject.clone();
        let moves = tags
            .iter()
            .map(|(tag, condition)| work(self.move_tag(repository, tag, &target, condition, options.author)));
        let moves = gather(moves.collect());
        future::try_join(self.put_referrer(repository, &digest, &live, &manifest, size), moves).await?;
        Ok(PutManifest { digest, subject })
    }

    async fn put_referrer(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        live: &ManifestRecord,
        manifest: &Manifest,
        size: u64,
    ) -> Result<(), EngineError> {
        let Some(subject) = &live.subject else { return Ok(()) };
        self.write_referrer(repository, subject, &descriptor(digest, live, manifest, size)).await
    }

    /// Reads a manifest.
    pub async fn get_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<StoredManifest, EngineError> {
        let unknown = || EngineError::ManifestUnknown(reference.to_string());
        let digest = match reference {
            Reference::Digest(digest) => digest.clone(),
            Reference::Tag(tag) => {
                let key = key::tag(repository, tag.as_str());
                let decode = |body: &Bytes| Ok(record::decode::<TagRecord>(body)?.0);
                let target = self.read_cached(&self.inner.tags, &key, decode).await?;
                target.ok_or_else(unknown)?.record.digest.clone()
            }
        };
        let key = key::manifest(repository, &digest);
        let decode = |body: &Bytes| record::decode_manifest(body).map(|(record, _, bytes)| (record, bytes));
        let known = self.read_cached(&self.inner.manifests, &key, decode).await?.ok_or_else(unknown)?;
        let (record, bytes) = &known.record;
        if !record.state.is_visible() {
            return Err(unknown());
        }
        Ok(StoredManifest { digest, media_type: record.media_type.clone(), bytes: bytes.clone() })
    }

    /// What is known of a manifest.
    pub async fn stat_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<ManifestStat, EngineError> {
        let StoredManifest { digest, media_type, bytes } = self.get_manifest(repository, reference).await?;
        Ok(ManifestStat { digest, media_type, size: bytes.len() as u64 })
    }

    /// The manifest record at a key: its digest (if the key is well-formed), the record (if there is one), the bytes.
    pub(super) async fn manifest_at(
        &self,
        key: &str,
    ) -> Result<(Option<Digest>, Option<ManifestRecord>, Bytes), EngineError> {
        let digest = key.rsplit('/').next().and_then(|digest| digest.parse().ok());
        let Some((body, _)) = self.read_optional(key).await? else { return Ok((digest, None, Bytes::new())) };
        let (record, _, bytes) = record::decode_manifest(&body).map_err(|error| damaged(key, &error))?;
        Ok((digest, Some(record), bytes))
    }

    /// Deletes a manifest with the tags that point to it, unless one of these is immutable.
    pub async fn delete_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), EngineError> {
        if let Some(tag) = self.immutable_tag_of(repository, digest).await? {
            return Err(EngineError::TagImmutable { tag, digest: digest.clone() });
        }
        self.expire_manifest(repository, digest).await
    }

    /// The same for lifecycle rules, which remove immutable tags too. The blobs are left to the collector.
    pub async fn expire_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), EngineError> {
        let _changing = self.changing(repository);
        // Which tags go is seen before it dies: what is tagged with it later, because it is pushed again, stays.
        let tags = self.tags_of(repository, digest).await?;
        let machine = DeleteManifest::new(Timestamp::now());
        let record = match self.drive(machine, &Place::new(repository, digest)).await? {
            Deleted::Yes(record) => record,
            Deleted::Unknown => return Err(EngineError::ManifestUnknown(digest.to_string())),
        };
        let candidate = Candidate::Manifest { repository: repository.clone(), digest: digest.clone() };
        let referrer = record
            .subject
            .as_ref()
            .map(|subject| key::referrer(repository, subject, record.artifact_type.as_deref(), digest));
        future::try_join3(
            self.enqueue(&candidate),
            async {
                if let Some(key) = &referrer {
                    self.store().delete(key).await?;
                }
                Ok(())
            },
            gather(tags.iter().map(|seen| work(self.drop_tag(seen))).collect()),
        )
        .await?;
        Ok(())
    }

    /// The tags that point to a manifest. Their hints stay when they go: they decide nothing, the collector sweeps them.
    async fn tags_of(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Vec<SeenTag>, EngineError> {
        let prefix = key::hints(repository, digest);
        let hints = self.list_all(&prefix).await?;
        let tags = hints.iter().filter_map(|hint| hint.key.strip_prefix(&prefix));
        let seen = gather(tags.map(|tag| work(self.see_tag(repository, tag, digest))).collect()).await?;
        Ok(seen.into_iter().flatten().collect())
    }

    /// Removes the tags that point to a dead manifest: a push and its deletion met, and the tag came last.
    pub(super) async fn sweep_tags(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), EngineError> {
        let tags = self.tags_of(repository, digest).await?;
        // The manifest is looked at after the tags: who makes it live again later writes his tag again, too.
        if !tags.is_empty() && !self.has_manifest(repository, digest).await? {
            gather(tags.iter().map(|seen| work(self.drop_tag(seen))).collect()).await?;
        }
        Ok(())
    }
}

/// How a manifest is listed as a referrer.
pub(super) fn descriptor(
    digest: &Digest,
    record: &ManifestRecord,
    manifest: &Manifest,
    size: u64,
) -> Descriptor {
    Descriptor {
        media_type: record.media_type.clone(),
        digest: digest.clone(),
        size,
        urls: Vec::new(),
        artifact_type: record.artifact_type.clone(),
        annotations: manifest.annotations.clone(),
        platform: None,
    }
}
