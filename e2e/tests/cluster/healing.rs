//! What is missing or refused becomes a condition that says so, and heals when it is put right.

use berth_e2e::ensure;
use berth_e2e::fixtures::{Failure, Outcome, Team, storage_on, story};
use berth_e2e::s3;
use serde_json::{Value, json};

/// R-OPR-1, R-OPR-2, R-OPS-2: a missing Secret, a missing bucket and refused credentials, one after the other.
#[test]
fn a_registry_says_what_is_missing_and_heals() -> Outcome {
    story(|story| {
        let team = story.team("healing")?;
        s3::delete_bucket(team.cluster(), "healing")?;
        team.kubectl(&["delete", "secret", "s3", "users", "--ignore-not-found"])?;
        let access = json!({"users": {"secretName": "users"}});
        let applied =
            team.apply_registry("registry", json!({"storage": storage_on("healing"), "access": access}))?;
        let message = team.ready_is("registry/registry", "False", "SecretNotFound")?;
        ensure!(message.contains("s3") || message.contains("users"), "which Secret? {message}");

        secret(
            &team,
            "users",
            &json!({"htpasswd": "ci:$2b$04$zzzzzzzzzzzzzzzzzzzzzuN8HjDGkcVFDkPJFvMvBXfYSGTvpnsZi\n"}),
        )?;
        secret(&team, "s3", &keys("a wrong secret"))?;
        let message = team.ready_is("registry/registry", "False", "CredentialsRefused")?;
        ensure!(message.contains("healing") || message.contains("s3"), "whose credentials? {message}");

        secret(&team, "s3", &keys(s3::SECRET_KEY))?;
        let message = team.ready_is("registry/registry", "False", "BucketNotFound")?;
        ensure!(message.contains("healing"), "which bucket? {message}");

        s3::create_bucket(team.cluster(), "healing")?;
        team.wait("registry/registry", "condition=Ready")?;

        // The users' Secret is put right as well, and taken up without a restart.
        let pod = the_pod(&team)?;
        let registry = team.connect("registry", applied)?;
        team.users()?;
        let right = team.get("secret/registry-users")?["data"].clone();
        team.apply(
            &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "users"}, "data": right}),
        )?;
        team.push(&registry, "app/web:v1", "healed")?;
        let now = the_pod(&team)?;
        ensure!(pod == now, "a change of users replaced {pod} by {now}");
        Ok(())
    })
}

/// R-OPR-6, R-OPR-5: policies say what they lack, and heal.
#[test]
fn policies_say_what_is_missing_and_heal() -> Outcome {
    story(|story| {
        let team = story.team("orphaned")?;
        team.kubectl(&["delete", "secret", "cosign-release", "--ignore-not-found"])?;
        team.apply(&json!({
            "apiVersion": "berth.dev/v1alpha1",
            "kind": "ImagePolicy",
            "metadata": {"name": "signed"},
            "spec": {
                "mode": "Enforce",
                "images": ["registry.orphaned.svc.cluster.local/**"],
                "require": [{"signature": {"authorities": [{"name": "release", "key": {"secretName": "cosign-release"}}]}}],
            },
        }))?;
        let message = team.ready_is("imagepolicy/signed", "False", "SecretNotFound")?;
        ensure!(message.contains("cosign-release"), "{message}");
        let key = team.signing_key("release")?;
        team.publish(&key)?;
        team.wait("imagepolicy/signed", "condition=Ready")?;

        team.apply(&json!({
            "apiVersion": "berth.dev/v1alpha1",
            "kind": "ReplicationPolicy",
            "metadata": {"name": "copies"},
            "spec": {"source": {"registry": "one"}, "destination": {"registry": "two"}, "trigger": {"onPush": true}},
        }))?;
        let message = team.ready_is("replicationpolicy/copies", "False", "RegistryNotFound")?;
        ensure!(message.contains("one") || message.contains("two"), "{message}");
        team.registry("one", json!({"storage": {"memory": {}}}))?;
        team.registry("two", json!({"storage": {"memory": {}}}))?;
        team.wait("replicationpolicy/copies", "condition=Ready")?;
        Ok(())
    })
}

/// R-OPR-3: outside of the listed namespaces the operator has no rights; the Registry says so, and how to change it.
#[test]
fn a_registry_in_an_unmanaged_namespace_says_so() -> Outcome {
    story(|story| {
        let cluster = story.cluster();
        cluster.apply(r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "unmanaged"}}"#)?;
        let team = story.team("unmanaged")?;
        team.apply(&json!({
            "apiVersion": "berth.dev/v1alpha1",
            "kind": "Registry",
            "metadata": {"name": "registry"},
            "spec": {"storage": {"memory": {}}},
        }))?;
        let message = team.ready_is("registry/registry", "False", "NamespaceNotManaged")?;
        ensure!(message.contains("namespaces"), "no word of the cure: {message}");
        ensure!(!team.exists("deployment/registry")?, "it became a Deployment all the same");
        team.kubectl(&["delete", "registry/registry", "--timeout=30s"])?;
        Ok(())
    })
}

/// The one Pod of the Registry, when those before it are gone.
fn the_pod(team: &Team<'_>) -> Result<String, Failure> {
    team.until("one Pod", || {
        let pods =
            team.kubectl(&["get", "pods", "--selector=berth.dev/registry=registry", "--output=name"])?;
        ensure!(pods.lines().count() == 1, "{pods}");
        Ok(pods)
    })
}

fn keys(secret: &str) -> Value {
    json!({"AWS_ACCESS_KEY_ID": s3::ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": secret})
}

fn secret(team: &Team<'_>, name: &str, content: &Value) -> Outcome {
    team.apply(
        &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": content}),
    )?;
    Ok(())
}
