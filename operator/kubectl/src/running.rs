//! What policies say about Pods that run: which Pods each policy binds, each of their images looked at once, and a line for
//! each workload. `forecast` asks policies of files, `images` those in force.

use std::collections::{BTreeMap, BTreeSet};

use berth_crds::{ImagePolicy, ImagePolicySpec};
use berth_operator_core::{
    admission::{ReviewError, Subject, subjects},
    decision::Look,
    image_policy::{Material, secrets},
};
use berth_registry_core::ImageReference;
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{Api, ResourceExt as _, api::ListParams};
use serde::Serialize;

use crate::{
    cluster::{Binding, BindingError, Cluster, ClusterError, ClusterRegistries, Running, asking, workloads},
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
    #[error("ImagePolicy {policy}: {cause}")]
    Binding { policy: String, cause: BindingError },
    #[error("the Pods of the namespace {namespace}: {cause}")]
    Pods { namespace: String, cause: ReviewError },
}

/// A policy and whom it binds.
pub(crate) struct Bound {
    pub(crate) judge: Judge,
    binding: Binding,
    /// Its namespace, unless it is the operator's.
    tenant: Option<String>,
}

/// Which digest of an image is judged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// The one that its name stands for now, as it would be if the Pod were made anew.
    Named,
    /// The one that runs.
    Running,
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
    /// A policy of `namespace`; Secrets that `given` does not have are read from the cluster.
    pub(crate) async fn new(
        cluster: &Cluster,
        operator: &str,
        (namespace, name): (&str, &str),
        spec: &ImagePolicySpec,
        given: impl Fn(&str) -> Option<BTreeMap<String, Vec<u8>>>,
    ) -> Result<Self, RunningError> {
        let mut found = BTreeMap::new();
        for secret in secrets(spec) {
            let read = match given(secret) {
                Some(data) => material(&data),
                None => match cluster.secret(namespace, secret).await {
                    Ok(Some(data)) => material(&data),
                    Ok(None) => Material::NotFound,
                    Err(error) => Material::Unreadable(error.to_string()),
                },
            };
            found.insert(secret.to_owned(), read);
        }
        let judge = Judge::new(namespace, name, spec, &found)?;
        let binding = Binding::new(operator, namespace, name, spec)
            .map_err(|cause| RunningError::Binding { policy: judge.name.clone(), cause })?;
        let tenant = (namespace != operator).then(|| namespace.to_owned());
        Ok(Self { judge, binding, tenant })
    }
}

impl Bound {
    /// Whether it binds anything in a namespace with these labels.
    pub(crate) fn binds_namespace(&self, labels: &BTreeMap<String, String>) -> bool {
        self.binding.binds_namespace(labels)
    }
}

/// The policies in force in a namespace, or everywhere, in the order of their names.
pub(crate) async fn in_force(
    cluster: &Cluster,
    operator: &str,
    namespace: Option<&str>,
) -> Result<Vec<Bound>, RunningError> {
    let list = async |api: Api<ImagePolicy>| {
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
        bound.push(Bound::new(cluster, operator, (&namespace, &name), &policy.spec, |_| None).await?);
    }
    bound.sort_by(|a, b| a.judge.name.cmp(&b.judge.name));
    Ok(bound)
}

/// The labels of namespaces: of all, or of one, of which the name alone is known to whoever may not read it.
pub(crate) async fn namespaces(
    cluster: &Cluster,
    only: Option<&BTreeSet<String>>,
) -> Result<BTreeMap<String, BTreeMap<String, String>>, ClusterError> {
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

/// The running Pods of namespaces, by workload.
pub(crate) async fn running<'a>(
    cluster: &Cluster,
    namespaces: impl Iterator<Item = &'a String>,
) -> Result<Vec<Running>, RunningError> {
    let mut found = Vec::new();
    for namespace in namespaces {
        let api = Api::<Pod>::namespaced(cluster.client.clone(), namespace);
        let mut pods = Vec::new();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let what = format!("the Pods of the namespace {namespace} cannot be read");
            let list = api.list(&page).await.map_err(asking(what))?;
            pods.extend(list.items);
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => break,
            }
        }
        let pods =
            workloads(pods).map_err(|cause| RunningError::Pods { namespace: namespace.clone(), cause })?;
        found.extend(pods);
    }
    Ok(found)
}

/// What each policy says about each image of the workloads that it binds.
pub(crate) async fn assess(
    policies: &[Bound],
    namespaces: &BTreeMap<String, BTreeMap<String, String>>,
    workloads: &[Running],
    registries: &ClusterRegistries,
    which: Which,
) -> Vec<Line> {
    let mut questions = Vec::new();
    for running in workloads {
        let Some(labels) = namespaces.get(&running.workload.namespace) else { continue };
        for bound in policies.iter().filter(|bound| bound.binding.binds(labels, &running.labels)) {
            // Each workload alone is far below the bound on images of a review; one above would be refused as it is.
            let subjects = subjects(&bound.judge.rules.images, running.uses.clone()).unwrap_or_default();
            questions.extend(subjects.into_iter().map(|subject| (running, bound, subject)));
        }
    }
    let anchors = policies.iter().flat_map(|bound| bound.judge.policy.anchors().clone()).collect();
    let mut wanted = BTreeMap::new();
    for (running, _, subject) in &questions {
        if let Ok(image) = &subject.image {
            let image = digest(running, subject, image, which);
            wanted
                .entry((running.workload.namespace.clone(), image.to_string()))
                .or_insert((*running, image));
        }
    }
    let looks: BTreeMap<_, _> = stream::iter(wanted)
        .map(|(key, (running, image))| {
            let anchors = &anchors;
            async move {
                let seen = match registries.client(&image.host, running).await {
                    Ok(client) => look(&client, &image, anchors).await,
                    Err(error) => unseen(&error.into()),
                };
                (key, seen)
            }
        })
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await;
    let now = Timestamp::now();
    questions
        .into_iter()
        .map(|(running, bound, subject)| {
            let (namespace, places) = (running.workload.namespace.clone(), subject.places());
            let sentence = match &subject.image {
                Ok(image) => {
                    let key = (namespace.clone(), digest(running, &subject, image, which).to_string());
                    let seen = looks.get(&key).unwrap_or(&Look::NotNeeded);
                    bound.judge.sentence(&image.clone(), subject, seen, now)
                }
                Err(error) => bound.judge.nonsense(&subject.shown(), error),
            };
            Line {
                namespace,
                workload: running.workload.to_string(),
                pods: running.pods.clone(),
                places,
                sentence,
            }
        })
        .collect()
}

/// The image to look at: by the digest that runs, if that is wanted and known.
fn digest(running: &Running, subject: &Subject, image: &ImageReference, which: Which) -> ImageReference {
    let runs = subject.uses.iter().filter_map(|place| running.digests.get(&place.name)).flatten().next();
    match (which, runs.and_then(|digest| digest.parse().ok())) {
        (Which::Running, Some(digest)) => image.pinned(digest),
        _ => image.clone(),
    }
}
