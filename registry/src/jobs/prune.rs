//! The prune job: applies the lifecycle rules to every repository, through the engine like any other client. One at a
//! time in a process; two replicas that prune at once only find less to do.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use berth_registry_core::{
    RepositoryName,
    config::LifecycleRule,
    job::{PruneLine, PruneRequest, PruneSummary},
    lifecycle::{self, Verdict},
};
use jiff::Timestamp;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{
    engine::{Engine, EngineError},
    events::Events,
    metrics::Metrics,
};

const PAGE: usize = 1000;

/// The job's rules and whether it runs.
pub struct Prune {
    rules: Arc<[LifecycleRule]>,
    running: Arc<AtomicBool>,
    events: Events,
    metrics: Arc<Metrics>,
}

/// Frees the place of the job, also if it panics.
struct Running(Arc<AtomicBool>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Prune {
    /// A job that is not running.
    pub fn new(rules: Vec<LifecycleRule>, events: Events, metrics: Arc<Metrics>) -> Self {
        Self { rules: rules.into(), running: Arc::default(), events, metrics }
    }

    /// Starts the job and returns its lines, the summary last; `None` if it runs already. The job goes on when nobody
    /// listens.
    pub fn start(&self, engine: Engine, request: &PruneRequest) -> Option<UnboundedReceiver<PruneLine>> {
        if self.running.swap(true, Ordering::AcqRel) {
            return None;
        }
        let running = Running(self.running.clone());
        let (lines, receiver) = unbounded_channel();
        let run = Run {
            engine,
            rules: self.rules.clone(),
            dry: request.dry_run,
            events: self.events.clone(),
            metrics: self.metrics.clone(),
            lines,
            summary: PruneSummary {
                dry_run: request.dry_run,
                started: Timestamp::now(),
                finished: Timestamp::now(),
                examined: 0,
                removed: 0,
                failed: 0,
            },
        };
        tokio::spawn(async move {
            let _running = running;
            run.run().await;
        });
        Some(receiver)
    }
}

struct Run {
    engine: Engine,
    rules: Arc<[LifecycleRule]>,
    dry: bool,
    events: Events,
    metrics: Arc<Metrics>,
    lines: UnboundedSender<PruneLine>,
    summary: PruneSummary,
}

impl Run {
    async fn run(mut self) {
        if let Err(error) = self.repositories().await {
            tracing::error!(%error, reason = error.reason(), "prune ended early");
            self.summary.failed += 1;
        }
        self.summary.finished = Timestamp::now();
        tracing::info!(
            dry_run = self.dry,
            examined = self.summary.examined,
            removed = self.summary.removed,
            failed = self.summary.failed,
            "prune ended"
        );
        self.say(PruneLine::Summary(self.summary.clone()));
    }

    async fn repositories(&mut self) -> Result<(), EngineError> {
        let mut last: Option<String> = None;
        while !self.rules.is_empty() {
            let page = self.engine.catalog(last.as_deref(), PAGE).await?;
            for name in &page.items {
                // What the catalog lists was a valid name when it was written.
                if let Ok(name) = name.parse() {
                    self.repository(&name).await?;
                }
            }
            last = page.items.last().cloned();
            if !page.more {
                break;
            }
        }
        Ok(())
    }

    async fn repository(&mut self, name: &RepositoryName) -> Result<(), EngineError> {
        let images = self.engine.images(name).await?;
        self.summary.examined += images.len() as u64;
        let verdicts = lifecycle::evaluate(&self.rules, name, &images, self.summary.started);
        for verdict in verdicts {
            self.remove(name, verdict).await;
        }
        Ok(())
    }

    async fn remove(&mut self, name: &RepositoryName, verdict: Verdict) {
        let Verdict { digest, tags, rule, reason } = verdict;
        if !self.dry {
            match self.engine.delete_manifest(name, &digest).await {
                // Someone else was faster.
                Ok(()) | Err(EngineError::ManifestUnknown(_)) => {}
                Err(error) => {
                    self.summary.failed += 1;
                    let message = error.to_string();
                    return self.say(PruneLine::Failed { repository: name.clone(), digest, message });
                }
            }
            self.events.changed(name);
            self.metrics.pruned();
            tracing::info!(repository = %name, %digest, rule, reason, "image removed");
        }
        self.summary.removed += 1;
        self.say(PruneLine::Removed { repository: name.clone(), digest, tags, rule, reason });
    }

    /// Nobody may be listening any more; the job goes on.
    fn say(&self, line: PruneLine) {
        let _ = self.lines.send(line);
    }
}
