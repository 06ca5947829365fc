//! The registry of metrics, and the table in `METRICS.md` that is made of it.

use prometheus_client::{
    encoding::text::encode,
    metrics::MetricType,
    registry::{Metric, Registry, Unit},
};

const PREFIX: &str = "berth";

/// Metrics with what they mean.
#[derive(Debug)]
pub(super) struct Documented {
    registry: Registry,
    rows: Vec<String>,
}

impl Default for Documented {
    fn default() -> Self {
        Self { registry: Registry::with_prefix(PREFIX), rows: Vec::new() }
    }
}

impl Documented {
    pub(super) fn register(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.document(name, help, &metric);
        self.registry.register(name, help, metric);
    }

    pub(super) fn register_with_unit(&mut self, name: &str, help: &str, unit: Unit, metric: impl Metric) {
        self.document(&format!("{name}_{}", unit.as_str()), help, &metric);
        self.registry.register_with_unit(name, help, unit, metric);
    }

    fn document(&mut self, name: &str, help: &str, metric: &impl Metric) {
        let kind = metric.metric_type();
        let total = if matches!(kind, MetricType::Counter) { "_total" } else { "" };
        self.rows.push(format!("| `{PREFIX}_{name}{total}` | {} | {help} |\n", kind.as_str()));
    }

    /// The text that Prometheus reads.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// The rows of the table.
    #[cfg(test)]
    pub(super) fn table(&self) -> String {
        self.rows.concat()
    }
}
