//! Verdicts: what is let in, what is not, and in which words.

use crate::{
    World,
    registry::{Broken, HOST, Key},
    review_of,
};
use berth_registry_core::Digest;
use k8s_openapi::ByteString;
use serde_json::{Value, json};

fn message(response: &Value) -> &str {
    assert_eq!(response["allowed"], false, "{response}");
    response["status"]["message"].as_str().unwrap()
}

#[tokio::test]
async fn a_signed_image_is_let_in_by_tag_and_by_digest() {
    let world = World::new().await;
    let digest = world.registry.push("app", "v1", "one");
    world.registry.sign("app", &digest, &world.key);
    let (by_tag, by_digest) = (format!("{HOST}/app:v1"), format!("{HOST}/app@{digest}"));
    assert_eq!(world.review("signed", &[&by_tag, &by_digest], None).await["allowed"], true);
}

#[tokio::test]
async fn an_unsigned_image_is_refused_with_all_that_a_person_needs() {
    let world = World::new().await;
    let digest = world.registry.push("app", "v1", "one");
    let response = world.review("signed", &[&format!("{HOST}/app:v1")], None).await;
    let message = message(&response);
    for part in [
        "container c0",
        "ImagePolicy team-a/signed",
        "release",
        &format!("cosign sign --key KEY {HOST}/app@{digest}"),
    ] {
        assert!(message.contains(part), "{part:?} in {message}");
    }
}

#[tokio::test]
async fn another_key_does_not_count() {
    let world = World::new().await;
    let digest = world.registry.push("app", "v1", "one");
    world.registry.sign("app", &digest, &Key::new());
    let response = world.review("signed", &[&format!("{HOST}/app:v1")], None).await;
    assert!(message(&response).contains("no authority of this policy"), "{response}");
}

#[tokio::test]
async fn an_image_is_asked_for_once_however_often_it_is_named() {
    let world = World::new().await;
    let digest = world.registry.push("app", "v1", "one");
    world.registry.sign("app", &digest, &world.key);
    let image = format!("{HOST}/app:v1");
    assert_eq!(world.review("signed", &[&image, &image, &image], None).await["allowed"], true);
    assert_eq!(world.registry.asked_for("app/manifests/v1"), 1);
}

#[tokio::test]
async fn an_update_that_keeps_its_images_asks_nobody() {
    let world = World::new().await;
    world.registry.break_down(Some(Broken::Hangs));
    let image = format!("{HOST}/app:v1");
    assert_eq!(world.review("signed", &[&image], Some(&[&image])).await["allowed"], true);
    assert_eq!(world.review("deleted", &[&image], Some(&[&image])).await["allowed"], true);
    assert_eq!(world.registry.asked_for(""), 0);
}

#[tokio::test]
async fn an_image_that_does_not_exist_is_named() {
    let world = World::new().await;
    let response = world.review("signed", &[&format!("{HOST}/gone:v1")], None).await;
    assert!(message(&response).contains("no such image"), "{response}");
}

/// A registry that hangs costs our own deadline, not the API server's, and the denial says who it was.
#[tokio::test]
async fn a_registry_that_hangs_is_named_before_the_api_server_gives_up() {
    let world = World::new().await;
    world.registry.break_down(Some(Broken::Hangs));
    let (one, two) = (format!("{HOST}/app:v1"), format!("{HOST}/app:v2"));
    let response = world.review("signed", &[&one, &two], None).await;
    let message = message(&response);
    assert!(
        message.contains("app:v1 could not be checked") && message.contains("within 1 seconds"),
        "{message}"
    );
    assert!(message.contains("app:v2 could not be checked"), "{message}");
}

#[tokio::test]
async fn a_registry_that_fails_is_no_missing_signature() {
    let world = World::new().await;
    world.registry.break_down(Some(Broken::Fails));
    let response = world.review("signed", &[&format!("{HOST}/app:v1")], None).await;
    assert!(message(&response).contains("could not be checked"), "{response}");
}

#[tokio::test]
async fn what_the_policy_does_not_speak_about_is_let_in() {
    let world = World::new().await;
    assert_eq!(world.review("signed", &["docker.io/library/alpine"], None).await["allowed"], true);
    assert_eq!(world.registry.asked_for(""), 0);
}

#[tokio::test]
async fn warn_lets_in_and_tells() {
    let mut world = World::new().await;
    world.policy("advice", "Warn", &json!({"pem": world.key.pem()}));
    world.registry.push("app", "v1", "one");
    let response = world.review("advice", &[&format!("{HOST}/app:v1")], None).await;
    assert_eq!(response["allowed"], true);
    assert!(response["warnings"][0].as_str().unwrap().contains("no signature was found"), "{response}");
}

/// R-OPR-6: `Audit` lets in and tells the caller nothing.
#[tokio::test]
async fn audit_lets_in_and_tells_nobody() {
    let mut world = World::new().await;
    world.policy("silent", "Audit", &json!({"pem": world.key.pem()}));
    world.registry.push("app", "v1", "one");
    let response = world.review("silent", &[&format!("{HOST}/app:v1")], None).await;
    assert_eq!(response, json!({"uid": "u1", "allowed": true}));
}

/// R-OPR-6: a list of registries is kept without asking any, and what is named by digest is seen without asking.
#[tokio::test]
async fn what_is_settled_by_name_asks_nobody() {
    let mut world = World::new().await;
    world.registry.break_down(Some(Broken::Hangs));
    let list = json!({"mode": "Enforce", "images": ["docker.io/library/*"], "unmatched": "Deny", "require": [{"digest": {}}]});
    world.store("team-a", "list", &list);
    let digest = Digest::sha256(b"x");
    let alpine = format!("docker.io/library/alpine@{digest}");
    assert_eq!(world.review("list", &[&alpine], None).await["allowed"], true);
    let response =
        world.review("list", &["docker.io/library/alpine:3", &format!("{HOST}/app:v1")], None).await;
    let message = message(&response);
    assert!(message.contains("must be named by digest"), "{message}");
    assert!(message.contains("none of the images that the policy allows: docker.io/library/*"), "{message}");
    assert!(!message.contains("try again"), "{message}");
    assert_eq!(world.registry.asked_for(""), 0);
}

/// R-OPR-6: an exception lets its images pass, and no others.
#[tokio::test]
async fn exceptions_are_for_what_they_name() {
    let mut world = World::new().await;
    world.store(
        "team-a",
        "excepting",
        &json!({
            "mode": "Enforce", "images": [format!("{HOST}/**")],
            "require": [{"signature": {"authorities": [{"name": "release", "key": {"pem": world.key.pem()}}]}}],
            "exceptions": [
                {"images": [format!("{HOST}/old/*")], "reason": "r", "owner": "o", "expires": "2999-01-01T00:00:00Z"},
                {"images": [format!("{HOST}/over/*")], "reason": "r", "owner": "somebody", "expires": "2020-01-01T00:00:00Z"},
            ],
        }),
    );
    for repository in ["old/app", "over/app", "app"] {
        world.registry.push(repository, "v1", repository);
    }
    assert_eq!(world.review("excepting", &[&format!("{HOST}/old/app:v1")], None).await["allowed"], true);
    for (repository, word) in [("over/app", "somebody"), ("app", "no signature was found")] {
        let response = world.review("excepting", &[&format!("{HOST}/{repository}:v1")], None).await;
        assert!(message(&response).contains(word), "{response}");
    }
}

/// A missing Secret keeps everything out that the policy governs, and nothing else; its appearance heals.
#[tokio::test]
async fn a_policy_whose_key_is_missing_fails_closed_and_heals() {
    let mut world = World::new().await;
    world.policy("secret", "Enforce", &json!({"secretName": "cosign"}));
    let digest = world.registry.push("app", "v1", "one");
    world.registry.sign("app", &digest, &world.key);
    let image = format!("{HOST}/app:v1");
    let response = world.review("secret", &[&image], None).await;
    assert!(message(&response).contains("the Secret cosign does not exist"), "{response}");
    assert_eq!(world.review("secret", &["docker.io/library/alpine"], None).await["allowed"], true);
    let pem = ByteString(world.key.pem().into_bytes());
    world.cluster.answer(
        "GET /api/v1/namespaces/team-a/secrets/cosign",
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cosign"}, "data": {"cosign.pub": pem}}),
    );
    assert_eq!(world.review("secret", &[&image], None).await["allowed"], true);
}

/// CVE-2025-46342: a Secret that cannot be read is not a Secret without keys; it keeps everything out as well.
#[tokio::test]
async fn a_policy_whose_key_cannot_be_read_fails_closed() {
    let mut world = World::new().await;
    world.policy("secret", "Enforce", &json!({"secretName": "cosign"}));
    world.cluster.fail("GET /api/v1/namespaces/team-a/secrets/cosign");
    let response = world.review("secret", &[&format!("{HOST}/app:v1")], None).await;
    assert!(message(&response).contains("etcd is away"), "{response}");
}

/// No verdict at all leaves the decision to the entry's failure policy.
#[tokio::test]
async fn an_unknown_policy_gives_no_verdict() {
    let world = World::new().await;
    let body = review_of(&[&format!("{HOST}/app:v1")], None).to_string();
    let answer = world.http.post(world.url("/admit/team-a/deleted")).body(body).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.text().await.unwrap().contains("ImagePolicy team-a/deleted is not known"));
}

#[tokio::test]
async fn bodies_are_bounded_and_understood() {
    let world = World::new().await;
    let send = async |path: &str, length: usize| {
        world.http.post(world.url(path)).body(" ".repeat(length)).send().await.unwrap().status().as_u16()
    };
    assert_eq!(send("/admit/team-a/signed", 3 * 1024 * 1024 + 1).await, 413);
    assert_eq!(send("/admit/team-a/signed", 3 * 1024 * 1024).await, 400);
    assert_eq!(send("/events", 64 * 1024 + 1).await, 413);
    assert_eq!(send("/events", 64 * 1024).await, 401);
    assert_eq!(send("/elsewhere", 0).await, 404);
}
