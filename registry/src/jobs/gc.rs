//! The gc job: one run of the engine's collector, told to whoever asked and to Prometheus.

use std::sync::Arc;

use berth_registry_core::job::{GcLine, JobRequest};

use super::{Lines, Work};
use crate::{engine::Engine, metrics::Metrics};

/// Runs the collector.
pub struct Gc {
    metrics: Arc<Metrics>,
}

impl Gc {
    /// Counts what it does here.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics }
    }
}

impl Gc {
    /// Who uses how much may have changed. Only what changed is read again; the scrub, or the next run, makes up for a failure.
    async fn measure(&self, engine: &Engine) {
        match engine.usage(true).await {
            Ok(usage) => self.metrics.usage(&usage),
            Err(error) => tracing::warn!(%error, reason = error.reason(), "usage not measured"),
        }
    }
}

impl Work for Gc {
    type Request = JobRequest;
    type Line = GcLine;
    const NAME: &'static str = "gc";

    async fn run(&self, engine: Engine, request: JobRequest, Lines(lines): Lines<GcLine>) {
        let summary = engine.collect(request.dry_run, lines.clone()).await;
        if !summary.dry_run {
            self.metrics.collected(&summary);
            self.measure(&engine).await;
        }
        tracing::info!(
            dry_run = summary.dry_run,
            complete = summary.complete,
            examined = summary.examined,
            condemned = summary.condemned,
            spared = summary.spared,
            dead = summary.dead,
            purged = summary.purged,
            bytes_freed = summary.bytes_freed,
            sessions = summary.sessions,
            failed = summary.failed,
            requests = summary.requests,
            "gc ended"
        );
        let _ = lines.send(GcLine::Summary(summary)).await;
    }
}
