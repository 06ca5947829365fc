//! The server itself: certificates that change, readiness, and an end that loses no answer.

use std::time::Duration;

use reqwest::header::CONNECTION;

use crate::{
    World, client, issue,
    load::Service,
    registry::{Broken, HOST},
    review_of, trusting,
};

/// R-OPS-3: a new certificate is served to new connections; those that are open go on.
#[tokio::test]
async fn certificates_are_swapped_without_a_restart() {
    let world = World::new().await;
    assert!(world.http.get(world.url("/healthz")).send().await.is_ok());
    let root = issue(&world.certificate);
    assert!(world.http.get(world.url("/healthz")).send().await.is_ok(), "the open connection goes on");
    let newcomer = client(world.replica.address, &root);
    assert_eq!(newcomer.get(world.url("/healthz")).send().await.unwrap().status(), 200);
}

/// R-OPR-8: while the endpoints are withdrawn everything is still answered, and whoever asks over HTTP/1.1, as the API
/// server does, is sent elsewhere with the answer.
#[tokio::test]
async fn readiness_fails_while_requests_are_still_answered() {
    let world = World::new().await;
    let replica = world.replica(Duration::from_hours(1)).await;
    let http = trusting(&world.root).resolve("webhook.test", replica.address).http1_only().build().unwrap();
    let get = async |path: &str| {
        let url = format!("https://webhook.test:{}{path}", replica.address.port());
        let answer = http.get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.headers().get(CONNECTION).cloned())
    };
    assert_eq!(get("/readyz").await, (200, None));
    replica.stop.cancel();
    let close = Some("close".parse().unwrap());
    assert_eq!((get("/readyz").await, get("/healthz").await), ((503, close.clone()), (200, close)));
}

/// The API server keeps idle connections for 90 seconds. Whoever closes one before may do it while a review is on its
/// way, and nobody repeats a POST.
#[tokio::test]
async fn idle_connections_are_left_to_the_client() {
    let world = World::new().await;
    let service = Service::to(world.replica.address);
    let http = trusting(&world.root).dns_resolver(service.clone());
    let http = http.http1_only().pool_idle_timeout(None).build().unwrap();
    let url = "https://webhook.test/healthz";
    assert!(http.get(url).send().await.unwrap().text().await.is_ok());
    // From here on nobody can connect anew.
    let gone = world.replica(Duration::ZERO).await;
    gone.stop.cancel();
    gone.ended.await.unwrap().unwrap();
    service.lead_to(gone.address);
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(100)).await;
    tokio::time::resume();
    assert!(http.get(url).send().await.is_ok(), "the connection was closed");
}

/// A review that is under way when the server is stopped gets its answer.
#[tokio::test]
async fn the_last_requests_are_answered() {
    let world = World::new().await;
    world.registry.break_down(Some(Broken::Hangs));
    let body = review_of(&[&format!("{HOST}/app:v1")], None).to_string();
    let request = world.http.post(world.url("/admit/team-a/signed")).body(body).send();
    let request = tokio::spawn(request);
    while world.registry.asked_for("app") == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.replica.stop.cancel();
    let answer = request.await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await.unwrap().contains("could not be checked"));
    // Nobody listens any more.
    tokio::time::timeout(Duration::from_secs(30), world.replica.ended).await.unwrap().unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(world.replica.address).await.is_err());
}
