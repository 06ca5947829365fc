//! The image policy controller: keeps the webhook configuration in step with the set of `ImagePolicies`, and says in each
//! policy's status whether it is in force. One loop over the whole set instead of one reconciliation an object: a
//! deletion needs no finalizer that way, and the configuration is written once however many policies change.

mod apply;
mod build;
mod fetch;
pub mod keys;
mod status;
pub mod validate;

use std::time::Duration;

use berth_crds::ImagePolicy;
use berth_operator_core::{
    image_policy::summary,
    webhook_configuration::{self, Installation},
};
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::{
    Api,
    api::PartialObjectMeta,
    runtime::{WatchStreamExt, watcher},
};
use tokio::time::sleep;

use crate::{Context, image_policy::status::Called, metrics::Reconciliation, unreadable};

pub use keys::Keys;

const NAME: &str = "image-policy";

/// Changes that come together are answered together.
const SETTLE: Duration = Duration::from_millis(100);

/// The world is looked at again, should a watch have missed something.
const EACH: Duration = Duration::from_mins(10);

/// Bounds of the wait after a failure.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_mins(1);

/// Runs until it is dropped.
pub async fn run(context: Context) {
    let mut policies = context.stores.changed.clone();
    let mut bundle = context.bundle.clone();
    let mut secrets = context.keys.changes();
    let mut assessments = context.assessments.subscribe();
    let configurations: Api<PartialObjectMeta<ValidatingWebhookConfiguration>> =
        Api::all(context.client.clone());
    let only_ours =
        watcher::Config::default().fields(&format!("metadata.name={}", webhook_configuration::NAME));
    let touched = watcher(configurations, only_ours).default_backoff().touched_objects();
    let mut touched = std::pin::pin!(touched);
    let mut retry = FIRST_RETRY;
    loop {
        policies.mark_unchanged();
        bundle.mark_unchanged();
        secrets.mark_unchanged();
        assessments.mark_unchanged();
        let pause = match observed(&context).await {
            Ok(()) => {
                retry = FIRST_RETRY;
                EACH
            }
            Err(error) => {
                tracing::warn!(controller = NAME, %error, "reconciliation failed");
                let pause = retry;
                retry = (retry * 2).min(LAST_RETRY);
                pause
            }
        };
        tokio::select! {
            _ = policies.changed() => {}
            _ = bundle.changed() => {}
            _ = secrets.changed() => {}
            _ = assessments.changed() => {}
            _ = touched.next() => {}
            () = sleep(pause) => {}
        }
        sleep(SETTLE).await;
    }
}

async fn observed(context: &Context) -> Result<(), kube::Error> {
    let result = reconcile(context).await;
    let outcome = if result.is_ok() { "ok" } else { "ApiServerFailed" };
    let labels = Reconciliation { controller: NAME.to_owned(), outcome: outcome.to_owned() };
    context.metrics.reconciliations.get_or_create(&labels).inc();
    result
}

async fn reconcile(context: &Context) -> Result<(), kube::Error> {
    let Some(world) = fetch::fetch(context).await? else { return Ok(()) };
    let installation = Installation {
        namespace: context.settings.namespace.clone(),
        ca_bundle: world.bundle.as_pem().as_bytes().to_vec(),
    };
    let live = world.configuration.as_ref();
    let built = build::configuration(&installation, &world.policies, live);
    if !built.left_out.is_empty() {
        tracing::warn!(
            policies = built.left_out.len(),
            "the webhook configuration has no room for all policies"
        );
    }
    let applied = apply::configuration(context, live, &built.configuration).await;
    let mut failure = None;
    let now = Timestamp::now();
    let assessments = context.assessments.borrow().clone();
    for (key @ (namespace, _), guarded) in &world.policies {
        let rules = validate::rules(guarded, &context.keys).await;
        let cluster_wide = *namespace == context.settings.namespace;
        let summary = guarded.0.as_ref().map(|policy| summary(&policy.spec, cluster_wide, now));
        let called = match &applied {
            _ if built.left_out.contains(key) => Called::Never,
            Err(error) => Called::NotYet(error),
            Ok(()) => Called::Yes,
        };
        let state = status::state(summary.unwrap_or_default(), &rules, &called);
        let written = match &guarded.0 {
            Ok(policy) => status::write(context, policy, &state, assessments.get(key)).await,
            Err(invalid) => unreadable::write::<ImagePolicy>(context, invalid, &state).await,
        };
        failure = written.err().or(failure);
    }
    applied.and(failure.map_or(Ok(()), Err))
}
