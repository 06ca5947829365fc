//! The second gate: a Registry that serves nodes only what policies allow, whether anybody asked the webhook or not.

use berth_e2e::cluster::Client;
use berth_e2e::ensure;
use berth_e2e::fixtures::{Failure, Form, NODE, Outcome, Pushed, Team, pod, story};
use serde_json::json;

/// R-OPR-6, R-SIG-1: who may only pull is refused an unsigned image in the webhook's words, a kubelet in a namespace that no
/// policy governs, too, until somebody signs it. What a signed index lists passes; who may push sees everything; and when
/// the policy is gone, all is served. None of this takes a new server.
#[test]
fn a_registry_serves_nodes_only_what_policies_allow() -> Outcome {
    story(|story| {
        let (team, elsewhere) = (story.team("gated")?, story.team("ungoverned")?);
        let spec = json!({
            "storage": {"memory": {}},
            "access": {"pullOnlyUsers": [NODE], "enforceImagePolicies": true},
        });
        let registry = team.registry("registry", spec)?;
        let node = team.node(&registry)?;
        let key = team.signing_key("release")?;
        // The node must not have them from an earlier run.
        let now = jiff::Timestamp::now();
        let push =
            |name: &str| team.push(&registry, &format!("app/{name}:v1"), &format!("{name}, gated {now}"));
        let (web, bare, late, child) = (push("web")?, push("bare")?, push("late")?, push("child")?);
        team.sign(&key, &web.pinned, Form::Bundle)?;
        let (signed, plain) = (registry.image("app/signed"), registry.image("app/plain"));
        let index = index_of(&team, &signed, &[&late, &child])?;
        team.sign(&key, &index, Form::Bundle)?;
        let unsigned = index_of(&team, &plain, &[&child])?;
        served(&node, &bare.pinned)?;
        let servers = servers(&team)?;

        team.require_signatures("signed", &registry.image("**"), &[&key])?;
        let words = team.until("the gate to close", || refused(&node, &bare.pinned))?;
        let denial = team.until("the webhook to be asked", || team.denies(&pod("bare", &bare.pinned)))?;
        let reason = denial.split("denied the request: ").nth(1).and_then(|said| said.split(" (").next());
        let reason = reason.ok_or_else(|| Failure::new(denial.clone()))?;
        for part in
            [reason, "ImagePolicy gated/signed", "cosign sign --key KEY", "who may push can still see"]
        {
            ensure!(words.contains(part), "the gate does not say {part:?}: {words}");
        }
        for image in [&child.pinned, &format!("{plain}@{}", child.digest), &unsigned] {
            refused(&node, image)?;
        }
        // A child first, before anybody came by the index.
        for image in [&format!("{signed}@{}", child.digest), &index, &web.tagged, &web.pinned] {
            served(&node, image)?;
        }
        for image in [&bare.pinned, &web.pinned] {
            served(team.client(), image)?;
        }
        let log = team.kubectl(&["logs", "deployment/registry", "--tail=-1"])?;
        let told = |line: &&str| line.contains("pull refused") && line.contains(&bare.digest);
        let line = log.lines().find(told).ok_or_else(|| Failure::new("the audit log does not tell"))?;
        ensure!(line.contains(NODE) && line.contains("gated/signed"), "{line}");

        team.pull_secret_of(&node)?;
        elsewhere.pull_secret_of(&node)?;
        team.apply(&pod("web", &web.pinned))?;
        elsewhere.apply(&pod("bare", &bare.pinned))?;
        elsewhere.until("the kubelet to be refused", || {
            let state = &elsewhere.get("pod/bare")?["status"]["containerStatuses"][0]["state"];
            ensure!(state["waiting"]["message"].to_string().contains("403 Forbidden"), "{state}");
            Ok(())
        })?;
        team.wait("pod/web", "condition=Ready")?;
        team.sign(&key, &bare.pinned, Form::Bundle)?;
        // Another Pod, for which the kubelet does not wait as it does after a failure.
        elsewhere.apply(&pod("bare-signed", &bare.pinned))?;
        elsewhere.wait("pod/bare-signed", "condition=Ready")?;

        refused(&node, &late.pinned)?;
        team.kubectl(&["delete", "imagepolicy/signed"])?;
        team.until("the gate to open", || served(&node, &late.pinned))?;
        let now = self::servers(&team)?;
        ensure!(now == servers, "policies replaced the servers {servers} by {now}");
        Ok(())
    })
}

/// Pushes an index of images and returns it by digest.
fn index_of(team: &Team<'_>, repository: &str, images: &[&Pushed]) -> Result<String, Failure> {
    let tag = format!("{repository}:v1");
    let mut arguments = vec!["index", "append", "--tag", &tag];
    for image in images {
        arguments.extend(["--manifest", &image.pinned]);
    }
    team.run("crane", &arguments)?;
    Ok(format!("{repository}@{}", team.run("crane", &["digest", &tag])?.trim()))
}

fn served(client: &Client, image: &str) -> Outcome {
    client.run("crane", &["manifest", image])?;
    Ok(())
}

/// What the client was told instead of the image.
fn refused(client: &Client, image: &str) -> Result<String, Failure> {
    match client.run("crane", &["manifest", image]) {
        Ok(_) => Err(Failure::new(format!("{image} is served"))),
        Err(error) if error.stderr().contains("DENIED") => Ok(error.stderr().to_owned()),
        Err(error) => Err(error.into()),
    }
}

fn servers(team: &Team<'_>) -> Result<String, Failure> {
    Ok(team.kubectl(&["get", "pods", "--selector=berth.dev/registry=registry", "--output=name"])?)
}
