//! Berth's charts on a cluster, installed as a platform team would: the definitions first, then the operator.

use std::time::Duration;

use serde_json::json;

use crate::cluster::Cluster;
use crate::command::CommandError;
use crate::release;

/// The namespace of the operator.
pub const OPERATOR_NAMESPACE: &str = "berth-system";

/// Makes the operator's and the teams' namespaces, installs or upgrades both charts, and waits until the
/// operator is ready. Berth's images must be on the node. Every one of these namespaces admits Pods of the
/// `restricted` profile only.
pub fn install(cluster: &Cluster, teams: &[&str]) -> Result<(), CommandError> {
    for namespace in [OPERATOR_NAMESPACE].iter().chain(teams) {
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}});
        cluster.apply(&object.to_string())?;
    }
    helm(cluster, "berth-crds", &[])?;
    helm(cluster, "berth", &[format!("--set-json=namespaces={}", json!(teams))])?;
    cluster.wait_rollout(OPERATOR_NAMESPACE, "deployment/berth-operator", Duration::from_mins(2))
}

/// Installs or upgrades one chart as a release of the same name.
pub fn helm(cluster: &Cluster, chart: &str, arguments: &[String]) -> Result<(), CommandError> {
    let folder = release::workspace().join("charts").join(chart).display().to_string();
    let mut command = vec!["upgrade", "--install", chart, &folder, "--namespace", OPERATOR_NAMESPACE];
    command.extend(["--wait", "--timeout=180s"]);
    command.extend(arguments.iter().map(String::as_str));
    let done = cluster.run("helm", &command);
    if done.is_err() {
        cluster.diagnose(OPERATOR_NAMESPACE);
    }
    done.map(|_| ())
}
