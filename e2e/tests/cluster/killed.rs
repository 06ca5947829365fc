//! Registry processes die without a word, in the middle of uploads.

use berth_e2e::ensure;
use berth_e2e::fixtures::{Outcome, Team, kill_pod_process, story};
use serde_json::{Value, json};

use super::support::http::Site;
use super::support::load::{Load, verify};

/// The pushes that must be acknowledged between two kills.
const PUSHES: usize = 10;

/// R-STO-1, R-STO-3: on a volume, what was acknowledged survives `kill -9`.
#[test]
fn a_killed_registry_on_a_volume_has_lost_nothing() -> Outcome {
    story(|story| {
        let team = story.team("killed-volume")?;
        team.volume("registry-data")?;
        survives(&team, json!({"storage": {"volume": {"size": "64Mi"}}}))
    })
}

/// R-STO-1, R-STO-3: on a bucket, what was acknowledged survives `kill -9`.
#[test]
fn a_killed_registry_on_a_bucket_has_lost_nothing() -> Outcome {
    story(|story| {
        let team = story.team("killed-bucket")?;
        let storage = team.bucket("killed")?;
        survives(&team, json!({"replicas": 2, "storage": storage}))
    })
}

fn survives(team: &Team<'_>, spec: Value) -> Outcome {
    let registry = team.registry("registry", spec)?;
    let site = Site::of(team, &registry)?;
    let load = Load::start(&site);
    // The kubelet's back-off makes a third restart of one container slow.
    for _ in 0..2 {
        let before = load.tally().acknowledged().len();
        team.until("pushes to be acknowledged", || {
            let pushed = load.tally().acknowledged().len() - before;
            ensure!(pushed >= PUSHES, "{pushed} so far, {:?}", load.tally().failures().last());
            Ok(())
        })?;
        let pods =
            team.kubectl(&["get", "pods", "--selector=berth.dev/registry=registry", "--output=name"])?;
        for pod in pods.lines() {
            kill_pod_process(team, pod.trim_start_matches("pod/"), "berth-registry")?;
        }
    }
    let before = load.tally().acknowledged().len();
    team.until("pushes to go on", || {
        let pushed = load.tally().acknowledged().len() - before;
        ensure!(pushed >= PUSHES, "{pushed} so far, {:?}", load.tally().failures().last());
        Ok(())
    })?;
    team.wait("registry/registry", "condition=Ready")?;
    let tally = load.stop()?;
    let acknowledged = tally.acknowledged();
    println!("{} pushes acknowledged, {} requests failed", acknowledged.len(), tally.failures().len());
    verify(&site, &acknowledged)
}
