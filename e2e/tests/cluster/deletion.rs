//! A Registry goes; its content stays.

use berth_e2e::ensure;
use berth_e2e::fixtures::{Failure, Outcome, Team, storage_on, story};
use serde_json::{Value, json};

/// R-OPR-1, R-OPR-2: nothing of a deleted Registry is left but the content, which the next one serves.
#[test]
fn a_deleted_registry_leaves_only_its_content_behind() -> Outcome {
    story(|story| {
        let team = story.team("deleted")?;
        team.volume("on-volume-data")?;
        team.bucket("deleted")?;
        let lifecycle =
            json!({"schedule": "0 3 * * *", "rules": [{"priority": 1, "tagStatus": "Any", "keepLast": 9}]});
        let stores = [
            ("on-volume", json!({"storage": {"volume": {"size": "64Mi"}}, "lifecycle": lifecycle})),
            ("on-bucket", json!({"replicas": 2, "storage": storage_on("deleted"), "lifecycle": lifecycle})),
        ];
        for (name, spec) in stores {
            comes_back(&team, name, &spec)?;
        }
        Ok(())
    })
}

fn comes_back(team: &Team<'_>, name: &str, spec: &Value) -> Outcome {
    let registry = team.registry(name, spec.clone())?;
    let pushed = team.push(&registry, "app/web:v1", name)?;
    ensure!(!children(team, name)?.is_empty(), "nothing carries the label of Registry {name}");
    team.kubectl(&["delete", "registry", name, "--timeout=60s"])?;
    team.until("the children to be gone", || {
        let left = children(team, name)?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })?;
    team.registry(name, spec.clone())?;
    team.until("the content to be served again", || {
        let digest = team.run("crane", &["digest", &pushed.tagged])?;
        ensure!(digest.trim() == pushed.digest, "{digest} instead of {}", pushed.digest);
        Ok(())
    })?;
    team.run("crane", &["validate", "--remote", &pushed.tagged])?;
    Ok(())
}

/// Everything that belongs to a Registry and has to go with it: all but the claim.
fn children(team: &Team<'_>, name: &str) -> Result<Vec<String>, Failure> {
    let kinds = "deployments,replicasets,pods,services,endpointslices,secrets,configmaps,serviceaccounts,\
                 networkpolicies,poddisruptionbudgets,cronjobs,jobs";
    let selector = format!("berth.dev/registry={name}");
    let objects = team.kubectl(&["get", kinds, "--selector", &selector, "--output=name"])?;
    Ok(objects.lines().map(Into::into).collect())
}
