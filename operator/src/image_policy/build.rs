//! Third verb: the webhook configuration for all policies together, those that are out of order included: they, too,
//! have to be asked, so that what they govern stays out until they are in order again.

use std::sync::Arc;

use berth_crds::ImagePolicy;
use berth_operator_core::webhook_configuration::{self, Built, Entry, Installation};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;

use crate::{image_policy::fetch::Policies, stores::Guarded};

/// The configuration as it is to be, given what it is.
pub(super) fn configuration(
    installation: &Installation,
    policies: &Policies,
    live: Option<&ValidatingWebhookConfiguration>,
) -> Built {
    let entry = |((namespace, name), policy): (&(String, String), &Arc<Guarded<ImagePolicy>>)| {
        let spec = policy.0.as_ref().ok().map(|policy| &policy.spec);
        Entry::new(&installation.namespace, namespace, name, spec)
    };
    webhook_configuration::build(installation, &policies.iter().filter_map(entry).collect::<Vec<_>>(), live)
}

#[cfg(test)]
mod tests {
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
        let built = configuration(&installation, &policies, None);
        serde_json::to_value(built.configuration).unwrap()["webhooks"][0].clone()
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
