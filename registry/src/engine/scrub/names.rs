//! Tags of a repository, the hints by which a manifest's deletion finds them, and their history.

use std::collections::BTreeMap;

use super::{
    super::{
        Engine, EngineError,
        gather::{gather, work},
    },
    Case, Scrub,
    repositories::Manifests,
};
use crate::store::{Entry, Etag};
use berth_registry_core::{
    Digest, RepositoryName, Tag, key,
    record::{self, State, TagChange, TagRecord},
    scrub::{Damage, Treatment, changes_needed},
};

/// Tags that are read at once.
const CHUNK: usize = 256;

impl Scrub {
    pub(super) async fn names(
        &self,
        name: &RepositoryName,
        manifests: &Manifests,
    ) -> Result<(), EngineError> {
        let mut tags = BTreeMap::new();
        let prefix = key::tags(name);
        for some in self.engine.list_all(&prefix).await?.chunks(CHUNK) {
            let reads = some.iter().map(|entry| work(self.engine.tag_at(entry))).collect();
            for (entry, found) in some.iter().zip(gather(reads).await?) {
                let Some((record, etag)) = found else { continue };
                let Some(tag) = entry.key.strip_prefix(&prefix).and_then(|tag| tag.parse::<Tag>().ok())
                else {
                    let case = Case::new(Damage::UnknownObject, &*entry.key, "no tag has such a name");
                    self.report(case.of(name)).await;
                    continue;
                };
                let record = match record {
                    Some(record) if manifests.is_visible(&record.digest) => Some(record),
                    record => {
                        self.dangling(name, &tag, record.as_ref(), &etag).await?;
                        // As it is now: mended, moved or gone.
                        let Some((now, _)) = self.engine.tag_at(entry).await? else { continue };
                        now
                    }
                };
                tags.insert(tag.to_string(), record.map(|record| record.digest));
            }
        }
        self.hints(name, &tags).await?;
        self.history(name, &tags).await
    }

    /// A tag that cannot be read, or leads nowhere: its history may know better.
    async fn dangling(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        record: Option<&TagRecord>,
        etag: &Etag,
    ) -> Result<(), EngineError> {
        let key = key::tag(name, tag.as_str());
        if let Some(record) = record {
            // The listing of manifests was earlier.
            match self.engine.manifest_at(&key::manifest(name, &record.digest)).await {
                Ok((_, Some(there), _)) if there.state.is_visible() => return Ok(()),
                // Set aside: pushing it again heals the tag, too.
                Ok((_, Some(there), _)) if there.state == State::Purged => {
                    let seen = format!("manifest {} was found damaged and set aside", record.digest);
                    let case = Case::new(Damage::TagWithoutManifest, key, seen);
                    self.report(case.of(name).about(&record.digest)).await;
                    return Ok(());
                }
                Ok(_) | Err(EngineError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let lost = record.map(|record| &record.digest);
        let better = self.engine.last_known(name, tag, lost).await?;
        let (damage, seen) = match record {
            Some(record) => (Damage::TagWithoutManifest, format!("manifest {} is not there", record.digest)),
            None => (Damage::DamagedRecord, "the record cannot be read".to_owned()),
        };
        let seen = match &better {
            Some(better) => format!("{seen}; the history says {}", better.digest),
            None => seen,
        };
        let cure = async {
            match &better {
                Some(better) => self.replace(&key, etag, better, Treatment::Repaired).await,
                None => self.remove(&key, etag).await,
            }
        };
        self.treat(Case::new(damage, &*key, seen).of(name), Treatment::Repaired, cure).await;
        Ok(())
    }

    async fn hints(
        &self,
        name: &RepositoryName,
        tags: &BTreeMap<String, Option<Digest>>,
    ) -> Result<(), EngineError> {
        let prefix = key::all_hints(name);
        let listed = self.engine.list_all(&prefix).await?;
        let mut missing = tags.clone();
        for entry in &listed {
            let Some((manifest, tag)) = entry.key.strip_prefix(&prefix).and_then(|rest| rest.split_once('/'))
            else {
                continue;
            };
            let points_to = tags.get(tag).and_then(Option::as_ref).map(ToString::to_string);
            if points_to.as_deref() == Some(manifest) {
                missing.remove(tag);
            } else if entry.meta.modified < self.lease {
                let cure = self.drop_hint(name, entry, tag, manifest);
                let case = Case::new(Damage::HintWithoutTag, &*entry.key, "the tag points elsewhere");
                self.treat(case.of(name), Treatment::Repaired, cure).await;
            }
        }
        for (tag, digest) in missing {
            let (Some(digest), Ok(tag)) = (digest, tag.parse::<Tag>()) else { continue };
            let key = key::hint(name, &digest, &tag);
            let cure = async {
                self.engine.put_hint(name, &digest, &tag).await?;
                Ok(Some(Treatment::Repaired))
            };
            let case = Case::new(Damage::MissingHint, key, format!("tag {tag} has none"));
            self.treat(case.of(name).about(&digest), Treatment::Repaired, cure).await;
        }
        Ok(())
    }

    /// All hints are alike, so a version tells nothing: the tag is looked at after the hint is gone.
    async fn drop_hint(
        &self,
        name: &RepositoryName,
        entry: &Entry,
        tag: &str,
        manifest: &str,
    ) -> Result<Option<Treatment>, EngineError> {
        self.engine.store().delete(&entry.key).await?;
        if let Ok(tag) = tag.parse::<Tag>()
            && let Some(record) = self.engine.resolve(name, &tag).await?
            && record.digest.to_string() == manifest
        {
            self.engine.put_hint(name, &record.digest, &tag).await?;
            return Ok(None);
        }
        Ok(Some(Treatment::Repaired))
    }

    async fn history(
        &self,
        name: &RepositoryName,
        tags: &BTreeMap<String, Option<Digest>>,
    ) -> Result<(), EngineError> {
        let prefix = key::all_history(name);
        let listed = self.engine.list_all(&prefix).await?;
        let tag_of = |entry: &Entry| Some(entry.key.strip_prefix(&prefix)?.split_once('/')?.0.to_owned());
        for changes in listed.chunk_by(|a, b| tag_of(a) == tag_of(b)) {
            let Some(tag) = changes.first().and_then(tag_of) else { continue };
            let within: Vec<bool> = changes
                .iter()
                .map(|entry| key::history_time(&entry.key).is_none_or(|at| at > self.window))
                .collect();
            let old = &changes[changes_needed(&within, tags.contains_key(&tag))..];
            let Some(first) = old.first() else { continue };
            let cure = async {
                let deletes = old.iter().map(|entry| work(self.engine.delete_object(&entry.key)));
                gather(deletes.collect()).await?;
                Ok(Some(Treatment::Repaired))
            };
            let seen = format!("{} of {} changes of tag {tag} are past their use", old.len(), changes.len());
            let case = Case::new(Damage::OldHistory, &*first.key, seen);
            self.treat(case.of(name), Treatment::Repaired, cure).await;
        }
        Ok(())
    }
}

impl Engine {
    async fn delete_object(&self, key: &str) -> Result<(), EngineError> {
        Ok(self.store().delete(key).await?)
    }

    /// A listed tag: what it says, if that can be read, and its version.
    async fn tag_at(&self, entry: &Entry) -> Result<Option<(Option<TagRecord>, Etag)>, EngineError> {
        let Some((body, etag)) = self.read_optional(&entry.key).await? else { return Ok(None) };
        Ok(Some((record::decode(&body).ok().map(|(record, _)| record), etag)))
    }

    /// Where a tag pointed last according to its history, if that is a manifest that can be pulled and not the one that
    /// is lost.
    async fn last_known(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        lost: Option<&Digest>,
    ) -> Result<Option<TagRecord>, EngineError> {
        let changes = self.store().list(&key::history_of(name, tag), None, 1).await?;
        let Some(newest) = changes.entries.first() else { return Ok(None) };
        let change = match self.read_record::<TagChange>(&newest.key).await {
            Ok(Some((change, _))) => change,
            Ok(None) | Err(EngineError::Damaged { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(digest) = change.digest.filter(|digest| Some(digest) != lost) else { return Ok(None) };
        match self.manifest_at(&key::manifest(name, &digest)).await {
            Ok((_, Some(record), bytes)) if record.state.is_visible() => {
                Ok(Some(TagRecord { digest, media_type: record.media_type, size: bytes.len() as u64 }))
            }
            Ok(_) | Err(EngineError::Damaged { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
