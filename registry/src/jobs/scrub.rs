//! The scrub job: the engine's integrity check, its findings told to the caller, the log and Prometheus.

use std::sync::Arc;

use berth_registry_core::scrub::{ScrubLine, ScrubRequest};
use tokio::sync::mpsc::channel;

use super::{Lines, Work};
use crate::{engine::Engine, metrics::Metrics};

/// The integrity check.
pub struct Scrub {
    metrics: Arc<Metrics>,
}

impl Scrub {
    /// Counts its findings.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics }
    }
}

impl Work for Scrub {
    type Request = ScrubRequest;
    type Line = ScrubLine;
    const NAME: &'static str = "scrub";

    async fn run(&self, engine: Engine, request: ScrubRequest, lines: Lines<ScrubLine>) {
        let (sender, mut receiver) = channel(16);
        let dry = request.dry_run;
        let tell = async {
            while let Some(line) = receiver.recv().await {
                if let ScrubLine::Finding(finding) = &line
                    && !dry
                {
                    self.metrics.scrub_found(finding.damage, finding.treatment);
                }
                lines.say(line).await;
            }
        };
        let (summary, ()) = tokio::join!(engine.scrub(request, sender), tell);
        tracing::info!(dry_run = dry, counts = ?summary.counts, resumed = summary.resumed, "scrub ended");
        if !dry && let Ok(Some(usage)) = engine.last_usage().await {
            self.metrics.usage(&usage);
        }
        lines.say(ScrubLine::Summary(summary)).await;
    }
}
