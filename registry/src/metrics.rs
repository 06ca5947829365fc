//! What Prometheus is told (`GET /metrics`). Labels have few values: endpoint, method and status; names that a client
//! chose stand only in the usage, where the largest hundred are told apart. `METRICS.md` lists them all; a test keeps it so.

use std::{
    sync::atomic::{AtomicI64, AtomicU64},
    time::Duration,
};

use berth_registry_core::{
    job::GcSummary,
    scrub::{Damage, Treatment},
    usage::Usage,
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Unit,
};

use crate::engine::UploadLoad;

mod documented;
mod store_calls;
mod usage;

use documented::Documented;
use store_calls::StoreSeries;
pub use store_calls::{StoreCalls, StoreOperation};
use usage::UsageSeries;

/// Labels of requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// The endpoint.
    pub route: &'static str,
    /// The HTTP method.
    pub method: &'static str,
    /// The status code.
    pub status: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConfigLabels {
    hash: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FindingLabels {
    damage: String,
    treatment: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PolicyLabels {
    policy: String,
}

/// What becomes of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanOutcome {
    /// The collector has it.
    Sent,
    /// Too many waited to be sent.
    Dropped,
    /// The collector did not take it.
    Failed,
}

/// The metrics of one process.
pub struct Metrics {
    registry: Documented,
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram>,
    received: Counter<u64, AtomicU64>,
    sent: Counter<u64, AtomicU64>,
    in_flight: Gauge,
    store_ready: Gauge,
    store: StoreSeries,
    uploads: Gauge,
    upload_memory: Gauge,
    upload_memory_waiting: Gauge,
    log_dropped: Counter,
    slow: Counter,
    certificate: Gauge<i64, AtomicI64>,
    logins_refused: Counter,
    pulls_refused: Family<PolicyLabels, Counter>,
    pruned: Counter,
    collected: Family<OutcomeLabels, Counter>,
    bytes_freed: Counter,
    last_collection: Gauge<i64, AtomicI64>,
    events: Family<OutcomeLabels, Counter>,
    spans: Family<OutcomeLabels, Counter>,
    config: Family<ConfigLabels, Gauge>,
    config_valid: Gauge,
    config_restart: Gauge,
    scrub: Family<FindingLabels, Counter>,
    usage: UsageSeries,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Documented::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(|| {
                Histogram::new([
                    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0,
                ])
            }),
            received: Counter::default(),
            sent: Counter::default(),
            in_flight: Gauge::default(),
            store_ready: Gauge::default(),
            store: StoreSeries::default(),
            uploads: Gauge::default(),
            upload_memory: Gauge::default(),
            upload_memory_waiting: Gauge::default(),
            log_dropped: Counter::default(),
            slow: Counter::default(),
            certificate: Gauge::default(),
            logins_refused: Counter::default(),
            pulls_refused: Family::default(),
            pruned: Counter::default(),
            collected: Family::default(),
            bytes_freed: Counter::default(),
            last_collection: Gauge::default(),
            events: Family::default(),
            spans: Family::default(),
            config: Family::default(),
            config_valid: Gauge::default(),
            config_restart: Gauge::default(),
            scrub: Family::default(),
            usage: UsageSeries::default(),
        };
        metrics.registered()
    }
}

impl Metrics {
    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        registry.register(
            "http_requests",
            "Requests answered, by `route`, `method` and `status`; 499 if the client hung up before",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "http_request_duration",
            "Time from the request's head to the last byte of the answer, by `route` and `method`",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register_with_unit(
            "http_received",
            "Bytes of request bodies",
            Unit::Bytes,
            self.received.clone(),
        );
        registry.register_with_unit("http_sent", "Bytes of response bodies", Unit::Bytes, self.sent.clone());
        registry.register("http_requests_in_flight", "Requests being answered", self.in_flight.clone());
        registry.register(
            "slow_requests",
            "Requests that took longer than `slowRequests`",
            self.slow.clone(),
        );
        registry.register(
            "access_log_lines_dropped",
            "Lines of the access log that found no room because nobody read the log",
            self.log_dropped.clone(),
        );
        registry.register("store_ready", "1 if the store can be used, else 0", self.store_ready.clone());
        self.store.register(registry);
        registry.register("uploads", "Requests that bring bytes of blobs now", self.uploads.clone());
        registry.register_with_unit(
            "upload_memory",
            "Memory for parts of uploads that is in use",
            Unit::Bytes,
            self.upload_memory.clone(),
        );
        registry.register(
            "upload_memory_waiting",
            "Uploads that wait for memory",
            self.upload_memory_waiting.clone(),
        );
        registry.register_with_unit(
            "certificate_expiry_timestamp",
            "When the served certificate expires, since 1970; 0 without TLS",
            Unit::Seconds,
            self.certificate.clone(),
        );
        registry.register("logins_refused", "Requests with wrong credentials", self.logins_refused.clone());
        registry.register(
            "pulls_refused",
            "Manifests that the gate refused to those who may only pull, by `policy` that forbids them",
            self.pulls_refused.clone(),
        );
        registry.register("pruned_images", "Images removed by lifecycle rules", self.pruned.clone());
        registry.register(
            "collected",
            "Links and blobs that the collector looked at, by outcome",
            self.collected.clone(),
        );
        registry.register_with_unit(
            "collector_freed",
            "Bytes of blobs that the collector deleted",
            Unit::Bytes,
            self.bytes_freed.clone(),
        );
        registry.register_with_unit(
            "collector_last_run_timestamp",
            "When the collector last came to the end of its work, since 1970; 0 if not yet in this process",
            Unit::Seconds,
            self.last_collection.clone(),
        );
        registry.register("events", "Events sent to the operator, by outcome", self.events.clone());
        registry.register(
            "trace_spans",
            "Spans of traces by `outcome`: sent; dropped, because too many waited; failed, because the collector did not take them",
            self.spans.clone(),
        );
        registry.register("config_info", "SHA-256 of the configuration file in force", self.config.clone());
        registry.register(
            "config_last_reload_successful",
            "0 if the configuration file was changed into one that is refused, else 1",
            self.config_valid.clone(),
        );
        registry.register(
            "config_restart_required",
            "1 if the configuration file says what applies only to a new process, else 0",
            self.config_restart.clone(),
        );
        registry.register(
            "scrub_findings",
            "What the integrity check found, and did about it",
            self.scrub.clone(),
        );
        self.usage.register(registry);
        self
    }

    /// A request began.
    pub fn began(&self) {
        self.in_flight.inc();
    }

    /// A request ended: its last byte was sent, or its connection broke.
    pub fn ended(&self, labels: &RequestLabels, took: Duration, received: u64, sent: u64) {
        self.in_flight.dec();
        self.requests.get_or_create(labels).inc();
        let route = RouteLabels { route: labels.route, method: labels.method };
        self.durations.get_or_create(&route).observe(took.as_secs_f64());
        self.received.inc_by(received);
        self.sent.inc_by(sent);
    }

    /// What counts the calls of a store of this kind.
    pub fn store_calls(&self, backend: &'static str) -> StoreCalls {
        self.store.of(backend)
    }

    /// What uploads need now.
    pub fn uploading(&self, load: &UploadLoad) {
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.uploads.set(gauge(load.requests));
        self.upload_memory.set(gauge(load.memory));
        self.upload_memory_waiting.set(gauge(load.waiting));
    }

    /// How many lines of the access log were lost until now.
    pub fn log_lines_dropped(&self, lines: u64) {
        self.log_dropped.inc_by(lines.saturating_sub(self.log_dropped.get()));
    }

    /// A request was slow.
    pub fn slow(&self) {
        self.slow.inc();
    }

    /// A configuration file was read; `whole`: all that it says is in force, and `hash` is its hash.
    pub fn configured(&self, hash: &str, whole: bool) {
        self.config.clear();
        self.config.get_or_create(&ConfigLabels { hash: hash.to_owned() }).set(1);
        self.config_valid.set(1);
        self.config_restart.set((!whole).into());
    }

    /// A changed configuration file is not valid.
    pub fn configuration_refused(&self) {
        self.config_valid.set(0);
    }

    /// Whether the store can be used.
    pub fn store_ready(&self, ready: bool) {
        self.store_ready.set(ready.into());
    }

    /// When the served certificate expires, since 1970.
    pub fn certificate_expires(&self, at: Duration) {
        self.certificate.set(i64::try_from(at.as_secs()).unwrap_or(i64::MAX));
    }

    /// Credentials were wrong.
    pub fn login_refused(&self) {
        self.logins_refused.inc();
    }

    /// Policies refused a manifest.
    pub fn pull_refused(&self, policies: &[String]) {
        for policy in policies {
            self.pulls_refused.get_or_create(&PolicyLabels { policy: policy.clone() }).inc();
        }
    }

    /// A lifecycle rule removed an image.
    pub fn pruned(&self) {
        self.pruned.inc();
    }

    /// The collector ran.
    pub fn collected(&self, summary: &GcSummary) {
        let outcomes = [
            ("condemned", summary.condemned),
            ("spared", summary.spared),
            ("dead", summary.dead),
            ("purged", summary.purged),
            ("failed", summary.failed),
        ];
        for (outcome, count) in outcomes {
            self.collected.get_or_create(&OutcomeLabels { outcome }).inc_by(count);
        }
        self.bytes_freed.inc_by(summary.bytes_freed);
        if summary.complete {
            self.last_collection.set(summary.finished.as_second());
        }
    }

    /// An event was delivered, or given up.
    pub fn event(&self, delivered: bool) {
        let outcome = if delivered { "delivered" } else { "failed" };
        self.events.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// What became of so many spans of traces.
    pub fn spans(&self, outcome: SpanOutcome, spans: usize) {
        let outcome = match outcome {
            SpanOutcome::Sent => "sent",
            SpanOutcome::Dropped => "dropped",
            SpanOutcome::Failed => "failed",
        };
        self.spans.get_or_create(&OutcomeLabels { outcome }).inc_by(spans as u64);
    }

    /// The integrity check found something.
    pub fn scrub_found(&self, damage: Damage, treatment: Treatment) {
        let labels = FindingLabels { damage: format!("{damage:?}"), treatment: format!("{treatment:?}") };
        self.scrub.get_or_create(&labels).inc();
    }

    /// A snapshot of usage.
    pub fn usage(&self, usage: &Usage) {
        self.usage.set(usage);
    }

    /// Whether it is time to look for a newer snapshot; the answer is yes once an interval.
    pub fn usage_is_due(&self) -> bool {
        self.usage.is_due()
    }

    /// The text that Prometheus reads.
    pub fn text(&self) -> String {
        self.registry.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table is written here, and checked in beside the code.
    #[test]
    fn every_metric_is_in_the_table() {
        let table = Metrics::default().registry.table();
        let page = include_str!("../METRICS.md");
        assert!(page.ends_with(&table), "let METRICS.md end with\n{table}");
    }

    #[test]
    fn the_text_names_what_was_counted() {
        let metrics = Metrics::default();
        let labels = RequestLabels { route: "blob", method: "GET", status: 200 };
        metrics.began();
        metrics.ended(&labels, Duration::from_millis(3), 0, 7);
        metrics.store_ready(true);
        let text = metrics.text();
        for line in [
            "berth_http_requests_total{route=\"blob\",method=\"GET\",status=\"200\"} 1",
            "berth_http_request_duration_seconds_count{route=\"blob\",method=\"GET\"} 1",
            "berth_http_sent_bytes_total 7",
            "berth_http_requests_in_flight 0",
            "berth_store_ready 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
