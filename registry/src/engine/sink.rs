//! Bytes on their way from a client into the store: hashed as they come, cut into parts, in bounded memory.
//! Written straight to the key that the blob will have; nothing is copied when the upload is finished.

use std::{mem, time::Duration};

use berth_registry_core::{
    Algorithm, Digest, key,
    record::{Multipart, Received, Tail},
};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};
use ulid::Ulid;

use super::{ByteStream, Engine, EngineError, hasher::Hasher, part_memory::Share};
use crate::store::{Etag, GetOptions, PutMode, StoreError};

/// So many bytes of an upload take no share of the memory for parts.
const SMALL: usize = 64 << 10;
/// S3 takes so many parts.
const MAX_PARTS: usize = 10_000;
/// A client at whose pace a part takes longer than this is slow: it holds no share while others wait for one.
const SLOW: Duration = Duration::from_secs(10);
/// How often a silent client's share is looked at.
const TICK: Duration = Duration::from_millis(100);
/// Pieces that are fetched ahead when they are read back.
const AHEAD: usize = 16;

/// Where the bytes of one upload go.
#[derive(Debug)]
pub(super) struct Sink {
    engine: Engine,
    part_size: usize,
    hasher: Hasher,
    offset: u64,
    multipart: Option<Multipart>,
    /// Stored bytes between the last part and those in memory, not read back yet: where an earlier request stopped, and
    /// what a slow client sent.
    aside: Vec<Tail>,
    /// What was read back: garbage once the session no longer names it.
    consumed: Vec<String>,
    /// Bytes in memory; in `share` once there are more than [`SMALL`].
    small: Vec<u8>,
    share: Option<Share>,
    pace: Pace,
    in_flight: Option<JoinHandle<Result<Etag, StoreError>>>,
}

/// How fast a client sends, of late.
#[derive(Debug, Default)]
struct Pace {
    waited: Duration,
    bytes: usize,
}

impl Pace {
    fn note(&mut self, waited: Duration, bytes: usize) {
        self.waited += waited;
        self.bytes += bytes;
        if self.bytes > 4 * SMALL {
            self.waited /= 2;
            self.bytes /= 2;
        }
    }

    fn is_slow(&self, part_size: usize) -> bool {
        self.waited.as_nanos() * part_size as u128 > SLOW.as_nanos() * self.bytes as u128
    }
}

impl Sink {
    pub(super) fn new(engine: &Engine, algorithm: Algorithm) -> Self {
        Self {
            engine: engine.clone(),
            part_size: engine.store().part_size(),
            hasher: Hasher::new(algorithm),
            offset: 0,
            multipart: None,
            aside: Vec::new(),
            consumed: Vec::new(),
            small: Vec::new(),
            share: None,
            pace: Pace::default(),
            in_flight: None,
        }
    }

    pub(super) fn resume(engine: &Engine, received: Received) -> Option<Self> {
        Some(Self {
            hasher: Hasher::load(received.algorithm, &received.hash)?,
            offset: received.offset,
            multipart: received.multipart,
            aside: Vec::from_iter(received.tail),
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

    fn in_memory(&self) -> usize {
        self.share.as_ref().map_or(self.small.len(), Share::len)
    }

    /// Bytes that are not in a part yet.
    fn unwritten(&self) -> usize {
        let aside: u64 = self.aside.iter().map(|tail| tail.size).sum();
        usize::try_from(aside).unwrap_or(usize::MAX).saturating_add(self.in_memory())
    }

    /// Whether a part must be written before more bytes can be taken.
    pub(super) fn is_full(&self) -> bool {
        self.unwritten() >= self.part_size
    }

    fn must_yield(&self) -> bool {
        self.pace.is_slow(self.part_size) && self.engine.inner.part_memory.is_wanted()
    }

    /// Takes bytes from the front of `chunk`, at most until a part is full.
    pub(super) async fn take(&mut self, chunk: &mut Bytes) -> Result<(), EngineError> {
        if self.share.is_none() && self.small.len() + chunk.len() > SMALL {
            if self.must_yield() {
                self.put_aside().await?;
            } else {
                self.claim().await?;
            }
        }
        let mut room = self.part_size.saturating_sub(self.unwritten());
        if self.share.is_none() {
            room = room.min(SMALL - self.small.len());
        }
        let taken = chunk.split_to(chunk.len().min(room));
        self.hasher.update(&taken);
        match &mut self.share {
            Some(share) => share.extend(&taken),
            None => self.small.extend_from_slice(&taken),
        }
        self.offset += taken.len() as u64;
        Ok(())
    }

    /// Takes a share of the memory, and brings what stands before the bytes in memory back into it.
    async fn claim(&mut self) -> Result<(), EngineError> {
        if self.share.is_some() {
            return Ok(());
        }
        let mut share = self.engine.inner.part_memory.share().await?;
        let store = self.engine.store();
        let opened = self.aside.iter().map(|tail| store.get(&tail.data, GetOptions::default()));
        let mut opened = stream::iter(opened.collect::<Vec<_>>()).buffered(AHEAD);
        while let Some(mut object) = opened.try_next().await? {
            while let Some(bytes) = object.body.try_next().await? {
                share.extend(&bytes);
            }
        }
        drop(opened);
        self.consumed.extend(self.aside.drain(..).map(|tail| tail.data));
        share.extend(&mem::take(&mut self.small));
        self.share = Some(share);
        Ok(())
    }

    /// The next bytes of a body. While a slow client is waited for, memory that others need is given up.
    pub(super) async fn next(&mut self, body: &mut ByteStream) -> Result<Option<Bytes>, EngineError> {
        loop {
            if self.share.is_some() && self.must_yield() {
                self.put_aside().await?;
            }
            let begun = Instant::now();
            // Asking a stream again after a while loses nothing of it.
            match timeout(TICK, body.try_next()).await {
                Ok(chunk) => {
                    let chunk = chunk.map_err(EngineError::Body)?;
                    self.pace.note(begun.elapsed(), chunk.as_ref().map_or(0, Bytes::len));
                    return Ok(chunk);
                }
                Err(_) => self.pace.note(begun.elapsed(), 0),
            }
        }
    }

    /// Moves what is in memory into the store, from where it is read back when it is needed.
    async fn put_aside(&mut self) -> Result<(), EngineError> {
        let size = self.in_memory();
        let body = self.release();
        if size > 0 {
            let tail = Tail { data: key::data(Ulid::generate()), size: size as u64 };
            self.engine.store().put(&tail.data, body, PutMode::Overwrite).await?;
            self.aside.push(tail);
        }
        Ok(())
    }

    /// What is in memory; the share goes back when it is dropped.
    fn release(&mut self) -> Bytes {
        match self.share.take() {
            Some(share) => share.into_bytes(),
            None => mem::take(&mut self.small).into(),
        }
    }

    /// All that is not in a part yet.
    async fn unwritten_bytes(&mut self) -> Result<Bytes, EngineError> {
        if !self.aside.is_empty() {
            self.claim().await?;
        }
        Ok(self.release())
    }

    /// Writes what is not in a part yet as the next part. While memory allows, the client's next bytes are taken at the
    /// same time; else it is another upload's turn, and this one queues up again for its next part.
    pub(super) async fn flush(&mut self) -> Result<(), EngineError> {
        self.settle().await?;
        let body = self.unwritten_bytes().await?;
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
        let (engine, data, id) = (self.engine.clone(), multipart.data.clone(), multipart.id.clone());
        let write = async move { engine.store().put_part(&data, &id, index, body).await };
        self.share = self.engine.inner.part_memory.try_share();
        if self.share.is_some() {
            self.in_flight = Some(tokio::spawn(write));
        } else {
            multipart.parts.push(write.await?);
        }
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
        if self.aside.len() + usize::from(self.in_memory() > 0) > 1 {
            // A session names one tail.
            self.claim().await?;
        }
        self.put_aside().await?;
        Ok(Received {
            offset: self.offset,
            algorithm: self.hasher.algorithm(),
            hash: self.hasher.save(),
            multipart: self.multipart.clone(),
            tail: self.aside.first().cloned(),
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
            if let ([whole], 0) = (self.aside.as_slice(), self.in_memory()) {
                return Ok(whole.data.clone());
            }
            let data = key::data(Ulid::generate());
            let body = self.unwritten_bytes().await?;
            self.engine.store().put(&data, body, PutMode::Overwrite).await?;
            return Ok(data);
        }
        if self.unwritten() > 0 {
            self.flush().await?;
            self.settle().await?;
        }
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

    /// Removes what was read back, now that nothing names it. Failing costs some bytes until a scrub.
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
        self.consumed.extend(self.aside.drain(..).map(|tail| tail.data));
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
