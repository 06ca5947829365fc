//! A Pod, reduced to what policies and people want to know of it: what made it, what it was let in with, what it runs.

use std::{collections::BTreeMap, fmt};

use berth_crds::ResourceExt as _;
use berth_registry_core::{Digest, ImageReference};
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};
use serde::Serialize;

use crate::{
    images::{ImageUse, Place, images},
    pulling::{MAX_SECRETS, Pulling},
    running::Labels,
};

/// Marks what the API server shows of a static Pod, which a kubelet runs from its own disk; nobody is asked about it.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Digits of the minute that ends the name of a Job that a `CronJob` made.
const MINUTE: usize = 8;

/// What made a Pod, or the Pod itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Workload {
    /// Its namespace.
    pub namespace: String,
    /// For example `Deployment`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// For example `apps/v1`.
    pub api_version: String,
    /// A Pod that a kubelet runs from its own disk: it was let in without a review, and would be again.
    pub is_static: bool,
}

/// Digests that run, by container; only those that are sure to be of the image that the container names.
pub type Digests = BTreeMap<String, Digest>;

/// What all Pods of a workload that were made alike have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Template {
    /// What made them.
    pub workload: Workload,
    /// Their own labels.
    pub labels: Labels,
    /// Their images.
    pub uses: Vec<ImageUse>,
    /// With what they pull them.
    pub pulling: Pulling,
}

#[cfg(test)]
impl Template {
    /// Of the Pods of a Deployment.
    pub(super) fn deployment(namespace: &str, name: &str) -> std::sync::Arc<Self> {
        let workload = Workload {
            namespace: namespace.into(),
            kind: "Deployment".into(),
            name: name.into(),
            api_version: "apps/v1".into(),
            is_static: false,
        };
        let pulling =
            Pulling { namespace: namespace.into(), service_account: "default".into(), secrets: Vec::new() };
        Self { workload, labels: [].into(), uses: Vec::new(), pulling }.into()
    }
}

impl fmt::Display for Workload {
    /// `deployment/web`, as on kubectl's command line; `pod/web-node-1 (static)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.is_static { " (static)" } else { "" };
        write!(f, "{}/{}{mark}", self.kind.to_ascii_lowercase(), self.name)
    }
}

impl Workload {
    /// Of a Pod. Where a `ReplicaSet` stands between it and a Deployment, the Deployment; where a Job stands between it
    /// and a `CronJob`, that. Both are told by the names that their controllers give. A static Pod is its own: the node that
    /// owns it runs others as well.
    fn of(pod: &Pod) -> Self {
        let is_static = pod.annotations().contains_key(MIRROR);
        let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true) && !is_static);
        let (kind, name, api_version) = owner.map_or_else(
            || ("Pod", pod.name_any(), "v1"),
            |owner| {
                let (kind, api_version) = (owner.kind.as_str(), owner.api_version.as_str());
                let hash = pod.labels().get("pod-template-hash");
                let deployment =
                    hash.and_then(|hash| owner.name.strip_suffix(hash.as_str())?.strip_suffix('-'));
                let minute = |text: &str| text.len() == MINUTE && text.bytes().all(|b| b.is_ascii_digit());
                let cron_job = owner.name.rsplit_once('-').filter(|(_, end)| minute(end));
                match (kind, deployment, cron_job) {
                    ("ReplicaSet", Some(name), _) => ("Deployment", name.to_owned(), api_version),
                    ("Job", _, Some((name, _))) => ("CronJob", name.to_owned(), api_version),
                    _ => (kind, owner.name.clone(), api_version),
                }
            },
        );
        Self {
            namespace: pod.namespace().unwrap_or_default(),
            kind: kind.to_owned(),
            name,
            api_version: api_version.to_owned(),
            is_static,
        }
    }
}

/// Reads a Pod that runs or is about to; none if it is over.
pub(super) fn read(pod: &Pod) -> Result<Option<(Template, Digests)>, serde_json::Error> {
    #[derive(Serialize)]
    struct Object<'a> {
        spec: &'a Option<PodSpec>,
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return Ok(None);
    }
    // By the reader that the webhook has, too.
    let uses = images(&serde_json::to_string(&Object { spec: &pod.spec })?)?;
    let digests = pod.status.as_ref().map(|status| digests(&uses, status)).unwrap_or_default();
    let secrets = pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten());
    let secrets = secrets.map(|secret| secret.name.clone()).filter(|name| !name.is_empty());
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
    let workload = Workload::of(pod);
    let pulling = Pulling {
        namespace: workload.namespace.clone(),
        service_account: account.unwrap_or_else(|| "default".to_owned()),
        secrets: secrets.take(MAX_SECRETS).collect(),
    };
    Ok(Some((Template { workload, labels: pod.labels().clone(), uses, pulling }, digests)))
}

/// A node that has the same content under another name may report that name: its digest need not exist under ours.
fn digests(uses: &[ImageUse], status: &PodStatus) -> Digests {
    let lists =
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    let runs = lists.into_iter().flatten().flatten().filter_map(|container| {
        let id = &container.image_id;
        let id = id.split_once("://").map_or(id.as_str(), |(_, id)| id).parse::<ImageReference>().ok()?;
        let of_it = |place: &&ImageUse| place.place != Place::ImageVolume && place.name == container.name;
        let named = uses.iter().find(of_it)?.image.parse::<ImageReference>().ok()?;
        (named.name() == id.name()).then_some((container.name.clone(), id.digest?))
    });
    runs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn pod(owner: &Value, more: &Value) -> Pod {
        let mut pod = json!({
            "metadata": {"name": "p", "namespace": "team-a", "labels": {"pod-template-hash": "5d4f"}, "ownerReferences": owner},
            "spec": {
                "containers": [{"name": "web", "image": "r.io/web:1"}],
                "volumes": [{"name": "web", "image": {"reference": "r.io/model:1"}}],
                "imagePullSecrets": [{"name": "b"}, {}, {"name": "a"}],
            },
        });
        pod.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(pod).unwrap()
    }

    fn owner(kind: &str, name: &str) -> Value {
        json!([{"apiVersion": "x/v1", "kind": kind, "name": name, "uid": "u", "controller": true}])
    }

    #[rstest]
    #[case::deployment(owner("ReplicaSet", "web-5d4f"), "deployment/web")]
    #[case::replica_set(owner("ReplicaSet", "web"), "replicaset/web")]
    #[case::daemon_set(owner("DaemonSet", "agent"), "daemonset/agent")]
    #[case::cron_job(owner("Job", "backup-29384756"), "cronjob/backup")]
    #[case::job(owner("Job", "backup-1"), "job/backup-1")]
    #[case::alone(json!([]), "pod/p")]
    #[case::no_controller(json!([{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]), "pod/p")]
    fn what_made_a_pod(#[case] owner: Value, #[case] expected: &str) {
        assert_eq!(Workload::of(&pod(&owner, &json!({}))).to_string(), expected);
    }

    /// What the kubelet of `node-1` runs from its own disk is no workload of the node's.
    #[test]
    fn a_static_pod_is_its_own() {
        let annotations = json!({MIRROR: "4f1c", "kubernetes.io/config.source": "file"});
        let owner =
            json!([{"apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": "u", "controller": true}]);
        let metadata = json!({"name": "web-node-1", "namespace": "team-a", "annotations": annotations, "ownerReferences": owner});
        let (template, _) = read(&pod(&json!([]), &json!({"metadata": metadata}))).unwrap().unwrap();
        assert_eq!(template.workload.to_string(), "pod/web-node-1 (static)");
        assert_eq!((template.workload.api_version.as_str(), template.uses.len()), ("v1", 2));
    }

    #[test]
    fn what_it_pulls_with_is_kept_in_order() {
        let (template, _) = read(&pod(&json!([]), &json!({}))).unwrap().unwrap();
        let secrets = vec!["b".to_owned(), "a".to_owned()];
        let expected = Pulling { namespace: "team-a".into(), service_account: "default".into(), secrets };
        assert_eq!(template.pulling, expected);
    }

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    /// Only a digest of the image that is named counts; what else the node says is no answer.
    #[rstest]
    #[case::of_the_image(format!("r.io/web@{DIGEST}"), true)]
    #[case::by_an_older_kubelet(format!("docker-pullable://r.io/web@{DIGEST}"), true)]
    #[case::of_another_name(format!("r.io/same@{DIGEST}"), false)]
    #[case::of_the_configuration(DIGEST.to_owned(), false)]
    #[case::not_pulled_yet(String::new(), false)]
    fn what_runs(#[case] id: String, #[case] known: bool) {
        let status =
            json!({"name": "web", "image": "r.io/web:1", "imageID": id, "ready": true, "restartCount": 0});
        let pod = pod(&json!([]), &json!({"status": {"phase": "Running", "containerStatuses": [status]}}));
        let (_, digests) = read(&pod).unwrap().unwrap();
        let expected = known.then(|| ("web".to_owned(), DIGEST.parse().unwrap()));
        assert_eq!(digests, expected.into_iter().collect());
    }

    #[rstest]
    #[case::done(json!({"status": {"phase": "Succeeded"}}))]
    #[case::failed(json!({"status": {"phase": "Failed"}}))]
    fn what_is_over_is_left_out(#[case] more: Value) {
        assert_eq!(read(&pod(&json!([]), &more)).unwrap(), None);
    }
}
