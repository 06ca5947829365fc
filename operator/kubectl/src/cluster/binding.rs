//! Whom a policy binds: read from the very entry that the operator would write into the webhook configuration for it.

use std::collections::BTreeMap;

use berth_crds::ImagePolicySpec;
use berth_operator_core::{
    image_policy::{InvalidPolicy, mode, selector},
    webhook_configuration::{Entry, Installation, build},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{ParseExpressionError, Selector, SelectorExt as _};

/// The selectors of a policy's entry.
#[derive(Debug)]
pub(crate) struct Binding {
    namespaces: Selector,
    objects: Selector,
}

/// A policy that the operator writes no entry for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindingError {
    #[error(transparent)]
    Policy(#[from] InvalidPolicy),
    #[error(transparent)]
    Selector(#[from] ParseExpressionError),
}

impl Binding {
    /// Of a policy in `namespace`, where the operator is in `operator`.
    pub(crate) fn new(
        operator: &str,
        namespace: &str,
        name: &str,
        spec: &ImagePolicySpec,
    ) -> Result<Self, BindingError> {
        let select = |path: &str, written: &Option<_>| -> Result<Option<LabelSelector>, InvalidPolicy> {
            written.as_ref().map(|written| selector(path, written)).transpose()
        };
        let entry = Entry {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            mode: mode(spec.mode),
            namespaces: select("spec.namespaces", &spec.namespaces)?,
            objects: select("spec.objects", &spec.objects)?,
        };
        let installation = Installation { namespace: operator.to_owned(), ca_bundle: Vec::new() };
        let webhook = build(&installation, &[entry]).webhooks.unwrap_or_default().pop().unwrap_or_default();
        Ok(Self {
            namespaces: webhook.namespace_selector.unwrap_or_default().try_into()?,
            objects: webhook.object_selector.unwrap_or_default().try_into()?,
        })
    }

    /// Whether it binds objects with these labels in a namespace with those.
    pub(crate) fn binds(
        &self,
        namespace: &BTreeMap<String, String>,
        object: &BTreeMap<String, String>,
    ) -> bool {
        self.binds_namespace(namespace) && self.objects.matches(object)
    }

    /// Whether it binds anything in a namespace with these labels.
    pub(crate) fn binds_namespace(&self, labels: &BTreeMap<String, String>) -> bool {
        self.namespaces.matches(labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// The exemptions are those of the webhook (R-OPR-6, R-OPR-9).
    #[rstest]
    #[case::own("team-a", json!({}), "team-a", true)]
    #[case::other("team-a", json!({}), "team-b", false)]
    #[case::a_tenant_selects_no_other("team-a", json!({"namespaces": {}}), "team-b", false)]
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
        let binding = Binding::new("berth-system", policy, "p", &spec).unwrap();
        let namespace = labels(&[("kubernetes.io/metadata.name", namespace), ("env", "prod")]);
        assert_eq!(binding.binds(&namespace, &labels(&[("app", "web")])), bound);
    }
}
