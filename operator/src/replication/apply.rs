//! Fourth verb: writes what is to exist. Jobs are created, never changed: a Job's Pod cannot be, and its number makes
//! sure that a second create is refused.

use berth_operator_core::objects::Owner;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, ServiceAccount},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};

use crate::{
    Context,
    apply::Applier,
    field_managers,
    metrics::Controller,
    replication::{ReplicationError, build::Desired},
};

/// Writes it.
pub(super) async fn apply(
    context: &Context,
    owner: &Owner,
    desired: &Desired,
) -> Result<(), ReplicationError> {
    let writes =
        context.metrics.writes.get_or_create_owned(&Controller { controller: super::NAME.to_owned() });
    let applier = Applier {
        client: &context.client,
        owner,
        field_manager: field_managers::REPLICATION,
        writes: &writes,
    };
    applier.converge::<ServiceAccount>(std::slice::from_ref(&desired.account)).await?;
    applier.converge::<ConfigMap>(std::slice::from_ref(&desired.config)).await?;
    let jobs = Api::<Job>::namespaced(context.client.clone(), &owner.namespace);
    for name in &desired.remove {
        match jobs.delete(name, &DeleteParams::background()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            answer => {
                answer?;
                writes.inc();
            }
        }
    }
    let Some(job) = desired.start.as_deref() else { return Ok(()) };
    let params =
        PostParams { field_manager: Some(field_managers::REPLICATION.to_owned()), ..PostParams::default() };
    match jobs.create(&params, job).await {
        // Its number is taken: the Job that has it will be seen in a moment.
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        answer => {
            answer?;
            writes.inc();
            tracing::info!(namespace = owner.namespace, name = job.name_any(), "a replication pass begins");
        }
    }
    Ok(())
}
