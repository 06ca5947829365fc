//! What survives a restart of all replicas: R-OPR-6 (the cluster recovers by itself), R-SIG-1 (nothing that changed
//! meanwhile is believed).

use base64::{Engine, prelude::BASE64_STANDARD};
use rstest::rstest;
use serde_json::json;

use crate::{
    World,
    events::{listen, send},
    registry::{Broken, HOST, Key},
};

const SECRETS: &str = "/api/v1/namespaces/berth-system/secrets/berth-facts-";

/// A world in which an image is signed, and was let in.
async fn seen() -> (World, String) {
    let world = World::new().await;
    let digest = world.registry.push("app", "v1", "one");
    world.registry.sign("app", &digest, &world.key);
    let image = format!("{HOST}/app:v1");
    assert!(allowed(&world, &image).await);
    (world, image)
}

async fn allowed(world: &World, image: &str) -> bool {
    world.review("signed", &[image], None).await["allowed"].as_bool().unwrap()
}

/// Ends all replicas in good order, and starts one.
async fn restart(world: World) -> World {
    world.kept.take_over().await.unwrap();
    world.kept.write().await;
    world.restarted().await
}

fn written(world: &World) -> usize {
    world.cluster.patches().iter().filter(|(request, _)| request.contains(SECRETS)).count()
}

/// The Registry of the image may itself be waiting for a node: until it answers, what was known before counts.
#[rstest]
#[case::hangs(Broken::Hangs)]
#[case::fails(Broken::Fails)]
#[tokio::test]
async fn while_a_registry_is_down_what_was_known_before_counts(#[case] how: Broken) {
    let (world, image) = seen().await;
    let world = restart(world).await;
    world.registry.break_down(Some(how));
    assert!(allowed(&world, &image).await);
    let digest = world.registry.push("app", "v1", "one");
    assert!(allowed(&world, &format!("{HOST}/app@{digest}")).await);
    world.registry.push("other", "v1", "two");
    assert!(!allowed(&world, &format!("{HOST}/other:v1")).await, "nobody knows it");
}

/// Another restart on the same day changes nothing, also if the registry was never there in between.
#[tokio::test]
async fn what_was_known_before_survives_many_restarts() {
    let (mut world, image) = seen().await;
    for _ in 0..3 {
        world = restart(world).await;
        world.registry.break_down(Some(Broken::Fails));
        assert!(allowed(&world, &image).await);
    }
}

/// A registry that answers is asked, once; then it is as before the restart.
#[tokio::test]
async fn a_registry_that_answers_is_asked_first() {
    let (world, image) = seen().await;
    let cold = world.registry.asked_for("");
    let world = restart(world).await;
    for _ in 0..3 {
        assert!(allowed(&world, &image).await);
        assert_eq!(world.registry.asked_for(""), 2 * cold, "as if nothing had been kept");
    }
    world.registry.break_down(Some(Broken::Fails));
    assert!(allowed(&world, &image).await);
}

/// R-SIG-1: what was deleted while nobody listened does not count, also when the registry is down again later.
#[rstest]
#[case::the_signature(".sig")]
#[case::the_image("app/manifests/v1")]
#[tokio::test]
async fn what_was_deleted_meanwhile_does_not_count(#[case] what: &str) {
    let (world, image) = seen().await;
    let world = restart(world).await;
    world.registry.delete(what);
    assert!(!allowed(&world, &image).await);
    world.registry.break_down(Some(Broken::Fails));
    assert!(!allowed(&world, &image).await);
}

#[tokio::test]
async fn a_tag_that_moved_meanwhile_is_followed() {
    let (world, image) = seen().await;
    let world = restart(world).await;
    world.registry.push("app", "v1", "two");
    assert!(!allowed(&world, &image).await);
    world.registry.break_down(Some(Broken::Fails));
    assert!(!allowed(&world, &image).await);
}

/// A change takes away what was known before, as it does what is known now.
#[tokio::test]
async fn a_change_ends_what_was_known_before() {
    let (world, image) = seen().await;
    let world = restart(world).await;
    listen(&world);
    world.registry.break_down(Some(Broken::Fails));
    assert_eq!(send(&world, Some("t"), &json!({"repositories": ["app"]})).await, 202);
    assert!(!allowed(&world, &image).await);
    let world = restart(world).await;
    assert!(!allowed(&world, &image).await, "nor is it kept any longer");
}

/// What was established for other keys says nothing about this one.
#[tokio::test]
async fn a_new_key_finds_nothing_known() {
    let (world, image) = seen().await;
    let mut world = restart(world).await;
    world.policy("signed", "Enforce", &json!({"pem": Key::new().pem()}));
    world.registry.break_down(Some(Broken::Fails));
    let response = world.review("signed", &[&image], None).await;
    assert!(response["status"]["message"].as_str().unwrap().contains("could not be checked"), "{response}");
}

/// What a Pod's pull secrets showed stays in the process that used them.
#[tokio::test]
async fn nothing_of_a_foreign_registry_is_kept() {
    let world = World::new().await;
    let digest = world.registry.push("app", "v1", "one");
    world.registry.sign("app", &digest, &world.key);
    assert!(allowed(&world, "outside.example.com/app:v1").await);
    world.kept.take_over().await.unwrap();
    world.kept.write().await;
    assert_eq!(written(&world), 0);
}

/// Idle leaders write nothing, and new ones write only what is new.
#[tokio::test]
async fn what_is_kept_is_not_written_again() {
    let (world, image) = seen().await;
    world.kept.write().await;
    assert_eq!(written(&world), 0, "who has not read what others kept does not write over it");
    world.kept.take_over().await.unwrap();
    world.kept.write().await;
    let first = written(&world);
    assert!((1..=2).contains(&first), "a digest and a tag: {first}");
    world.kept.write().await;
    world.kept.take_over().await.unwrap();
    world.kept.write().await;
    assert_eq!(written(&world), first);
    let world = restart(world).await;
    assert!(allowed(&world, &image).await);
    world.kept.take_over().await.unwrap();
    world.kept.write().await;
    // Unless the hour has just turned.
    assert!(written(&world) <= 2 * first);
}

/// A Secret that cannot be read is as good as none, and the next write puts it in order.
#[rstest]
#[case::garbage(json!({"data": {"facts": BASE64_STANDARD.encode("garbage")}}))]
#[case::empty(json!({"data": {"facts": ""}}))]
#[case::another(json!({"data": {"tls.crt": ""}}))]
#[case::no_data(json!({}))]
#[case::no_secret(json!({"data": 7}))]
#[tokio::test]
async fn what_cannot_be_read_is_not_used(#[case] mut secret: serde_json::Value) {
    let (world, image) = seen().await;
    secret["apiVersion"] = "v1".into();
    secret["kind"] = "Secret".into();
    secret["metadata"] = json!({"name": "x"});
    world.kept.take_over().await.unwrap();
    world.kept.write().await;
    for number in 0..16 {
        world.cluster.answer(&format!("GET {SECRETS}{number:x}"), secret.clone());
    }
    let world = world.restarted().await;
    let asked = world.registry.asked_for("");
    world.registry.break_down(Some(Broken::Fails));
    assert!(!allowed(&world, &image).await);
    world.registry.break_down(None);
    assert!(allowed(&world, &image).await);
    assert!(world.registry.asked_for("") > asked);
}
