//! The memory for parts of uploads, shared by all of them: a share is one part. Every upload needs but one share to go
//! on, so none waits for ever; one that fills its share slowly gives it back when others wait.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::EngineError;

/// For so long a share is one's own.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct PartMemory {
    shares: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// A share; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Share {
    _permit: OwnedSemaphorePermit,
    since: Instant,
}

impl Share {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        Self { _permit: permit, since: Instant::now() }
    }

    /// Whether it has been held for longer than is fair while others wait.
    pub(super) fn is_overdue(&self) -> bool {
        self.since.elapsed() >= PATIENCE
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
    pub(super) fn new(bytes: usize, part_size: usize) -> Self {
        let shares = (bytes / part_size.max(1)).clamp(2, Semaphore::MAX_PERMITS);
        Self { shares: Arc::new(Semaphore::new(shares)), waiting: AtomicUsize::new(0) }
    }

    /// Waits for a share, first come first served.
    pub(super) async fn share(&self) -> Result<Share, EngineError> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        let permit = Arc::clone(&self.shares).acquire_owned().await.map_err(|_| EngineError::UploadBusy)?;
        Ok(Share::new(permit))
    }

    /// A share if one is free.
    pub(super) fn try_share(&self) -> Option<Share> {
        Arc::clone(&self.shares).try_acquire_owned().ok().map(Share::new)
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.shares.available_permits()
    }
}
