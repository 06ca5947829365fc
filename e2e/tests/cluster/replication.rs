//! Images travel from one Registry to another, with what proves their origin.

use berth_e2e::ensure;
use berth_e2e::fixtures::{Endpoint, Failure, Form, Outcome, Team, USER, pod, story};
use serde_json::{Value, json};

/// R-REP-1, R-REP-2, R-REP-3, R-OPR-5: tag, image and signature arrive by push and by interval, and the copy is
/// admitted where it arrives.
#[test]
fn a_replica_brings_tag_image_and_signature() -> Outcome {
    story(|story| {
        let (source, target) = (story.team("copy-source")?, story.team("copy-target")?);
        let from = source.registry("registry", json!({"storage": {"memory": {}}}))?;
        let to = target.registry("registry", json!({"storage": {"memory": {}}}))?;
        source.apply(&json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "target-login"},
            "type": "kubernetes.io/basic-auth",
            "stringData": {"username": USER, "password": to.password},
        }))?;
        let key = source.signing_key("release")?;

        // By push: the interval is far away.
        source.apply(&policy(&to, &json!({"onPush": true, "interval": "10h"})))?;
        source.wait("replicationpolicy/to-target", "condition=Ready")?;
        source.kubectl(&[
            "wait",
            "replicationpolicy/to-target",
            "--for=jsonpath={.status.lastSync.finished}",
            "--timeout=120s",
        ])?;
        let web = source.push(&from, "app/web:v1", "web, to be copied")?;
        source.sign(&key, &web.pinned, Form::Bundle)?;
        source.push(&from, "app/web:canary", "not selected")?;
        arrives(&source, &target, &to, "app/web:v1", &web.digest)?;
        let copy = format!("{}/app/web@{}", to.host, web.digest);
        target.until("the signature to verify at the destination", || {
            // The key pair lives with the source's client; the login, with the target's.
            source.client().login(&to.host, USER, &to.password)?;
            source.verify(&key, &copy)
        })?;
        let tags = target.run("crane", &["ls", &to.image("app/web")])?;
        ensure!(!tags.contains("canary"), "what was not selected came along: {tags}");

        target.pull_secret()?;
        target.require_signatures("signed", &to.image("**"), &[&key])?;
        let bare = target.push(&to, "app/bare:v1", "unsigned, pushed here")?;
        target.until("the policy to be enforced", || {
            let words = target.refused(&pod("bare", &bare.tagged))?;
            ensure!(words.contains("copy-target/signed"), "{words}");
            Ok(())
        })?;
        target.apply(&pod("web", &to.image("app/web:v1")))?;
        target.wait("pod/web", "condition=Ready")?;

        // By interval, with the classic form.
        source.apply(&policy(&to, &json!({"onPush": false, "interval": "5s"})))?;
        let api = source.push(&from, "app/api:v1", "api, to be copied")?;
        source.sign(&key, &api.pinned, Form::Classic)?;
        arrives(&source, &target, &to, "app/api:v1", &api.digest)?;
        target.until("the classic signature to let it run", || {
            Ok(target.apply(&pod("api", &to.image("app/api:v1")))?)
        })?;
        target.wait("pod/api", "condition=Ready")?;

        let status = source.get("replicationpolicy/to-target")?["status"].clone();
        ensure!(status["lastSync"]["failed"] == json!(0), "{status}");
        let table = source.kubectl(&["get", "replpol"])?;
        ensure!(table.contains("LAST SYNC") && table.contains("True"), "{table}");
        Ok(())
    })
}

fn policy(to: &Endpoint, trigger: &Value) -> Value {
    json!({
        "apiVersion": "berth.dev/v1alpha1",
        "kind": "ReplicationPolicy",
        "metadata": {"name": "to-target"},
        "spec": {
            "source": {"registry": "registry"},
            "destination": {"url": format!("https://{}", to.host), "credentials": {"secretName": "target-login"}},
            "select": [{"repositories": ["app/**"], "tags": ["v*"]}],
            "trigger": trigger,
        },
    })
}

fn arrives(source: &Team<'_>, target: &Team<'_>, to: &Endpoint, path: &str, digest: &str) -> Outcome {
    target.until(&format!("{path} to arrive"), || {
        let found = target.run("crane", &["digest", &to.image(path)]).map_err(|error| {
            let status = source.get("replicationpolicy/to-target").unwrap_or_default()["status"].to_string();
            Failure::new(format!("{} (policy: {status})", error.stderr().trim()))
        })?;
        ensure!(found.trim() == digest, "{found} instead of {digest}");
        Ok(())
    })
}
