//! What runs already: judged again when keys are rotated, when an exception is made and ends, and when an image is signed.

use berth_e2e::cluster::Cluster;
use berth_e2e::ensure;
use berth_e2e::fixtures::{Endpoint, Failure, Form, Key, Outcome, Team, pod, story};
use serde_json::{Value, json};

/// R-OPR-7, R-SIG-5: status, `PolicyReport` and event say what would become of what runs, and the real denials are the same.
#[test]
fn what_runs_is_judged_again() -> Outcome {
    story(|story| {
        let team = story.team("running")?;
        define_reports(team.cluster())?;
        let registry = team.registry("registry", json!({"storage": {"memory": {}}}))?;
        let (old, new) = (team.signing_key("old")?, team.signing_key("new")?);
        let (web, api) =
            (team.push(&registry, "app/web:v1", "runs")?, team.push(&registry, "app/api:v1", "runs, too")?);
        team.sign(&old, &web.pinned, Form::Bundle)?;
        team.sign(&old, &api.pinned, Form::Bundle)?;
        team.sign(&new, &api.pinned, Form::Bundle)?;
        team.pull_secret()?;
        team.apply_policy("signed", &signed(&registry, &old, None)?)?;
        team.apply(&pod("web", &web.tagged))?;
        team.apply(&pod("api", &api.tagged))?;
        team.wait("pod/web", "condition=Ready")?;
        team.wait("pod/api", "condition=Ready")?;
        counts(&team, 2, 0)?;
        let found = report(&team, 2, 0)?;
        ensure!(found["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "berth", "{found}");

        // Another key: what it has not signed yet is excepted until a day, and that day is known.
        let near = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * 30);
        let near = jiff::Timestamp::from_second(near.as_second())?.to_string();
        team.apply_policy("signed", &signed(&registry, &new, Some(("app/web", near.as_str())))?)?;
        let forecast = team.until("a forecast", || {
            let forecast = team.get("imagepolicy/signed")?["status"]["forecast"].clone();
            ensure!(forecast[0]["at"] == json!(near), "{forecast}");
            Ok(forecast)
        })?;
        let message = forecast[0]["message"].as_str().unwrap_or_default();
        ensure!(forecast[0]["workloads"] == 1 && message.contains("running/pod/web"), "{forecast}");
        counts(&team, 2, 0)?;
        team.apply_policy("signed", &signed(&registry, &new, Some(("app/web", "2099-01-01T00:00:00Z")))?)?;
        team.until("no forecast beyond a year", || {
            let status = team.get("imagepolicy/signed")?["status"].clone();
            ensure!(status["forecast"].is_null(), "{status}");
            Ok(())
        })?;

        // Without the exception.
        team.apply_policy("signed", &signed(&registry, &new, None)?)?;
        counts(&team, 1, 1)?;
        let found = report(&team, 1, 1)?;
        let result = &found["results"][0];
        ensure!(result["policy"] == "running/signed" && result["result"] == "fail", "{found}");
        ensure!(
            result["resources"][0]["name"] == "web" && result["properties"]["digest"] == json!(web.digest),
            "{found}"
        );
        let told = team.until("an event", || {
            let events = team.kubectl(&[
                "get",
                "events",
                "--field-selector=reason=RunningImagesDenied",
                "--output=json",
            ])?;
            ensure!(events.contains("running/pod/web"), "{events}");
            Ok(events)
        })?;
        ensure!(!told.contains("running/pod/api"), "{told}");
        // What was foretold is what happens, and what runs goes on.
        let words = team.denies(&pod("attempt", &web.tagged))?;
        ensure!(words.contains("app/web:v1") && words.contains("running/signed"), "{words}");
        team.admits(&pod("attempt", &api.tagged))?;
        team.wait("pod/web", "condition=Ready")?;

        team.sign(&new, &web.pinned, Form::Bundle)?;
        counts(&team, 2, 0)?;
        report(&team, 2, 0)?;
        team.admits(&pod("attempt", &web.tagged))?;

        team.kubectl(&["delete", "imagepolicy/signed"])?;
        team.until("the report to be gone", || {
            ensure!(!team.exists("policyreport/berth")?, "it is still there");
            Ok(())
        })
    })
}

/// A policy that wants a signature by `key` from all images but those that are excepted until some day.
fn signed(registry: &Endpoint, key: &Key, excepted: Option<(&str, &str)>) -> Result<Value, Failure> {
    let mut spec = json!({
        "mode": "Enforce",
        "images": [registry.image("**")],
        "require": [{"signature": {"authorities": [{"name": key.name(), "key": {"pem": key.public()?}}]}}],
    });
    if let Some((image, day)) = excepted {
        let images = [registry.image(image)];
        spec["exceptions"] =
            json!([{"images": images, "owner": "team-web", "reason": "keys are rotated", "expires": day}]);
    }
    Ok(spec)
}

/// Waits until so many images are admitted and denied.
fn counts(team: &Team<'_>, admitted: u8, denied: u8) -> Outcome {
    team.until(&format!("{admitted} images to be admitted and {denied} denied"), || {
        let status = team.get("imagepolicy/signed")?["status"].clone();
        let wanted = json!({"admitted": admitted, "denied": denied, "uncheckable": 0});
        ensure!(status["images"] == wanted, "{status}");
        Ok(())
    })
}

/// Waits until the report of the namespace counts so many; returns it.
fn report(team: &Team<'_>, pass: u8, fail: u8) -> Result<Value, Failure> {
    team.until(&format!("a report with {pass} passed and {fail} failed"), || {
        let report = team.get("policyreport/berth")?;
        let summary = &report["summary"];
        ensure!(summary["pass"] == json!(pass) && summary["fail"] == json!(fail), "{report}");
        Ok(report)
    })
}

/// The definition of reports, as far as we use them; usually another tool of the platform brings it.
fn define_reports(cluster: &Cluster) -> Outcome {
    let counts = |names: &[&str]| -> Value {
        names
            .iter()
            .map(|name| ((*name).to_owned(), json!({"type": "integer"})))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let schema = json!({
        "type": "object",
        "properties": {
            "summary": {"type": "object", "properties": counts(&["pass", "fail", "warn", "error", "skip"])},
            "results": {"type": "array", "items": {
                "type": "object",
                "required": ["policy"],
                "properties": {
                    "policy": {"type": "string"},
                    "result": {"type": "string", "enum": ["pass", "fail", "warn", "error", "skip"]},
                    "message": {"type": "string"},
                    "source": {"type": "string"},
                    "properties": {"type": "object", "additionalProperties": {"type": "string"}},
                    "resources": {"type": "array", "items": open},
                },
            }},
        },
    });
    cluster.apply(
        &json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "policyreports.wgpolicyk8s.io"},
            "spec": {
                "group": "wgpolicyk8s.io",
                "names": {"kind": "PolicyReport", "listKind": "PolicyReportList", "plural": "policyreports", "singular": "policyreport"},
                "scope": "Namespaced",
                "versions": [{"name": "v1alpha2", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
            },
        })
        .to_string(),
    )?;
    cluster.kubectl(&[
        "wait",
        "customresourcedefinition/policyreports.wgpolicyk8s.io",
        "--for=condition=Established",
        "--timeout=60s",
    ])?;
    Ok(())
}
