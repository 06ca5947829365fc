//! Third verb: the webhook configuration for all policies together, those that are out of order included: they, too,
//! have to be asked, so that what they govern stays out until they are in order again.

use berth_crds::{ImagePolicy, Selector};
use berth_operator_core::{
    admission::Mode,
    image_policy::{mode, selector},
    webhook_configuration::{self, Entry, Installation},
};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;

use crate::{image_policy::fetch::Policies, stores::Guarded};

/// The configuration as it is to be.
pub(super) fn configuration(
    installation: &Installation,
    policies: &Policies,
) -> ValidatingWebhookConfiguration {
    let entries: Vec<_> =
        policies.iter().filter_map(|(key, policy)| entry(installation, key, policy)).collect();
    webhook_configuration::build(installation, &entries)
}

/// The entry of a policy; none for one that selects by a label that nothing can carry.
fn entry(
    installation: &Installation,
    (namespace, name): &(String, String),
    policy: &Guarded<ImagePolicy>,
) -> Option<Entry> {
    let everything = Entry {
        namespace: namespace.clone(),
        name: name.clone(),
        // An object that cannot be read says nothing about how much it insists.
        mode: Mode::Enforce,
        namespaces: None,
        objects: None,
    };
    let Ok(policy) = &policy.0 else { return Some(everything) };
    let spec = &policy.spec;
    let usable = |written: &Option<Selector>| {
        written.as_ref().map(|written| selector("spec", written)).transpose().ok()
    };
    let is_cluster_wide = *namespace == installation.namespace;
    Some(Entry {
        mode: mode(spec.mode),
        namespaces: if is_cluster_wide { usable(&spec.namespaces)? } else { None },
        objects: usable(&spec.objects)?,
        ..everything
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use serde_json::{Value, json};

    fn rendered(spec: &Value) -> Value {
        let policy: Guarded<ImagePolicy> = serde_json::from_value(json!({
            "apiVersion": "berth.dev/v1alpha1", "kind": "ImagePolicy",
            "metadata": {"namespace": "berth-system", "name": "p"}, "spec": spec,
        }))
        .unwrap();
        let installation = Installation { namespace: "berth-system".into(), ca_bundle: b"CA".to_vec() };
        let policies = [(("berth-system".to_owned(), "p".to_owned()), Arc::new(policy))].into();
        serde_json::to_value(configuration(&installation, &policies)).unwrap()["webhooks"][0].clone()
    }

    #[test]
    fn mode_and_selector_come_from_the_policy() {
        let webhook = rendered(&json!({
            "mode": "Warn", "images": ["**"], "require": [], "namespaces": {"matchLabels": {"env": "prod"}},
        }));
        assert_eq!(webhook["failurePolicy"], "Ignore");
        assert_eq!(webhook["namespaceSelector"]["matchLabels"], json!({"env": "prod"}));
    }

    /// One policy's nonsense must not keep the others from being written.
    #[test]
    fn a_label_that_nothing_can_carry_selects_nothing() {
        let of = |field: &str| json!({"mode": "Enforce", "images": ["**"], "require": [], field: {"matchLabels": {"a b": "c"}}});
        assert_eq!(rendered(&of("namespaces")), Value::Null);
        assert_eq!(rendered(&of("objects")), Value::Null);
    }

    #[test]
    fn labels_of_objects_come_from_the_policy() {
        let webhook = rendered(&json!({
            "mode": "Enforce", "images": ["**"], "require": [], "objects": {"matchLabels": {"app": "web"}},
        }));
        assert_eq!(webhook["objectSelector"], json!({"matchLabels": {"app": "web"}}));
    }

    /// Fail closed: an object that does not parse binds as much as one of its place could.
    #[test]
    fn an_unreadable_policy_is_enforced() {
        let webhook = rendered(&json!({"mode": "Later"}));
        assert_eq!(webhook["failurePolicy"], "Fail");
        assert_eq!(webhook["namespaceSelector"]["matchLabels"], Value::Null);
    }
}
