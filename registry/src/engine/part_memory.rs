//! The memory for parts of uploads, shared by all of them: a share is the buffer of one part. An upload holds one while
//! it fills or writes a part and waits for nothing else with it in hand but its client and the store; a slow client gives
//! it up when others wait (`sink`). So none waits for ever, and what the process needs does not grow with the uploads.

use std::{
    mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::EngineError;
use crate::tally;

#[derive(Debug)]
pub(super) struct PartMemory {
    shares: Arc<Semaphore>,
    count: usize,
    part_size: usize,
    waiting: AtomicUsize,
    /// Buffers between two uses, kept for good: large allocations that come and go make a heap that only grows, and of
    /// each thread's another one.
    spare: Mutex<Vec<Vec<u8>>>,
}

/// A share: the buffer of one part. It goes back when the last of what it became is dropped.
#[derive(Debug)]
pub(super) struct Share {
    memory: Arc<PartMemory>,
    buffer: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

impl Share {
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Adds bytes; the caller sees to it that they fit into a part.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The content, not copied: the share is taken until the store has let go of it.
    pub(super) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Share {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut buffer = mem::take(&mut self.buffer);
        buffer.clear();
        self.memory.spare().push(buffer);
    }
}

/// Counts the one that waits, also when it stops waiting because its request is gone.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl PartMemory {
    /// As many shares as fit into so many bytes, two at least.
    pub(super) fn new(bytes: usize, part_size: usize) -> Arc<Self> {
        let count = (bytes / part_size.max(1)).clamp(2, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            shares: Arc::new(Semaphore::new(count)),
            count,
            part_size,
            waiting: AtomicUsize::new(0),
            spare: Mutex::default(),
        })
    }

    fn spare(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lend(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Share {
        let buffer = self.spare().pop().unwrap_or_else(|| Vec::with_capacity(self.part_size));
        Share { memory: Arc::clone(self), buffer, _permit: permit }
    }

    /// Waits for a share, first come first served.
    pub(super) async fn share(self: &Arc<Self>) -> Result<Share, EngineError> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        let permit = tally::waits_for_memory(Arc::clone(&self.shares).acquire_owned())
            .await
            .map_err(|_| EngineError::UploadBusy)?;
        Ok(self.lend(permit))
    }

    /// Bytes in use, and how many wait.
    pub(super) fn load(&self) -> (usize, usize) {
        ((self.count - self.free()) * self.part_size, self.waiting.load(Ordering::Relaxed))
    }

    /// A share if one is free.
    pub(super) fn try_share(self: &Arc<Self>) -> Option<Share> {
        Arc::clone(&self.shares).try_acquire_owned().ok().map(|permit| self.lend(permit))
    }

    /// Whether an upload waits for a share.
    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    pub(super) fn free(&self) -> usize {
        self.shares.available_permits()
    }
}
