//! Third verb: the webhook configuration for all policies together, those that are out of order included: they, too,
//! have to be asked, so that what they govern stays out until they are in order again.

use berth_crds::k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use berth_operator_core::{
    admission::Mode,
    webhook_configuration::{self, Entry, Installation},
};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;

use crate::image_policy::fetch::Policies;

/// The configuration as it is to be.
pub(super) fn configuration(
    installation: &Installation,
    policies: &Policies,
) -> ValidatingWebhookConfiguration {
    let entries: Vec<_> = policies
        .iter()
        .map(|((namespace, name), policy)| {
            let spec = policy.0.as_ref().ok().map(|policy| &policy.spec);
            Entry {
                namespace: namespace.clone(),
                name: name.clone(),
                // An object that cannot be read says nothing about how much it insists.
                mode: match spec.map(|spec| spec.mode) {
                    Some(berth_crds::image_policy::Mode::Warn) => Mode::Warn,
                    Some(berth_crds::image_policy::Mode::Enforce) | None => Mode::Enforce,
                },
                namespaces: spec.and_then(|spec| spec.namespaces.as_ref()).map(LabelSelector::from),
            }
        })
        .collect();
    webhook_configuration::build(installation, &entries)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::stores::Guarded;
    use berth_crds::ImagePolicy;
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

    /// Fail closed: an object that does not parse binds as much as one of its place could.
    #[test]
    fn an_unreadable_policy_is_enforced() {
        let webhook = rendered(&json!({"mode": "Later"}));
        assert_eq!(webhook["failurePolicy"], "Fail");
        assert_eq!(webhook["namespaceSelector"]["matchLabels"], Value::Null);
    }
}
