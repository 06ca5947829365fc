//! Whom a policy binds: told by the very selectors that the operator makes the webhook configuration from.

use berth_crds::ImagePolicySpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::{labels::are_selected, running::Labels, webhook_configuration::Entry};

/// The selectors of a policy.
#[derive(Clone, Debug)]
pub struct Binding {
    namespaces: LabelSelector,
    objects: LabelSelector,
}

impl Binding {
    /// Of the policy `namespace/name`, where the operator is in `operator`; `spec` is none if the object cannot be read.
    /// None for a policy that is never called for, and so binds nobody.
    pub fn new(operator: &str, namespace: &str, name: &str, spec: Option<&ImagePolicySpec>) -> Option<Self> {
        let entry = Entry::new(operator, namespace, name, spec)?;
        let namespaces = entry.namespace_selector(operator);
        Some(Self { namespaces, objects: entry.objects.unwrap_or_default() })
    }

    /// Whether it binds objects with these labels in a namespace with those.
    pub fn binds(&self, namespace: &Labels, object: &Labels) -> bool {
        self.binds_namespace(namespace) && are_selected(&self.objects, object)
    }

    /// Whether it binds anything in a namespace with these labels.
    pub fn binds_namespace(&self, labels: &Labels) -> bool {
        are_selected(&self.namespaces, labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::labels;
    use rstest::rstest;
    use serde_json::{Value, json};

    /// The exemptions are those of the webhook (R-OPR-6, R-OPR-9).
    #[rstest]
    #[case::own("team-a", json!({}), "team-a", true)]
    #[case::other("team-a", json!({}), "team-b", false)]
    #[case::a_tenant_selects_no_other("team-a", json!({"namespaces": {}}), "team-b", false)]
    #[case::a_tenant_selects_its_own_in_vain("team-a", json!({"namespaces": {"matchLabels": {"env": "test"}}}), "team-a", true)]
    #[case::cluster("berth-system", json!({}), "team-b", true)]
    #[case::selected("berth-system", json!({"namespaces": {"matchLabels": {"env": "prod"}}}), "team-b", true)]
    #[case::not_selected("berth-system", json!({"namespaces": {"matchLabels": {"env": "test"}}}), "team-b", false)]
    #[case::the_operator_is_exempt("berth-system", json!({}), "berth-system", false)]
    #[case::kube_system_is_exempt("berth-system", json!({}), "kube-system", false)]
    #[case::object("team-a", json!({"objects": {"matchLabels": {"app": "web"}}}), "team-a", true)]
    #[case::other_object("team-a", json!({"objects": {"matchLabels": {"app": "db"}}}), "team-a", false)]
    fn scope(#[case] policy: &str, #[case] more: Value, #[case] namespace: &str, #[case] bound: bool) {
        let mut spec = json!({"mode": "Enforce", "images": ["**"], "require": []});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let spec = serde_json::from_value(spec).unwrap();
        let binding = Binding::new("berth-system", policy, "p", Some(&spec)).unwrap();
        let namespace = labels(&[("kubernetes.io/metadata.name", namespace), ("env", "prod")]);
        assert_eq!(binding.binds(&namespace, &labels(&[("app", "web")])), bound);
    }
}
