//! Fourth verb, and the only writer of children: storage, then configuration, then workload; each kind swept of what is
//! no longer wanted.

use berth_operator_core::{
    objects::Owner,
    registry::{Children, ValidRegistry, job},
};
use k8s_openapi::api::batch::v1::CronJob;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

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
