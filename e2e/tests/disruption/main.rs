//! What happens when the operator is disturbed. These tests disturb the one operator of the cluster, so they run one
//! after the other and with nothing beside them; each leaves a working operator behind.
//! They need the cluster that `BERTH_CLUSTER` names and say so when there is none.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod kept;

use std::time::Duration;

use berth_e2e::chart::{self, OPERATOR_NAMESPACE};
use berth_e2e::cluster::Cluster;
use berth_e2e::ensure;
use berth_e2e::fixtures::{Audit, Failure, Guarded, Outcome, Team, kill_pod_process, pod, story};
use serde_json::json;
use support::http::Site;
use support::load::Load;

/// Labels of the operator's Pods.
const OPERATOR: &str = "app.kubernetes.io/name=berth-operator";
/// Longer than a Lease lives, several times.
const TAKE_OVER: Duration = Duration::from_mins(1);

/// R-OPR-1: when the leader dies the other replica leads, goes on working, and writes nothing twice.
#[test]
fn the_other_replica_takes_over_when_the_leader_dies() -> Outcome {
    story(|story| {
        let team = story.team("led")?;
        let operators = Operators::of(story.cluster())?;
        team.registry("before", json!({"storage": {"memory": {}}}))?;
        operators.both_ready()?;
        let versions = team.children("before")?;
        let audit = Audit::from_now(story.cluster())?;
        let leader = operators.leader()?;
        operators.kill(&leader)?;
        let next = team.until_within(TAKE_OVER, "another leader", || {
            let holder = operators.leader()?;
            ensure!(holder != leader, "{holder} still holds the Lease");
            Ok(holder)
        })?;
        team.registry("after", json!({"storage": {"memory": {}}}))?;
        operators.both_ready()?;
        let now = team.children("before")?;
        ensure!(versions == now, "the new leader wrote what was right:\n{versions:?}\n{now:?}");
        let creations = audit
            .writes("berth-system:berth-operator", "led")?
            .into_iter()
            .filter(|request| request.name.starts_with("before") && request.verb != "patch")
            .collect::<Vec<_>>();
        ensure!(creations.is_empty(), "made or removed again: {creations:?}");
        println!("{leader} died, {next} leads");
        Ok(())
    })
}

/// R-OPR-6, R-STO-9: with no operator at all, pushes and pulls go on; admission is closed where a policy speaks and
/// open elsewhere; and when the node has room again, all of it recovers with no hand laid on it.
#[test]
fn without_any_operator_the_data_path_works_and_admission_fails_closed() -> Outcome {
    story(|story| {
        let team = story.team("closed")?;
        let free = story.team("led")?;
        let operators = Operators::of(story.cluster())?;
        operators.both_ready()?;
        let Guarded { registry, web } = team.guarded()?;
        let bare = team.push(&registry, "app/bare:v1", "bare, before")?;
        team.until("the policy to be enforced", || {
            let words = team.refused(&pod("bare", &bare.tagged))?;
            ensure!(words.contains("closed/signed"), "{words}");
            Ok(())
        })?;

        let site = Site::of(&team, &registry)?;
        let load = Load::start(&site);
        {
            // No Pod is scheduled while this is held, so that the killed operators stay away.
            let _cordon = Cordon::new(story.cluster())?;
            for operator in operators.names()? {
                operators.kill(&operator)?;
            }
            team.until("admission to be closed", || {
                let words = team.refused(&pod("shut", &web.tagged))?;
                ensure!(words.contains("failed calling webhook"), "{words}");
                Ok(())
            })?;
            free.apply(&pod("free", "localhost/busybox:1"))?;
            let (pushes, pulls) = (load.tally().acknowledged().len(), load.tally().pulls());
            team.until("pushes and pulls to go on", || {
                let (now, pulled) = (load.tally().acknowledged().len(), load.tally().pulls());
                ensure!(now > pushes + 20 && pulled > pulls + 20, "{pushes}+{pulls}, now {now}+{pulled}");
                Ok(())
            })?;
        }
        team.until("a signed image to be admitted again", || Ok(team.apply(&pod("web", &web.tagged))?))?;
        let words = team.refused(&pod("bare", &bare.tagged))?;
        ensure!(words.contains("closed/signed"), "{words}");
        team.wait("pod/web", "condition=Ready")?;
        operators.both_ready()?;
        let failures = load.stop()?.failures();
        ensure!(failures.is_empty(), "{failures:#?}");
        Ok(())
    })
}

/// R-OPR-8: an upgrade of the chart with another value replaces the operator and disturbs nothing else.
#[test]
fn an_upgrade_of_the_chart_disturbs_nothing() -> Outcome {
    story(|story| {
        let team = story.team("upgraded")?;
        let operators = Operators::of(story.cluster())?;
        let Guarded { registry, web } = team.guarded()?;
        team.until("a signed image to be admitted", || Ok(team.apply(&pod("web", &web.tagged))?))?;
        let before = (team.children("registry")?, operators.names()?);

        let site = Site::of(&team, &registry)?;
        let load = Load::start(&site);
        for level in ["debug", "info"] {
            chart::helm(
                story.cluster(),
                "berth",
                &["--reuse-values".into(), format!("--set=logLevel={level}")],
            )?;
            // Admission never pauses: some replica always answers.
            team.apply(&pod(level, &web.tagged))?;
        }
        let after = (team.children("registry")?, operators.names()?);
        ensure!(
            before.0 == after.0,
            "the upgrade wrote the Registry's children:\n{:?}\n{:?}",
            before.0,
            after.0
        );
        ensure!(before.1 != after.1, "the operator was not replaced: {:?}", after.1);
        let failures = load.stop()?.failures();
        ensure!(failures.is_empty(), "{failures:#?}");
        Ok(())
    })
}

/// The operator's Pods.
struct Operators<'a>(Team<'a>);

impl<'a> Operators<'a> {
    fn of(cluster: &'a Cluster) -> Result<Self, Failure> {
        Ok(Self(Team::new(cluster, OPERATOR_NAMESPACE)?))
    }

    fn names(&self) -> Result<Vec<String>, Failure> {
        let pods = self.0.list("pods", OPERATOR)?;
        let alive = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        Ok(alive.map(|pod| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect())
    }

    fn both_ready(&self) -> Outcome {
        self.0.kubectl(&["rollout", "status", "deployment/berth-operator", "--timeout=120s"])?;
        self.0.until("two operators", || {
            let names = self.names()?;
            ensure!(names.len() == 2, "{names:?}");
            Ok(())
        })
    }

    /// The Pod that holds the Lease.
    fn leader(&self) -> Result<String, Failure> {
        let leases = self.0.get("leases")?;
        let holders: Vec<&str> = leases["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|lease| lease["spec"]["holderIdentity"].as_str())
            .collect();
        let holder = holders.first().copied().unwrap_or_default();
        let names = self.names()?;
        let leader = names.into_iter().find(|name| holder.contains(name.as_str()));
        leader.ok_or_else(|| Failure::new(format!("no Pod is the holder {holders:?}")))
    }

    /// Dies at once, without a chance to give the Lease back, and does not come back under its name.
    fn kill(&self, name: &str) -> Outcome {
        kill_pod_process(&self.0, name, "berth-operator")?;
        self.0.kubectl(&["delete", "pod", name, "--grace-period=0", "--force", "--wait=false"])?;
        Ok(())
    }
}

/// Keeps new Pods from the node.
struct Cordon<'a>(&'a Cluster);

impl<'a> Cordon<'a> {
    fn new(cluster: &'a Cluster) -> Result<Self, Failure> {
        cluster.kubectl(&["cordon", "node"])?;
        Ok(Self(cluster))
    }
}

impl Drop for Cordon<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.kubectl(&["uncordon", "node"]) {
            eprintln!("{error}");
        }
    }
}
