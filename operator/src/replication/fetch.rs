//! First verb: what there is of a policy's world: its Jobs with what their Pods said last, the Registries and the Secrets
//! that it names.

use std::collections::BTreeMap;

use berth_crds::{Registry, ReplicationPolicy};
use berth_operator_core::{
    conditions,
    objects::Owner,
    registry::status,
    replication::{Pass, Plan, Side, pass},
};
use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{Pod, Secret},
    },
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{Api, ResourceExt, api::ListParams};

use crate::Context;

/// What there is.
pub(super) struct World {
    /// The policy's passes, in no order.
    pub(super) passes: Vec<Pass>,
    /// Which keys the Secrets of the plan have; `None` for a Secret that is not there.
    pub(super) secrets: BTreeMap<String, Option<Vec<String>>>,
    /// The plan's Registries; `None` for one that is not there.
    pub(super) registries: BTreeMap<String, Option<Readiness>>,
}

/// Whether a Registry answers, as far as its status says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    NotReady,
}

impl World {
    /// A Registry that a pass would wait for in vain.
    pub(super) fn not_ready(&self) -> Option<&str> {
        let not_ready = |state: &Option<Readiness>| *state == Some(Readiness::NotReady);
        self.registries.iter().find(|(_, state)| not_ready(state)).map(|(name, _)| name.as_str())
    }
}

/// Reads it all.
pub(super) async fn fetch(
    context: &Context,
    owner: &Owner,
    policy: &ReplicationPolicy,
    plan: &Plan,
) -> Result<World, kube::Error> {
    let namespace = &owner.namespace;
    let mut world = World {
        passes: passes(context, owner, &policy.name_any()).await?,
        secrets: BTreeMap::new(),
        registries: BTreeMap::new(),
    };
    let secrets = Api::<Secret>::namespaced(context.client.clone(), namespace);
    for (side, reads) in [(&plan.source, true), (&plan.destination, false)] {
        match side {
            Side::Registry(name) => {
                let registry = context.stores.registry(namespace, name);
                world
                    .registries
                    .insert(name.clone(), registry.as_ref().map(|registry| readiness(registry, reads)));
            }
            Side::Url { credentials, ca } => {
                for name in [credentials.as_ref(), ca.secret()].into_iter().flatten() {
                    let secret = secrets.get_opt(name).await?;
                    let keys = secret.map(|secret| secret.data.unwrap_or_default().into_keys().collect());
                    world.secrets.insert(name.clone(), keys);
                }
            }
        }
    }
    Ok(world)
}

/// A Registry that takes no writes can still be read from.
fn readiness(registry: &Registry, reads: bool) -> Readiness {
    let conditions = registry.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let serves =
        |ready: &Condition| ready.status == "True" || (reads && ready.reason == status::STORE_READ_ONLY);
    if conditions::ready(conditions).is_some_and(serves) { Readiness::Ready } else { Readiness::NotReady }
}

async fn passes(context: &Context, owner: &Owner, policy: &str) -> Result<Vec<Pass>, kube::Error> {
    let ours = ListParams::default().labels(&owner.selector());
    let jobs = Api::<Job>::namespaced(context.client.clone(), &owner.namespace).list(&ours).await?;
    let pods = Api::<Pod>::namespaced(context.client.clone(), &owner.namespace).list(&ours).await?;
    let said = pods.items.iter().filter_map(last_words).collect::<BTreeMap<_, _>>();
    let read = |job: &Job| pass::pass(policy, job, said.get(job.name_any().as_str()).copied());
    Ok(jobs.items.iter().filter_map(read).collect())
}

/// The Job that a Pod belongs to, and its termination message.
fn last_words(pod: &Pod) -> Option<(&str, &str)> {
    let job = pod.metadata.labels.as_ref()?.get("batch.kubernetes.io/job-name")?;
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    let worker = containers.iter().find(|container| container.name == pass::CONTAINER)?;
    let message = worker.state.as_ref()?.terminated.as_ref()?.message.as_ref()?;
    Some((job, message))
}
