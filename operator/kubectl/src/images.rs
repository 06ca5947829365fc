//! `kubectl berth images`: what runs, by digest, and what the policies in force say about it.

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
pub(crate) struct Images {
    outcome: Outcome,
    images: Vec<Image>,
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
pub(crate) async fn run(arguments: &Arguments, cluster: &Cluster) -> Result<Images, ImagesError> {
    let outside = Registries::of_cluster(&arguments.access)?;
    let only = (!arguments.all_namespaces).then_some(cluster.namespace.as_str());
    let operator = cluster.operator_namespace().await;
    let policies = in_force(cluster, &operator, only).await?;
    let set = only.map(|namespace| BTreeSet::from([namespace.to_owned()]));
    let namespaces = namespaces(cluster, set.as_ref()).await.map_err(RunningError::from)?;
    let pods = running(cluster, namespaces.keys()).await?;
    let registries = ClusterRegistries::new(cluster.clone(), outside);
    let lines = assess(&policies, &namespaces, &pods, &registries, Which::Running).await;
    let outcome = lines.iter().map(|line| line.sentence.verdict.outcome()).max().unwrap_or(Outcome::Admitted);
    Ok(Images { outcome, images: by_image(&pods, lines) })
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

impl Report for Images {
    fn text(&self, wide: bool) -> String {
        let mut headers = vec!["NAMESPACE", "WORKLOAD", "PODS", "IMAGE", "DIGEST", "VERDICT"];
        headers.extend(wide.then_some(["POLICIES", "MESSAGE"]).into_iter().flatten());
        let mut table = Table::new(headers);
        for it in &self.images {
            let digests: Vec<_> =
                it.digests.iter().map(|digest| if wide { digest.clone() } else { short(digest) }).collect();
            let mut cells = vec![
                it.namespace.clone(),
                it.workload.clone(),
                it.pods.len().to_string(),
                it.name.clone(),
                digests.join(","),
                it.verdict.map(|verdict| verdict.to_string()).unwrap_or_default(),
            ];
            if wide {
                let names: Vec<_> = it.policies.iter().map(|line| line.sentence.policy.as_str()).collect();
                let worst = it.policies.iter().max_by_key(|line| line.sentence.verdict);
                cells.extend([
                    names.join(","),
                    worst.map(|line| line.sentence.message.clone()).unwrap_or_default(),
                ]);
            }
            table.row(cells);
        }
        table.to_string()
    }

    fn outcome(&self) -> Outcome {
        self.outcome
    }
}

/// Enough of a digest to recognise it.
fn short(digest: &str) -> String {
    digest.chars().take("sha256:".len() + 12).collect()
}
