//! What policies say about Pods that run: the Pods and the policies are read here, each image is looked at once, and each
//! workload gets a line. What is asked is decided in `berth_operator_core::running`, as it is for the operator. `forecast`
//! asks policies of files, `images` those in force.

use std::collections::{BTreeMap, BTreeSet};

use berth_crds::{ImagePolicy, ImagePolicySpec};
use berth_operator_core::{
    decision::Look,
    image_policy::{InvalidPolicy, Material, Rules, secrets},
    running::{Binding, Labels, Pods, Question, Which, questions},
};
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{Api, ResourceExt as _, api::ListParams, core::DeserializeGuard};
use serde::Serialize;

use crate::{
    cluster::{Cluster, ClusterError, ClusterRegistries, asking, said},
    judge::{Judge, NotInOrder, Sentence, look, material, unseen},
};

/// Images that are looked at at the same time.
const CONCURRENCY: usize = 8;

/// Objects on a page of a list.
const PAGE: u32 = 500;

/// Why nothing can be said about what runs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunningError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Policy(#[from] NotInOrder),
    #[error("a Pod of the namespace {namespace} cannot be read: {cause}")]
    Pod { namespace: String, cause: serde_json::Error },
}

/// A policy and whom it binds.
pub(crate) struct Bound {
    judge: Judge,
    /// None if it binds nobody.
    binding: Option<Binding>,
    /// Its namespace, unless it is the operator's.
    tenant: Option<String>,
}

/// What one policy says about one image of a workload.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Line {
    pub(crate) namespace: String,
    /// `deployment/web`.
    pub(crate) workload: String,
    pub(crate) pods: BTreeSet<String>,
    /// `container web`, several separated by commas.
    pub(crate) places: String,
    #[serde(flatten)]
    pub(crate) sentence: Sentence,
}

impl Bound {
    /// A policy of `namespace`, or why it cannot be read; Secrets that `given` does not have are read from the cluster.
    pub(crate) async fn new(
        cluster: &Cluster,
        operator: &str,
        (namespace, name): (&str, &str),
        spec: Result<&ImagePolicySpec, InvalidPolicy>,
        given: impl Fn(&str) -> Option<BTreeMap<String, Vec<u8>>>,
    ) -> Self {
        let binding = Binding::new(operator, namespace, name, spec.as_ref().ok().copied());
        let tenant = (namespace != operator).then(|| namespace.to_owned());
        let rules = match spec {
            Ok(spec) => {
                let mut found = BTreeMap::new();
                for secret in secrets(spec) {
                    let read = match given(secret) {
                        Some(data) => material(&data),
                        None => match cluster.secret(namespace, secret).await {
                            Ok(Some(data)) => material(&data),
                            Ok(None) => Material::NotFound,
                            Err(error) => Material::Unreadable(said(&error)),
                        },
                    };
                    found.insert(secret.to_owned(), read);
                }
                Rules::new(spec, &found)
            }
            Err(cause) => Rules::broken(cause),
        };
        Self { judge: Judge::new(operator, namespace, name, rules), binding, tenant }
    }

    /// Itself, unless the operator would refuse everything for it.
    pub(crate) fn in_order(self) -> Result<Self, NotInOrder> {
        Ok(Self { judge: self.judge.in_order()?, ..self })
    }

    /// Its name, and why it gives no verdict on anything that it governs; none if it does.
    pub(crate) fn unable(&self) -> Option<(&str, &InvalidPolicy)> {
        Some((self.judge.name.as_str(), self.judge.rules.policy.as_ref().err()?))
    }

    /// Whether it binds anything in a namespace with these labels.
    pub(crate) fn binds_namespace(&self, labels: &Labels) -> bool {
        self.binding.as_ref().is_some_and(|binding| binding.binds_namespace(labels))
    }
}

/// The policies in force in a namespace, or everywhere, in the order of their names. Those that are out of order are in
/// force, too.
pub(crate) async fn in_force(
    cluster: &Cluster,
    operator: &str,
    namespace: Option<&str>,
) -> Result<Vec<Bound>, RunningError> {
    let list = async |api: Api<DeserializeGuard<ImagePolicy>>| {
        api.list(&ListParams::default()).await.map_err(asking("the ImagePolicies cannot be read"))
    };
    let policies = match namespace {
        None => list(Api::all(cluster.client.clone())).await?.items,
        Some(namespace) => {
            let mut own = list(Api::namespaced(cluster.client.clone(), namespace)).await?.items;
            if namespace != operator {
                own.extend(list(Api::namespaced(cluster.client.clone(), operator)).await?.items);
            }
            own
        }
    };
    let mut bound = Vec::new();
    for policy in policies {
        let (namespace, name) = (policy.namespace().unwrap_or_default(), policy.name_any());
        let spec = match &policy.0 {
            Ok(policy) => Ok(&policy.spec),
            Err(invalid) => Err(InvalidPolicy::Unreadable(invalid.error.clone())),
        };
        bound.push(Bound::new(cluster, operator, (&namespace, &name), spec, |_| None).await);
    }
    bound.sort_by(|a, b| a.judge.name.cmp(&b.judge.name));
    Ok(bound)
}

/// The labels of namespaces: of all, or of some, of which the name alone is known to whoever may not read them.
pub(crate) async fn namespaces(
    cluster: &Cluster,
    only: Option<&BTreeSet<String>>,
) -> Result<BTreeMap<String, Labels>, ClusterError> {
    let api = Api::<Namespace>::all(cluster.client.clone());
    let Some(only) = only else {
        let all = api.list(&ListParams::default()).await.map_err(asking("the namespaces cannot be read"))?;
        return Ok(all.items.into_iter().map(|it| (it.name_any(), it.labels().clone())).collect());
    };
    let mut found = BTreeMap::new();
    for name in only {
        let labels = api.get_opt(name).await.ok().flatten().map(|namespace| namespace.labels().clone());
        let named = || [("kubernetes.io/metadata.name".to_owned(), name.clone())].into();
        found.insert(name.clone(), labels.unwrap_or_else(named));
    }
    Ok(found)
}

/// The namespaces that tenants' policies are in, if there are no others.
pub(crate) fn tenants(policies: &[Bound]) -> Option<BTreeSet<String>> {
    policies.iter().map(|policy| policy.tenant.clone()).collect()
}

/// The running Pods of namespaces.
pub(crate) async fn running(
    cluster: &Cluster,
    namespaces: impl Iterator<Item = &String>,
) -> Result<Pods, RunningError> {
    let mut found = Pods::default();
    for namespace in namespaces {
        let api = Api::<Pod>::namespaced(cluster.client.clone(), namespace);
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let what = format!("the Pods of the namespace {namespace} cannot be read");
            let list = api.list(&page).await.map_err(asking(what))?;
            for pod in &list.items {
                let unreadable = |cause| RunningError::Pod { namespace: namespace.clone(), cause };
                found.apply(pod).map_err(unreadable)?;
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => break,
            }
        }
    }
    Ok(found)
}

/// What each policy says about each image of the workloads that it binds.
pub(crate) async fn assess(
    policies: &[Bound],
    namespaces: &BTreeMap<String, Labels>,
    pods: &Pods,
    registries: &ClusterRegistries,
    which: Which,
) -> Vec<Line> {
    let binding = policies.iter().filter_map(|bound| Some((&bound.judge, bound.binding.as_ref()?)));
    let (judges, bindings): (Vec<_>, Vec<_>) = binding.unzip();
    let asked: Vec<_> = judges.iter().map(|judge| &judge.rules).zip(bindings).collect();
    let questions = questions(&asked, namespaces, pods, which);
    let anchors =
        judges.iter().filter_map(|judge| judge.policy()).flat_map(|it| it.anchors().clone()).collect();
    let mut wanted = BTreeMap::new();
    for question in &questions {
        if let Some(image) = &question.look
            && judges[question.policy].not_asked(&registries.outside, image).is_none()
        {
            wanted.entry((&question.template.pulling, image.to_string())).or_insert(image);
        }
    }
    let looks: BTreeMap<_, _> = stream::iter(wanted)
        .map(|((pulling, text), image)| {
            let anchors = &anchors;
            async move {
                let seen = match registries.client(image, Some(pulling)).await {
                    Ok(client) => look(&client, image, anchors).await,
                    Err(error) => unseen(&error.into()),
                };
                ((pulling, text), seen)
            }
        })
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await;
    let now = Timestamp::now();
    let line = |question: &Question| {
        let (judge, subject) = (judges[question.policy], question.subject.clone());
        let places = subject.places();
        let sentence = match (&question.subject.image, &question.look) {
            (Ok(image), Some(look)) => {
                let not_asked = judge.not_asked(&registries.outside, look);
                let seen = looks.get(&(&question.template.pulling, look.to_string()));
                judge.sentence(image, subject, not_asked.as_ref().or(seen).unwrap_or(&Look::NotNeeded), now)
            }
            (Err(error), _) => judge.nonsense(subject.shown(), error),
            (Ok(image), None) => judge.sentence(image, subject, &Look::NotNeeded, now),
        };
        Line {
            namespace: question.template.workload.namespace.clone(),
            workload: question.template.workload.to_string(),
            pods: question.pods.iter().cloned().collect(),
            places,
            sentence,
        }
    };
    questions.iter().map(line).collect()
}
