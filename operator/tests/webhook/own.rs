//! All policies of a namespace, asked at once: each has its say, in its own mode, about the objects that it selects
//! (R-OPR-6).

use crate::{
    registry::{HOST, Key},
    world::{World, review_of},
};
use serde_json::{Value, json};

/// Asks the policies of the namespace about a new Pod with these labels, or an update from those before.
async fn review(world: &World, image: &str, labels: &Value, before: Option<&Value>) -> Value {
    let mut body = review_of(&[image], before.map(|_| ["before.example.com/app:v1"].as_slice()));
    body["request"]["object"]["metadata"] = json!({"labels": labels});
    if let Some(before) = before {
        body["request"]["oldObject"]["metadata"] = json!({"labels": before});
    }
    let answer = world.http.post(world.url("/admit")).body(body.to_string()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.json::<Value>().await.unwrap()["response"].clone()
}

fn message(response: &Value) -> &str {
    response["status"]["message"].as_str().unwrap_or_default()
}

/// An image that the policy `signed` lets in.
fn signed(world: &World) -> String {
    let digest = world.registry.push("app", "v1", "one");
    world.registry.sign("app", &digest, &world.key);
    format!("{HOST}/app:v1")
}

#[tokio::test]
async fn one_refusal_is_enough_and_says_whose_it_is() {
    let mut world = World::new().await;
    let image = signed(&world);
    assert_eq!(review(&world, &image, &json!({}), None).await["allowed"], true);
    world.policy("twice", "Enforce", &json!({"pem": Key::new().pem()}));
    let response = review(&world, &image, &json!({}), None).await;
    assert_eq!(response["allowed"], false, "{response}");
    assert!(message(&response).contains("team-a/twice"), "{response}");
    assert!(!message(&response).contains("team-a/signed"), "{response}");
    world.policy("signed", "Enforce", &json!({"pem": Key::new().pem()}));
    let response = review(&world, &image, &json!({}), None).await;
    let (first, second) = message(&response).split_once('\n').unwrap();
    assert!(first.contains("team-a/signed") && second.contains("team-a/twice"), "{response}");
}

#[tokio::test]
async fn each_policy_speaks_in_its_own_mode() {
    let mut world = World::new().await;
    let image = signed(&world);
    world.policy("warning", "Warn", &json!({"pem": Key::new().pem()}));
    world.policy("recording", "Audit", &json!({"pem": Key::new().pem()}));
    let response = review(&world, &image, &json!({}), None).await;
    assert_eq!(response["allowed"], true, "{response}");
    let warnings = response["warnings"].as_array().unwrap();
    assert!(warnings.len() == 1 && warnings[0].to_string().contains("team-a/warning"), "{response}");
}

/// As the API server has it: of an update, either object will do. A label that is taken off with the new image is no way
/// past.
#[tokio::test]
async fn a_policy_judges_the_objects_that_it_selects() {
    let mut world = World::new().await;
    let image = signed(&world);
    let authority = json!({"name": "other", "key": {"pem": Key::new().pem()}});
    world.store(
        "team-a",
        "web",
        &json!({
            "mode": "Enforce", "images": ["**"], "objects": {"matchLabels": {"app": "web"}},
            "require": [{"signature": {"authorities": [authority]}}],
        }),
    );
    let (web, db) = (json!({"app": "web"}), json!({"app": "db"}));
    for (labels, before, allowed) in [
        (&web, None, false),
        (&db, None, true),
        (&Value::Null, None, true),
        (&db, Some(&web), false),
        (&web, Some(&db), false),
        (&db, Some(&db), true),
    ] {
        let response = review(&world, &image, labels, before).await;
        assert_eq!(response["allowed"], allowed, "{labels} {before:?} {response}");
    }
}

/// Labels that two readers could read in two ways are no way past.
#[tokio::test]
async fn labels_that_cannot_be_read_select_nothing_out() {
    let mut world = World::new().await;
    let spec = json!({"mode": "Enforce", "images": ["**"], "objects": {"matchLabels": {"app": "web"}}, "require": []});
    world.store("team-a", "web", &spec);
    let body = review_of(&["elsewhere.example.com/app:v1"], None).to_string();
    let body = body.replace(r#""object":{"#, r#""object":{"metadata":{"labels":{"app":7}},"#);
    let answer = world.http.post(world.url("/admit")).body(body).send().await.unwrap();
    let review: Value = answer.json().await.unwrap();
    assert!(message(&review["response"]).contains("team-a/web"), "{review}");
}

/// A policy that is out of order refuses beside others that are not.
#[tokio::test]
async fn a_policy_that_cannot_be_read_keeps_everything_out() {
    let mut world = World::new().await;
    let image = signed(&world);
    world.store("team-a", "broken", &json!({"mode": "Later"}));
    let response = review(&world, &image, &json!({}), None).await;
    assert!(message(&response).contains("team-a/broken"), "{response}");
}

/// No verdict at all leaves the decision to the entry's failure policy; the policies of others have none to give.
#[tokio::test]
async fn a_namespace_without_policies_gives_no_verdict() {
    let world = World::new().await;
    let mut body = review_of(&[&signed(&world)], None);
    body["request"]["namespace"] = "team-b".into();
    let answer = world.http.post(world.url("/admit")).body(body.to_string()).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.text().await.unwrap().contains("ImagePolicy team-b/* is not known"));
}

/// A policy is asked as soon as the watch has brought it, and no longer than it is there.
#[tokio::test]
async fn policies_are_sorted_whenever_they_change() {
    let mut world = World::new().await;
    let (tell, told) = tokio::sync::watch::channel(());
    let policies = world.admission.policies.clone();
    tokio::spawn(async move { policies.follow(told).await });
    let spec = json!({"mode": "Enforce", "images": ["**"], "require": [{"digest": {}}]});
    for (namespace, name) in [("team-b", "one"), ("team-b", "another")] {
        world.bring(namespace, name, &spec);
    }
    tell.send_replace(());
    while world.admission.policies.own("team-b").is_none() {
        tokio::task::yield_now().await;
    }
    let own = world.admission.policies.own("team-b").unwrap();
    assert_eq!(own.iter().map(|policy| policy.name.as_str()).collect::<Vec<_>>(), ["another", "one"]);
}
