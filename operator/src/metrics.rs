//! What Prometheus may ask: work done by the controllers, days left on certificates, who leads.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// Labels of a reconciliation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reconciliation {
    /// Name of the controller.
    pub controller: String,
    /// `ok`, or the reason of the failure.
    pub outcome: String,
}

/// Labels of what belongs to one controller.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Controller {
    /// Its name.
    pub controller: String,
}

/// Labels of a certificate of the operator's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Certificate {
    /// Name of its Secret.
    pub secret: String,
}

/// Labels of a Registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RegistryLabels {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub registry: String,
}

/// Labels of an `ImagePolicy`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PolicyLabels {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub policy: String,
}

/// Labels of images that run, by what an `ImagePolicy` says about them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RunningLabels {
    /// Namespace of the policy.
    pub namespace: String,
    /// Its name.
    pub policy: String,
    /// `admitted`, `denied` or `uncheckable`.
    pub verdict: &'static str,
}

/// All metrics of the operator. Other parts register theirs through [`Metrics::register`].
pub struct Metrics {
    registry: std::sync::RwLock<Registry>,
    /// Reconciliations, by controller and outcome.
    pub reconciliations: Family<Reconciliation, Counter>,
    /// How long they take.
    pub durations: Family<Controller, Histogram, fn() -> Histogram>,
    /// Writes to the API server by the controllers' `apply` steps.
    pub writes: Family<Controller, Counter>,
    /// Days until a certificate of the operator's own expires.
    pub certificate_days: Family<Certificate, Gauge<f64, AtomicU64>>,
    /// Days until the certificate of a Registry expires; made from the Registries that exist when it is asked for.
    pub registry_certificate_days: Family<RegistryLabels, Gauge<f64, AtomicU64>>,
    /// Images that run, each once a namespace, by policy and by what it says; on the leader.
    pub running_images: Family<RunningLabels, Gauge>,
    /// When something that runs stops being admissible, in seconds since 1970, by policy; none if that is not in sight.
    pub next_refusal: Family<PolicyLabels, Gauge>,
    /// 1 on the leader, 0 elsewhere.
    pub leads: Gauge,
}

fn seconds() -> Histogram {
    Histogram::new([0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0])
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: std::sync::RwLock::new(Registry::with_prefix("berth_operator")),
            reconciliations: Family::default(),
            durations: Family::new_with_constructor(seconds),
            writes: Family::default(),
            certificate_days: Family::default(),
            registry_certificate_days: Family::default(),
            running_images: Family::default(),
            next_refusal: Family::default(),
            leads: Gauge::default(),
        };
        metrics.register(|registry| {
            registry.register("reconciliations", "Reconciliations", metrics.reconciliations.clone());
            registry.register(
                "reconciliation_seconds",
                "Duration of a reconciliation",
                metrics.durations.clone(),
            );
            registry.register("writes", "Objects written by controllers", metrics.writes.clone());
            registry.register(
                "certificate_days_left",
                "Days until a certificate of the operator expires",
                metrics.certificate_days.clone(),
            );
            registry.register(
                "registry_certificate_days_left",
                "Days until the certificate of a Registry expires",
                metrics.registry_certificate_days.clone(),
            );
            registry.register(
                "running_images",
                "Images that run, by policy and by what it says about them",
                metrics.running_images.clone(),
            );
            registry.register(
                "next_refusal_timestamp_seconds",
                "When something that runs stops being admissible",
                metrics.next_refusal.clone(),
            );
            registry.register("leads", "1 on the replica that leads", metrics.leads.clone());
        });
        metrics
    }
}

impl Metrics {
    /// Adds metrics.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        // A poisoned lock only means that another thread ended while it registered.
        add(&mut self.registry.write().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    /// Nothing is known of what runs.
    pub fn forget_running(&self) {
        self.running_images.clear();
        self.next_refusal.clear();
    }

    /// The text format of `OpenMetrics`.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry.read().unwrap_or_else(std::sync::PoisonError::into_inner))?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_have_the_prefix_and_their_labels() {
        let metrics = Metrics::default();
        let labels = Reconciliation { controller: "registry".into(), outcome: "ok".into() };
        metrics.reconciliations.get_or_create(&labels).inc();
        let text = metrics.encode().unwrap();
        assert!(
            text.contains(r#"berth_operator_reconciliations_total{controller="registry",outcome="ok"} 1"#)
        );
        assert!(text.contains("berth_operator_leads 0"));
    }
}
