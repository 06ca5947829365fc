//! Fourth verb, and the only writer of children: storage, then configuration, then workload; each kind swept of what is
//! no longer wanted.

use berth_operator_core::{
    objects::Owner,
    registry::{Children, ValidRegistry, job, status::Observed, workload::CONFIGURATION},
};
use k8s_openapi::api::{batch::v1::CronJob, core::v1::Pod};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::build::Applied;
use crate::{
    Context,
    apply::{Applier, ApplyError},
    field_managers,
    metrics::Controller,
};

pub(super) async fn apply(context: &Context, owner: &Owner, children: &Children) -> Result<(), ApplyError> {
    let label = Controller { controller: "registry".to_owned() };
    let writes = context.metrics.writes.get_or_create(&label).clone();
    let applier =
        Applier { client: &context.client, owner, field_manager: field_managers::REGISTRY, writes: &writes };
    applier.keep(&children.claims).await?;
    applier.converge(&children.service_accounts).await?;
    applier.converge(&children.config_maps).await?;
    applier.converge(&children.secrets).await?;
    applier.converge(&children.services).await?;
    applier.converge(&children.network_policies).await?;
    applier.converge(&children.deployments).await?;
    applier.converge(&children.disruption_budgets).await?;
    applier.converge(&children.cron_jobs).await
}

/// Has servers fetch a changed configuration at once: the kubelet looks at the Secrets of a Pod when the Pod changes, else
/// once a minute or so.
pub(super) async fn hurry(
    context: &Context,
    applied: &Applied,
    observed: &Observed,
) -> Result<(), kube::Error> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &applied.registry.owner.namespace);
    for name in &observed.outdated {
        let patch = json!({"metadata": {"annotations": {CONFIGURATION: applied.configuration}}});
        match pods.patch_metadata(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            // It is gone: the one that comes mounts what is current.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            patched => drop(patched?),
        }
    }
    Ok(())
}

/// A paused Registry's jobs do not run; nothing else of it is touched.
pub(super) async fn suspend(context: &Context, registry: &ValidRegistry) -> Result<(), kube::Error> {
    let api: Api<CronJob> = Api::namespaced(context.client.clone(), &registry.owner.namespace);
    let parameters =
        PatchParams { field_manager: Some(field_managers::REGISTRY.to_owned()), ..PatchParams::default() };
    for schedule in &registry.schedules {
        let name = job(&registry.owner.name, schedule.task);
        if api.get_opt(&name).await?.is_some_and(|job| job.spec.suspend != Some(true)) {
            api.patch(&name, &parameters, &Patch::Merge(json!({"spec": {"suspend": true}}))).await?;
        }
    }
    Ok(())
}
