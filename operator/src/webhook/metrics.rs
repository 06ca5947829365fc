//! What Prometheus may ask the webhook: how many reviews, with which outcome, how long they took, how often registries
//! had to be asked, and how much is remembered.

use std::time::Duration;

use berth_operator_core::admission::Answer;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::webhook::looks::{Look, Why};

/// Labels of a review.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Review {
    /// `allowed`, `audited`, `warned`, `denied`, or `none` where there was no verdict.
    pub outcome: &'static str,
}

/// Reviews by outcome, and their durations.
pub struct Reviews {
    reviews: Family<Review, Counter>,
    durations: Histogram,
}

impl Default for Reviews {
    fn default() -> Self {
        // Up to the deadline.
        let buckets = [0.000_1, 0.000_5, 0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 8.0];
        Self { reviews: Family::default(), durations: Histogram::new(buckets) }
    }
}

impl Reviews {
    /// Makes them readable.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("admission_reviews", "Admission reviews, by outcome", self.reviews.clone());
        registry.register("admission_seconds", "Duration of admission reviews", self.durations.clone());
    }

    pub(super) fn observe(&self, answer: Option<&Answer>, took: Duration) {
        let outcome = match answer {
            None => "none",
            Some(answer) if !answer.allowed => "denied",
            Some(answer) if !answer.warnings.is_empty() => "warned",
            Some(answer) if !answer.audited.is_empty() => "audited",
            Some(_) => "allowed",
        };
        self.reviews.get_or_create(&Review { outcome }).inc();
        self.durations.observe(took.as_secs_f64());
    }
}

/// Labels of a look at a registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LookLabels {
    /// `review`, `refusal` or `doubt` if a review waited for it, `age`, `event` or `running` if none did.
    pub why: &'static str,
    /// `seen`, `absent`, or why nothing was seen.
    pub outcome: String,
}

/// Looks at registries, and the memory that they fill.
#[derive(Clone, Default)]
pub struct Looked {
    looks: Family<LookLabels, Counter>,
    digests: Gauge,
    bytes: Gauge,
}

impl Looked {
    /// Makes them readable.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "registry_looks",
            "Looks at registries for evidence, by cause and outcome",
            self.looks.clone(),
        );
        registry.register("remembered_digests", "Digests whose facts are remembered", self.digests.clone());
        registry.register("remembered_bytes", "Bytes of all that is remembered", self.bytes.clone());
    }

    pub(super) fn observe(&self, why: Why, look: &Look, (digests, bytes): (usize, u64)) {
        let why = match why {
            Why::Review => "review",
            Why::Refusal => "refusal",
            Why::Doubt => "doubt",
            Why::Age => "age",
            Why::Event => "event",
            Why::Running => "running",
        };
        let outcome = match look {
            Ok(Some(_)) => "seen",
            Ok(None) => "absent",
            Err(unseen) => &unseen.reason,
        };
        self.looks.get_or_create(&LookLabels { why, outcome: outcome.to_owned() }).inc();
        self.digests.set(i64::try_from(digests).unwrap_or(i64::MAX));
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
