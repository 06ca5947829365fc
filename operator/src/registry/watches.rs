//! What makes the controller look at a Registry: itself, its children, the Secrets and claims that its spec names, the
//! `ReplicationPolicies` that read or write it, its prune runs, and a new certificate authority; if it enforces
//! `ImagePolicies`, these, their Secrets and its namespace. Secrets are watched by their metadata only.

use berth_crds::{ImagePolicy, Registry, ReplicationPolicy};
use berth_operator_core::{
    objects::{self, REGISTRY_LABEL},
    registry::validate::{claim_names, secret_names},
};
use futures::StreamExt as _;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::Deployment,
        batch::v1::{CronJob, Job},
        core::v1::{ConfigMap, Namespace, PersistentVolumeClaim, Secret, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
};
use kube::{
    Api, Resource, ResourceExt as _,
    api::PartialObjectMeta,
    runtime::{
        Controller,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use serde::de::DeserializeOwned;

use super::gate;
use crate::{Context, stores::Guarded};

type Registries = Controller<Guarded<Registry>>;

pub(super) fn controller(context: &Context) -> Registries {
    let controller =
        Controller::new(Api::<Guarded<Registry>>::all(context.client.clone()), watcher::Config::default());
    let registries = controller.store();
    let controller = owns::<Deployment>(controller, context);
    let controller = owns::<Service>(controller, context);
    let controller = owns::<ServiceAccount>(controller, context);
    let controller = owns::<ConfigMap>(controller, context);
    let controller = owns::<Secret>(controller, context);
    let controller = owns::<NetworkPolicy>(controller, context);
    let controller = owns::<PodDisruptionBudget>(controller, context);
    let controller = owns::<CronJob>(controller, context);
    let (operator, policies) = (context.settings.namespace.clone(), context.stores.image_policies.clone());
    let controller =
        named_by::<Secret>(controller, context, &registries, move |registry, namespace, name| {
            (is_in(registry, namespace) && secret_names(registry).contains(&name))
                || (gate::concerns(registry, &operator, namespace)
                    && gate::is_named(&policies, namespace, name))
        });
    let controller =
        named_by::<PersistentVolumeClaim>(controller, context, &registries, |registry, namespace, name| {
            is_in(registry, namespace) && claim_names(registry).contains(&name)
        });
    let controller = gated(controller, context, &registries);
    let controller = prune_runs(controller, context);
    let controller = replicated(controller, context);
    let bundle = context.bundle.clone();
    controller.reconcile_all_on(
        futures::stream::unfold(bundle, |mut bundle| async move {
            bundle.changed().await.ok().map(|()| ((), bundle))
        })
        .boxed(),
    )
}

/// Children, by their owner reference.
fn owns<K>(controller: Registries, context: &Context) -> Registries
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let config = watcher::Config::default().labels(&objects::selector());
    let apis = context.scope.apis::<PartialObjectMeta<K>>(&context.client);
    apis.into_iter().fold(controller, |controller, api| controller.owns(api, config.clone()))
}

fn is_in(registry: &Registry, namespace: &str) -> bool {
    registry.metadata.namespace.as_deref() == Some(namespace)
}

/// The Registries that parse and of which something holds.
fn those(
    registries: &Store<Guarded<Registry>>,
    holds: impl Fn(&Registry) -> bool,
) -> Vec<ObjectRef<Guarded<Registry>>> {
    let registries = registries.state();
    let parsed = registries.iter().filter_map(|registry| registry.0.as_ref().ok());
    parsed.filter(|registry| holds(registry)).map(|registry| reference(&registry.metadata)).collect()
}

/// Objects, by namespace and name, that a Registry depends on.
fn named_by<K>(
    controller: Registries,
    context: &Context,
    registries: &Store<Guarded<Registry>>,
    names: impl Fn(&Registry, &str, &str) -> bool + Clone + Send + Sync + 'static,
) -> Registries
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let apis = context.scope.apis::<PartialObjectMeta<K>>(&context.client);
    apis.into_iter().fold(controller, |controller, api| {
        let (registries, names) = (registries.clone(), names.clone());
        controller.watches(api, watcher::Config::default(), move |object| {
            let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
            those(&registries, |registry| names(registry, &namespace, &name))
        })
    })
}

/// `ImagePolicies` that a Registry enforces, and the labels of its namespace, by which they select it.
fn gated(controller: Registries, context: &Context, registries: &Store<Guarded<Registry>>) -> Registries {
    let policies = Api::<Guarded<ImagePolicy>>::all(context.client.clone());
    let namespaces = Api::<PartialObjectMeta<Namespace>>::all(context.client.clone());
    let (operator, of_policy, of_namespace) =
        (context.settings.namespace.clone(), registries.clone(), registries.clone());
    let controller = controller.watches(policies, watcher::Config::default(), move |policy| {
        let namespace = policy.meta().namespace.clone().unwrap_or_default();
        those(&of_policy, |registry| gate::concerns(registry, &operator, &namespace))
    });
    controller.watches(namespaces, watcher::Config::default(), move |namespace| {
        let name = namespace.name_any();
        those(&of_namespace, |registry| gate::wants_gate(registry) && is_in(registry, &name))
    })
}

fn reference(
    meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
) -> ObjectRef<Guarded<Registry>> {
    let name = meta.name.as_deref().unwrap_or_default();
    ObjectRef::new(name).within(meta.namespace.as_deref().unwrap_or_default())
}

/// Jobs that the `CronJob` made: their end brings a report.
fn prune_runs(controller: Registries, context: &Context) -> Registries {
    let selector = format!("{},app.kubernetes.io/component=prune", objects::selector());
    let config = watcher::Config::default().labels(&selector);
    let apis = context.scope.apis::<PartialObjectMeta<Job>>(&context.client);
    apis.into_iter().fold(controller, |controller, api| {
        controller.watches(api, config.clone(), |job| {
            let registry = job.labels().get(REGISTRY_LABEL).cloned();
            let namespace = job.metadata.namespace.clone().unwrap_or_default();
            registry.map(|name| ObjectRef::new(&name).within(&namespace))
        })
    })
}

/// Registries that a `ReplicationPolicy` reads or writes: its `ServiceAccount` has to be let in.
fn replicated(controller: Registries, context: &Context) -> Registries {
    let policies = Api::<Guarded<ReplicationPolicy>>::all(context.client.clone());
    controller.watches(policies, watcher::Config::default(), |policy| {
        let namespace = policy.meta().namespace.clone().unwrap_or_default();
        let sides =
            policy.0.ok().map(|policy| [policy.spec.source.registry, policy.spec.destination.registry]);
        let names = sides.into_iter().flatten().flatten();
        names.map(move |name| ObjectRef::new(&name).within(&namespace)).collect::<Vec<_>>()
    })
}
