//! Bytes on their way from a client into the store: hashed as they come, cut into parts, in bounded memory.
//! Written straight to the key that the blob will have; nothing is copied when the upload is finished.

use berth_registry_core::{
    Algorithm, Digest, key,
    record::{Multipart, Received, Tail},
};
use bytes::{Buf as _, Bytes};
use futures::TryStreamExt as _;
use tokio::{task::JoinHandle, time::timeout};
use ulid::Ulid;

use super::{
    ByteStream, Engine, EngineError,
    hasher::Hasher,
    part_memory::{PATIENCE, Share},
};
use crate::store::{Etag, GetOptions, PutMode, StoreError, read};

/// A buffer up to this size takes no share of the memory for parts.
const SMALL: usize = 64 << 10;
/// S3 takes so many parts.
const MAX_PARTS: usize = 10_000;

/// Where the bytes of one upload go.
#[derive(Debug)]
pub(super) struct Sink {
    engine: Engine,
    part_size: usize,
    hasher: Hasher,
    offset: u64,
    multipart: Option<Multipart>,
    /// Stored bytes after the last part, not read back yet.
    tail: Option<Tail>,
    /// Tails that were read back: garbage once the session no longer names them.
    consumed: Vec<String>,
    buffer: Vec<u8>,
    share: Option<Share>,
    in_flight: Option<JoinHandle<Result<Etag, StoreError>>>,
}

impl Sink {
    pub(super) fn new(engine: &Engine, algorithm: Algorithm) -> Self {
        Self {
            engine: engine.clone(),
            part_size: engine.store().part_size(),
            hasher: Hasher::new(algorithm),
            offset: 0,
            multipart: None,
            tail: None,
            consumed: Vec::new(),
            buffer: Vec::new(),
            share: None,
            in_flight: None,
        }
    }

    pub(super) fn resume(engine: &Engine, received: Received) -> Option<Self> {
        Some(Self {
            hasher: Hasher::load(received.algorithm, &received.hash)?,
            offset: received.offset,
            multipart: received.multipart,
            tail: received.tail,
            ..Self::new(engine, received.algorithm)
        })
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// How many parts were written.
    pub(super) fn parts(&self) -> usize {
        self.multipart.as_ref().map_or(0, |multipart| multipart.parts.len())
            + usize::from(self.in_flight.is_some())
    }

    /// Whether a part must be written before more bytes can be taken.
    pub(super) fn is_full(&self) -> bool {
        self.buffer.len() >= self.part_size
    }

    /// Takes bytes from the front of `chunk`, at most until a part is full.
    pub(super) async fn take(&mut self, chunk: &mut Bytes) -> Result<(), EngineError> {
        self.load_tail().await?;
        let count = chunk.len().min(self.part_size - self.buffer.len());
        self.reserve(count).await?;
        self.hasher.update(&chunk[..count]);
        self.buffer.extend_from_slice(&chunk[..count]);
        self.offset += count as u64;
        chunk.advance(count);
        Ok(())
    }

    async fn reserve(&mut self, count: usize) -> Result<(), EngineError> {
        if self.share.is_none() && self.buffer.len() + count > SMALL {
            self.share = Some(self.engine.inner.part_memory.share().await?);
            self.buffer.reserve_exact(self.part_size - self.buffer.len());
        }
        Ok(())
    }

    async fn load_tail(&mut self) -> Result<(), EngineError> {
        if let Some(tail) = self.tail.take() {
            let size = usize::try_from(tail.size).unwrap_or(usize::MAX);
            self.reserve(size).await?;
            let (bytes, _) = read(self.engine.store(), &tail.data).await?;
            self.buffer.extend_from_slice(&bytes);
            self.consumed.push(tail.data);
        }
        Ok(())
    }

    /// The next bytes of a body. While they are awaited, memory that others need more is given up.
    pub(super) async fn next(&mut self, body: &mut ByteStream) -> Result<Option<Bytes>, EngineError> {
        loop {
            if self.engine.inner.part_memory.is_wanted() && self.share.as_ref().is_some_and(Share::is_overdue)
            {
                self.store_tail().await?;
            }
            // Asking a stream again after a while loses nothing of it.
            if let Ok(chunk) = timeout(PATIENCE, body.try_next()).await {
                return chunk.map_err(EngineError::Body);
            }
        }
    }

    /// Moves the buffer into the store, from where it is read back when more bytes come.
    async fn store_tail(&mut self) -> Result<(), EngineError> {
        if !self.buffer.is_empty() {
            let tail = Tail { data: key::data(Ulid::generate()), size: self.buffer.len() as u64 };
            let body = Bytes::from(std::mem::take(&mut self.buffer));
            self.engine.store().put(&tail.data, body, PutMode::Overwrite).await?;
            self.tail = Some(tail);
        }
        self.share = None;
        Ok(())
    }

    /// Writes the buffer as the next part. While memory allows, the client's next bytes are taken at the same time.
    pub(super) async fn flush(&mut self) -> Result<(), EngineError> {
        self.settle().await?;
        let multipart = if let Some(multipart) = &mut self.multipart {
            multipart
        } else {
            let data = key::data(Ulid::generate());
            let id = self.engine.store().create_multipart(&data).await?;
            self.multipart.insert(Multipart { data, id, parts: Vec::new() })
        };
        let index = multipart.parts.len();
        if index >= MAX_PARTS {
            return Err(EngineError::UploadTooLarge);
        }
        let body = Bytes::from(std::mem::take(&mut self.buffer));
        let (engine, data, id) = (self.engine.clone(), multipart.data.clone(), multipart.id.clone());
        let write = async move { engine.store().put_part(&data, &id, index, body).await };
        if let Some(next) = self.engine.inner.part_memory.try_share() {
            let current = self.share.replace(next);
            self.in_flight = Some(tokio::spawn(async move {
                let etag = write.await;
                drop(current);
                etag
            }));
        } else {
            multipart.parts.push(write.await?);
        }
        self.buffer.reserve_exact(self.part_size);
        Ok(())
    }

    /// Waits for the part that is on its way.
    async fn settle(&mut self) -> Result<(), EngineError> {
        if let Some(task) = self.in_flight.take() {
            let etag = task.await.map_err(|e| StoreError::Other(format!("writing a part ended: {e}")))??;
            if let Some(multipart) = &mut self.multipart {
                multipart.parts.push(etag);
            }
        }
        Ok(())
    }

    /// Brings all bytes into the store and says where they are, so that any replica can go on.
    pub(super) async fn save(&mut self) -> Result<Received, EngineError> {
        if self.is_full() && self.multipart.is_some() {
            self.flush().await?;
        }
        self.settle().await?;
        self.store_tail().await?;
        Ok(Received {
            offset: self.offset,
            algorithm: self.hasher.algorithm(),
            hash: self.hasher.save(),
            multipart: self.multipart.clone(),
            tail: self.tail.clone(),
        })
    }

    /// Checks the content and makes it one object; answers its key.
    pub(super) async fn complete(&mut self, expected: &Digest) -> Result<String, EngineError> {
        let known = self.hasher.algorithm() == expected.algorithm();
        if known {
            // Known before a byte more is written.
            compare(expected, self.hasher.digest())?;
        }
        let (data, trusted) = match self.join().await {
            Ok(data) => (data, known),
            // An earlier attempt may have joined the parts and died: then the object is there.
            Err(EngineError::Store(StoreError::NotFound(_))) => match &self.multipart {
                Some(multipart) => (multipart.data.clone(), false),
                None => return Err(EngineError::UploadLost),
            },
            Err(error) => return Err(error),
        };
        if !trusted {
            let actual = self.hash_object(&data, expected.algorithm()).await?;
            compare(expected, actual)?;
        }
        Ok(data)
    }

    async fn join(&mut self) -> Result<String, EngineError> {
        self.settle().await?;
        if self.multipart.is_none() {
            if let Some(tail) = &self.tail {
                return Ok(tail.data.clone());
            }
            let data = key::data(Ulid::generate());
            let body = Bytes::from(std::mem::take(&mut self.buffer));
            self.engine.store().put(&data, body, PutMode::Overwrite).await?;
            self.share = None;
            return Ok(data);
        }
        self.load_tail().await?;
        if !self.buffer.is_empty() {
            self.flush().await?;
            self.settle().await?;
        }
        self.buffer = Vec::new();
        self.share = None;
        let Some(multipart) = &self.multipart else { return Err(EngineError::UploadLost) };
        self.engine.store().complete_multipart(&multipart.data, &multipart.id, &multipart.parts).await?;
        Ok(multipart.data.clone())
    }

    async fn hash_object(&self, data: &str, algorithm: Algorithm) -> Result<Option<Digest>, EngineError> {
        let object = match self.engine.store().get(data, GetOptions::default()).await {
            Ok(object) if object.meta.size == self.offset => object,
            Ok(_) | Err(StoreError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut hasher = Hasher::new(algorithm);
        let mut body = object.body;
        while let Some(chunk) = body.try_next().await? {
            hasher.update(&chunk);
        }
        Ok(hasher.digest())
    }

    /// Removes tails that were read back, now that nothing names them. Failing costs some bytes until a scrub.
    pub(super) async fn sweep(&mut self) {
        for data in self.consumed.drain(..) {
            let _ = self.engine.store().delete(&data).await;
        }
    }

    /// Removes everything that was written. Failing costs some bytes until a scrub.
    pub(super) async fn discard(mut self) {
        let _ = self.settle().await;
        if let Some(multipart) = &self.multipart {
            let _ = self.engine.store().abort_multipart(&multipart.data, &multipart.id).await;
        }
        if let Some(tail) = self.tail.take() {
            self.consumed.push(tail.data);
        }
        self.sweep().await;
    }
}

fn compare(expected: &Digest, actual: Option<Digest>) -> Result<(), EngineError> {
    match actual {
        Some(actual) if actual == *expected => Ok(()),
        Some(actual) => Err(EngineError::DigestMismatch { expected: expected.clone(), actual }),
        None => Err(EngineError::UploadLost),
    }
}
