//! What a person meets first: the charts, the samples, the words of kubectl.

use std::path::Path;

use berth_e2e::ensure;
use berth_e2e::fixtures::{Failure, Outcome, story};
use berth_e2e::release;
use serde_json::json;

/// R-OPR-8: helm finds no fault with the charts, and refuses values that cannot work.
#[test]
fn the_charts_are_sound_and_refuse_wrong_values() -> Outcome {
    story(|story| {
        let cluster = story.cluster();
        let chart = |name: &str| release::workspace().join("charts").join(name).display().to_string();
        cluster.run("helm", &["lint", "--strict", &chart("berth"), &chart("berth-crds")])?;
        for (wrong, names) in [
            ("replicas=none", "replicas"),
            ("replicas=0", "replicas"),
            ("namespaces={Team A}", "namespaces"),
            ("logLevel=chatty", "logLevel"),
            ("image.digest=latest", "digest"),
            ("replica=2", "replica"),
        ] {
            let refused = cluster.run("helm", &["template", "berth", &chart("berth"), "--set", wrong]);
            let error = refused.err().ok_or_else(|| Failure::new(format!("helm takes {wrong}")))?;
            ensure!(error.stderr().contains(names), "{wrong}: {}", error.stderr());
        }
        Ok(())
    })
}

/// R-OPR-8: every sample is accepted by the API server as it stands.
#[test]
fn the_samples_are_accepted() -> Outcome {
    story(|story| {
        for sample in files(&release::workspace().join("config/samples"))? {
            let arguments = ["apply", "--server-side", "--dry-run=server", "--filename", &sample];
            story.cluster().kubectl(&arguments)?;
        }
        Ok(())
    })
}

/// R-OPR-1: the kinds are found by their category and short names, and explain themselves.
#[test]
fn kubectl_knows_the_kinds() -> Outcome {
    story(|story| {
        let team = story.team("team-b")?;
        let sample = |kind: &str, spec: serde_json::Value| json!({"apiVersion": "berth.dev/v1alpha1", "kind": kind, "metadata": {"name": "sample"}, "spec": spec});
        team.apply(&sample("Registry", json!({"storage": {"memory": {}}, "paused": true})))?;
        team.apply(&sample("ReplicationPolicy", json!({
            "source": {"registry": "sample"}, "destination": {"url": "https://registry.example"}, "paused": true,
        })))?;
        team.apply(&sample("ImagePolicy", json!({
            "mode": "Warn", "images": ["registry.example/**"],
            "require": [{"signature": {"authorities": [{"name": "a", "key": {"secretName": "missing"}}]}}],
        })))?;
        let all = team.kubectl(&["get", "berth", "--output=name"])?;
        for kind in ["registry", "replicationpolicy", "imagepolicy"] {
            ensure!(all.contains(&format!("{kind}.berth.dev/sample")), "no {kind} in: {all}");
        }
        for (name, columns) in [
            ("reg", "NAME READY REASON ENDPOINT AGE"),
            ("replpol", "NAME READY REASON LAST SYNC COPIED AGE"),
            ("imgpol", "NAME READY REASON MODE SCOPE DENIED AGE"),
        ] {
            let table = team.kubectl(&["get", name])?;
            let header = table.lines().next().unwrap_or_default();
            ensure!(header.split_whitespace().eq(columns.split(' ')), "{name}: {header}");
        }
        let words = team.kubectl(&["explain", "registry.spec.storage"])?;
        for field in ["s3", "volume", "memory", "exactly one of"] {
            ensure!(words.contains(field), "no word of {field}: {words}");
        }
        for field in ["replicationpolicy.spec.trigger", "imagepolicy.spec.require.signature"] {
            ensure!(!team.kubectl(&["explain", field])?.contains("<empty>"), "{field} is not explained");
        }
        Ok(())
    })
}

fn files(folder: &Path) -> Result<Vec<String>, Failure> {
    let mut files = Vec::new();
    for entry in folder.read_dir()? {
        files.push(entry?.path().display().to_string());
    }
    files.sort();
    ensure!(!files.is_empty(), "{} is empty", folder.display());
    Ok(files)
}
