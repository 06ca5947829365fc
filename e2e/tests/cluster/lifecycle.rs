//! Lifecycle rules: the CronJob that the operator makes, run by hand as an administrator would.

use std::collections::BTreeSet;

use berth_e2e::ensure;
use berth_e2e::fixtures::{Endpoint, Failure, Form, Outcome, Team, story};
use serde_json::{Value, json};

/// R-LIFE-1, R-LIFE-2, R-LIFE-3: a dry run removes nothing and says what it would; then exactly that is removed,
/// and the signature of a kept image stays.
#[test]
fn a_prune_removes_what_the_rules_say_and_nothing_else() -> Outcome {
    story(|story| {
        let team = story.team("pruned")?;
        team.volume("registry-data")?;
        let registry = team.registry("registry", spec(true))?;
        let key = team.signing_key("release")?;
        let untagged = team.push(&registry, "app/web:latest", "an image that loses its tag")?;
        for version in 1..=4 {
            team.push(&registry, &format!("app/web:v{version}"), &format!("web {version}"))?;
        }
        let kept = team.push(&registry, "app/web:latest", "the image that takes the tag")?;
        team.sign(&key, &kept.pinned, Form::Classic)?;
        team.sign(&key, &kept.pinned, Form::Bundle)?;
        team.push(&registry, "other/tool:v1", "of another repository, and the only one")?;
        let before = tags(&team, &registry, "app/web")?;

        let words = prune(&team, "rehearsal")?;
        ensure!(tags(&team, &registry, "app/web")? == before, "a dry run removed something: {words}");
        team.run("crane", &["manifest", &untagged.pinned])?;
        for would_go in ["v1", "v2", &untagged.digest] {
            ensure!(words.contains(would_go), "the dry run does not speak of {would_go}: {words}");
        }
        let status = run(&team)?;
        ensure!(status["dryRun"] == json!(true) && status["removed"] == json!(3), "{status}");

        // Applied as the user would, in the whole.
        team.registry("registry", spec(false))?;
        let generation = team.get("registry/registry")?["metadata"]["generation"].clone();
        team.wait("registry/registry", &format!("jsonpath={{.status.observedGeneration}}={generation}"))?;
        team.kubectl(&["rollout", "status", "deployment/registry", "--timeout=120s"])?;
        team.wait("registry/registry", "condition=Ready")?;
        prune(&team, "real")?;
        let gone: BTreeSet<_> = before.difference(&tags(&team, &registry, "app/web")?).cloned().collect();
        ensure!(gone == BTreeSet::from(["v1".into(), "v2".into()]), "gone: {gone:?}");
        ensure!(
            team.run("crane", &["manifest", &untagged.pinned]).is_err(),
            "the untagged image is still there"
        );
        team.run("crane", &["manifest", &registry.image("other/tool:v1")])?;
        team.verify(&key, &kept.pinned)?;
        let status = run(&team)?;
        ensure!(status["dryRun"] == json!(false) && status["removed"] == json!(3), "{status}");
        Ok(())
    })
}

fn spec(dry_run: bool) -> Value {
    json!({
        // Rules change the configuration, which replaces the Pod: the content must outlive it.
        "storage": {"volume": {"size": "64Mi"}},
        "lifecycle": {
            "schedule": "0 3 * * *",
            "dryRun": dry_run,
            "rules": [
                {"priority": 10, "tagPatterns": ["v*"], "keepLast": 2},
                {"priority": 20, "tagStatus": "Untagged", "olderThan": "1s"},
            ],
        },
    })
}

/// Runs the CronJob now and returns what the job printed.
fn prune(team: &Team<'_>, job: &str) -> Result<String, Failure> {
    team.kubectl(&["create", "job", job, "--from=cronjob/registry-prune"])?;
    team.wait(&format!("job/{job}"), "condition=Complete")?;
    Ok(team.kubectl(&["logs", &format!("job/{job}")])?)
}

/// The status of the last run, once it is about a job that is over.
fn run(team: &Team<'_>) -> Result<Value, Failure> {
    let jobs = team.get("jobs")?;
    let newest =
        jobs["items"].as_array().into_iter().flatten().filter_map(|job| job["status"]["startTime"].as_str());
    let newest = newest.max().unwrap_or_default().to_owned();
    team.until("the status to speak of the run", || {
        let status = team.get("registry/registry")?["status"]["lifecycle"].clone();
        let last = status["lastRun"].as_str().unwrap_or_default();
        ensure!(last >= newest.as_str(), "lastRun {last:?}, the newest job began at {newest}");
        Ok(status)
    })
}

fn tags(team: &Team<'_>, registry: &Endpoint, repository: &str) -> Result<BTreeSet<String>, Failure> {
    Ok(team.run("crane", &["ls", &registry.image(repository)])?.lines().map(Into::into).collect())
}
