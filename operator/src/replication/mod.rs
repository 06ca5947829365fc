//! The replication controller: a `ReplicationPolicy` becomes a Job whenever a comparison is due. The worker keeps no state
//! and neither do we: Jobs say what was done, the destination says what is there.

mod apply;
mod build;
mod fetch;
mod status;
mod validate;

use std::{sync::Arc, time::Duration};

use berth_crds::{Registry, ReplicationPolicy, SecretReference};
use berth_operator_core::{
    objects::{self, Owner},
    replication::{Due, Plan},
};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::Secret};
use kube::{
    Api, ResourceExt,
    api::PartialObjectMeta,
    core::DeserializeGuard,
    runtime::{
        Controller,
        controller::Action,
        reflector::{ObjectRef, Store},
        watcher,
    },
};

use crate::{
    Context,
    apply::ApplyError,
    registry::installation,
    replication::{build::build, status::Outcome, validate::Obstacle},
    runner::{self, Reason},
    stores::Guarded,
    unreadable,
};

const NAME: &str = "replication";

/// Looked at again after this time, should a watch have missed something.
const EACH: Duration = Duration::from_mins(10);

/// Why a reconciliation failed.
#[derive(Debug, thiserror::Error)]
pub enum ReplicationError {
    /// The API server refused or could not be reached.
    #[error(transparent)]
    Kubernetes(#[from] kube::Error),
    /// A child could not be written.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The worker's configuration could not be written down.
    #[error("the worker's configuration cannot be rendered: {0}")]
    Render(#[from] serde_yaml::Error),
}

impl Reason for ReplicationError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Kubernetes(_) | Self::Apply(ApplyError::Api(_)) => "ApiServerFailed",
            Self::Apply(ApplyError::NameTaken { .. }) => "NameTaken",
            Self::Render(_) => "RenderFailed",
        }
    }
}

/// Runs until it is dropped.
pub async fn run(context: Context) {
    let config = watcher::Config::default();
    let policies = Api::<Guarded<ReplicationPolicy>>::all(context.client.clone());
    let mut controller = Controller::new(policies, config.clone());
    let store = controller.store();
    for jobs in context.scope.apis::<PartialObjectMeta<Job>>(&context.client) {
        controller = controller.owns(jobs, config.clone().labels(&objects::selector()));
    }
    for secrets in context.scope.apis::<PartialObjectMeta<Secret>>(&context.client) {
        let store = store.clone();
        controller =
            controller.watches(secrets, config.clone(), move |secret| naming(&store, &secret, names_secret));
    }
    let registries = Api::<PartialObjectMeta<Registry>>::all(context.client.clone());
    controller =
        controller.watches(registries, config, move |registry| naming(&store, &registry, names_registry));
    let bundle = context.bundle.clone();
    let changes =
        stream::unfold(
            bundle,
            |mut bundle| async move { bundle.changed().await.ok().map(|()| ((), bundle)) },
        );
    let controller = controller.reconcile_all_on(changes.boxed());
    runner::run(NAME, context, controller, reconcile).await;
}

/// The policies of an object's namespace that name it.
fn naming(
    store: &Store<Guarded<ReplicationPolicy>>,
    object: &impl ResourceExt,
    names: fn(&ReplicationPolicy, &str) -> bool,
) -> Vec<ObjectRef<Guarded<ReplicationPolicy>>> {
    let (namespace, name) = (object.namespace(), object.name_any());
    let policies = store.state().into_iter().filter(|policy| {
        let parsed = policy.0.as_ref().ok();
        policy.namespace() == namespace && parsed.is_some_and(|policy| names(policy, &name))
    });
    policies.map(|policy| ObjectRef::from_obj(&*policy)).collect()
}

fn names_secret(policy: &ReplicationPolicy, secret: &str) -> bool {
    let sides = [&policy.spec.source, &policy.spec.destination];
    let is = |reference: &Option<SecretReference>| {
        reference.as_ref().is_some_and(|reference| reference.secret_name == secret)
    };
    sides.iter().any(|side| is(&side.credentials) || is(&side.ca))
}

fn names_registry(policy: &ReplicationPolicy, registry: &str) -> bool {
    let sides = [&policy.spec.source, &policy.spec.destination];
    sides.iter().any(|side| side.registry.as_deref() == Some(registry))
}

async fn reconcile(
    object: Arc<DeserializeGuard<ReplicationPolicy>>,
    context: Context,
) -> Result<Action, ReplicationError> {
    let policy = match &object.0 {
        Ok(policy) => policy,
        Err(invalid) => {
            let obstacle = Obstacle::Unreadable(unreadable::cause(invalid));
            unreadable::write::<ReplicationPolicy>(&context, invalid, &obstacle.state()).await?;
            return Ok(Action::requeue(EACH));
        }
    };
    // Children of an object that is going away would only have to be swept up after it.
    let Some(owner) =
        Owner::replication_policy(policy).filter(|_| policy.metadata.deletion_timestamp.is_none())
    else {
        return Ok(Action::await_change());
    };
    if !context.scope.contains(&owner.namespace) {
        return stalled(&context, policy, &Obstacle::NamespaceNotManaged(owner.namespace)).await;
    }
    let plan = match Plan::new(&owner.namespace, &policy.spec) {
        Ok(plan) => plan,
        Err(error) => return stalled(&context, policy, &error.into()).await,
    };
    let world = fetch::fetch(&context, &owner, policy, &plan).await?;
    if let Err(obstacle) = validate::validate(&plan, &world) {
        let outcome =
            Outcome { obstacle: Some(&obstacle), passes: &world.passes, due: None, not_ready: None };
        status::write(&context, policy, &outcome).await?;
        return Ok(Action::requeue(EACH));
    }
    let now = Timestamp::now();
    let Some(bundle) = context.wait_for_bundle().await else { return Ok(Action::await_change()) };
    let desired = build(&owner, policy, &plan, &world, &installation(&context), bundle.as_pem(), now)?;
    apply::apply(&context, &owner, &desired).await?;
    let outcome = Outcome {
        obstacle: None,
        passes: &world.passes,
        due: Some(desired.due),
        not_ready: world.not_ready(),
    };
    status::write(&context, policy, &outcome).await?;
    Ok(match desired.due {
        Due::At(next) if !policy.spec.paused => Action::requeue(until(next, now).min(EACH)),
        // A Job that has begun tells by its end.
        _ => Action::requeue(EACH),
    })
}

async fn stalled(
    context: &Context,
    policy: &ReplicationPolicy,
    obstacle: &Obstacle,
) -> Result<Action, ReplicationError> {
    let outcome = Outcome { obstacle: Some(obstacle), passes: &[], due: None, not_ready: None };
    status::write(context, policy, &outcome).await?;
    Ok(Action::requeue(EACH))
}

fn until(next: Timestamp, now: Timestamp) -> Duration {
    let millis = next.as_millisecond().saturating_sub(now.as_millisecond());
    // A little later than sooner: a wake-up before the time would only go to sleep again.
    Duration::from_millis(u64::try_from(millis).unwrap_or(0)) + Duration::from_millis(10)
}
