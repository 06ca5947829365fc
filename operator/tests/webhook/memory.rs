//! What is remembered between reviews, and what takes it away: R-SIG-1 (a change counts at once), R-OPR-6 (no lock-out).

use std::{sync::Arc, time::Duration};

use berth_operator::webhook::looks::Source;
use berth_operator_core::memory::Belief;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    World,
    events::{listen, send},
    registry::{Broken, HOST, Key},
};

/// A world with a signed image, and its name.
async fn signed() -> (World, String) {
    let world = World::new().await;
    let digest = world.registry.push("app", "v1", "one");
    world.registry.sign("app", &digest, &world.key);
    (world, format!("{HOST}/app:v1"))
}

async fn allowed(world: &World, image: &str) -> bool {
    world.review("signed", &[image], None).await["allowed"].as_bool().unwrap()
}

async fn until(what: impl AsyncFn() -> bool) {
    let wait = async {
        while !what().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap();
}

/// The warm path asks nobody: by tag, by digest, in any number of reviews, also while the registry hangs.
#[tokio::test]
async fn what_was_seen_is_not_asked_for_again() {
    let (world, image) = signed().await;
    assert!(allowed(&world, &image).await);
    let asked = world.registry.asked_for("");
    world.registry.break_down(Some(Broken::Hangs));
    let digest = world.registry.push("app", "v1", "one");
    for _ in 0..20 {
        assert!(allowed(&world, &image).await);
        assert!(allowed(&world, &format!("{HOST}/app@{digest}")).await);
    }
    assert_eq!(world.registry.asked_for(""), asked);
}

/// R-SIG-1: a deleted signature counts at once, once its registry says so.
#[tokio::test]
async fn a_deleted_signature_counts_at_once() {
    let (world, image) = signed().await;
    listen(&world);
    assert!(allowed(&world, &image).await);
    world.registry.delete(".sig");
    assert_eq!(send(&world, Some("t"), &json!({"repositories": ["app"]})).await, 202);
    assert!(!allowed(&world, &image).await);
}

/// So does a tag that moves; and an event about another repository takes nothing away.
#[tokio::test]
async fn a_moved_tag_counts_at_once() {
    let (world, image) = signed().await;
    listen(&world);
    assert!(allowed(&world, &image).await);
    let asked = world.registry.asked_for("");
    assert_eq!(send(&world, Some("t"), &json!({"repositories": ["other"]})).await, 202);
    assert!(allowed(&world, &image).await);
    assert_eq!(world.registry.asked_for(""), asked);
    world.registry.push("app", "v1", "two");
    assert_eq!(send(&world, Some("t"), &json!({"repositories": ["app"]})).await, 202);
    assert!(!allowed(&world, &image).await);
}

/// An event that could not name all repositories takes away what is known of any.
#[tokio::test]
async fn an_event_that_says_more_changed_is_about_everything() {
    let (world, image) = signed().await;
    listen(&world);
    assert!(allowed(&world, &image).await);
    world.registry.delete(".sig");
    assert_eq!(send(&world, Some("t"), &json!({"repositories": ["other"], "more": true})).await, 202);
    assert!(!allowed(&world, &image).await);
}

/// After a push the image is looked at before anybody asks: the first review needs no registry.
#[tokio::test]
async fn a_push_warms_its_image() {
    let world = World::new().await;
    listen(&world);
    // The policy is read before the first review, as it is by whoever follows the store.
    world.review("signed", &["docker.io/library/other"], None).await;
    let digest = world.registry.push("app", "v1", "one");
    world.registry.sign("app", &digest, &world.key);
    let data =
        json!({"repositories": ["app"], "images": ["app:v1", format!("app@{digest}"), "not:an:image"]});
    assert_eq!(send(&world, Some("t"), &data).await, 202);
    let image = format!("{HOST}/app:v1").parse().unwrap();
    until(async || !matches!(world.looks.remembered(&Source::own(), &image, Timestamp::now()), Belief::None))
        .await;
    world.registry.break_down(Some(Broken::Fails));
    assert!(allowed(&world, &format!("{HOST}/app:v1")).await);
}

/// A refusal is never from memory alone: who signs and tries again is let in, event or no event.
#[tokio::test]
async fn a_new_signature_counts_without_an_event() {
    let world = World::new().await;
    let digest = world.registry.push("app", "v1", "one");
    let image = format!("{HOST}/app:v1");
    assert!(!allowed(&world, &image).await);
    world.registry.sign("app", &digest, &world.key);
    until(async || allowed(&world, &image).await).await;
}

/// What is remembered to speak against an image is still said when the registry cannot be asked again.
#[tokio::test]
async fn a_remembered_refusal_survives_an_outage() {
    let world = World::new().await;
    world.registry.push("app", "v1", "one");
    let image = format!("{HOST}/app:v1");
    assert!(!allowed(&world, &image).await);
    world.registry.break_down(Some(Broken::Fails));
    let asked = world.registry.asked_for("");
    until(async || {
        let response = world.review("signed", &[&image], None).await;
        let message = response["status"]["message"].as_str().unwrap();
        assert!(message.contains("no signature was found"), "{message}");
        world.registry.asked_for("") > asked
    })
    .await;
}

/// R-SIG-1: a key that is taken out of a policy counts at once, and so does one that is put in.
#[tokio::test]
async fn a_changed_policy_counts_at_once() {
    let (mut world, image) = signed().await;
    assert!(allowed(&world, &image).await);
    world.policy("signed", "Enforce", &json!({"pem": Key::new().pem()}));
    assert!(!allowed(&world, &image).await);
    world.policy("signed", "Enforce", &json!({"pem": world.key.pem()}));
    assert!(allowed(&world, &image).await);
}

/// Facts that were established for one policy say nothing about the keys of another one: the registry is asked again,
/// and then serves both.
#[tokio::test]
async fn facts_serve_every_policy_that_speaks_about_the_image() {
    let (mut world, image) = signed().await;
    assert!(allowed(&world, &image).await);
    world.policy("other", "Enforce", &json!({"pem": Key::new().pem()}));
    assert_eq!(world.review("other", &[&image], None).await["allowed"], false);
    let asked = world.registry.asked_for("");
    assert!(allowed(&world, &image).await);
    assert_eq!(world.registry.asked_for(""), asked);
}

/// A hundred reviews of an image that nobody has seen ask once.
#[tokio::test]
async fn reviews_share_a_look() {
    let (world, image) = signed().await;
    let world = Arc::new(world);
    let reviews: Vec<_> = (0..100)
        .map(|_| {
            let (world, image) = (world.clone(), image.clone());
            tokio::spawn(async move { allowed(&world, &image).await })
        })
        .collect();
    for review in reviews {
        assert!(review.await.unwrap());
    }
    assert_eq!(world.registry.asked_for("app/manifests/v1"), 1);
}

/// A look that began before a change is not shared with a review that came after it.
#[tokio::test]
async fn a_look_from_before_a_change_is_not_shared() {
    let (world, image) = signed().await;
    listen(&world);
    let world = Arc::new(world);
    world.registry.break_down(Some(Broken::Hangs));
    let early = {
        let (world, image) = (world.clone(), image.clone());
        tokio::spawn(async move { world.review("signed", &[&image], None).await })
    };
    until(async || world.registry.asked_for("app/manifests/v1") == 1).await;
    world.registry.break_down(None);
    assert_eq!(send(&world, Some("t"), &json!({"repositories": ["app"]})).await, 202);
    assert!(allowed(&world, &image).await);
    let early: Value = early.await.unwrap();
    assert_eq!(early["allowed"], false, "it waited for an answer that never came");
    assert!(allowed(&world, &image).await);
}
