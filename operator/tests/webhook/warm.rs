//! What a warm review costs, counted in allocations and in questions to registries: budgets that do not depend on the
//! machine. Raise them only for a reason (R-SIG-1: thousands of reviews a second).

use allocation_counter::measure;
use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tower::ServiceExt;

use crate::{World, registry::HOST, review_of};

/// For a Pod of two containers, from the arrival of its review to the last byte of the answer.
const BUDGET: u64 = 100;

/// A world in which two images are signed, and the review of a Pod that names them.
async fn signed() -> (World, String) {
    let world = World::new().await;
    for name in ["web", "proxy"] {
        let digest = world.registry.push(name, "v1", name);
        world.registry.sign(name, &digest, &world.key);
    }
    let mut review = review_of(&[&format!("{HOST}/web:v1"), &format!("{HOST}/proxy:v1")], None);
    review["request"]["object"]["metadata"] = json!({
        "name": "web-0", "labels": {"app": "web"}, "annotations": {"a": "b"},
        "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {"f:containers": {}}}}],
    });
    (world, review.to_string())
}

/// Without the connection under it.
async fn admit(router: axum::Router, request: Request<Body>) -> Vec<u8> {
    let answer = router.oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap().into()
}

fn request(body: &str) -> Request<Body> {
    Request::post("/admit/team-a/signed").body(body.to_owned().into()).unwrap()
}

fn is_allowed(answer: &[u8]) -> bool {
    serde_json::from_slice::<Value>(answer).unwrap()["response"]["allowed"] == true
}

#[test]
fn a_warm_review_allocates_little() {
    let runtime = Runtime::new().unwrap();
    let (world, body) = runtime.block_on(signed());
    let review = || {
        let (router, request, mut answer) = (world.replica.router.clone(), request(&body), Vec::new());
        // This thread polls the review; nothing in it is left to others.
        let counted = measure(|| answer = runtime.block_on(admit(router, request)));
        assert!(is_allowed(&answer));
        counted.count_total
    };
    let cold = review();
    let warm = (0..5).map(|_| review()).min().unwrap();
    println!("{cold} allocations at first, then {warm}, budget {BUDGET}");
    assert!(warm <= BUDGET, "a warm review costs {warm} allocations, {BUDGET} are allowed");
}

/// Thousands of Pods of images that were seen before ask no registry at all.
#[tokio::test]
async fn warm_reviews_ask_nobody() {
    let (world, body) = signed().await;
    let first = admit(world.replica.router.clone(), request(&body)).await;
    assert!(is_allowed(&first));
    let asked = world.registry.asked_for("");
    for _ in 0..5_000 {
        assert_eq!(admit(world.replica.router.clone(), request(&body)).await, first);
    }
    assert_eq!(world.registry.asked_for(""), asked);
}
