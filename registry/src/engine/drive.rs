//! Performs what the pure protocol asks for: maps its slots to keys, reads and writes records, and finds out after a
//! lost or refused write whose write it was.

use std::time::Duration;

use berth_registry_core::{
    Digest, RepositoryName, key,
    protocol::{Action, Body, Observed, Protocol, Slot, Step, Version},
    record::{self, Blob, Damaged, Link, ManifestRecord, Trash},
};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use ulid::Ulid;

use super::{
    Engine, EngineError,
    gather::{gather, work},
};
use crate::store::{Etag, PutMode, StoreError, read};

/// Steps after which a machine has certainly met more rivals than a registry has clients.
const MAX_STEPS: usize = 1000;

/// Which records a machine works on.
#[derive(Debug)]
pub(super) struct Place<'a> {
    /// The repository that is written to; none if the machine only works on the blob's record.
    pub repository: Option<&'a RepositoryName>,
    /// The blob or manifest.
    pub digest: &'a Digest,
    /// The repository that is mounted from.
    pub source: Option<&'a RepositoryName>,
    /// What the manifest refers to.
    pub references: Option<&'a ManifestRecord>,
}

impl<'a> Place<'a> {
    pub(super) fn new(repository: &'a RepositoryName, digest: &'a Digest) -> Self {
        Self { repository: Some(repository), ..Self::blob(digest) }
    }

    pub(super) fn blob(digest: &'a Digest) -> Self {
        Self { repository: None, digest, source: None, references: None }
    }

    fn repository(&self) -> Result<&'a RepositoryName, EngineError> {
        self.repository.ok_or_else(|| EngineError::Damaged {
            key: self.digest.to_string(),
            message: "the protocol asked for a repository, which this operation does not have".to_owned(),
        })
    }

    fn key(&self, slot: Slot) -> Result<(String, Kind), EngineError> {
        let impossible = || EngineError::Damaged {
            key: self.digest.to_string(),
            message: format!("the protocol asked for {slot:?}, which this operation does not have"),
        };
        Ok(match slot {
            Slot::Link => (key::link(self.digest, self.repository()?), Kind::Link),
            Slot::Source => (key::link(self.digest, self.source.ok_or_else(impossible)?), Kind::Link),
            Slot::Blob => (key::blob(self.digest), Kind::Blob),
            Slot::Manifest => (key::manifest(self.repository()?, self.digest), Kind::Manifest),
            Slot::Reference(index) => {
                let record = self.references.ok_or_else(impossible)?;
                if let Some(blob) = record.blobs.get(index) {
                    (key::link(blob, self.repository()?), Kind::Link)
                } else {
                    let child = record.manifests.get(index - record.blobs.len()).ok_or_else(impossible)?;
                    (key::manifest(self.repository()?, child), Kind::Manifest)
                }
            }
        })
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Link,
    Blob,
    Manifest,
}

impl Kind {
    fn decode(self, bytes: &Bytes) -> Result<(Body, String), Damaged> {
        Ok(match self {
            Self::Link => {
                let (link, nonce) = record::decode::<Link>(bytes)?;
                (Body::Link(link), nonce)
            }
            Self::Blob => {
                let (blob, nonce) = record::decode::<Blob>(bytes)?;
                (Body::Blob(blob), nonce)
            }
            Self::Manifest => {
                let (manifest, nonce, bytes) = record::decode_manifest(bytes)?;
                (Body::Manifest(manifest, bytes), nonce)
            }
        })
    }
}

fn encode(body: &Body, nonce: &str) -> Result<Bytes, Damaged> {
    match body {
        Body::Link(link) => record::encode(link, nonce),
        Body::Blob(blob) => record::encode(blob, nonce),
        Body::Manifest(manifest, bytes) => record::encode_manifest(manifest, nonce, bytes),
    }
}

/// How a compare-and-swap went.
#[derive(Debug)]
pub(super) enum Swap {
    /// It was written.
    Won(Etag),
    /// Another writer was first; this is there now.
    Lost(Option<(Bytes, Etag)>),
}

impl Engine {
    /// Runs a machine to its end.
    pub(super) async fn drive<P>(&self, mut machine: P, place: &Place<'_>) -> Result<P::Outcome, EngineError>
    where
        P: Protocol + Send,
        P::Outcome: Send,
    {
        let mut observed = Vec::new();
        loop {
            if let Some(outcome) = self.advance(&mut machine, place, observed).await? {
                return Ok(outcome);
            }
            observed =
                vec![Observed::Referenced(self.find_reference(place.repository()?, place.digest).await?)];
        }
    }

    /// Runs a machine to its end, or until it looks for a reference: then `None`, and the caller brings the answer as
    /// `observed`, so that one look can answer many machines.
    pub(super) async fn advance<P>(
        &self,
        machine: &mut P,
        place: &Place<'_>,
        mut observed: Vec<Observed>,
    ) -> Result<Option<P::Outcome>, EngineError>
    where
        P: Protocol + Send,
        P::Outcome: Send,
    {
        // What was read back after a lost write: it answers the read that usually comes next.
        let mut fresh: Vec<(Slot, Observed)> = Vec::new();
        for round in 0..MAX_STEPS {
            let actions = match machine.next(std::mem::take(&mut observed)) {
                Step::Done(outcome) => return Ok(Some(outcome)),
                Step::FindReference => return Ok(None),
                Step::Do(actions) => actions,
            };
            if round > 20 {
                // Rivals that lose in lockstep would go on losing: fall out of step, and give way when they are many.
                let [.., high, low] = Ulid::generate().to_bytes();
                let pause = u64::from(u16::from_be_bytes([high, low])) % (16 << (round / 20).min(6));
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            let known = std::mem::take(&mut fresh);
            let actions = actions.into_iter().map(|action| work(self.perform(action, place, &known)));
            for (seen, back) in gather(actions.collect()).await? {
                observed.push(seen);
                fresh.extend(back);
            }
        }
        Err(EngineError::Contended(place.digest.to_string()))
    }

    async fn perform(
        &self,
        action: Action,
        place: &Place<'_>,
        known: &[(Slot, Observed)],
    ) -> Result<(Observed, Option<(Slot, Observed)>), EngineError> {
        let (slot, mode, body) = match action {
            Action::Read(slot) => {
                if let Some((_, observed)) = known.iter().find(|(known, _)| *known == slot) {
                    return Ok((observed.clone(), None));
                }
                let (key, kind) = place.key(slot)?;
                let found = self.read_optional(&key).await?;
                return Ok((observe(&key, kind, found)?, None));
            }
            Action::FindLink => return Ok((Observed::Linked(self.is_linked(place.digest).await?), None)),
            Action::Discard(data, due) => {
                self.discard(&Trash::Data { digest: place.digest.clone(), data }, due).await?;
                return Ok((Observed::Done, None));
            }
            Action::DeleteData(key) => {
                self.store().delete(&key).await?;
                return Ok((Observed::Done, None));
            }
            Action::Remove(slot, version) => {
                let (key, _) = place.key(slot)?;
                return match self.store().delete_version(&key, &version).await {
                    Ok(()) => Ok((Observed::Done, None)),
                    Err(StoreError::Precondition(_)) => Ok((Observed::Lost, None)),
                    Err(error) => Err(error.into()),
                };
            }
            Action::Create(slot, body) => (slot, PutMode::Create, body),
            Action::Replace(slot, version, body) => (slot, PutMode::Update(version), body),
        };
        let (key, kind) = place.key(slot)?;
        let swap =
            self.swap(&key, mode, |nonce| encode(&body, nonce), |bytes| Ok(kind.decode(bytes)?.1)).await?;
        Ok(match swap {
            Swap::Won(version) => (Observed::Written(version), None),
            Swap::Lost(now) => (Observed::Lost, Some((slot, observe(&key, kind, now)?))),
        })
    }

    /// Compare-and-swap. Stores retry and answers get lost, so a refusal may be the echo of one's own success: the
    /// nonce in the body tells.
    pub(super) async fn swap(
        &self,
        key: &str,
        mode: PutMode,
        encode: impl Fn(&str) -> Result<Bytes, Damaged>,
        nonce_of: impl Fn(&Bytes) -> Result<String, Damaged>,
    ) -> Result<Swap, EngineError> {
        let nonce = Ulid::generate().to_string();
        let body = encode(&nonce).map_err(|error| damaged(key, &error))?;
        let error = match self.store().put(key, body, mode).await {
            Ok(etag) => return Ok(Swap::Won(etag)),
            Err(error) if error.is_ambiguous() => error,
            Err(error) => return Err(error.into()),
        };
        let Ok(now) = self.read_optional(key).await else { return Err(error.into()) };
        if let Some((bytes, etag)) = &now
            && nonce_of(bytes).is_ok_and(|theirs| theirs == nonce)
        {
            return Ok(Swap::Won(etag.clone()));
        }
        match error {
            StoreError::Precondition(_) => Ok(Swap::Lost(now)),
            error => Err(error.into()),
        }
    }

    /// Compare-and-swap of a plain record.
    pub(super) async fn swap_record<T: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        mode: PutMode,
        record: &T,
    ) -> Result<Swap, EngineError> {
        self.swap(key, mode, |nonce| record::encode(record, nonce), |bytes| Ok(record::decode::<T>(bytes)?.1))
            .await
    }

    /// The body and version of a small object, if it exists.
    pub(super) async fn read_optional(&self, key: &str) -> Result<Option<(Bytes, Etag)>, StoreError> {
        match read(self.store(), key).await {
            Ok((bytes, meta)) => Ok(Some((bytes, meta.etag))),
            Err(StoreError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A plain record and its version, if it exists.
    pub(super) async fn read_record<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<(T, Etag)>, EngineError> {
        let Some((bytes, etag)) = self.read_optional(key).await? else { return Ok(None) };
        let (record, _) = record::decode(&bytes).map_err(|error| damaged(key, &error))?;
        Ok(Some((record, etag)))
    }
}

fn observe(key: &str, kind: Kind, found: Option<(Bytes, Version)>) -> Result<Observed, EngineError> {
    let Some((bytes, version)) = found else { return Ok(Observed::Absent) };
    let (body, _) = kind.decode(&bytes).map_err(|error| damaged(key, &error))?;
    Ok(Observed::Found(body, version))
}

pub(super) fn damaged(key: &str, error: &Damaged) -> EngineError {
    EngineError::Damaged { key: key.to_owned(), message: error.to_string() }
}
