//! Running Pods, sorted by what made them: one line a Deployment, not one a Pod.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use berth_operator_core::{
    admission::ReviewError,
    images::{ImageUse, images},
};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::ResourceExt as _;

/// Marks the Pods that a kubelet runs from its own disk; the webhook is not asked about them.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// What made a Pod: `deployment/web`, or the Pod itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Workload {
    pub(crate) namespace: String,
    /// In lower case, as on kubectl's command line.
    kind: String,
    name: String,
}

/// Pods of one workload with the same images and labels.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) workload: Workload,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) uses: Vec<ImageUse>,
    /// Digests that run, by the image as it is written.
    pub(crate) digests: BTreeMap<String, BTreeSet<String>>,
    /// Names of its pull secrets.
    pub(crate) pull_secrets: BTreeSet<String>,
    pub(crate) service_account: String,
    pub(crate) pods: BTreeSet<String>,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

impl Workload {
    /// Of a Pod. Where a `ReplicaSet` stands between it and a Deployment, the Deployment.
    pub(crate) fn of(pod: &Pod) -> Self {
        let namespace = pod.namespace().unwrap_or_default();
        let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
        let Some(owner) = owner else {
            return Self { namespace, kind: "pod".to_owned(), name: pod.name_any() };
        };
        let hash = pod.labels().get("pod-template-hash");
        let deployment = hash.and_then(|hash| owner.name.strip_suffix(hash.as_str())?.strip_suffix('-'));
        match (owner.kind.as_str(), deployment) {
            ("ReplicaSet", Some(name)) => {
                Self { namespace, kind: "deployment".to_owned(), name: name.to_owned() }
            }
            (kind, _) => Self { namespace, kind: kind.to_ascii_lowercase(), name: owner.name.clone() },
        }
    }
}

/// The Pods that run or are about to, by workload. A Pod whose images cannot be read without doubt is an error, as it is
/// for the webhook.
pub(crate) fn workloads(pods: Vec<Pod>) -> Result<Vec<Running>, ReviewError> {
    let mut found = BTreeMap::<_, Running>::new();
    for pod in pods {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) || pod.annotations().contains_key(MIRROR) {
            continue;
        }
        let uses = images(&serde_json::to_string(&pod)?)?;
        let workload = Workload::of(&pod);
        let (labels, name) = (pod.labels().clone(), pod.name_any());
        let spec = pod.spec.unwrap_or_default();
        let secrets = spec.image_pull_secrets.into_iter().flatten().map(|secret| secret.name);
        let running = found.entry((workload.clone(), uses.clone())).or_insert_with(|| Running {
            workload,
            labels,
            uses,
            digests: BTreeMap::new(),
            pull_secrets: secrets.collect(),
            service_account: spec.service_account_name.unwrap_or_else(|| "default".to_owned()),
            pods: BTreeSet::new(),
        });
        running.pods.insert(name);
        for (image, digest) in pod.status.iter().flat_map(digests) {
            running.digests.entry(image).or_default().insert(digest);
        }
    }
    Ok(found.into_values().collect())
}

/// The digests that containers run, by container name.
fn digests(status: &PodStatus) -> impl Iterator<Item = (String, String)> {
    let lists =
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    lists.into_iter().flatten().flatten().filter_map(|container| {
        let (_, digest) = container.image_id.rsplit_once('@')?;
        Some((container.name.clone(), digest.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn pod(name: &str, owner: &Value, more: &Value) -> Pod {
        let mut pod = json!({
            "metadata": {"name": name, "namespace": "team-a", "labels": {"pod-template-hash": "5d4f"}, "ownerReferences": owner},
            "spec": {"containers": [{"name": "web", "image": "r.io/web:1"}], "imagePullSecrets": [{"name": "pull"}]},
            "status": {"phase": "Running", "containerStatuses": [{
                "name": "web", "image": "r.io/web:1", "imageID": "r.io/web@sha256:0", "ready": true, "restartCount": 0,
            }]},
        });
        pod.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(pod).unwrap()
    }

    fn owner(kind: &str, name: &str) -> Value {
        json!([{"apiVersion": "v1", "kind": kind, "name": name, "uid": "u", "controller": true}])
    }

    #[rstest]
    #[case::deployment(owner("ReplicaSet", "web-5d4f"), "deployment/web")]
    #[case::replica_set(owner("ReplicaSet", "web"), "replicaset/web")]
    #[case::daemon_set(owner("DaemonSet", "agent"), "daemonset/agent")]
    #[case::alone(json!([]), "pod/p")]
    #[case::no_controller(json!([{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]), "pod/p")]
    fn what_made_a_pod(#[case] owner: Value, #[case] expected: &str) {
        assert_eq!(Workload::of(&pod("p", &owner, &json!({}))).to_string(), expected);
    }

    #[test]
    fn pods_of_a_workload_are_one_line() {
        let web = owner("ReplicaSet", "web-5d4f");
        let done = json!({"status": {"phase": "Succeeded"}});
        let mirror = json!({"metadata": {"name": "m", "annotations": {MIRROR: "x"}}});
        let pods = vec![
            pod("web-1", &web, &json!({})),
            pod("web-2", &web, &json!({})),
            pod("done", &json!([]), &done),
            pod("mirror", &json!([]), &mirror),
        ];
        let found = workloads(pods).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].pods, ["web-1".to_owned(), "web-2".to_owned()].into());
        assert_eq!(found[0].digests["web"], ["sha256:0".to_owned()].into());
        assert_eq!(found[0].pull_secrets, ["pull".to_owned()].into());
    }
}
