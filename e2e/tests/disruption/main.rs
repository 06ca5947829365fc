//! What happens when the operator is disturbed. These tests disturb the one operator of the cluster, so they run one
//! after the other and with nothing beside them; each leaves a working operator behind.
//! They need the cluster that `BERTH_CLUSTER` names and say so when there is none.
#![allow(clippy::unwrap_used)]

mod blackout;
mod certificates;
mod operators;
#[path = "../support/mod.rs"]
mod support;

mod kept;
mod scaled;

use std::time::Duration;

use berth_e2e::chart;
use berth_e2e::ensure;
use berth_e2e::fixtures::{Audit, Guarded, Outcome, pod, story};
use operators::{Cordon, Operators};
use serde_json::json;
use support::http::Site;
use support::load::Load;
use support::reviews::Reviews;

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
        let Guarded { registry, web, .. } = team.guarded()?;
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

/// R-OPR-8, R-OPR-6: an upgrade of the chart with another value replaces the operator and disturbs nothing else; neither
/// does a restart, nor a replica that is deleted. Under a steady load no review fails.
#[test]
fn an_upgrade_of_the_chart_disturbs_nothing() -> Outcome {
    story(|story| {
        let team = story.team("upgraded")?;
        let operators = Operators::of(story.cluster())?;
        let Guarded { registry, web, .. } = team.guarded()?;
        let bare = team.push(&registry, "app/bare:v1", "bare, upgraded")?;
        team.until("the policy to be enforced", || team.denies(&pod("bare", &bare.tagged)))?;
        let before = (team.children("registry")?, operators.names()?);

        let site = Site::of(&team, &registry)?;
        let (load, reviews) = (Load::start(&site), Reviews::start(&team, &web.tagged, &bare.tagged)?);
        for level in ["debug", "info"] {
            chart::helm(
                story.cluster(),
                "berth",
                &["--reuse-values".into(), format!("--set=logLevel={level}")],
            )?;
        }
        operators.restart()?;
        operators.both_ready()?;
        let leader = team.until("a leader", || operators.leader())?;
        operators.delete(&leader)?;
        operators.both_ready()?;
        reviews.go_on(&team)?;
        reviews.end()?;
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
