//! What people must be able to do while no webhook answers.

use berth_e2e::ensure;
use berth_e2e::fixtures::{Failure, Guarded, Outcome, Team, deployment, pod, story};
use serde_json::{Value, json};

use crate::operators::Operators;

/// R-OPR-6: without any operator, what a policy governs can be scaled down, labelled, deleted and rid of its finalizers,
/// while no new image comes in, signed or not. When the operators are back, it can be scaled up
/// again.
#[test]
fn what_is_governed_can_be_scaled_down_and_removed_while_no_webhook_answers() -> Outcome {
    story(|story| {
        let team = story.team("scaled")?;
        let operators = Operators::of(story.cluster())?;
        operators.both_ready()?;
        let Guarded { registry, web, .. } = team.guarded()?;
        let bare = team.push(&registry, "app/bare:v1", "bare, scaled")?;
        team.until("the policy to be enforced", || {
            let words = team.denies(&pod("bare", &bare.tagged))?;
            ensure!(words.contains("no signature was found"), "{words}");
            Ok(())
        })?;
        team.apply(&deployment("web", &web.tagged, 3))?;
        let mut held = pod("held", &web.tagged);
        held["metadata"]["finalizers"] = json!(["example.com/held"]);
        team.apply(&held)?;
        team.wait("deployment/web", "condition=Available")?;
        team.wait("pod/held", "condition=Ready")?;

        let absent = operators.absent()?;
        for image in [&bare.tagged, &web.tagged] {
            let words = team.denies(&pod("new", image))?;
            ensure!(words.contains("failed calling webhook"), "{words}");
        }
        team.kubectl(&["scale", "deployment/web", "--replicas=1"])?;
        let last = team.until("one Pod", || one(&team.list("pods", "app=web")?))?;
        team.kubectl(&["label", "pod", &last, "seen=yes"])?;
        team.kubectl(&["annotate", "deployment/web", "example.com/seen=yes"])?;
        team.kubectl(&["delete", "pod/held", "--wait=false"])?;
        ensure!(team.exists("pod/held")?, "the finalizer does not hold the Pod");
        let free = json!({"metadata": {"finalizers": null}}).to_string();
        team.kubectl(&["patch", "pod/held", "--type=merge", "--patch", &free])?;
        gone(&team, "pod/held")?;

        // What a new Pod would take is refused, however it is asked for.
        let image = format!("main={}", bare.tagged);
        match team.kubectl(&["set", "image", "deployment/web", &image]) {
            Ok(done) => return Err(Failure::new(format!("a new image came in: {done}"))),
            Err(error) => ensure!(error.stderr().contains("failed calling webhook"), "{error}"),
        }
        team.kubectl(&["delete", "pod", &last])?;
        team.until("the controller to be refused a new Pod", || {
            let failure = team.condition("deployment/web", "ReplicaFailure")?;
            ensure!(failure["message"].to_string().contains("failed calling webhook"), "{failure}");
            Ok(())
        })?;
        ensure!(team.list("pods", "app=web")?.is_empty(), "a new Pod came in");
        team.kubectl(&["scale", "deployment/web", "--replicas=0"])?;

        drop(absent);
        operators.both_ready()?;
        team.until("an unsigned image to be refused again", || {
            let words = team.denies(&pod("bare", &bare.tagged))?;
            ensure!(words.contains("no signature was found"), "{words}");
            Ok(())
        })?;
        team.kubectl(&["scale", "deployment/web", "--replicas=2"])?;
        team.wait("deployment/web", "jsonpath={.status.readyReplicas}=2")
    })
}

fn one(pods: &[Value]) -> Result<String, Failure> {
    let names: Vec<_> = pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str()).collect();
    match names.as_slice() {
        [name] => Ok((*name).to_owned()),
        names => Err(Failure::new(format!("{names:?}"))),
    }
}

fn gone(team: &Team<'_>, object: &str) -> Outcome {
    team.until(&format!("{object} to be gone"), || {
        ensure!(!team.exists(object)?, "it is still there");
        Ok(())
    })
}
