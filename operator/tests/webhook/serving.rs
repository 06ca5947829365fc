//! The server itself: certificates that change, readiness, and an end that loses no answer.

use std::{sync::atomic::Ordering, time::Duration};

use crate::{
    World, client, issue,
    registry::{Broken, HOST},
    review_of,
};

/// R-OPS-3: a new certificate is served to new connections; those that are open go on.
#[tokio::test]
async fn certificates_are_swapped_without_a_restart() {
    let world = World::new().await;
    assert!(world.http.get(world.url("/healthz")).send().await.is_ok());
    let root = issue(&world.certificate);
    assert!(world.http.get(world.url("/healthz")).send().await.is_ok(), "the open connection goes on");
    let newcomer = client(world.address, &root);
    assert_eq!(newcomer.get(world.url("/healthz")).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn readiness_fails_while_requests_are_still_answered() {
    let world = World::new().await;
    let status = async |path: &str| world.http.get(world.url(path)).send().await.unwrap().status().as_u16();
    assert_eq!(status("/readyz").await, 200);
    world.ending.store(true, Ordering::SeqCst);
    assert_eq!((status("/readyz").await, status("/healthz").await), (503, 200));
}

/// A review that is under way when the server is stopped gets its answer.
#[tokio::test]
async fn the_last_requests_are_answered() {
    let mut world = World::new().await;
    world.registry.break_down(Some(Broken::Hangs));
    let body = review_of(&[&format!("{HOST}/app:v1")], None).to_string();
    let request = world.http.post(world.url("/admit/team-a/signed")).body(body).send();
    let request = tokio::spawn(request);
    while world.registry.asked_for("app") == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.stop.take().unwrap().send(()).unwrap();
    let answer = request.await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await.unwrap().contains("could not be checked"));
    // Nobody listens any more.
    tokio::time::timeout(Duration::from_secs(10), async {
        while tokio::net::TcpStream::connect(world.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
}
