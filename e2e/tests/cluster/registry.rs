//! A Registry from a few lines of YAML: on a volume, on a claim, on a bucket; its status; drift.

use std::collections::BTreeMap;

use berth_e2e::ensure;
use berth_e2e::fixtures::{Audit, Endpoint, Failure, Outcome, Team, story};
use serde_json::json;

/// R-OPR-1, R-STO-1: a Registry of five lines on a volume serves over TLS, and keeps what it was given.
#[test]
fn a_registry_on_a_volume_takes_a_push_and_keeps_it() -> Outcome {
    story(|story| {
        let team = story.team("volume")?;
        team.volume("registry-data")?;
        let registry = team.registry("registry", json!({"storage": {"volume": {"size": "64Mi"}}}))?;
        pushes_and_pulls(&team, &registry)?;

        let claim = team.get("pvc/registry-data")?;
        ensure!(claim["metadata"]["ownerReferences"].is_null(), "the claim would die with its Registry");
        team.kubectl(&["delete", "pods", "--selector=berth.dev/registry=registry"])?;
        team.wait("registry/registry", "condition=Ready")?;
        team.until("the image to be there in the next Pod", || {
            Ok(team.run("crane", &["manifest", &registry.image("app/web:v1")])?)
        })?;
        Ok(())
    })
}

/// R-OPR-1, R-STO-1: a claim that exists already.
#[test]
fn a_registry_on_an_existing_claim_takes_a_push() -> Outcome {
    story(|story| {
        let team = story.team("claimed")?;
        let folder = team.volume("data")?;
        team.claim("data")?;
        let registry = team.registry("registry", json!({"storage": {"volume": {"claimName": "data"}}}))?;
        pushes_and_pulls(&team, &registry)?;
        ensure!(folder.read_dir()?.next().is_some(), "the claim's folder is empty after a push");
        Ok(())
    })
}

/// R-STO-1, R-STO-3, R-OPR-1: two replicas on a bucket; the status tells people and tools what there is.
#[test]
fn a_registry_on_a_bucket_serves_with_two_replicas() -> Outcome {
    story(|story| {
        let team = story.team("bucket")?;
        let storage = team.bucket("bucket")?;
        let registry = team.registry("registry", json!({"replicas": 2, "storage": storage}))?;
        pushes_and_pulls(&team, &registry)?;

        team.wait("registry/registry", "jsonpath={.status.readyReplicas}=2")?;
        let object = team.get("registry/registry")?;
        let status = &object["status"];
        ensure!(
            status["endpoint"] == json!("https://registry.bucket.svc.cluster.local"),
            "endpoint: {}",
            status["endpoint"]
        );
        ensure!(status["observedGeneration"] == object["metadata"]["generation"], "{status}");
        ensure!(status["replicas"] == json!(2), "{status}");
        ensure!(status["certificate"]["notAfter"].is_string(), "{status}");
        let conditions = status["conditions"].as_array().ok_or_else(|| Failure::new("no conditions"))?;
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready").unwrap();
        ensure!(ready["observedGeneration"] == object["metadata"]["generation"], "{ready}");
        // kstatus: these two exist only while they are true.
        for abnormal in ["Reconciling", "Stalled"] {
            ensure!(conditions.iter().all(|condition| condition["type"] != abnormal), "{status}");
        }

        let table = team.kubectl(&["get", "registry"])?;
        let header: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
        ensure!(header == ["NAME", "READY", "REASON", "ENDPOINT", "AGE"], "{table}");
        ensure!(table.contains("True") && table.contains(&registry.host), "{table}");

        team.kubectl(&["scale", "registry/registry", "--replicas=1"])?;
        team.wait("registry/registry", "jsonpath={.status.replicas}=1")?;
        team.wait("registry/registry", "condition=Ready")?;
        Ok(())
    })
}

/// R-OPR-1: what is changed by hand is put right; what is right is not written again.
#[test]
fn drift_is_repaired_and_nothing_is_written_twice() -> Outcome {
    story(|story| {
        let team = story.team("drifting")?;
        team.registry("registry", json!({"storage": {"memory": {}}}))?;

        team.kubectl(&["delete", "service", "registry"])?;
        team.until("the Service to be made again", || team.get("service/registry"))?;
        team.kubectl(&[
            "patch",
            "networkpolicy/registry",
            "--type=json",
            "--patch",
            r#"[{"op": "replace", "path": "/spec/podSelector", "value": {}}]"#,
        ])?;
        team.until("the NetworkPolicy to be put right", || {
            let policy = team.get("networkpolicy/registry")?;
            ensure!(policy["spec"]["podSelector"]["matchLabels"].is_object(), "{}", policy["spec"]);
            Ok(())
        })?;
        team.wait("registry/registry", "condition=Ready")?;

        let before = team.children("registry")?;
        ensure!(before.len() >= 7, "the Registry became only {:?}", before.keys());
        let audit = Audit::from_now(team.cluster())?;
        for round in ["1", "2", "3"] {
            team.kubectl(&["annotate", "--overwrite", "registry/registry", &format!("round={round}")])?;
        }
        // A change that only the Deployment shows: when the status speaks about it, all rounds are over.
        team.kubectl(&[
            "patch",
            "registry/registry",
            "--type=merge",
            "--patch",
            r#"{"spec": {"pod": {"resources": {"requests": {"cpu": "11m"}}}}}"#,
        ])?;
        let generation = team.get("registry/registry")?["metadata"]["generation"].clone();
        team.wait("registry/registry", &format!("jsonpath={{.status.observedGeneration}}={generation}"))?;
        team.kubectl(&["rollout", "status", "deployment/registry", "--timeout=120s"])?;
        team.wait("registry/registry", "condition=Ready")?;

        let mut after = team.children("registry")?;
        let deployment = "Deployment/registry".to_owned();
        let generation = |versions: &BTreeMap<String, String>| versions[&deployment].parse::<u64>();
        ensure!(generation(&after)? == generation(&before)? + 1, "the Deployment changed more than once");
        after.insert(deployment.clone(), before[&deployment].clone());
        ensure!(before == after, "children were written again:\n{before:?}\n{after:?}");
        println!(
            "writes for three resyncs and one change: {}",
            audit.writes(super::OPERATOR, "drifting")?.len()
        );
        Ok(())
    })
}

fn pushes_and_pulls(team: &Team<'_>, registry: &Endpoint) -> Outcome {
    let pushed = team.push(registry, "app/web:v1", team.namespace())?;
    println!("from apply to the first push: {:.1} s", registry.applied.elapsed().as_secs_f32());
    let digest = team.run("crane", &["digest", &pushed.tagged])?;
    ensure!(digest.trim() == pushed.digest, "pushed {}, found {digest}", pushed.digest);
    let folder = tempfile::tempdir()?;
    let tar = folder.path().join("image.tar");
    team.run("crane", &["pull", &pushed.pinned, &tar.display().to_string()])?;
    ensure!(tar.metadata()?.len() > 100_000, "the pulled image is nearly empty");
    Ok(())
}
