//! The collector: gives back what nothing refers to any more. A run works through what deletions left under `q/`, then
//! deletes what is due under `z/`, then sweeps uploads that nobody goes on with. Each decision is a machine of
//! `berth_registry_core::protocol`, so that any number of runs, on any replica, beside any pushes, may stop at any call:
//! a record of work is removed last, and the next run does again what is not done.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use berth_registry_core::job::{GcLine, GcSummary};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc::Sender;

use super::{Engine, EngineError};
use crate::store::{OverlayStore, PacedStore, StoreError};

mod blobs;
mod candidates;
mod links;
mod sessions;
mod trash;

/// Requests that a run makes at once.
const WIDTH: usize = 128;
/// Repositories that a run works on at once.
const REPOSITORIES: usize = 16;
/// What a dry run may keep in memory, in bytes; then it ends early and says so.
const DRY_RUN_MEMORY: usize = 64 << 20;

/// One run.
struct Run {
    engine: Engine,
    paced: Arc<PacedStore>,
    /// Where the writes of a dry run go.
    overlay: Option<Arc<OverlayStore>>,
    now: Timestamp,
    /// What was written before may be unneeded, what came later is spared.
    lease: Timestamp,
    window: SignedDuration,
    lines: Sender<GcLine>,
    counts: Counts,
    /// The store does not answer: nothing more can be done.
    away: AtomicBool,
}

#[derive(Default)]
struct Counts {
    examined: AtomicU64,
    condemned: AtomicU64,
    spared: AtomicU64,
    dead: AtomicU64,
    purged: AtomicU64,
    bytes_freed: AtomicU64,
    sessions: AtomicU64,
    failed: AtomicU64,
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Engine {
    /// Collects garbage once and says what it does; in a dry run, what it would do. Never fails: what could not be done
    /// is counted, and left for the next run.
    pub async fn collect(&self, dry_run: bool, lines: Sender<GcLine>) -> GcSummary {
        self.collect_at(Timestamp::now(), dry_run, lines).await
    }

    /// As if it were `started` now.
    pub(super) async fn collect_at(
        &self,
        started: Timestamp,
        dry_run: bool,
        lines: Sender<GcLine>,
    ) -> GcSummary {
        let paced = Arc::new(PacedStore::new(self.inner.store.clone(), WIDTH));
        let overlay = dry_run.then(|| Arc::new(OverlayStore::new(paced.clone())));
        let engine = match &overlay {
            Some(overlay) => self.over(overlay.clone()),
            None => self.over(paced.clone()),
        };
        let options = self.options();
        let span = |span| SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
        let run = Run {
            engine,
            paced,
            overlay,
            now: started,
            lease: started.checked_sub(span(options.upload_lease)).unwrap_or(Timestamp::MIN),
            window: span(options.undelete_window),
            lines,
            counts: Counts::default(),
            away: AtomicBool::new(false),
        };
        let complete = run.all().await;
        run.summary(complete)
    }
}

impl Run {
    /// Whether it came to the end of its work.
    async fn all(&self) -> bool {
        for stage in ["q", "z", "u"] {
            let done = match stage {
                "q" => self.candidates().await,
                "z" => self.trash().await,
                _ => self.sessions().await,
            };
            if let Err(error) = done {
                self.failed(stage, &error).await;
                return false;
            }
            if self.must_stop() {
                return false;
            }
        }
        true
    }

    /// Whether to go on would be in vain, or take too much memory.
    fn must_stop(&self) -> bool {
        self.away.load(Ordering::Relaxed)
            || self.overlay.as_ref().is_some_and(|overlay| overlay.bytes() > DRY_RUN_MEMORY)
    }

    fn summary(&self, complete: bool) -> GcSummary {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &self.counts;
        GcSummary {
            dry_run: self.overlay.is_some(),
            complete,
            started: self.now,
            finished: Timestamp::now(),
            examined: get(&counts.examined),
            condemned: get(&counts.condemned),
            spared: get(&counts.spared),
            dead: get(&counts.dead),
            purged: get(&counts.purged),
            bytes_freed: get(&counts.bytes_freed),
            sessions: get(&counts.sessions),
            failed: get(&counts.failed),
            requests: self.paced.calls(),
        }
    }

    /// Says what was done, to whoever listens and, if it is true, to the audit log.
    async fn tell(&self, line: GcLine) {
        if self.overlay.is_none() {
            audit(&line);
        }
        let _ = self.lines.send(line).await;
    }

    async fn failed(&self, subject: &str, error: &EngineError) {
        tracing::warn!(subject, %error, reason = error.reason(), "not collected");
        if matches!(error, EngineError::Store(StoreError::Unreachable(_))) {
            self.away.store(true, Ordering::Relaxed);
        }
        add(&self.counts.failed, 1);
        self.tell(GcLine::Failed { subject: subject.to_owned(), message: error.to_string() }).await;
    }
}

fn audit(line: &GcLine) {
    match line {
        GcLine::Unlinked { repository, digest, reason } => {
            tracing::info!(target: "audit", %repository, %digest, reason, "blob taken out of a repository");
        }
        GcLine::Dead { digest, bytes, until, reason } => {
            tracing::info!(target: "audit", %digest, bytes, %until, reason, "blob is to be deleted");
        }
        GcLine::Purged { digest, bytes, reason } => {
            tracing::info!(target: "audit", %digest, bytes, reason, "blob deleted");
        }
        GcLine::Forgotten { repository, digest, reason } => {
            tracing::info!(target: "audit", %repository, %digest, reason, "manifest forgotten");
        }
        GcLine::Abandoned { repository, digest, reason } => {
            tracing::info!(target: "audit", %repository, %digest, reason, "unfinished manifest withdrawn");
        }
        GcLine::Session { repository, upload, reason } => {
            tracing::info!(target: "audit", %repository, upload, reason, "upload removed");
        }
        GcLine::Failed { .. } | GcLine::Summary(_) => {}
    }
}
