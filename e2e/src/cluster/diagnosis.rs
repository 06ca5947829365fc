//! What a person would ask a cluster after a failure, printed in one go.

use super::Client;

/// Where Berth's operator runs.
const OPERATOR_NAMESPACE: &str = "berth-system";

/// Prints Pods, conditions, events and the last log lines of a namespace, and the operator's log.
pub(super) fn print(kubectl: &Client, namespace: &str) {
    let conditions = "jsonpath={range .items[*]}{.kind}/{.metadata.name}: {.status.conditions}{\"\\n\"}{end}";
    ask(kubectl, namespace, &["get", "pods,services,deployments,jobs,cronjobs,pvc", "--output=wide"]);
    ask(kubectl, namespace, &["get", "berth", "--output", conditions]);
    ask(kubectl, namespace, &["get", "events", "--sort-by=.metadata.creationTimestamp"]);
    logs(kubectl, namespace);
    if namespace != OPERATOR_NAMESPACE {
        logs(kubectl, OPERATOR_NAMESPACE);
    }
}

fn logs(kubectl: &Client, namespace: &str) {
    let pods = kubectl.run("kubectl", &["--namespace", namespace, "get", "pods", "--output=name"]);
    for pod in pods.unwrap_or_default().lines() {
        let logs = ["logs", pod, "--all-containers", "--prefix", "--tail=30"];
        ask(kubectl, namespace, &logs);
        let restarted = "jsonpath={.status.containerStatuses[?(@.restartCount>0)].name}";
        let names = kubectl.run("kubectl", &["--namespace", namespace, "get", pod, "--output", restarted]);
        if names.is_ok_and(|names| !names.is_empty()) {
            ask(kubectl, namespace, &[logs.as_slice(), &["--previous"]].concat());
        }
    }
}

fn ask(kubectl: &Client, namespace: &str, question: &[&str]) {
    eprintln!("--- kubectl --namespace {namespace} {}", question.join(" "));
    match kubectl.run("kubectl", &[&["--namespace", namespace], question].concat()) {
        Ok(answer) => eprintln!("{}", answer.trim_end()),
        Err(error) => eprintln!("{}", error.stderr().trim_end()),
    }
}
