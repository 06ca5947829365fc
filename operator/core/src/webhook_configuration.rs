//! The `ValidatingWebhookConfiguration`, made from the whole set of image policies: an entry for each policy that binds
//! the cluster, and two for all others together, so that the API server calls only where a policy speaks, and what that
//! costs each request does not grow with the number of tenants. Pure; the image policy controller applies the result.
//! Trust, "The webhook"; decisions about exemptions are stated at each line.

mod room;

use std::collections::{BTreeMap, BTreeSet};

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
    objects::{self, MANAGED_BY},
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

/// What the configuration needs to know of a policy. A policy whose other fields make no sense is called for all the
/// same: the server answers for it.
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
    /// Objects that the policy selects by their own labels; all if absent. For a cluster policy the API server looks at
    /// them, for others the webhook server does.
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

    /// The namespaces that the policy binds: its own; in the operator's namespace, those that it selects, save the two
    /// that the cluster needs to come back to life after everything was down.
    pub fn namespace_selector(&self, operator: &str) -> LabelSelector {
        if self.namespace != operator {
            return by_name("In", vec![self.namespace.clone()]);
        }
        let mut selector = self.namespaces.clone().unwrap_or_default();
        let mut exempt = vec!["kube-system".to_owned(), operator.to_owned()];
        exempt.sort();
        let exempt = by_name("NotIn", exempt).match_expressions.unwrap_or_default();
        selector.match_expressions.get_or_insert_default().extend(exempt);
        selector
    }

    /// What takes up room in the configuration for this policy: an entry of its own, by its name, or its namespace, which
    /// can be no entry's name.
    fn place(&self, operator: &str) -> String {
        if self.namespace != operator {
            return self.namespace.clone();
        }
        let name = format!("{}.{}.{DOMAIN}", self.name, self.namespace);
        // The API server takes no longer one.
        if name.len() <= 253 { name } else { format!("{}.{DOMAIN}", objects::hash(&name)) }
    }
}

/// The end of each entry's name.
const DOMAIN: &str = "imgpol.berth.dev";

/// The path at which all policies of an object's own namespace judge it.
pub const OWN_PATH: &str = "/admit";

/// The path at which one policy judges.
pub fn path(namespace: &str, name: &str) -> String {
    format!("{OWN_PATH}/{namespace}/{name}")
}

/// What becomes of a set of policies.
#[derive(Clone, Debug)]
pub struct Built {
    /// To be applied.
    pub configuration: ValidatingWebhookConfiguration,
    /// Policies that it has no room for, by namespace and name.
    pub left_out: BTreeSet<(String, String)>,
}

/// Builds the configuration; without policies it has no entries. What is in force in `live` keeps its room.
///
/// A namespace is called for once, however many policies it has, and as insistently as the most insistent of them: where
/// one enforces, a review that cannot be made is a refusal, whatever the others would have said.
pub fn build(
    installation: &Installation,
    entries: &[Entry],
    live: Option<&ValidatingWebhookConfiguration>,
) -> Built {
    build_within(room::ROOM, installation, entries, live)
}

fn build_within(
    room: usize,
    installation: &Installation,
    entries: &[Entry],
    live: Option<&ValidatingWebhookConfiguration>,
) -> Built {
    let operator = &installation.namespace;
    let mut namespaces = BTreeMap::<String, bool>::new();
    let mut alone = BTreeMap::new();
    for entry in entries {
        let (place, enforced) = (entry.place(operator), entry.mode == Mode::Enforce);
        if entry.namespace == *operator {
            alone.insert(place.clone(), webhook(installation, Call::of(entry, operator, place)));
        } else {
            *namespaces.entry(place).or_default() |= enforced;
        }
    }
    let taken = room::taken(room, &namespaces, &alone, live);
    let left_out = entries.iter().filter(|entry| !taken.contains(&entry.place(operator)));
    let left_out = left_out.map(|entry| (entry.namespace.clone(), entry.name.clone())).collect();
    namespaces.retain(|namespace, _| taken.contains(namespace));
    alone.retain(|name, _| taken.contains(name));
    let shared = [("enforced", true), ("advised", false)].into_iter().filter_map(|(name, wanted)| {
        let listed = namespaces.iter().filter(|(_, enforced)| **enforced == wanted);
        let listed: Vec<_> = listed.map(|(namespace, _)| namespace.clone()).collect();
        (!listed.is_empty()).then(|| {
            let call = Call {
                name: format!("{name}.{DOMAIN}"),
                path: OWN_PATH.to_owned(),
                enforced: wanted,
                namespaces: by_name("In", listed),
                objects: LabelSelector::default(),
            };
            webhook(installation, call)
        })
    });
    let webhooks: Vec<_> = shared.chain(alone.into_values()).collect();
    let configuration = ValidatingWebhookConfiguration {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            labels: Some(objects::labels(&[MANAGED_BY, ("app.kubernetes.io/part-of", "berth")])),
            ..ObjectMeta::default()
        },
        webhooks: (!webhooks.is_empty()).then_some(webhooks),
    };
    Built { configuration, left_out }
}

/// Whether a release made it whose servers do not know [`OWN_PATH`]: it has an entry for each policy of a tenant.
pub fn is_of_before(live: &ValidatingWebhookConfiguration, operator: &str) -> bool {
    live.webhooks.iter().flatten().any(|webhook| {
        let service = webhook.client_config.service.as_ref();
        let called = service.and_then(|service| service.path.as_deref()).unwrap_or_default();
        called != OWN_PATH && !called.starts_with(&path(operator, ""))
    })
}

/// What tells one entry from another.
struct Call {
    name: String,
    path: String,
    enforced: bool,
    namespaces: LabelSelector,
    objects: LabelSelector,
}

impl Call {
    fn of(entry: &Entry, operator: &str, name: String) -> Self {
        Self {
            name,
            path: path(&entry.namespace, &entry.name),
            enforced: entry.mode == Mode::Enforce,
            namespaces: entry.namespace_selector(operator),
            objects: entry.objects.clone().unwrap_or_default(),
        }
    }
}

fn webhook(installation: &Installation, call: Call) -> ValidatingWebhook {
    ValidatingWebhook {
        name: call.name,
        admission_review_versions: vec!["v1".to_owned()],
        client_config: WebhookClientConfig {
            ca_bundle: Some(ByteString(installation.ca_bundle.clone())),
            service: Some(ServiceReference {
                name: SERVICE.to_owned(),
                namespace: installation.namespace.clone(),
                path: Some(call.path),
                port: Some(443),
            }),
            url: None,
        },
        failure_policy: Some(if call.enforced { "Fail" } else { "Ignore" }.to_owned()),
        match_conditions: Some(match_conditions()),
        match_policy: Some("Equivalent".to_owned()),
        namespace_selector: Some(call.namespaces),
        object_selector: Some(call.objects),
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

/// Namespaces that have, or have not, one of these names.
fn by_name(operator: &str, names: Vec<String>) -> LabelSelector {
    let requirement = LabelSelectorRequirement {
        key: NAMESPACE_NAME.to_owned(),
        operator: operator.to_owned(),
        values: Some(names),
    };
    LabelSelector { match_labels: None, match_expressions: Some(vec![requirement]) }
}

#[cfg(test)]
mod tests;
