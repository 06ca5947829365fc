//! What is known about images outlives every process that knew it.

use berth_e2e::ensure;
use berth_e2e::fixtures::{Guarded, Outcome, pod, story};
use serde_json::json;

use crate::operators::{OPERATOR, Operators};

/// R-OPR-6: after all replicas ended, an image that was let in before is let in again, also while its Registry is not
/// back yet; one that nobody has seen is not.
#[test]
fn what_was_known_before_a_restart_counts_while_the_registry_is_away() -> Outcome {
    story(|story| {
        let team = story.team("kept")?;
        let operators = Operators::of(story.cluster())?;
        let Guarded { registry, web, .. } = team.guarded()?;
        let bare = team.push(&registry, "app/bare:v1", "bare, kept")?;
        let scale = |replicas: u8| {
            operators.0.kubectl(&["scale", "deployment/berth-operator", &format!("--replicas={replicas}")])
        };
        // Of one replica it is known who leads, and who answers.
        scale(1)?;
        team.until("one operator that leads", || {
            ensure!(operators.0.list("pods", OPERATOR)?.len() == 1, "there are others");
            operators.leader()
        })?;
        team.until("the policy to be enforced", || team.denies(&pod("bare", &bare.tagged)))?;
        team.admits(&pod("web", &web.tagged))?;

        let paused = json!({"spec": {"paused": true}}).to_string();
        team.kubectl(&["patch", "registry/registry", "--type=merge", "--patch", &paused])?;
        team.until("the Registry to be left alone", || {
            let ready = team.condition("registry/registry", "Ready")?;
            ensure!(ready["message"].to_string().contains("paused"), "{ready}");
            Ok(())
        })?;
        team.kubectl(&["scale", "deployment/registry", "--replicas=0"])?;
        team.until("no server", || {
            ensure!(team.list("pods", "berth.dev/registry=registry")?.is_empty(), "some are left");
            Ok(())
        })?;
        scale(0)?;
        team.until("no operator", || {
            ensure!(operators.0.list("pods", OPERATOR)?.is_empty(), "some are left");
            Ok(())
        })?;
        let secrets = operators.0.kubectl(&["get", "secrets", "--output=name"])?;
        ensure!(secrets.contains("secret/berth-facts-"), "nothing is kept: {secrets}");
        scale(2)?;
        operators.both_ready()?;
        team.until("the image to be let in", || Ok(team.admits(&pod("web", &web.tagged))?))?;
        let words = team.denies(&pod("late", &registry.image("app/late:v1")))?;
        ensure!(words.contains("could not be checked"), "{words}");
        Ok(())
    })
}
