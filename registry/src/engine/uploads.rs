//! Uploads (distribution-spec, "Pushing blobs"): monolithic, streamed and in chunks. A session lives in the store, so
//! any replica goes on where another one stopped; the blob appears by the protocol's `Finish`.

use std::{collections::HashSet, sync::PoisonError};

use berth_registry_core::{
    Algorithm, Digest, RepositoryName, key,
    protocol::{Finish, Finished},
    record::{Link, Progress, Session, State},
};
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use ulid::Ulid;

use super::{
    Appended, BlobStat, ByteStream, Engine, EngineError, UploadId,
    drive::{Place, Swap},
    sink::Sink,
    upload_id::Upload,
};
use crate::store::{Etag, GetOptions, PutMode, StoreError};

/// After so many parts a long request puts its progress on record, so that a crash does not cost all of it.
const CHECKPOINT: usize = 32;

/// A session that this request writes to.
#[derive(Debug)]
struct Writer {
    engine: Engine,
    repository: RepositoryName,
    upload: Upload,
    etag: Option<Etag>,
    sink: Sink,
    _claim: Claim,
}

/// Keeps a second request of this process off the same session. Across processes the record's version decides.
#[derive(Debug)]
struct Claim {
    engine: Engine,
    generation: Ulid,
}

impl Claim {
    fn busy(engine: &Engine) -> std::sync::MutexGuard<'_, HashSet<Ulid>> {
        engine.inner.busy_uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(engine: &Engine, generation: Ulid) -> Result<Self, EngineError> {
        if Self::busy(engine).insert(generation) {
            Ok(Self { engine: engine.clone(), generation })
        } else {
            Err(EngineError::UploadBusy)
        }
    }
}

impl Claim {
    fn writer(
        self,
        repository: &RepositoryName,
        upload: Upload,
        session: Option<(Progress, Etag)>,
    ) -> Result<Writer, EngineError> {
        let (sink, etag) = match session {
            None => (Some(Sink::new(&self.engine, upload.algorithm)), None),
            Some((Progress::Open(received), etag)) => (Sink::resume(&self.engine, received), Some(etag)),
            Some(_) => (None, None),
        };
        let sink = sink.ok_or(EngineError::UploadUnknown)?;
        let engine = self.engine.clone();
        Ok(Writer { engine, repository: repository.clone(), upload, etag, sink, _claim: self })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        Self::busy(&self.engine).remove(&self.generation);
    }
}

impl Writer {
    fn key(&self) -> String {
        key::upload(self.upload.generation)
    }

    fn check_offset(&self, expected: Option<u64>) -> Result<(), EngineError> {
        let actual = self.sink.offset();
        if expected.is_some_and(|expected| expected != actual) {
            return Err(EngineError::UploadOffset { actual });
        }
        Ok(())
    }

    async fn absorb(&mut self, mut body: ByteStream) -> Result<(), EngineError> {
        while let Some(mut chunk) = self.sink.next(&mut body).await? {
            while !chunk.is_empty() {
                if self.sink.is_full() {
                    self.sink.flush().await?;
                    if self.sink.parts().is_multiple_of(CHECKPOINT) {
                        self.save().await?;
                    }
                }
                self.sink.take(&mut chunk).await?;
            }
        }
        Ok(())
    }

    /// Takes the body in; what arrived before it broke off is kept, so that the client can go on from there.
    async fn absorb_and_keep(&mut self, body: ByteStream) -> Result<(), EngineError> {
        let before = self.sink.offset();
        let result = self.absorb(body).await;
        if matches!(result, Err(EngineError::Body(_))) && self.sink.offset() > before {
            self.save().await?;
        }
        result
    }

    async fn save(&mut self) -> Result<(), EngineError> {
        let received = self.sink.save().await?;
        self.write(Progress::Open(received)).await?;
        self.sink.sweep().await;
        Ok(())
    }

    async fn write(&mut self, progress: Progress) -> Result<(), EngineError> {
        let session = Session { repository: self.repository.clone(), progress };
        let mode = self.etag.clone().map_or(PutMode::Create, PutMode::Update);
        match self.engine.swap_record(&self.key(), mode, &session).await? {
            Swap::Won(etag) => {
                self.etag = Some(etag);
                Ok(())
            }
            // Another replica was first: tell the client where the upload stands.
            Swap::Lost(_) => match self.engine.session(&self.repository, &self.upload).await? {
                Some((Progress::Open(received), _)) => {
                    Err(EngineError::UploadOffset { actual: received.offset })
                }
                _ => Err(EngineError::UploadUnknown),
            },
        }
    }
}

impl Engine {
    /// Begins an upload; the digest will be computed with `algorithm` as the bytes arrive. Writes nothing.
    #[allow(clippy::unused_async)] // Part of the interface: a store-backed session may be needed one day.
    pub async fn begin_upload(
        &self,
        repository: &RepositoryName,
        algorithm: Algorithm,
    ) -> Result<UploadId, EngineError> {
        Ok(Upload::begin(algorithm).name(&self.inner.upload_key, repository))
    }

    /// How many bytes an upload holds.
    pub async fn upload_offset(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
    ) -> Result<u64, EngineError> {
        let upload = Upload::parse(id, &self.inner.upload_key, repository)?;
        match self.session(repository, &upload).await? {
            None => Ok(0),
            Some((Progress::Open(received), _)) => Ok(received.offset),
            Some(_) => Err(EngineError::UploadUnknown),
        }
    }

    /// Adds bytes to an upload. `expected_offset`: where the client believes that it stands. If the body breaks off,
    /// what arrived is kept.
    pub async fn append(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
        expected_offset: Option<u64>,
        body: ByteStream,
    ) -> Result<Appended, EngineError> {
        let mut upload = Upload::parse(id, &self.inner.upload_key, repository)?;
        let place = self.admit()?;
        upload.fresh &= expected_offset.is_none_or(|offset| offset == 0);
        let (engine, repository, id) = (self.clone(), repository.clone(), id.clone());
        // A task of its own: when the client goes away the server drops the request, but not what has arrived.
        self.detach(async move {
            let _place = place;
            let mut writer = engine.writer(&repository, upload).await?;
            writer.check_offset(expected_offset)?;
            let kept = writer.absorb_and_keep(body).await;
            let saved = match kept {
                Ok(()) => writer.save().await,
                Err(error) => Err(error),
            };
            if let Err(error) = saved {
                if writer.etag.is_none() {
                    // No record names what was written.
                    writer.sink.discard().await;
                }
                return Err(error);
            }
            let offset = writer.sink.offset();
            Ok(Appended { offset, id: id.at(offset) })
        })
        .await
    }

    /// Adds the last bytes, which may be none, and makes the upload a blob of the repository. Bytes from the first on, under
    /// the name that the upload began with, are the whole blob, whatever arrived before.
    pub async fn finish_upload(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
        expected_offset: Option<u64>,
        body: ByteStream,
        digest: &Digest,
    ) -> Result<BlobStat, EngineError> {
        let upload = Upload::parse(id, &self.inner.upload_key, repository)?;
        let (engine, repository, digest) = (self.clone(), repository.clone(), digest.clone());
        let place = self.admit()?;
        self.detach(async move {
            let _place = place;
            if upload.fresh && expected_offset == Some(0) {
                engine.finish_whole(&repository, upload, body, &digest).await
            } else {
                engine.finish(&repository, upload, expected_offset, body, &digest).await
            }
        })
        .await
    }

    /// A client that lost the answer, or was told to wait, sends all of it again under the same name (containerd, oras).
    /// So such a request has bytes of its own and leaves the session alone, in which another one may still be under way.
    async fn finish_whole(
        &self,
        repository: &RepositoryName,
        upload: Upload,
        body: ByteStream,
        digest: &Digest,
    ) -> Result<BlobStat, EngineError> {
        match self.session(repository, &upload).await? {
            None | Some((Progress::Open(_), _)) => self.take_blob(repository, digest, body).await,
            Some((Progress::Finished { digest: done, size, data }, _)) if done == *digest => {
                self.repeat_commit(repository, digest, size, &data).await
            }
            Some(_) => Err(EngineError::UploadUnknown),
        }
    }

    async fn finish(
        &self,
        repository: &RepositoryName,
        upload: Upload,
        expected_offset: Option<u64>,
        body: ByteStream,
        digest: &Digest,
    ) -> Result<BlobStat, EngineError> {
        let claim = Claim::take(self, upload.generation)?;
        let session = match self.session(repository, &upload).await? {
            Some((Progress::Finished { digest: done, size, data }, _)) if done == *digest => {
                return self.repeat_commit(repository, digest, size, &data).await;
            }
            session => session,
        };
        // A whole blob in one request may choose its algorithm late.
        let upload = Upload { algorithm: digest.algorithm(), ..upload };
        let mut writer = claim.writer(repository, upload, session)?;
        writer.check_offset(expected_offset)?;
        writer.absorb_and_keep(body).await?;
        let size = writer.sink.offset();
        let data = match writer.sink.complete(digest).await {
            Ok(data) => data,
            Err(error) => {
                if matches!(error, EngineError::DigestMismatch { .. } | EngineError::UploadLost) {
                    if writer.etag.is_some() {
                        writer.write(Progress::Cancelled).await?;
                    }
                    writer.sink.discard().await;
                }
                return Err(error);
            }
        };
        if writer.etag.is_some() {
            // From here on the bytes are the blob's: a cancellation that comes late must not take them.
            let progress = Progress::Finished { digest: digest.clone(), size, data: data.clone() };
            writer.write(progress).await?;
        }
        let (stat, ()) = futures::try_join!(self.commit(repository, digest, size, &data), async {
            writer.sink.sweep().await;
            Ok(())
        })?;
        Ok(stat)
    }

    /// Writes a blob whose bytes come in one request without a session.
    pub async fn put_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        body: ByteStream,
    ) -> Result<BlobStat, EngineError> {
        let (engine, repository, digest) = (self.clone(), repository.clone(), digest.clone());
        let place = self.admit()?;
        self.detach(async move {
            let _place = place;
            engine.take_blob(&repository, &digest, body).await
        })
        .await
    }

    async fn take_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        mut body: ByteStream,
    ) -> Result<BlobStat, EngineError> {
        let mut sink = Sink::new(self, digest.algorithm());
        let taken = async {
            while let Some(mut chunk) = sink.next(&mut body).await? {
                while !chunk.is_empty() {
                    if sink.is_full() {
                        sink.flush().await?;
                    }
                    sink.take(&mut chunk).await?;
                }
            }
            sink.complete(digest).await
        }
        .await;
        match taken {
            Ok(data) => {
                sink.sweep().await;
                self.commit(repository, digest, sink.offset(), &data).await
            }
            Err(error) => {
                sink.discard().await;
                Err(error)
            }
        }
    }

    /// Gives an upload up and removes what has arrived.
    pub async fn cancel_upload(&self, repository: &RepositoryName, id: &UploadId) -> Result<(), EngineError> {
        let upload = Upload::parse(id, &self.inner.upload_key, repository)?;
        let mut writer = self.writer(repository, Upload { fresh: false, ..upload }).await?;
        writer.write(Progress::Cancelled).await?;
        writer.sink.discard().await;
        Ok(())
    }

    async fn session(
        &self,
        repository: &RepositoryName,
        upload: &Upload,
    ) -> Result<Option<(Progress, Etag)>, EngineError> {
        match self.read_record::<Session>(&key::upload(upload.generation)).await? {
            Some((session, _)) if session.repository != *repository => Err(EngineError::UploadUnknown),
            Some((session, etag)) => Ok(Some((session.progress, etag))),
            None => Ok(None),
        }
    }

    async fn writer(&self, repository: &RepositoryName, upload: Upload) -> Result<Writer, EngineError> {
        let claim = Claim::take(self, upload.generation)?;
        // A new name spares the look: should the session exist after all, creating it will fail.
        let session = if upload.fresh { None } else { self.session(repository, &upload).await? };
        claim.writer(repository, upload, session)
    }

    /// Makes verified bytes a blob of the repository.
    pub(super) async fn commit(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
        data: &str,
    ) -> Result<BlobStat, EngineError> {
        let place = Place::new(repository, digest);
        let finish = Finish::new(data.to_owned(), size, Timestamp::now());
        let (finished, ()) = futures::try_join!(self.drive(finish, &place), self.enter_catalog(repository))?;
        let adopted = match finished {
            Finished::Committed { data } => Some(data),
            Finished::Lost => None,
        };
        if adopted.as_deref() != Some(data) {
            // The blob was here already. No record names these bytes; failing costs some of them until a scrub.
            let _ = self.store().delete(data).await;
        }
        let adopted = adopted.ok_or(EngineError::UploadLost)?;
        let link = Link { state: State::Live, size, data: adopted, since: Timestamp::now() };
        self.inner.links.put(repository, digest, link);
        Ok(BlobStat { digest: digest.clone(), size })
    }

    /// The client's answer, or the last step itself, was lost. What the first attempt did, or will still do, is not
    /// known. So these bytes are neither deleted here nor put before the blob's record again: if the record does not
    /// name them, a copy is a new upload.
    async fn repeat_commit(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
        data: &str,
    ) -> Result<BlobStat, EngineError> {
        match self.stat_blob(repository, digest).await {
            Err(EngineError::BlobUnknown(_)) => {}
            known => return known,
        }
        let again = Finish::again(data.to_owned(), size, Timestamp::now());
        if let Finished::Committed { .. } = self.drive(again, &Place::new(repository, digest)).await? {
            self.enter_catalog(repository).await?;
            return Ok(BlobStat { digest: digest.clone(), size });
        }
        match self.store().get(data, GetOptions::default()).await {
            Ok(object) => {
                let body = object.body.map_err(std::io::Error::other).boxed();
                self.put_blob(repository, digest, body).await
            }
            Err(StoreError::NotFound(_)) => Err(EngineError::UploadLost),
            Err(error) => Err(error.into()),
        }
    }
}
