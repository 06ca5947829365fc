//! What Prometheus may ask the webhook: how many reviews, with which outcome, and how long they took.

use std::time::Duration;

use berth_operator_core::admission::Answer;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

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
        let buckets = [0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 8.0];
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
