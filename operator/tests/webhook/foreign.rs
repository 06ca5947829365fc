//! Registries that are none of this cluster: R-SIG-1 with the Pod's own pull secrets, and whom these are sent to
//! (CVE-2025-27403).

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use berth_operator::{Scope, webhook::outside::Outside};
use berth_operator_core::pulling::Pulling;
use serde_json::{Value, json};

use crate::{World, registry::Key, review_of};

const IMAGE: &str = "outside.example.com/app:v1";

/// A world in which the image is signed, at a registry outside.
async fn signed() -> World {
    let world = World::new().await;
    let digest = world.registry.push("app", "v1", "one");
    world.registry.sign("app", &digest, &world.key);
    world
}

/// Puts down a pull secret of `team-a`.
fn secret(world: &World, name: &str, kind: &str, auths: &Value) {
    let config = BASE64_STANDARD.encode(json!({"auths": auths}).to_string());
    world.cluster.answer(
        &format!("GET /api/v1/namespaces/team-a/secrets/{name}"),
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind,
            "data": {".dockerconfigjson": config},
        }),
    );
}

fn login(host: &str) -> Value {
    json!({host: {"username": "u", "password": "p"}})
}

/// Asks about a Pod that names these pull secrets.
async fn review(world: &World, secrets: &[&str]) -> Value {
    let mut body = review_of(&[IMAGE], None);
    let secrets: Vec<_> = secrets.iter().map(|name| json!({"name": name})).collect();
    body["request"]["object"]["spec"]["imagePullSecrets"] = secrets.into();
    let url = world.url("/admit/team-a/signed");
    let answer = world.http.post(url).body(body.to_string()).send().await.unwrap();
    let review: Value = answer.json().await.unwrap();
    review["response"].clone()
}

const PULL_SECRET: &str = "kubernetes.io/dockerconfigjson";

#[tokio::test]
async fn the_pods_own_secrets_are_used() {
    let world = signed().await;
    secret(&world, "pull", PULL_SECRET, &login("outside.example.com"));
    let response = review(&world, &["gone", "pull"]).await;
    assert_eq!(response["allowed"], true, "{response}");
    let basic = format!("Basic {}", BASE64_STANDARD.encode("u:p"));
    let logins = world.registry.logins();
    assert!(!logins.is_empty() && logins.iter().all(|login| *login == basic), "{logins:?}");
}

/// Where the Pod names none, those of its `ServiceAccount` are, as in the kubelet's view.
#[tokio::test]
async fn the_service_accounts_secrets_are_used() {
    let world = signed().await;
    secret(&world, "pull", PULL_SECRET, &login("outside.example.com"));
    world.cluster.answer(
        "GET /api/v1/namespaces/team-a/serviceaccounts/default",
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"},
            "imagePullSecrets": [{"name": "pull"}],
        }),
    );
    assert_eq!(review(&world, &[]).await["allowed"], true);
    assert!(world.registry.logins().iter().all(|login| login.starts_with("Basic ")));
}

/// CVE-2025-27403: no other host's credentials are sent, and nothing of a Secret that is no pull secret.
#[tokio::test]
async fn other_credentials_stay_at_home() {
    let world = signed().await;
    for (name, host) in [
        ("a", "example.com"),
        ("b", "evil.outside.example.com"),
        ("c", "*"),
        ("d", "outside.example.com:5000"),
    ] {
        secret(&world, name, PULL_SECRET, &login(host));
    }
    secret(&world, "e", "Opaque", &login("outside.example.com"));
    assert_eq!(review(&world, &["a", "b", "c", "d", "e"]).await["allowed"], true);
    assert!(world.registry.logins().iter().all(String::is_empty), "{:?}", world.registry.logins());
}

/// CVE-2025-46342: what could not be looked up is not taken for absent, so that nobody is asked as a stranger by mistake.
#[tokio::test]
async fn a_failed_look_up_is_no_answer() {
    let world = signed().await;
    for (request, secrets) in [
        ("GET /api/v1/namespaces/team-a/serviceaccounts/default", [].as_slice()),
        ("GET /api/v1/namespaces/team-a/secrets/pull", ["pull"].as_slice()),
    ] {
        world.cluster.fail(request);
        let response = review(&world, secrets).await;
        let message = response["status"]["message"].as_str().unwrap();
        assert!(message.contains("pull secrets in the namespace team-a cannot be read"), "{message}");
    }
    assert_eq!(world.registry.asked_for(""), 0);
}

/// What one Pod's secrets showed says nothing to a Pod without them.
#[tokio::test]
async fn pods_with_other_secrets_ask_for_themselves() {
    let world = signed().await;
    secret(&world, "pull", PULL_SECRET, &login("outside.example.com"));
    assert_eq!(review(&world, &["pull"]).await["allowed"], true);
    assert_eq!(world.registry.asked_for("blobs"), 1);
    assert_eq!(review(&world, &["pull"]).await["allowed"], true);
    assert_eq!(world.registry.asked_for("blobs"), 1, "facts about a digest are remembered");
    assert_eq!(review(&world, &[]).await["allowed"], true);
    assert_eq!(world.registry.asked_for("blobs"), 2);
}

/// Nobody tells when such a registry changes, so a tag is resolved for each review.
#[tokio::test]
async fn a_moved_tag_counts_without_an_event() {
    let world = signed().await;
    assert_eq!(review(&world, &[]).await["allowed"], true);
    world.registry.push("app", "v1", "two");
    assert_eq!(review(&world, &[]).await["allowed"], false);
}

/// A refusal is not from memory here, either.
#[tokio::test]
async fn a_new_signature_counts() {
    let world = World::new().await;
    let digest = world.registry.push("app", "v1", "one");
    world.registry.sign("app", &digest, &Key::new());
    assert_eq!(review(&world, &[]).await["allowed"], false);
    world.registry.sign("app", &digest, &world.key);
    let let_in = async {
        while review(&world, &[]).await["allowed"] != true {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), let_in).await.unwrap();
}

/// A pattern that merely happens to match makes nobody call a foreign host.
#[tokio::test]
async fn a_foreign_host_must_be_named() {
    let mut world = signed().await;
    let key = json!({"pem": world.key.pem()});
    world.policy_about("signed", "Enforce", &key, &["**", "*.example.com/**"]);
    let response = review(&world, &[]).await;
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("outside.example.com is no Registry of this cluster"), "{message}");
    assert_eq!(world.registry.asked_for(""), 0);
}

/// Secrets are read only where the operator may work.
#[tokio::test]
async fn secrets_of_other_namespaces_are_not_read() {
    let world = World::new().await;
    secret(&world, "pull", PULL_SECRET, &login("outside.example.com"));
    let pulling = Pulling {
        namespace: "team-a".into(),
        service_account: "default".into(),
        secrets: vec!["pull".into()],
    };
    let image = IMAGE.parse().unwrap();
    for (scope, expected) in [(Scope::new(&["team-b".into()]), false), (Scope::new(&["team-a".into()]), true)]
    {
        let outside = Outside::new(world.cluster.client(), Arc::new(scope));
        let login = outside.login(&pulling, &image).await.unwrap();
        assert_eq!(login.is_some(), expected);
    }
}
