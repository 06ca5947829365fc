//! The `ValidatingWebhookConfiguration`, made from the whole set of image policies: one entry a policy, so that the API
//! server calls only where a policy speaks, and each policy fails in its own way. Pure; the image policy controller
//! applies the result. Trust, "The webhook"; decisions about exemptions are stated at each line.

use std::collections::BTreeMap;

use berth_crds::{ImagePolicySpec, Selector};
use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{
        MatchCondition, RuleWithOperations, ServiceReference, ValidatingWebhook,
        ValidatingWebhookConfiguration, WebhookClientConfig,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta},
};

use crate::{
    admission::{GOVERNED, Mode},
    image_policy::{mode, selector},
};

/// Name of the one configuration that the operator owns.
pub const NAME: &str = "berth-image-policies";

/// Name of the Service in front of the webhook servers.
pub const SERVICE: &str = "berth-webhook";

/// Name of the headless Service whose addresses are those of all webhook servers, and the port that these listen on.
pub const REPLICAS: &str = "berth-webhook-replicas";

/// See [`REPLICAS`].
pub const REPLICAS_PORT: u16 = 8443;

/// The label that the API server sets on each namespace and nobody can change.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// How long the API server waits. The server's own deadline is shorter, so that a denial can say why.
pub const TIMEOUT_SECONDS: i32 = 10;

/// Where the webhook runs.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The operator's namespace: policies in it bind the cluster, objects in it are exempt.
    pub namespace: String,
    /// PEM certificates that the webhook is trusted by: the CA in use and the one before.
    pub ca_bundle: Vec<u8>,
}

/// What an entry needs to know of a policy. A policy whose other fields make no sense has an entry all the same:
/// the server answers for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Namespace of the policy.
    pub namespace: String,
    /// Name of the policy.
    pub name: String,
    /// What happens when the webhook cannot be reached.
    pub mode: Mode,
    /// Namespaces that a cluster policy selects; all if absent. Ignored elsewhere.
    pub namespaces: Option<LabelSelector>,
    /// Objects that the policy selects by their own labels; all if absent.
    pub objects: Option<LabelSelector>,
}

impl Entry {
    /// The entry of a policy, where the operator is in `operator`. None for one that selects by a label that nothing can
    /// carry. One whose object cannot be read has no `spec`, and binds as much as one of its place could.
    pub fn new(operator: &str, namespace: &str, name: &str, spec: Option<&ImagePolicySpec>) -> Option<Self> {
        let usable =
            |written: Option<&Selector>| written.map(|written| selector("spec", written)).transpose().ok();
        let is_cluster_wide = namespace == operator;
        let namespaces = spec.and_then(|spec| spec.namespaces.as_ref()).filter(|_| is_cluster_wide);
        Some(Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            // What cannot be read does not say how much it insists.
            mode: spec.map_or(Mode::Enforce, |spec| mode(spec.mode)),
            namespaces: usable(namespaces)?,
            objects: usable(spec.and_then(|spec| spec.objects.as_ref()))?,
        })
    }
}

/// The path that the API server calls for a policy.
pub fn path(namespace: &str, name: &str) -> String {
    format!("/admit/{namespace}/{name}")
}

/// Builds the configuration, in the order of namespaces and names. Without policies it has no entries.
pub fn build(installation: &Installation, entries: &[Entry]) -> ValidatingWebhookConfiguration {
    let webhooks: BTreeMap<_, _> =
        entries.iter().map(|entry| ((&entry.namespace, &entry.name), webhook(installation, entry))).collect();
    let labels = [("app.kubernetes.io/managed-by", "berth"), ("app.kubernetes.io/part-of", "berth")];
    ValidatingWebhookConfiguration {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        },
        webhooks: (!webhooks.is_empty()).then(|| webhooks.into_values().collect()),
    }
}

fn webhook(installation: &Installation, entry: &Entry) -> ValidatingWebhook {
    ValidatingWebhook {
        name: format!("{}.{}.imgpol.berth.dev", entry.name, entry.namespace),
        admission_review_versions: vec!["v1".to_owned()],
        client_config: WebhookClientConfig {
            ca_bundle: Some(ByteString(installation.ca_bundle.clone())),
            service: Some(ServiceReference {
                name: SERVICE.to_owned(),
                namespace: installation.namespace.clone(),
                path: Some(path(&entry.namespace, &entry.name)),
                port: Some(443),
            }),
            url: None,
        },
        failure_policy: Some(
            match entry.mode {
                Mode::Enforce => "Fail",
                Mode::Warn | Mode::Audit => "Ignore",
            }
            .to_owned(),
        ),
        match_conditions: Some(match_conditions()),
        match_policy: Some("Equivalent".to_owned()),
        namespace_selector: Some(namespace_selector(installation, entry)),
        object_selector: Some(entry.objects.clone().unwrap_or_default()),
        rules: Some(rules()),
        // Decisions are kept as Events.
        side_effects: "NoneOnDryRun".to_owned(),
        timeout_seconds: Some(TIMEOUT_SECONDS),
    }
}

fn rules() -> Vec<RuleWithOperations> {
    let list = |values: &[&str]| Some(values.iter().map(|value| (*value).to_owned()).collect());
    GOVERNED
        .iter()
        .map(|governed| RuleWithOperations {
            api_groups: list(&[governed.group]),
            api_versions: list(&["v1"]),
            operations: list(governed.operations),
            resources: list(governed.resources),
            scope: Some("Namespaced".to_owned()),
        })
        .collect()
}

/// What may bring in an image: the whole spec of a Pod, the template in that of what makes Pods. Scaling changes neither,
/// so a Deployment can be scaled down, and its autoscaler goes on, while no webhook answers.
const CHANGED: &str = "request.operation != 'UPDATE' || (\
     has(object.spec.template) && has(oldObject.spec.template) ? object.spec.template != oldObject.spec.template : \
     has(object.spec.jobTemplate) && has(oldObject.spec.jobTemplate) ? object.spec.jobTemplate != oldObject.spec.jobTemplate : \
     object.spec != oldObject.spec)";

/// Calls that the API server spares itself. Neither can be brought about by a field that a tenant sets: the first
/// compares two specs, the second asks who calls.
fn match_conditions() -> Vec<MatchCondition> {
    let condition = |name: &str, expression: &str| MatchCondition {
        name: name.to_owned(),
        expression: expression.to_owned(),
    };
    vec![
        // Finalizers, labels and annotations change without the webhook, so that Pods can be cleaned up while no
        // webhook answers.
        condition("images-may-change", CHANGED),
        // A mirror Pod only shows what a kubelet runs already from its own disk.
        condition(
            "no-mirror-pod",
            "!(request.resource.resource == 'pods' && request.userInfo.username.startsWith('system:node:') && \
             has(object.metadata.annotations) && 'kubernetes.io/config.mirror' in object.metadata.annotations)",
        ),
    ]
}

/// A policy binds its own namespace; in the operator's namespace, those that it selects, save the two that the
/// cluster needs to come back to life after everything was down.
fn namespace_selector(installation: &Installation, entry: &Entry) -> LabelSelector {
    let by_name = |operator: &str, mut names: Vec<String>| {
        names.sort();
        LabelSelectorRequirement {
            key: NAMESPACE_NAME.to_owned(),
            operator: operator.to_owned(),
            values: Some(names),
        }
    };
    if entry.namespace != installation.namespace {
        let own = by_name("In", vec![entry.namespace.clone()]);
        return LabelSelector { match_labels: None, match_expressions: Some(vec![own]) };
    }
    let mut selector = entry.namespaces.clone().unwrap_or_default();
    let exempt = by_name("NotIn", vec!["kube-system".to_owned(), installation.namespace.clone()]);
    selector.match_expressions.get_or_insert_default().push(exempt);
    selector
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn installation() -> Installation {
        Installation { namespace: "berth-system".into(), ca_bundle: b"PEM".to_vec() }
    }

    fn entry(namespace: &str, name: &str, mode: Mode) -> Entry {
        Entry { namespace: namespace.into(), name: name.into(), mode, namespaces: None, objects: None }
    }

    fn selecting(labels: &[(&str, &str)], expressions: Vec<LabelSelectorRequirement>) -> Entry {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let selector = LabelSelector { match_labels: Some(labels), match_expressions: Some(expressions) };
        Entry { namespaces: Some(selector), ..entry("berth-system", "prod", Mode::Enforce) }
    }

    fn rendered(entries: &[Entry]) -> Value {
        serde_json::to_value(build(&installation(), entries)).unwrap()
    }

    #[test]
    fn without_policies_nothing_is_called() {
        insta::assert_json_snapshot!(rendered(&[]));
    }

    #[test]
    fn a_namespaced_policy_binds_its_own_namespace() {
        insta::assert_json_snapshot!(rendered(&[entry("team-a", "signed", Mode::Enforce)]));
    }

    /// The exemptions stand beside whatever the policy selects (R-OPR-6: no lock-out).
    #[test]
    fn a_cluster_policy_never_binds_the_operator_and_kube_system() {
        let production = LabelSelectorRequirement {
            key: "env".into(),
            operator: "In".into(),
            values: Some(vec!["prod".into()]),
        };
        let entries =
            [selecting(&[("team", "a")], vec![production]), entry("berth-system", "all", Mode::Warn)];
        let selectors: Vec<_> = rendered(&entries)["webhooks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|webhook| (webhook["name"].clone(), webhook["namespaceSelector"].clone()))
            .collect();
        insta::assert_json_snapshot!(selectors);
    }

    /// A tenant cannot reach other namespaces with a selector.
    #[test]
    fn a_selector_outside_the_operators_namespace_has_no_say() {
        let mut tenant = selecting(&[("env", "prod")], vec![]);
        tenant.namespace = "team-a".into();
        let plain = entry("team-a", "prod", Mode::Enforce);
        assert_eq!(rendered(&[tenant]), rendered(&[plain]));
    }

    /// Labels of objects narrow any policy, a tenant's too; they widen none (R-OPR-6).
    #[rstest::rstest]
    #[case("berth-system")]
    #[case("team-a")]
    fn labels_of_objects_narrow_a_policy(#[case] namespace: &str) {
        let plain = entry(namespace, "web", Mode::Enforce);
        let labels = [("app".to_owned(), "web".to_owned())].into();
        let objects = LabelSelector { match_labels: Some(labels), match_expressions: None };
        let narrowed = Entry { objects: Some(objects), ..plain.clone() };
        let mut expected = rendered(&[plain]);
        assert_eq!(expected["webhooks"][0]["objectSelector"], serde_json::json!({}));
        expected["webhooks"][0]["objectSelector"] = serde_json::json!({"matchLabels": {"app": "web"}});
        assert_eq!(rendered(&[narrowed]), expected);
    }

    /// A tenant's policy stands beside the cluster's and changes nothing in it (R-OPR-6: several policies on one image).
    #[rstest::rstest]
    #[case(Mode::Enforce)]
    #[case(Mode::Warn)]
    #[case(Mode::Audit)]
    fn a_policy_leaves_the_entries_of_others_alone(#[case] mode: Mode) {
        let cluster = selecting(&[("env", "prod")], vec![]);
        let alone = rendered(std::slice::from_ref(&cluster));
        let tenant = Entry { objects: Some(LabelSelector::default()), ..entry("team-a", "prod", mode) };
        let together = rendered(&[tenant, cluster]);
        let entries = together["webhooks"].as_array().unwrap();
        assert_eq!(entries.len(), 2);
        assert!(entries.contains(&alone["webhooks"][0]));
    }

    #[test]
    fn mode_decides_what_an_outage_means() {
        for (mode, failure) in [(Mode::Enforce, "Fail"), (Mode::Warn, "Ignore"), (Mode::Audit, "Ignore")] {
            assert_eq!(rendered(&[entry("a", "b", mode)])["webhooks"][0]["failurePolicy"], failure);
        }
    }

    #[test]
    fn the_order_of_policies_does_not_show() {
        let mut entries = vec![
            entry("b", "a", Mode::Warn),
            entry("a", "z", Mode::Enforce),
            entry("a", "b", Mode::Enforce),
            selecting(&[("x", "y")], vec![]),
        ];
        let first = rendered(&entries);
        entries.reverse();
        assert_eq!(first, rendered(&entries));
        let names: Vec<_> =
            first["webhooks"].as_array().unwrap().iter().map(|webhook| webhook["name"].clone()).collect();
        assert_eq!(
            names,
            [
                "b.a.imgpol.berth.dev",
                "z.a.imgpol.berth.dev",
                "a.b.imgpol.berth.dev",
                "prod.berth-system.imgpol.berth.dev"
            ]
        );
    }

    /// The API server gives up later than we do.
    #[test]
    fn every_entry_is_answered_in_time_and_a_dry_run_leaves_nothing() {
        let webhook = &rendered(&[entry("a", "b", Mode::Enforce)])["webhooks"][0];
        assert_eq!(
            (&webhook["timeoutSeconds"], &webhook["sideEffects"]),
            (&10.into(), &"NoneOnDryRun".into())
        );
    }
}
