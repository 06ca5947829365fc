//! Everything that admission rests on is gone at one moment.

use std::collections::BTreeSet;

use berth_e2e::chart::OPERATOR_NAMESPACE;
use berth_e2e::cluster::Cluster;
use berth_e2e::ensure;
use berth_e2e::fixtures::{Failure, Guarded, Key, Outcome, Team, deployment, pod, story};
use serde_json::json;

use super::operators::Operators;

/// R-OPR-6: all webhook servers and the API server are killed together, while a policy binds every namespace that one can
/// bind. The cluster recovers with no hand laid on it: the operator starts, a Deployment's Pods that were killed as well
/// come back, and what was refused is refused again.
#[test]
fn a_blackout_heals_by_itself() -> Outcome {
    story(|story| {
        let team = story.team("blackout")?;
        let operators = Operators::of(story.cluster())?;
        operators.both_ready()?;
        let Guarded { registry, key, web } = team.guarded()?;
        let bare = team.push(&registry, "app/bare:v1", "bare, in the dark")?;
        let _everywhere = ClusterPolicy::signed(story.cluster(), &registry.image("**"), &key)?;
        team.apply(&deployment("web", &web.tagged, 2))?;
        team.wait("deployment/web", "condition=Available")?;
        team.until("the policy to be enforced", || team.denies(&pod("bare", &bare.tagged)).map(|_| ()))?;

        let before = pods(&team)?;
        operators.doomed()?.end()?;
        // The controller wants new ones at once, and nobody is there to admit them.
        team.kubectl(&[
            "delete",
            "pods",
            "--selector=app=web",
            "--grace-period=0",
            "--force",
            "--wait=false",
        ])?;
        let mut doomed = operators.doomed()?;
        doomed.program(story.cluster(), "kube-apiserver")?;
        doomed.end()?;

        team.until("a signed image to be admitted again", || Ok(team.admits(&pod("web", &web.tagged))?))?;
        team.until("an unsigned image to be refused again", || {
            let words = team.denies(&pod("bare", &bare.tagged))?;
            ensure!(words.contains("no signature was found"), "{words}");
            Ok(())
        })?;
        team.until("the Deployment's Pods to come back", || {
            let now = pods(&team)?;
            ensure!(now.len() == before.len() && now.is_disjoint(&before), "{before:?}, now {now:?}");
            Ok(())
        })?;
        team.wait("deployment/web", "condition=Available")?;
        operators.both_ready()
    })
}

/// The running Pods of the Deployment, by their ids.
fn pods(team: &Team<'_>) -> Result<BTreeSet<String>, Failure> {
    let pods = team.list("pods", "app=web")?;
    let running = pods.iter().filter(|pod| pod["status"]["phase"] == "Running");
    Ok(running.map(|pod| pod["metadata"]["uid"].to_string()).collect())
}

/// A policy that binds the whole cluster, until this is dropped.
struct ClusterPolicy<'a>(&'a Cluster);

impl<'a> ClusterPolicy<'a> {
    /// Asks for a signature by this key.
    fn signed(cluster: &'a Cluster, images: &str, key: &Key) -> Result<Self, Failure> {
        let signature = json!({"authorities": [{"name": "release", "key": {"pem": key.public()?}}]});
        let policy = Self(cluster);
        policy.0.apply(
            &json!({
                "apiVersion": "berth.dev/v1alpha1",
                "kind": "ImagePolicy",
                "metadata": {"name": "everywhere", "namespace": OPERATOR_NAMESPACE},
                "spec": {"mode": "Enforce", "images": [images], "require": [{"signature": signature}]},
            })
            .to_string(),
        )?;
        Ok(policy)
    }
}

impl Drop for ClusterPolicy<'_> {
    fn drop(&mut self) {
        let namespace = format!("--namespace={OPERATOR_NAMESPACE}");
        if let Err(error) =
            self.0.kubectl(&["delete", "imagepolicy/everywhere", &namespace, "--ignore-not-found"])
        {
            eprintln!("{error}");
        }
    }
}
