//! The integrity check: every byte hashed against its digest, every record followed both ways, and what can be put right
//! put right. `jobs::scrub` runs it; what the findings mean stands in `berth_registry_core::scrub`. Nothing here is
//! needed for safety: it repairs what a disk, a store or a person did to the records, and clears away what crashes left.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use berth_registry_core::{
    Digest, RepositoryName, key, record,
    scrub::{
        Damage, Finding, Phase, ScrubCounts, ScrubLine, ScrubProgress, ScrubRequest, ScrubSummary, Treatment,
    },
};
use jiff::{SignedDuration, Timestamp};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::mpsc::Sender, time::Instant};

use super::{
    Engine, EngineError,
    drive::{Swap, damaged},
};
use crate::store::{Etag, PutMode};

mod blobs;
mod leftovers;
mod names;
mod repositories;

/// After so many objects, or bytes, progress is put on record.
const STRIDE: u64 = 1000;
const STRIDE_BYTES: u64 = 256 << 20;

/// One run.
struct Scrub {
    engine: Engine,
    request: ScrubRequest,
    lines: Sender<ScrubLine>,
    /// By the store's clock.
    now: Timestamp,
    /// What was written after this may be part of something under way.
    lease: Timestamp,
    /// What died after this can be undeleted; tombstones older than this have no use.
    window: Timestamp,
    /// Until when bytes that are set aside are kept.
    due: Timestamp,
    counts: Mutex<ScrubCounts>,
    pace: Pace,
    stride: u64,
}

/// Something is wrong somewhere.
struct Case {
    damage: Damage,
    key: String,
    repository: Option<RepositoryName>,
    digest: Option<Digest>,
    seen: String,
}

impl Case {
    fn new(damage: Damage, key: impl Into<String>, seen: impl Into<String>) -> Self {
        Self { damage, key: key.into(), repository: None, digest: None, seen: seen.into() }
    }

    fn of(mut self, repository: &RepositoryName) -> Self {
        self.repository = Some(repository.clone());
        self
    }

    fn about(mut self, digest: &Digest) -> Self {
        self.digest = Some(digest.clone());
        self
    }
}

impl Engine {
    /// Checks the whole store. Findings and progress go to `lines`, if anyone listens; an interrupted run is gone on
    /// with, on any replica. Two at once are harmless and find the same.
    pub async fn scrub(&self, request: ScrubRequest, lines: Sender<ScrubLine>) -> ScrubSummary {
        self.scrub_by(request, lines, STRIDE).await
    }

    /// With another stride than [`STRIDE`].
    pub(super) async fn scrub_by(
        &self,
        request: ScrubRequest,
        lines: Sender<ScrubLine>,
        stride: u64,
    ) -> ScrubSummary {
        let started = Timestamp::now();
        let mut progress = ScrubProgress::begin(request.verify_bytes, started);
        let mut resumed = false;
        let run = async {
            if !request.dry_run
                && let Some((earlier, _)) = self.read_record::<ScrubProgress>(key::SCRUB).await?
                && earlier.phase.is_some()
                && earlier.verify_bytes == request.verify_bytes
            {
                (progress, resumed) = (earlier, true);
            }
            let scrub = Scrub::new(self, &request, lines, progress.counts.clone(), stride).await?;
            let ended = scrub.run(&mut progress).await;
            progress.counts = scrub.counts().clone();
            ended
        };
        if let Err(error) = run.await {
            tracing::error!(%error, reason = error.reason(), "scrub ended early; the next one goes on from here");
            progress.counts.failed += 1;
        }
        let ScrubProgress { started, counts, .. } = progress;
        ScrubSummary { dry_run: request.dry_run, resumed, started, finished: Timestamp::now(), counts }
    }
}

impl Scrub {
    async fn new(
        engine: &Engine,
        request: &ScrubRequest,
        lines: Sender<ScrubLine>,
        counts: ScrubCounts,
        stride: u64,
    ) -> Result<Self, EngineError> {
        let now = if request.dry_run { Timestamp::now() } else { engine.store_time().await? };
        let before = |age: Duration| {
            SignedDuration::try_from(age)
                .ok()
                .and_then(|age| now.checked_sub(age).ok())
                .unwrap_or(Timestamp::MIN)
        };
        let options = engine.options();
        Ok(Self {
            engine: engine.clone(),
            lines,
            now,
            lease: before(options.upload_lease),
            window: before(options.undelete_window.max(options.upload_lease)),
            due: now.checked_add(options.undelete_window).unwrap_or(Timestamp::MAX),
            counts: Mutex::new(counts),
            pace: Pace { rate: request.rate, next: Mutex::new(Instant::now()) },
            request: request.clone(),
            stride,
        })
    }

    async fn run(&self, progress: &mut ScrubProgress) -> Result<(), EngineError> {
        while let Some(phase) = progress.phase {
            let next = match phase {
                Phase::Blobs => {
                    self.blobs(progress).await?;
                    Some(Phase::Repositories)
                }
                Phase::Repositories => {
                    self.repositories(progress).await?;
                    Some(Phase::Leftovers)
                }
                Phase::Leftovers => {
                    self.leftovers().await?;
                    None
                }
            };
            (progress.phase, progress.after) = (next, None);
            self.save(progress).await?;
        }
        Ok(())
    }

    fn counts(&self) -> MutexGuard<'_, ScrubCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts on record how far it has come.
    async fn save(&self, progress: &mut ScrubProgress) -> Result<(), EngineError> {
        progress.counts = self.counts().clone();
        let _ = self.lines.send(ScrubLine::Progress(progress.clone())).await;
        if self.request.dry_run {
            return Ok(());
        }
        let body = record::encode(progress, "").map_err(|error| damaged(key::SCRUB, &error))?;
        self.engine.store().put(key::SCRUB, body, PutMode::Overwrite).await?;
        Ok(())
    }

    /// Cures, unless this is a dry run, and reports. What the cure answers with `None` was no damage, or someone else
    /// has changed it meanwhile.
    async fn treat(
        &self,
        case: Case,
        planned: Treatment,
        cure: impl Future<Output = Result<Option<Treatment>, EngineError>> + Send,
    ) {
        let Case { damage, key, repository, digest, seen } = case;
        let (treatment, failure) = if self.request.dry_run {
            (planned, None)
        } else {
            match cure.await {
                Ok(Some(treatment)) => (treatment, None),
                Ok(None) => return,
                Err(error) => (Treatment::Failed, Some(error)),
            }
        };
        let mut message = format!("{seen}: {}", damage.meaning());
        if let Some(error) = failure {
            message = format!("{message}; cure failed: {error}");
        }
        if !self.request.dry_run {
            tracing::info!(target: "audit", action = "scrub", ?damage, key, ?treatment, message);
        }
        self.counts().count(treatment);
        let finding = Finding { damage, key, repository, digest, message, treatment };
        let _ = self.lines.send(ScrubLine::Finding(finding)).await;
    }

    /// Reports what only people can help with.
    async fn report(&self, case: Case) {
        self.treat(case, Treatment::Reported, async { Ok(Some(Treatment::Reported)) }).await;
    }

    /// Something could not be looked at.
    fn failed(&self, what: &str, error: &EngineError) {
        tracing::warn!(what, %error, reason = error.reason(), "not checked");
        self.counts().failed += 1;
    }

    /// Writes a record over the version that was found wanting. `None`: it has changed meanwhile.
    async fn replace<T: Serialize + DeserializeOwned + Sync>(
        &self,
        key: &str,
        etag: &Etag,
        record: &T,
        treatment: Treatment,
    ) -> Result<Option<Treatment>, EngineError> {
        let swap = self.engine.swap_record(key, PutMode::Update(etag.clone()), record).await?;
        Ok(matches!(swap, Swap::Won(_)).then_some(treatment))
    }

    /// Deletes a version of an object.
    async fn remove(&self, key: &str, etag: &Etag) -> Result<Option<Treatment>, EngineError> {
        use crate::store::StoreError;
        match self.engine.store().delete_version(key, etag).await {
            Ok(()) => Ok(Some(Treatment::Repaired)),
            Err(StoreError::Precondition(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Spreads bytes over time.
struct Pace {
    /// Bytes in a second; 0 is without limit.
    rate: u64,
    next: Mutex<Instant>,
}

impl Pace {
    async fn spend(&self, bytes: usize) {
        if self.rate == 0 {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
        let takes = Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        let until = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            *next = (*next).max(Instant::now()) + takes;
            *next
        };
        tokio::time::sleep_until(until).await;
    }
}
