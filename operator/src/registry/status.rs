//! Fifth verb, and the only writer of status: one patch when something changed, none when not, and an event when the
//! state did.

use berth_crds::{Registry, RegistryStatus, registry::StorageStatus};
use berth_operator_core::{
    conditions::{self, State},
    objects::Owner,
    registry::{
        RegistryError,
        jobs::{self, Task},
        status::{self, Facts, Observed},
    },
};
use jiff::Timestamp;
use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Resource as _,
    api::{ListParams, Patch, PatchParams},
    runtime::events::EventType,
};
use serde_json::json;

use super::{ReconcileError, build::Applied, probe};
use crate::{Context, events, field_managers, stores::Guarded};

/// Writes the status of a Registry whose children were applied; returns its state.
pub(super) async fn write(
    context: &Context,
    registry: &Registry,
    applied: &Applied,
    observed: &Observed,
    storage: Option<StorageStatus>,
) -> Result<State, ReconcileError> {
    let valid = &applied.registry;
    let owner = &valid.owner;
    let state = status::state(valid.replicas, valid.paused, observed);
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &owner.namespace);
    let lifecycle = if valid.schedules.iter().any(|schedule| schedule.task == Task::Prune) {
        let selected = ListParams::default().labels(&jobs::pod_selector(owner, Task::Prune));
        jobs::last_run(&pods.list(&selected).await?.items)
    } else {
        None
    };
    let facts = Facts {
        certificate_until: applied.certificate.map(|validity| validity.not_after),
        configuration: applied.configuration.clone().filter(|_| matches!(state, State::Ready { .. })),
        lifecycle,
        storage,
    };
    patch(context, registry, owner, &state, observed.deployment.as_ref(), facts).await?;
    Ok(state)
}

/// Writes why a Registry cannot be built. What was built before stays and goes on serving.
pub(super) async fn write_refused(
    context: &Context,
    registry: &Registry,
    error: &RegistryError,
) -> Result<(), ReconcileError> {
    let owner = Owner::registry(registry).ok_or(ReconcileError::Nameless)?;
    let deployment = if context.scope.contains(&owner.namespace) {
        deployments(context, &owner).get_opt(&owner.name).await?
    } else {
        None
    };
    patch(context, registry, &owner, &status::refused(error), deployment.as_ref(), Facts::default()).await
}

/// Writes why the children could not be written; it is tried again.
pub(super) async fn write_failed(
    context: &Context,
    registry: &Registry,
    error: &ReconcileError,
) -> Result<(), ReconcileError> {
    let owner = Owner::registry(registry).ok_or(ReconcileError::Nameless)?;
    let deployment = deployments(context, &owner).get_opt(&owner.name).await?;
    let message = match error {
        ReconcileError::Api(kube::Error::Api(status)) => status.message.clone(),
        error => error.to_string(),
    };
    let state = State::Progressing { reason: "ApplyFailed".to_owned(), message };
    patch(context, registry, &owner, &state, deployment.as_ref(), Facts::default()).await
}

fn deployments(context: &Context, owner: &Owner) -> Api<Deployment> {
    Api::namespaced(context.client.clone(), &owner.namespace)
}

/// Looks at the Deployment; at the Pods only if it is not complete, or if they have not said yet that they run the
/// configuration.
pub(super) async fn observe(
    context: &Context,
    registry: &Registry,
    applied: &Applied,
) -> Result<Observed, ReconcileError> {
    let (owner, replicas) = (&applied.registry.owner, applied.registry.replicas);
    let deployment = deployments(context, owner).get_opt(&owner.name).await?;
    let without_pods = Observed { deployment, ..Observed::default() };
    let complete = matches!(status::state(replicas, false, &without_pods), State::Ready { .. });
    let said = registry.status.as_ref().and_then(|status| status.configuration.as_ref());
    let wanted = applied.configuration.as_ref().filter(|wanted| Some(*wanted) != said);
    if complete && wanted.is_none() {
        return Ok(without_pods);
    }
    let pods = status::current(without_pods.deployment.as_ref(), servers(context, owner).await?);
    let bundle = context.bundle.borrow().clone();
    let Some(bundle) = bundle else { return Ok(Observed { pods, ..without_pods }) };
    Ok(match wanted {
        Some(wanted) if complete => {
            let outdated = probe::outdated(owner, &pods, &bundle, wanted).await;
            Observed { pods, outdated, ..without_pods }
        }
        _ => {
            let unready = probe::unready(owner, &pods, &bundle).await;
            Observed { pods, unready, ..without_pods }
        }
    })
}

/// The servers' Pods.
pub(super) async fn servers(context: &Context, owner: &Owner) -> Result<Vec<Pod>, kube::Error> {
    let selector = format!("{},app.kubernetes.io/component=server", owner.selector());
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &owner.namespace);
    Ok(pods.list(&ListParams::default().labels(&selector)).await?.items)
}

async fn patch(
    context: &Context,
    registry: &Registry,
    owner: &Owner,
    state: &State,
    deployment: Option<&Deployment>,
    facts: Facts,
) -> Result<(), ReconcileError> {
    let generation = registry.metadata.generation;
    let render = |before: &RegistryStatus| {
        let now = Time(Timestamp::now());
        status::status(owner, generation, before, state, deployment, facts.clone(), &now)
    };
    let cached = registry.status.clone().unwrap_or_default();
    if render(&cached) == cached {
        return Ok(());
    }
    // What the watch has seen may be older than what was written last; the transition times must not jump.
    let api: Api<Registry> = Api::namespaced(context.client.clone(), &owner.namespace);
    let Some(current) = api.get_opt(&owner.name).await? else { return Ok(()) };
    let before = current.status.unwrap_or_default();
    let status = render(&before);
    if status == before {
        return Ok(());
    }
    // That time belongs to whoever receives the events; it is read here and never written.
    let written = RegistryStatus { store_changed_at: None, ..status };
    apply(context, &owner.namespace, &owner.name, &written).await?;
    let said = conditions::ready(&before.conditions).map(|ready| ready.reason.as_str());
    if said != Some(state.reason()) {
        tracing::info!(
            namespace = owner.namespace,
            name = owner.name,
            reason = state.reason(),
            state = state.message(),
            "the state changed"
        );
        let type_ = match state {
            State::Stalled { .. } => EventType::Warning,
            State::Progressing { reason, .. } if reason != "Creating" && reason != "RollingOut" => {
                EventType::Warning
            }
            State::Ready { .. } | State::Progressing { .. } => EventType::Normal,
        };
        events::publish(context, registry, type_, state.reason(), state.message()).await;
    }
    Ok(())
}

async fn apply(
    context: &Context,
    namespace: &str,
    name: &str,
    status: &RegistryStatus,
) -> Result<(), kube::Error> {
    let api: Api<Guarded<Registry>> = Api::namespaced(context.client.clone(), namespace);
    let body = json!({
        "apiVersion": Registry::api_version(&()),
        "kind": Registry::kind(&()),
        "metadata": {"name": name, "namespace": namespace},
        "status": status,
    });
    let parameters = PatchParams::apply(field_managers::STATUS).force();
    api.patch_status(name, &parameters, &Patch::Apply(body)).await.map(drop)
}
