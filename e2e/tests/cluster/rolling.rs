//! Replicas are replaced while clients push and pull.

use berth_e2e::ensure;
use berth_e2e::fixtures::{Outcome, story};
use serde_json::json;

use super::support::http::Site;
use super::support::load::{Load, verify};

/// R-STO-9, R-STO-3, R-OPR-8: a rolling update of a Registry on a bucket fails no request.
#[test]
fn a_rolling_update_fails_no_request() -> Outcome {
    story(|story| {
        let team = story.team("rolling")?;
        let storage = team.bucket("rolling")?;
        let registry = team.registry("registry", json!({"replicas": 2, "storage": storage}))?;
        team.kubectl(&["rollout", "status", "deployment/registry", "--timeout=120s"])?;
        // The Service answers before the load begins.
        team.push(&registry, "app/web:v1", "before the load")?;
        let site = Site::of(&team, &registry)?;
        let load = Load::start(&site);
        team.until("the load to run", || {
            ensure!(
                load.tally().pulls() >= 10,
                "{} pulls, {:?}",
                load.tally().pulls(),
                load.tally().failures()
            );
            Ok(())
        })?;
        let before = pods(&team)?;
        for cpu in ["11m", "12m"] {
            let patch =
                format!(r#"{{"spec": {{"pod": {{"resources": {{"requests": {{"cpu": "{cpu}"}}}}}}}}}}"#);
            team.kubectl(&["patch", "registry/registry", "--type=merge", "--patch", &patch])?;
            let generation = team.get("registry/registry")?["metadata"]["generation"].clone();
            team.wait("registry/registry", &format!("jsonpath={{.status.observedGeneration}}={generation}"))?;
            team.kubectl(&["rollout", "status", "deployment/registry", "--timeout=180s"])?;
        }
        team.until("the old Pods to be gone", || {
            let left: Vec<_> = pods(&team)?.into_iter().filter(|pod| before.contains(pod)).collect();
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })?;
        let tally = load.stop()?;
        let acknowledged = tally.acknowledged();
        println!("{} requests, {} pushes, {} pulls", tally.requests(), acknowledged.len(), tally.pulls());
        let failures = tally.failures();
        ensure!(
            failures.is_empty(),
            "{} of {} requests failed: {failures:#?}",
            failures.len(),
            tally.requests()
        );
        verify(&site, &acknowledged)
    })
}

fn pods(team: &berth_e2e::fixtures::Team<'_>) -> Result<Vec<String>, berth_e2e::fixtures::Failure> {
    let pods = team.kubectl(&["get", "pods", "--selector=berth.dev/registry=registry", "--output=name"])?;
    Ok(pods.lines().map(Into::into).collect())
}
