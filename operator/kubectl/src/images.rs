//! `kubectl berth images`: what runs, by digest, and what the policies in force say about it: the worst of it, or a line for
//! each policy.

use std::collections::{BTreeMap, BTreeSet};

use berth_operator_core::{
    images::Place,
    running::{Pods, Which, Workload},
};
use berth_registry_core::ImageReference;
use clap::Args;
use serde::Serialize;

use crate::{
    cluster::{Cluster, ClusterRegistries},
    judge::Effect,
    output::{Outcome, Report},
    registries::{Access, AccessError, Registries},
    running::{Line, RunningError, assess, in_force, namespaces, running},
    table::Table,
};

/// Where to look.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Look in all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    #[command(flatten)]
    access: Access,
}

/// Why nothing is known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImagesError {
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Running(#[from] RunningError),
}

/// Every image that runs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Inventory {
    outcome: Outcome,
    images: Vec<Image>,
    /// Policies that give no verdict on what they govern, whatever it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unable_to_judge: Vec<Unable>,
}

/// A policy that cannot judge.
#[derive(Debug, Serialize)]
struct Unable {
    /// `NAMESPACE/NAME`.
    policy: String,
    /// Stable name of the cause.
    reason: &'static str,
    /// The field, what is wrong with it, and what to do.
    message: String,
}

/// One image of a workload.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Image {
    namespace: String,
    workload: String,
    pods: BTreeSet<String>,
    /// As the Pods name it.
    #[serde(rename = "image")]
    name: String,
    /// What its name stood for when it was started; several while a tag has moved.
    digests: BTreeSet<String>,
    /// Of the policies that speak about it, the worst; none if no policy does.
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<Effect>,
    /// What they say.
    policies: Vec<Line>,
}

/// Looks at what runs with the policies in force.
pub(crate) async fn run(arguments: &Arguments, cluster: &Cluster) -> Result<Inventory, ImagesError> {
    let outside = Registries::of_cluster(&arguments.access)?;
    let only = (!arguments.all_namespaces).then_some(cluster.namespace.as_str());
    let operator = cluster.operator_namespace().await;
    let policies = in_force(cluster, &operator, only).await?;
    let set = only.map(|namespace| BTreeSet::from([namespace.to_owned()]));
    let namespaces = namespaces(cluster, set.as_ref()).await.map_err(RunningError::from)?;
    let pods = running(cluster, namespaces.keys()).await?;
    let unable_to_judge = policies
        .iter()
        .filter(|policy| namespaces.values().any(|labels| policy.binds_namespace(labels)))
        .filter_map(|policy| {
            let (policy, cause) = policy.unable()?;
            Some(Unable { policy: policy.to_owned(), reason: cause.reason(), message: cause.to_string() })
        })
        .collect();
    let registries = ClusterRegistries::new(cluster.clone(), outside);
    let lines = assess(&policies, &namespaces, &pods, &registries, Which::Running).await;
    let outcome = lines.iter().map(|line| line.sentence.verdict.outcome()).max().unwrap_or(Outcome::Admitted);
    Ok(Inventory { outcome, images: by_image(&pods, lines), unable_to_judge })
}

/// One line an image of a workload, with what policies say about it.
fn by_image(pods: &Pods, lines: Vec<Line>) -> Vec<Image> {
    let mut images = BTreeMap::new();
    for (template, running) in pods.groups() {
        for place in &template.uses {
            let parsed = place.image.parse::<ImageReference>();
            let shown = parsed.map_or_else(|_| place.image.clone(), |image| image.to_string());
            let Workload { namespace, .. } = &template.workload;
            let key = (namespace.clone(), template.workload.to_string(), shown.clone());
            let image = images.entry(key).or_insert_with(|| Image {
                namespace: namespace.clone(),
                workload: template.workload.to_string(),
                pods: BTreeSet::new(),
                name: shown,
                digests: BTreeSet::new(),
                verdict: None,
                policies: Vec::new(),
            });
            image.pods.extend(running.keys().cloned());
            if place.place != Place::ImageVolume {
                let digests = running.values().filter_map(|digests| digests.get(&place.name));
                image.digests.extend(digests.map(ToString::to_string));
            }
        }
    }
    for line in lines {
        let key = (line.namespace.clone(), line.workload.clone(), line.sentence.image.clone());
        if let Some(image) = images.get_mut(&key) {
            image.verdict = image.verdict.max(Some(line.sentence.verdict));
            image.policies.push(line);
        }
    }
    images.into_values().collect()
}

impl Report for Inventory {
    fn text(&self, wide: bool) -> String {
        let mut headers = vec!["NAMESPACE", "WORKLOAD", "PODS", "IMAGE", "DIGEST", "VERDICT"];
        headers.extend(wide.then_some(["POLICY", "MESSAGE"]).into_iter().flatten());
        let mut table = Table::new(headers);
        for image in &self.images {
            if wide && !image.policies.is_empty() {
                image.policies.iter().for_each(|line| table.row(image.judged(line)));
            } else {
                table.row(image.summary(wide));
            }
        }
        let mut unable = Table::new(["UNABLE TO JUDGE", "REASON", "MESSAGE"]);
        for Unable { policy, reason, message } in &self.unable_to_judge {
            unable.row([policy.clone(), (*reason).to_owned(), message.clone()]);
        }
        if self.unable_to_judge.is_empty() { table.to_string() } else { format!("{table}\n{unable}") }
    }

    fn outcome(&self) -> Outcome {
        self.outcome
    }
}

impl Image {
    /// What is known of it without asking any policy for its words.
    fn summary(&self, wide: bool) -> Vec<String> {
        let digests: Vec<_> =
            self.digests.iter().map(|digest| if wide { digest.clone() } else { short(digest) }).collect();
        let mut cells = vec![
            self.namespace.clone(),
            self.workload.clone(),
            self.pods.len().to_string(),
            self.name.clone(),
            digests.join(","),
            self.verdict.map(|verdict| verdict.to_string()).unwrap_or_default(),
        ];
        cells.extend(wide.then(|| [String::new(), String::new()]).into_iter().flatten());
        cells
    }

    /// What one policy says about it.
    fn judged(&self, line: &Line) -> Vec<String> {
        let Line { pods, sentence, .. } = line;
        let digests = || self.digests.iter().cloned().collect::<Vec<_>>().join(",");
        vec![
            self.namespace.clone(),
            self.workload.clone(),
            pods.len().to_string(),
            self.name.clone(),
            sentence.digest.as_ref().map_or_else(digests, ToString::to_string),
            sentence.verdict.to_string(),
            sentence.policy.clone(),
            sentence.message.clone(),
        ]
    }
}

/// Enough of a digest to recognise it.
fn short(digest: &str) -> String {
    digest.chars().take("sha256:".len() + 12).collect()
}
