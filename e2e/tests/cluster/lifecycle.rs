//! Lifecycle rules, collection and scrub: the `CronJobs` that the operator makes, run by hand as an administrator would.

use std::collections::BTreeSet;
use std::path::Path;

use berth_e2e::ensure;
use berth_e2e::fixtures::{Endpoint, Failure, Form, Outcome, Team, story};
use serde_json::{Value, json};

/// R-LIFE-1, R-LIFE-2, R-LIFE-3: a dry run removes nothing and says what it would; then exactly that is removed,
/// and the signature of a kept image stays. R-OPR-1: changed rules are in force without a restart.
/// R-STO-4, R-STO-6, R-STO-8: collection takes what is not needed, and then the status says what is left; scrub finds that
/// whole.
#[test]
fn a_prune_removes_what_the_rules_say_and_nothing_else() -> Outcome {
    story(|story| {
        let team = story.team("pruned")?;
        let folder = team.volume("registry-data")?;
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
        let server = server(&team)?;
        team.registry("registry", spec(false))?;
        let generation = team.get("registry/registry")?["metadata"]["generation"].clone();
        team.wait("registry/registry", &format!("jsonpath={{.status.observedGeneration}}={generation}"))?;
        team.wait("registry/registry", "condition=Ready")?;
        prune(&team, "real")?;
        ensure!(self::server(&team)? == server, "changed rules replaced the server");
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

        let collected = work(&team, "gc", "collected")?;
        ensure!(collected.contains("summary"), "{collected}");
        holds(&team, &folder)?;
        let scrubbed = work(&team, "scrub", "scrubbed")?;
        ensure!(scrubbed.contains("summary") && !scrubbed.contains("corrupt"), "{scrubbed}");
        team.run("crane", &["validate", "--remote", &kept.pinned])?;
        team.verify(&key, &kept.pinned)?;
        Ok(())
    })
}

/// The status says how much lies in the folder: two repositories, and as many bytes, give or take what came since.
fn holds(team: &Team<'_>, folder: &Path) -> Outcome {
    team.until("the status to say how much there is", || {
        let storage = team.get("registry/registry")?["status"]["storage"].clone();
        let (said, is) = (storage["bytes"].as_u64().unwrap_or_default(), size(folder)?);
        ensure!(
            said.abs_diff(is) < is / 20 && storage["repositories"] == 2,
            "{storage}, there are {is} bytes"
        );
        Ok(())
    })
}

/// The bytes of all objects below a folder.
fn size(folder: &Path) -> Result<u64, Failure> {
    let mut bytes = 0;
    for entry in folder.read_dir()? {
        let entry = entry?;
        let (path, meta) = (entry.path(), entry.metadata()?);
        // The store's own notes.
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            bytes += if meta.is_dir() { size(&path)? } else { meta.len() };
        }
    }
    Ok(bytes)
}

/// The server's Pod, with its restarts.
fn server(team: &Team<'_>) -> Result<String, Failure> {
    let selector = "app.kubernetes.io/component=server";
    let path = "jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[0].restartCount}{end}";
    Ok(team.kubectl(&["get", "pods", "-l", selector, "-o", path])?)
}

fn spec(dry_run: bool) -> Value {
    json!({
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

fn prune(team: &Team<'_>, job: &str) -> Result<String, Failure> {
    work(team, "prune", job)
}

/// Runs a CronJob now and returns what the job printed.
fn work(team: &Team<'_>, task: &str, job: &str) -> Result<String, Failure> {
    team.kubectl(&["create", "job", job, &format!("--from=cronjob/registry-{task}")])?;
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
