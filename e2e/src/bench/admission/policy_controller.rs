//! sigstore's policy-controller as a peer: its own program in an image of ours, its objects, and a policy that asks for
//! the same key. Its webhooks for Pods come and go; the process stays.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::fixtures::Outcome;
use crate::image::{Contents, ImageError, Recipe};
use crate::tools::Tools;
use crate::wait::wait_for;

/// Where it runs.
pub(super) const NAMESPACE: &str = "cosign-system";
/// Its program.
pub(super) const PROGRAM: &str = "webhook";
/// The module of the tool.
pub(super) const GO_MOD: &str = include_str!("../../../tools/policy-controller/go.mod");

/// Its webhooks for Pods, and the label of the namespaces that they look at.
const WEBHOOKS: &str = "policy.sigstore.dev";
const LABEL: &str = "policy.sigstore.dev/include";

const PATIENCE: Duration = Duration::from_mins(2);

/// What it runs from.
pub(super) fn image(tools: &Tools) -> Result<Recipe, ImageError> {
    let mut contents = Contents::base();
    contents.program("/webhook", tools.path("policy-controller")?)?;
    Ok(Recipe {
        name: "localhost/policy-controller:1".into(),
        entrypoint: vec!["/webhook".into()],
        env: Vec::new(),
        contents,
    })
}

/// Installs it, with a policy that wants a signature by `key` from every image of `host`, which it trusts by
/// `authority`. Nothing is asked yet.
pub(super) fn install(cluster: &Cluster, host: &str, authority: &str, key: &str) -> Outcome {
    cluster.apply(
        &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}).to_string(),
    )?;
    let trusted = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "trusted", "namespace": NAMESPACE},
        "data": {"ca.crt": authority},
    });
    cluster.apply(&trusted.to_string())?;
    cluster.apply(include_str!("policy-controller.yaml"))?;
    cluster.wait_rollout(NAMESPACE, "deployment/webhook", PATIENCE)?;
    let policy = json!({
        "apiVersion": "policy.sigstore.dev/v1alpha1",
        "kind": "ClusterImagePolicy",
        "metadata": {"name": "signed"},
        "spec": {
            "images": [{"glob": format!("{host}/**")}],
            "authorities": [{"name": "release", "key": {"data": key, "hashAlgorithm": "sha256"}}],
        },
    });
    // It is asked about its own policies, too, and kube-proxy may not know it yet.
    wait_for("policy-controller to take a policy", PATIENCE, || cluster.apply(&policy.to_string()))?;
    Ok(())
}

/// Has it asked about Pods of a namespace, or about none.
pub(super) fn ask(cluster: &Cluster, namespace: Option<&str>) -> Outcome {
    // Made anew each time: it has written into those that are there.
    let kinds = "validatingwebhookconfigurations,mutatingwebhookconfigurations";
    cluster.kubectl(&["delete", kinds, WEBHOOKS, "--ignore-not-found"])?;
    let Some(namespace) = namespace else { return Ok(()) };
    cluster.kubectl(&["label", "--overwrite", "namespace", namespace, &format!("{LABEL}=true")])?;
    for kind in ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"] {
        cluster.apply(&webhooks(kind).to_string())?;
    }
    Ok(())
}

/// Without rules, which it writes itself.
fn webhooks(kind: &str) -> Value {
    let mut webhook = json!({
        "name": WEBHOOKS,
        "admissionReviewVersions": ["v1"],
        "namespaceSelector": {"matchExpressions": [{"key": LABEL, "operator": "In", "values": ["true"]}]},
        "clientConfig": {"service": {"name": "webhook", "namespace": NAMESPACE}},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "timeoutSeconds": 25,
    });
    if kind == "MutatingWebhookConfiguration" {
        webhook["reinvocationPolicy"] = json!("IfNeeded");
    }
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": WEBHOOKS},
        "webhooks": [webhook],
    })
}
