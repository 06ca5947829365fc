//! The `ImagePolicies` that a Registry enforces at its own door: read fresh for `fetch`, with what their Secrets hold; and
//! for `watches`, which Registries a change of one of these concerns.

use berth_crds::{ImagePolicy, ImagePolicySpec, Registry};
use berth_operator_core::{
    image_policy::{Material, Secrets, secrets},
    objects::Owner,
    registry::gate::{Bound, is_enforceable},
    running::Binding,
};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{Api, ResourceExt as _, api::ListParams, runtime::reflector::Store};

use crate::{Context, stores::Guarded, unreadable};

/// Whether a Registry enforces policies.
pub(super) fn wants_gate(registry: &Registry) -> bool {
    registry.spec.access.as_ref().is_some_and(|access| access.enforce_image_policies)
}

/// The policies that bind Pods of the Registry's namespace, in the order of their names. A Secret that cannot be read now
/// is no reason to refuse everything at the door: what is in force stays until it can.
pub(super) async fn fetch(context: &Context, owner: &Owner) -> Result<Vec<Bound>, kube::Error> {
    let operator = &context.settings.namespace;
    let this = ListParams::default().fields(&format!("metadata.name={}", owner.namespace));
    let namespaces = Api::<Namespace>::all(context.client.clone()).list_metadata(&this).await?.items;
    let labels = namespaces.into_iter().next().and_then(|found| found.metadata.labels).unwrap_or_default();
    let mut bound = Vec::new();
    for namespace in [operator, &owner.namespace] {
        let api: Api<Guarded<ImagePolicy>> = Api::namespaced(context.client.clone(), namespace);
        for policy in api.list(&ListParams::default()).await? {
            let name = policy.name_any();
            let spec = policy.0.as_ref().map(|policy| policy.spec.clone());
            let binding = Binding::new(operator, namespace, &name, spec.as_ref().ok());
            let binds = binding.is_some_and(|binding| binding.binds_namespace(&labels));
            if !binds || spec.as_ref().is_ok_and(|spec| !is_enforceable(spec)) {
                continue;
            }
            let secrets = match &spec {
                Ok(spec) => read(context, namespace, spec).await?,
                Err(_) => Secrets::new(),
            };
            let (name, spec) = (format!("{namespace}/{name}"), spec.map_err(unreadable::cause));
            bound.push(Bound { name, spec, secrets });
        }
    }
    bound.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(bound)
}

/// What the Secrets that a policy names hold now.
async fn read(context: &Context, namespace: &str, spec: &ImagePolicySpec) -> Result<Secrets, kube::Error> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    let mut found = Secrets::new();
    for name in secrets(spec) {
        let material = if context.scope.contains(namespace) {
            api.get_opt(name).await?.map_or(Material::NotFound, |secret| {
                let data = secret.data.unwrap_or_default();
                Material::of(data.iter().map(|(key, value)| (key, value.0.as_slice())))
            })
        } else {
            Material::NotManaged
        };
        found.insert(name.to_owned(), material);
    }
    Ok(found)
}

/// Whether what happens to the policies of `namespace` may change the gate of a Registry.
pub(super) fn concerns(registry: &Registry, operator: &str, namespace: &str) -> bool {
    wants_gate(registry)
        && (namespace == operator || registry.metadata.namespace.as_deref() == Some(namespace))
}

/// Whether a policy takes something from the Secret `namespace/name`.
pub(super) fn is_named(policies: &Store<Guarded<ImagePolicy>>, namespace: &str, name: &str) -> bool {
    policies.state().iter().any(|policy| {
        policy.namespace().as_deref() == Some(namespace)
            && policy.0.as_ref().is_ok_and(|policy| secrets(&policy.spec).contains(name))
    })
}
