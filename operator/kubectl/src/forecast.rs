//! `kubectl berth policy test` on a cluster: what would become of running Pods if the policies were applied and the Pods
//! made anew.

use std::collections::BTreeSet;

use berth_operator_core::running::Which;
use serde::Serialize;

use crate::{
    cluster::{Cluster, ClusterRegistries},
    documents::Documents,
    judge::Effect,
    output::{Outcome, Report},
    registries::Registries,
    running::{Bound, Line, RunningError, assess, namespaces, running, tenants},
    table::Table,
};

/// What would not be admitted without a word.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Forecast {
    outcome: Outcome,
    /// Pods that the policies bind.
    pods: usize,
    results: Vec<Line>,
}

/// Asks the policies of files about the Pods that they would bind. A policy that does not say where it is counts as one of
/// the cluster's current namespace, as it would for `kubectl apply`.
pub(crate) async fn run(
    documents: &Documents,
    outside: Registries,
    cluster: &Cluster,
) -> Result<Forecast, RunningError> {
    let operator = cluster.operator_namespace().await;
    let mut policies = Vec::new();
    for written in &documents.policies {
        let namespace = written.namespace.as_deref().unwrap_or(&cluster.namespace);
        let given = |secret: &str| documents.secret(namespace, secret);
        let bound =
            Bound::new(cluster, &operator, (namespace, &written.name), Ok(&written.spec), given).await;
        policies.push(bound.in_order()?);
    }
    let mut namespaces = namespaces(cluster, tenants(&policies).as_ref()).await?;
    namespaces.retain(|_, labels| policies.iter().any(|policy| policy.binds_namespace(labels)));
    let pods = running(cluster, namespaces.keys()).await?;
    let registries = ClusterRegistries::new(cluster.clone(), outside);
    let lines = assess(&policies, &namespaces, &pods, &registries, Which::Named).await;
    let named: BTreeSet<_> =
        lines.iter().flat_map(|line| line.pods.iter().map(|pod| (&line.namespace, pod))).collect();
    let pods = named.len();
    let outcome = lines.iter().map(|line| line.sentence.verdict.outcome()).max().unwrap_or(Outcome::Admitted);
    let quiet = |line: &Line| matches!(line.sentence.verdict, Effect::Admitted | Effect::Excepted);
    let results: Vec<_> = lines.into_iter().filter(|line| !quiet(line)).collect();
    eprintln!("note: {pods} running Pods use images that these policies speak about");
    Ok(Forecast { outcome, pods, results })
}

impl Report for Forecast {
    fn text(&self, wide: bool) -> String {
        if self.results.is_empty() {
            return String::new();
        }
        let mut headers = vec!["NAMESPACE", "WORKLOAD", "PODS", "IMAGE", "VERDICT"];
        headers.extend(wide.then_some(["DIGEST", "POLICY", "REASON"]).into_iter().flatten());
        headers.push("MESSAGE");
        let mut table = Table::new(headers);
        for Line { namespace, workload, pods, sentence: it, .. } in &self.results {
            let mut cells = vec![
                namespace.clone(),
                workload.clone(),
                pods.len().to_string(),
                it.image.clone(),
                it.verdict.to_string(),
            ];
            if wide {
                let digest = it.digest.as_ref().map(ToString::to_string).unwrap_or_default();
                cells.extend([digest, it.policy.clone(), it.reason.clone()]);
            }
            cells.push(it.message.clone());
            table.row(cells);
        }
        table.to_string()
    }

    fn outcome(&self) -> Outcome {
        self.outcome
    }
}
