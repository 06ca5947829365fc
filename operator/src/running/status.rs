//! Fifth verb: tells what came of it. The numbers go to the image policy controller, which writes the status; workloads
//! that are newly denied become an event on the policy; everything is a metric.

use std::collections::{BTreeMap, BTreeSet};

use berth_operator_core::running::{Assessment, Workload, named};
use kube::runtime::events::EventType;

use crate::{
    Context, events,
    metrics::{Metrics, PolicyLabels, RunningLabels},
    running::{Assessments, validate::InForce},
};

/// What the event is called.
const REASON: &str = "RunningImagesDenied";

/// Workloads that people were told of, by policy.
#[derive(Default)]
pub(super) struct Told(BTreeMap<(String, String), BTreeSet<Workload>>);

impl Told {
    /// Publishes the assessment of each of `policies`, which come in their order.
    pub(super) async fn publish(
        &mut self,
        context: &Context,
        policies: &[InForce],
        assessments: Vec<Assessment>,
    ) {
        let key = |policy: &InForce| (policy.namespace.clone(), policy.name.clone());
        let names: BTreeSet<_> = policies.iter().map(key).collect();
        self.0.retain(|name, _| names.contains(name));
        for (policy, assessment) in policies.iter().zip(&assessments) {
            self.warn(context, policy, assessment).await;
        }
        let current: Assessments = policies.iter().map(key).zip(assessments).collect();
        show(&context.metrics, &current);
        context.assessments.send_if_modified(|before| {
            let is_different = *before != current;
            *before = current;
            is_different
        });
    }

    /// One event when workloads are denied that were not before.
    async fn warn(&mut self, context: &Context, policy: &InForce, assessment: &Assessment) {
        let Ok(object) = &policy.object.0 else { return };
        let key = (policy.namespace.clone(), policy.name.clone());
        let fresh = if let Some(told) = self.0.insert(key, assessment.denied.clone()) {
            assessment.denied.difference(&told).cloned().collect()
        } else {
            let shown = object.status.as_ref().and_then(|status| status.images);
            // Whoever led before has told of as many.
            let is_old = shown.is_some_and(|shown| shown.denied >= assessment.images.denied);
            if is_old { BTreeSet::new() } else { assessment.denied.clone() }
        };
        if fresh.is_empty() {
            return;
        }
        let is_cluster_wide = policy.namespace == context.settings.namespace;
        let place = if is_cluster_wide { "-A".to_owned() } else { format!("-n {}", policy.namespace) };
        let note = format!(
            "images that do not hold run in {}; {} in all; kubectl berth images {place} -o wide says why",
            named(fresh.iter()),
            assessment.images.denied
        );
        events::publish(context, object, EventType::Warning, REASON, &note).await;
    }
}

fn show(metrics: &Metrics, assessments: &Assessments) {
    metrics.forget_running();
    for ((namespace, policy), assessment) in assessments {
        let images = assessment.images;
        for (verdict, count) in
            [("admitted", images.admitted), ("denied", images.denied), ("uncheckable", images.uncheckable)]
        {
            let labels = RunningLabels { namespace: namespace.clone(), policy: policy.clone(), verdict };
            metrics.running_images.get_or_create(&labels).set(count);
        }
        if let Some(next) = assessment.forecast.first() {
            let labels = PolicyLabels { namespace: namespace.clone(), policy: policy.clone() };
            metrics.next_refusal.get_or_create(&labels).set(next.at.0.as_second());
        }
    }
}
