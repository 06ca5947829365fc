//! What the webhook keeps of its complaints, and what it does not (R-OPR-9).

use std::time::Duration;

use berth_operator_core::decision::{ANNOTATION, Decision, DecisionId};
use serde_json::{Value, json};

use crate::{World, registry::HOST, review_of};

const EVENTS: &str = "POST /apis/events.k8s.io/v1/namespaces/team-a/events";

/// The id that a message names at its end, in a command that finds it from any namespace.
fn id(message: &str) -> DecisionId {
    let (_, id) = message.strip_suffix(" -n team-a)").unwrap().rsplit_once("kubectl berth why ").unwrap();
    assert!(message.ends_with(&format!("(decision {id}: kubectl berth why {id} -n team-a)")), "{message}");
    id.parse().unwrap()
}

/// The Events written so far, once there are so many.
async fn events(world: &World, count: usize) -> Vec<Value> {
    let wait = async {
        while world.cluster.bodies(EVENTS).len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap();
    world.cluster.bodies(EVENTS)
}

/// A denial names a decision, and from its Event the same verdict comes out again, byte for byte.
#[tokio::test]
async fn a_denial_can_be_explained() {
    let world = World::new().await;
    world.cluster.answer(EVENTS, json!({"metadata": {}}));
    let digest = world.registry.push("app", "v1", "one");
    let response = world.review("signed", &[&format!("{HOST}/app:v1")], None).await;
    let message = response["status"]["message"].as_str().unwrap();
    let event = events(&world, 1).await.remove(0);
    assert_eq!(event["metadata"]["name"], id(message).event_name());
    assert_eq!((&event["reason"], &event["type"]), (&"ImageDenied".into(), &"Warning".into()));
    let decision =
        Decision::decode(&id(message), event["metadata"]["annotations"][ANNOTATION].as_str().unwrap())
            .unwrap();
    assert_eq!((decision.policy.as_str(), decision.look.digest()), ("team-a/signed", Some(&digest)));
    assert!(message.starts_with(&decision.message), "{message}");
    assert!(decision.agrees(&decision.replay().unwrap()));
}

#[tokio::test]
async fn the_same_denial_is_the_same_decision_and_written_once() {
    let world = World::new().await;
    world.cluster.answer(EVENTS, json!({"metadata": {}}));
    world.registry.push("app", "v1", "one");
    world.registry.push("app", "v2", "two");
    let deny = async |tag: &str| {
        let response = world.review("signed", &[&format!("{HOST}/app:{tag}")], None).await;
        id(response["status"]["message"].as_str().unwrap())
    };
    let (first, second, other) = (deny("v1").await, deny("v1").await, deny("v2").await);
    assert!(first == second && first != other);
    let names: Vec<_> = events(&world, 2)
        .await
        .iter()
        .map(|event| event["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, [first.event_name(), other.event_name()]);
}

/// Whoever is only warned can ask as well.
#[tokio::test]
async fn warnings_are_kept_too() {
    let mut world = World::new().await;
    world.cluster.answer(EVENTS, json!({"metadata": {}}));
    world.policy("advice", "Warn", &json!({"pem": world.key.pem()}));
    world.policy("record", "Audit", &json!({"pem": world.key.pem()}));
    world.registry.push("app", "v1", "one");
    let response = world.review("advice", &[&format!("{HOST}/app:v1")], None).await;
    id(response["warnings"][0].as_str().unwrap());
    let response = world.review("record", &[&format!("{HOST}/app:v1")], None).await;
    assert_eq!((&response["allowed"], &response["warnings"]), (&true.into(), &Value::Null));
    let reasons: Vec<_> = events(&world, 2).await.iter().map(|event| event["reason"].clone()).collect();
    assert_eq!(reasons, ["ImageWarned", "ImageAudited"]);
}

/// A dry run leaves nothing behind, and promises nothing (the entry says `NoneOnDryRun`).
#[tokio::test]
async fn a_dry_run_writes_nothing() {
    let world = World::new().await;
    world.cluster.answer(EVENTS, json!({"metadata": {}}));
    world.registry.push("app", "v1", "one");
    let mut body = review_of(&[&format!("{HOST}/app:v1")], None);
    body["request"]["dryRun"] = true.into();
    let request = world.http.post(world.url("/admit/team-a/signed")).body(body.to_string());
    let review: Value = request.send().await.unwrap().json().await.unwrap();
    let message = review["response"]["status"]["message"].as_str().unwrap();
    assert!(
        message.contains("no signature was found") && !message.contains("kubectl berth why"),
        "{message}"
    );
    // What comes after it is written, and nothing before.
    world.review("signed", &[&format!("{HOST}/app:v1")], None).await;
    assert_eq!(events(&world, 1).await.len(), 1);
}
