//! Every repository: are its manifests what their digests say, does it hold what they refer to, are they listed as
//! referrers? Tags, hints and history follow in `names`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use berth_registry_core::{
    Descriptor, Digest, Manifest, Reference, RepositoryName, key,
    protocol::{DeleteManifest, Deleted, Forget, Forgotten, Restore, Restored, Slot},
    record::{self, Blob, Candidate, ManifestRecord, State},
    scrub::{Damage, ScrubProgress, Treatment},
};
use bytes::Bytes;
use jiff::Timestamp;

use super::{
    super::{
        EngineError, PutOptions,
        drive::{Place, Swap},
        gather::{gather, work},
        inventory::Listing,
        manifests::descriptor,
    },
    Case, Scrub,
};
use crate::store::{Entry, Etag, PutMode};

/// Manifests that are held in memory at once.
const CHUNK: usize = 64;

/// What the rest of the repository's check needs to know of its manifests.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    pub states: BTreeMap<Digest, State>,
    /// The descriptors that must be listed, by their keys.
    referrers: BTreeMap<String, (Digest, Descriptor)>,
    children: Vec<(Digest, Vec<Digest>)>,
    /// Which blobs the repository holds, as far as it was asked.
    holds: HashMap<Digest, bool>,
}

impl Manifests {
    pub(super) fn is_visible(&self, digest: &Digest) -> bool {
        self.states.get(digest).is_some_and(|state| state.is_visible())
    }
}

impl Scrub {
    pub(super) async fn repositories(&self, progress: &mut ScrubProgress) -> Result<(), EngineError> {
        let end = |name: &str| format!("{}{name}!~", key::REPOSITORIES);
        let mut listing = Listing::new(&self.engine, key::REPOSITORIES, progress.after.as_deref().map(end));
        let mut objects = 0;
        while let Some(entry) = listing.peek().await? {
            let Some((name, _)) = key::repository_of(&entry.key) else {
                let case = Case::new(Damage::UnknownObject, &*entry.key, "no repository has such a name");
                self.report(case).await;
                listing.next().await?;
                continue;
            };
            match self.repository(&name).await {
                Ok(count) => objects += count,
                Err(error) => self.failed(name.as_str(), &error),
            }
            self.counts().repositories += 1;
            listing.seek(end(name.as_str()));
            if objects >= self.stride {
                objects = 0;
                progress.after = Some(name.to_string());
                self.save(progress).await?;
            }
        }
        Ok(())
    }

    async fn repository(&self, name: &RepositoryName) -> Result<u64, EngineError> {
        let mut manifests = Manifests::default();
        let entries = self.engine.list_all(&key::manifests(name)).await?;
        for some in entries.chunks(CHUNK) {
            let reads = some.iter().map(|entry| work(self.read(entry))).collect();
            for (entry, found) in some.iter().zip(gather(reads).await?) {
                let Some((body, etag)) = found else { continue };
                self.manifest(name, entry, &body, &etag, &mut manifests).await?;
            }
        }
        self.children(name, &manifests).await?;
        self.referrers(name, &manifests).await?;
        self.names(name, &manifests).await?;
        Ok(entries.len() as u64)
    }

    async fn read(&self, entry: &Entry) -> Result<Option<(Bytes, Etag)>, EngineError> {
        Ok(self.engine.read_optional(&entry.key).await?)
    }

    async fn manifest(
        &self,
        name: &RepositoryName,
        entry: &Entry,
        body: &Bytes,
        etag: &Etag,
        manifests: &mut Manifests,
    ) -> Result<(), EngineError> {
        let digest = entry.key.strip_prefix(&key::manifests(name)).and_then(|digest| digest.parse().ok());
        let Some(digest): Option<Digest> = digest else {
            let case = Case::new(Damage::UnknownObject, &*entry.key, "no manifest has such a key");
            self.report(case.of(name)).await;
            return Ok(());
        };
        self.counts().manifests += 1;
        let Ok((record, _, bytes)) = record::decode_manifest(body) else {
            self.unreadable(name, &digest, entry, body, etag).await;
            return Ok(());
        };
        manifests.states.insert(digest.clone(), record.state);
        if record.state.is_reference() && !digest.matches(&bytes) {
            let purged = ManifestRecord { state: State::Purged, ..record };
            let cure = self.replace_manifest(&entry.key, etag, &purged, &bytes, Treatment::Quarantined);
            let case = Case::new(Damage::CorruptManifest, &*entry.key, "it holds other bytes");
            self.treat(case.of(name).about(&digest), Treatment::Quarantined, cure).await;
            manifests.states.insert(digest, State::Purged);
            return Ok(());
        }
        match record.state {
            State::Pending if entry.meta.modified < self.lease && record.pushed < self.lease => {
                self.abandoned(name, &digest, entry).await;
            }
            State::Live | State::Condemned => {
                for blob in &record.blobs {
                    let held = self.holds(name, blob, manifests).await?
                        || (record.sparse && self.never_held(name, blob).await?);
                    if !held {
                        self.missing_blob(name, &digest, blob, entry, manifests).await?;
                    }
                }
                if !record.manifests.is_empty() && !record.sparse {
                    manifests.children.push((digest.clone(), record.manifests.clone()));
                }
                if let Some((subject, descriptor)) = attachment(&digest, &record, &bytes) {
                    let kind = descriptor.artifact_type.as_deref();
                    let key = key::referrer(name, &subject, kind, &digest);
                    manifests.referrers.insert(key, (subject, descriptor));
                }
            }
            State::Dead | State::Purged
                if entry.meta.modified < self.window && self.engine.drops_tombstones() =>
            {
                let cure = async {
                    let machine = Forget::new(Slot::Manifest, self.window);
                    let forgotten = self.engine.drive(machine, &Place::new(name, &digest)).await?;
                    Ok((forgotten == Forgotten::Yes).then_some(Treatment::Repaired))
                };
                let seen = format!("the manifest is {}", record.state);
                let case = Case::new(Damage::OldTombstone, &*entry.key, seen).of(name).about(&digest);
                self.treat(case, Treatment::Repaired, cure).await;
            }
            _ => {}
        }
        Ok(())
    }

    /// If the manifest's bytes are whole, it is pushed again; else what is there is kept in a tombstone.
    async fn unreadable(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        entry: &Entry,
        body: &Bytes,
        etag: &Etag,
    ) {
        let whole = body.iter().position(|&byte| byte == b'\n').map(|end| body.slice(end + 1..));
        let whole = whole.filter(|bytes| digest.matches(bytes));
        let planned = if whole.is_some() { Treatment::Repaired } else { Treatment::Quarantined };
        let tombstone = ManifestRecord {
            state: State::Purged,
            media_type: String::new(),
            blobs: Vec::new(),
            manifests: Vec::new(),
            subject: None,
            artifact_type: None,
            author: None,
            pushed: self.now,
            died: None,
            sparse: false,
        };
        let cure = async {
            let set_aside =
                self.replace_manifest(&entry.key, etag, &tombstone, body, Treatment::Quarantined).await?;
            let (Some(bytes), Some(_)) = (whole, set_aside) else { return Ok(set_aside) };
            let reference = Reference::Digest(digest.clone());
            let pushed = self.engine.put_manifest(name, &reference, None, bytes, PutOptions::default()).await;
            Ok(Some(if pushed.is_ok() { Treatment::Repaired } else { Treatment::Quarantined }))
        };
        let case = Case::new(Damage::DamagedRecord, &*entry.key, "the record cannot be read");
        self.treat(case.of(name).about(digest), planned, cure).await;
    }

    async fn replace_manifest(
        &self,
        key: &str,
        etag: &Etag,
        record: &ManifestRecord,
        bytes: &[u8],
        treatment: Treatment,
    ) -> Result<Option<Treatment>, EngineError> {
        let mode = PutMode::Update(etag.clone());
        let swap = self.engine.swap(
            key,
            mode,
            |nonce| record::encode_manifest(record, nonce, bytes),
            |body| Ok(record::decode_manifest(body)?.1),
        );
        Ok(matches!(swap.await?, Swap::Won(_)).then_some(treatment))
    }

    async fn abandoned(&self, name: &RepositoryName, digest: &Digest, entry: &Entry) {
        let cure = async {
            let machine = DeleteManifest::abandoned(self.lease, self.now);
            if self.engine.drive(machine, &Place::new(name, digest)).await? == Deleted::Unknown {
                return Ok(None);
            }
            // Its blobs may be needed by nobody else.
            let candidate = Candidate::Manifest { repository: name.clone(), digest: digest.clone() };
            self.engine.enqueue(&candidate).await?;
            Ok(Some(Treatment::Repaired))
        };
        let case = Case::new(Damage::PendingLeftover, &*entry.key, "a manifest was begun and never ended");
        self.treat(case.of(name).about(digest), Treatment::Repaired, cure).await;
    }

    async fn holds(
        &self,
        name: &RepositoryName,
        blob: &Digest,
        manifests: &mut Manifests,
    ) -> Result<bool, EngineError> {
        if let Some(holds) = manifests.holds.get(blob) {
            return Ok(*holds);
        }
        let holds = match self.engine.stat_blob(name, blob).await {
            Ok(_) => true,
            Err(EngineError::BlobUnknown(_) | EngineError::Damaged { .. }) => false,
            Err(error) => return Err(error),
        };
        manifests.holds.insert(blob.clone(), holds);
        Ok(holds)
    }

    async fn missing_blob(
        &self,
        name: &RepositoryName,
        manifest: &Digest,
        blob: &Digest,
        entry: &Entry,
        manifests: &mut Manifests,
    ) -> Result<(), EngineError> {
        // The manifest may have been deleted meanwhile, and the blob after it.
        if !self.still_visible(name, manifest).await? {
            return Ok(());
        }
        let there = self.engine.read_record::<Blob>(&key::blob(blob)).await;
        let restorable =
            matches!(there, Ok(Some((blob, _))) if blob.state.is_visible() || blob.state == State::Dead);
        let planned = if restorable { Treatment::Repaired } else { Treatment::Reported };
        let cure = async {
            if !restorable {
                return Ok(Some(Treatment::Reported));
            }
            let machine = Restore::new(Timestamp::now());
            match self.engine.drive(machine, &Place::new(name, blob)).await? {
                Restored::Yes(_) => Ok(Some(Treatment::Repaired)),
                Restored::Lost => Ok(Some(Treatment::Reported)),
            }
        };
        let seen = format!("the repository does not hold blob {blob}");
        let case = Case::new(Damage::MissingBlob, &*entry.key, seen).of(name).about(manifest);
        self.treat(case, planned, cure).await;
        manifests.holds.remove(blob);
        Ok(())
    }

    /// Whether the repository has no trace of a blob.
    async fn never_held(&self, name: &RepositoryName, blob: &Digest) -> Result<bool, EngineError> {
        Ok(self.engine.read_optional(&key::link(blob, name)).await?.is_none())
    }

    async fn still_visible(&self, name: &RepositoryName, manifest: &Digest) -> Result<bool, EngineError> {
        let (_, record, _) = self.engine.manifest_at(&key::manifest(name, manifest)).await?;
        Ok(record.is_some_and(|record| record.state.is_visible()))
    }

    /// A child that was deleted is missing by a client's will; only one of which there is no trace was lost.
    async fn children(&self, name: &RepositoryName, manifests: &Manifests) -> Result<(), EngineError> {
        for (index, children) in &manifests.children {
            for child in children.iter().filter(|child| !manifests.states.contains_key(*child)) {
                let key = key::manifest(name, child);
                if self.engine.read_optional(&key).await?.is_none() && self.still_visible(name, index).await?
                {
                    let seen = format!("index {index} lists it");
                    self.report(Case::new(Damage::MissingChild, key, seen).of(name).about(child)).await;
                }
            }
        }
        Ok(())
    }

    async fn referrers(&self, name: &RepositoryName, manifests: &Manifests) -> Result<(), EngineError> {
        let prefix = key::all_referrers(name);
        let listed = self.engine.list_all(&prefix).await?;
        let mut right = BTreeSet::new();
        for entry in &listed {
            if let Some((_, expected)) = manifests.referrers.get(&entry.key) {
                let there = self.engine.read_optional(&entry.key).await?;
                let there = there.and_then(|(body, _)| serde_json::from_slice::<Descriptor>(&body).ok());
                if there.as_ref() == Some(expected) {
                    right.insert(&entry.key);
                }
            } else if entry.meta.modified < self.lease {
                let referrer = entry.key.rsplit('/').next().and_then(|digest| digest.parse::<Digest>().ok());
                let case =
                    Case::new(Damage::ReferrerWithoutManifest, &*entry.key, "its manifest is not there");
                let cure = async {
                    if let Some(digest) = &referrer
                        && self.still_visible(name, digest).await?
                    {
                        // Pushed since it was looked for.
                        return Ok(None);
                    }
                    self.remove(&entry.key, &entry.meta.etag).await
                };
                self.treat(case.of(name), Treatment::Repaired, cure).await;
            }
        }
        for (key, (subject, descriptor)) in &manifests.referrers {
            if right.contains(key) {
                continue;
            }
            let digest = &descriptor.digest;
            let seen = format!("it is attached to {subject}");
            let cure = async {
                self.engine.write_referrer(name, subject, descriptor).await?;
                if !self.still_visible(name, digest).await? {
                    // Deleted meanwhile, and the entry with it.
                    self.engine.store().delete(key).await?;
                    return Ok(None);
                }
                // The cache may hold the wrong one.
                self.engine.store().delete(&key::referrer_index(name, subject)).await?;
                Ok(Some(Treatment::Repaired))
            };
            let case = Case::new(Damage::MissingReferrer, &**key, seen).of(name).about(digest);
            self.treat(case, Treatment::Repaired, cure).await;
        }
        self.referrer_caches(name, &listed).await
    }

    /// Caches of referrers of what has none any more.
    async fn referrer_caches(&self, name: &RepositoryName, listed: &[Entry]) -> Result<(), EngineError> {
        let all = key::all_referrers(name);
        let subjects: BTreeSet<&str> =
            listed.iter().filter_map(|entry| entry.key.strip_prefix(&all)?.split('/').next()).collect();
        for entry in self.engine.list_all(&key::referrer_indexes(name)).await? {
            let subject = entry.key.rsplit('/').next().unwrap_or_default();
            if !subjects.contains(subject) && entry.meta.modified < self.lease {
                let cure = self.remove(&entry.key, &entry.meta.etag);
                let case = Case::new(Damage::StaleCache, &*entry.key, "nothing is attached to the manifest");
                self.treat(case.of(name), Treatment::Repaired, cure).await;
            }
        }
        Ok(())
    }
}

/// How a manifest is listed as a referrer, and of what.
fn attachment(digest: &Digest, record: &ManifestRecord, bytes: &[u8]) -> Option<(Digest, Descriptor)> {
    let subject = record.subject.clone()?;
    let manifest = Manifest::parse(Some(&record.media_type), bytes).ok()?;
    Some((subject, descriptor(digest, record, &manifest, bytes.len() as u64)))
}
