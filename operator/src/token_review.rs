//! Lets the servers of all Registries ask the API server whom a token belongs to: one cluster role, and one binding whose
//! subjects are their `ServiceAccounts`. One write when the set changes.

use std::time::Duration;

use berth_operator_core::{
    objects,
    token_review::{self, BINDING, ROLE},
};
use futures::StreamExt as _;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::{
    Api, Resource, ResourceExt as _,
    api::{PartialObjectMeta, Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Context, field_managers, stores::parsed};

const EACH: Duration = Duration::from_hours(1);
const RETRY: Duration = Duration::from_secs(5);

/// Runs until it is dropped.
pub(crate) async fn run(context: Context) {
    let bindings: Api<PartialObjectMeta<ClusterRoleBinding>> = Api::all(context.client.clone());
    let config = watcher::Config::default().fields(&format!("metadata.name={BINDING}"));
    let touched = watcher(bindings, config).default_backoff().touched_objects();
    let mut touched = std::pin::pin!(touched);
    let mut changed = context.stores.changed.clone();
    loop {
        changed.mark_unchanged();
        let pause = match ensure(&context).await {
            Ok(()) => EACH,
            Err(error) => {
                tracing::error!(%error, binding = BINDING, "registries may not be able to check tokens");
                RETRY
            }
        };
        tokio::select! {
            _ = changed.changed() => {}
            _ = touched.next() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn ensure(context: &Context) -> Result<(), kube::Error> {
    let registries = parsed(&context.stores.registries);
    let accounts = registries.iter().filter(|registry| registry.metadata.deletion_timestamp.is_none());
    let accounts = accounts
        .filter_map(|registry| Some((registry.namespace()?, registry.name_any())))
        .filter(|(namespace, _)| context.scope.contains(namespace));
    write(context, &token_review::role()).await?;
    write(context, &token_review::binding(accounts.collect())).await
}

async fn write<K>(context: &Context, desired: &K) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let api: Api<K> = Api::all(context.client.clone());
    let name = desired.name_any();
    if api.get_opt(&name).await?.is_some_and(|live| objects::is_as_desired(&live, desired)) {
        return Ok(());
    }
    let parameters = PatchParams::apply(field_managers::TOKEN_REVIEW).force();
    api.patch(&name, &parameters, &Patch::Apply(objects::sealed(desired))).await?;
    tracing::info!(kind = %K::kind(&()), name, "applied");
    Ok(())
}

/// Removes both; for the end of an installation.
pub(crate) async fn remove(client: &kube::Client) -> Result<(), kube::Error> {
    crate::uninstall::delete::<ClusterRoleBinding>(client, BINDING).await?;
    crate::uninstall::delete::<ClusterRole>(client, ROLE).await
}
