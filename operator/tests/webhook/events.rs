//! Events of registries: who may send them, and what they leave behind.

use berth_registry_core::event::{CONTENT_CHANGED, EVENTS_AUDIENCE};
use rstest::rstest;
use serde_json::{Value, json};

use crate::World;

const REVIEW: &str = "POST /apis/authentication.k8s.io/v1/tokenreviews";
const POLICIES: &str = "/apis/berth.dev/v1alpha1/namespaces/team-a/replicationpolicies";

fn app() -> Value {
    json!({"repositories": ["app"]})
}

/// From here on events are taken.
pub(crate) fn listen(world: &World) {
    world.cluster.answer(REVIEW, token_of("system:serviceaccount:team-a:registry"));
    let none = json!({"apiVersion": "berth.dev/v1alpha1", "kind": "ReplicationPolicyList", "metadata": {}, "items": []});
    world.cluster.answer(&format!("GET {POLICIES}"), none);
}

fn token_of(account: &str) -> Value {
    json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": ""},
        "status": {"authenticated": true, "audiences": [EVENTS_AUDIENCE], "user": {"username": account}},
    })
}

fn policy(name: &str, source: &str) -> Value {
    json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": "ReplicationPolicy",
        "metadata": {"name": name, "namespace": "team-a"},
        "spec": {"source": {"registry": source}, "destination": {"registry": "other"}},
    })
}

pub(crate) async fn send(world: &World, token: Option<&str>, data: &Value) -> u16 {
    let event = json!({
        "specversion": "1.0", "type": CONTENT_CHANGED, "source": "team-a/registry", "id": "1",
        "time": "2026-01-01T00:00:00Z", "data": data,
    });
    let mut request = world.http.post(world.url("/events")).json(&event);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    request.send().await.unwrap().status().as_u16()
}

/// R-REP-2: a push to the source marks the policies that read from it, and no others.
#[tokio::test]
async fn an_event_marks_the_policies_of_its_registry() {
    let world = World::new().await;
    world.cluster.answer(REVIEW, token_of("system:serviceaccount:team-a:registry"));
    let items = [
        policy("mine", "registry"),
        policy("other", "another"),
        json!({"metadata": {"name": "broken"}, "spec": 1}),
    ];
    world.cluster.answer(
        &format!("GET {POLICIES}"),
        json!({"apiVersion": "berth.dev/v1alpha1", "kind": "ReplicationPolicyList", "metadata": {}, "items": items}),
    );
    world.cluster.answer(&format!("PATCH {POLICIES}/mine/status"), policy("mine", "registry"));
    assert_eq!(send(&world, Some("t"), &app()).await, 202);
    let patches = world.cluster.patches();
    assert_eq!(patches.len(), 1);
    assert!(patches[0].1["status"]["sourceChangedAt"].is_string(), "{patches:?}");
    assert_eq!(patches[0].1["status"].as_object().unwrap().len(), 1, "nothing else is touched");
}

/// R-OPS-2: a server whose store refuses writes, or takes them again, has its Registry looked at; no policy is concerned.
#[tokio::test]
async fn an_event_about_the_store_marks_the_registry() {
    let world = World::new().await;
    world.cluster.answer(REVIEW, token_of("system:serviceaccount:team-a:registry"));
    let registry = "PATCH /apis/berth.dev/v1alpha1/namespaces/team-a/registries/registry/status";
    world.cluster.answer(
        registry,
        json!({
            "apiVersion": "berth.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "registry"},
            "spec": {"storage": {"memory": {}}},
        }),
    );
    let store = json!({"repositories": [], "store": true});
    assert_eq!(send(&world, Some("t"), &store).await, 202);
    let patches = world.cluster.patches();
    assert_eq!((patches.len(), patches[0].0.as_str()), (1, registry));
    assert!(patches[0].1["status"]["storeChangedAt"].is_string(), "{patches:?}");
    assert_eq!(patches[0].1["status"].as_object().unwrap().len(), 1, "nothing else is touched");
}

#[rstest]
#[case::no_token(None, Value::Null, 401)]
#[case::unknown(Some("t"), json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": ""}, "status": {"authenticated": false}}), 401)]
#[case::other_registry(Some("t"), token_of("system:serviceaccount:team-a:another"), 403)]
#[case::other_namespace(Some("t"), token_of("system:serviceaccount:team-b:registry"), 403)]
#[case::somebody(Some("t"), token_of("registry"), 403)]
#[case::no_api_server(Some("t"), Value::Null, 503)]
#[tokio::test]
async fn who_may_not_send(#[case] token: Option<&str>, #[case] review: Value, #[case] status: u16) {
    let world = World::new().await;
    if !review.is_null() {
        world.cluster.answer(REVIEW, review);
    }
    assert_eq!(send(&world, token, &app()).await, status);
    assert!(world.cluster.patches().is_empty());
}
