//! Whom a policy binds: read from the very entry that the operator writes into the webhook configuration for it.

use berth_crds::ImagePolicySpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use crate::{
    running::Labels,
    webhook_configuration::{Entry, Installation, build},
};

/// The selectors of a policy's entry.
#[derive(Clone, Debug)]
pub struct Binding {
    namespaces: LabelSelector,
    objects: LabelSelector,
}

impl Binding {
    /// Of the policy `namespace/name`, where the operator is in `operator`; `spec` is none if the object cannot be read.
    /// None for a policy that has no entry, and so binds nobody.
    pub fn new(operator: &str, namespace: &str, name: &str, spec: Option<&ImagePolicySpec>) -> Option<Self> {
        let entry = Entry::new(operator, namespace, name, spec)?;
        let installation = Installation { namespace: operator.to_owned(), ca_bundle: Vec::new() };
        let webhook = build(&installation, &[entry]).webhooks?.pop()?;
        Some(Self {
            namespaces: webhook.namespace_selector.unwrap_or_default(),
            objects: webhook.object_selector.unwrap_or_default(),
        })
    }

    /// Whether it binds objects with these labels in a namespace with those.
    pub fn binds(&self, namespace: &Labels, object: &Labels) -> bool {
        self.binds_namespace(namespace) && matches(&self.objects, object)
    }

    /// Whether it binds anything in a namespace with these labels.
    pub fn binds_namespace(&self, labels: &Labels) -> bool {
        matches(&self.namespaces, labels)
    }
}

/// As the API server has it: an empty selector selects everything, an absent label is in no set.
fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    let has = |requirement: &LabelSelectorRequirement| {
        let values = requirement.values.as_deref().unwrap_or_default();
        labels.get(&requirement.key).is_some_and(|value| values.contains(value))
    };
    let mut pairs = selector.match_labels.iter().flatten();
    let mut requirements = selector.match_expressions.iter().flatten();
    pairs.all(|(key, value)| labels.get(key) == Some(value))
        && requirements.all(|requirement| match requirement.operator.as_str() {
            "In" => has(requirement),
            "NotIn" => !has(requirement),
            "Exists" => labels.contains_key(&requirement.key),
            "DoesNotExist" => !labels.contains_key(&requirement.key),
            _ => false,
        })
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

    #[rstest]
    #[case(json!({}), true)]
    #[case(json!({"matchLabels": {"a": "1"}}), true)]
    #[case(json!({"matchLabels": {"a": "1", "b": "1"}}), false)]
    #[case(json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["0", "1"]}]}), true)]
    #[case(json!({"matchExpressions": [{"key": "b", "operator": "In", "values": ["1"]}]}), false)]
    #[case(json!({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}), false)]
    #[case(json!({"matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["1"]}]}), true)]
    #[case(json!({"matchExpressions": [{"key": "a", "operator": "Exists"}]}), true)]
    #[case(json!({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}), false)]
    #[case(json!({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "Exists"}]}), false)]
    fn selectors(#[case] selector: Value, #[case] selected: bool) {
        let selector = serde_json::from_value(selector).unwrap();
        assert_eq!(matches(&selector, &labels(&[("a", "1")])), selected);
    }
}
