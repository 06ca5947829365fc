//! A steady load of reviews while the webhook is disturbed in ways that must cost none of them (R-OPR-8, R-OPS-3).

use std::{
    iter,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use berth_operator::certs::Authority;
use berth_operator_core::certificate::{ANNOUNCEMENT, AUTHORITY_LIFE, AuthorityStep};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rstest::rstest;
use serde_json::Value;
use tokio::{task::JoinHandle, time::timeout};

use crate::{World, registry::HOST, review_of, trusting};

/// Clients at once, each with connections of its own.
const CLIENTS: usize = 8;

/// How long a replica drains in these tests.
const DRAIN: Duration = Duration::from_secs(2);

/// Longer than anything here takes, on any machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Where new connections lead, as with a Service: connections that are open stay where they are.
#[derive(Clone)]
pub(crate) struct Service(Arc<Mutex<SocketAddr>>);

impl Service {
    pub(crate) fn to(address: SocketAddr) -> Self {
        Self(Arc::new(Mutex::new(address)))
    }

    pub(crate) fn lead_to(&self, address: SocketAddr) {
        *self.0.lock().unwrap() = address;
    }
}

impl Resolve for Service {
    fn resolve(&self, _: Name) -> Resolving {
        let address = *self.0.lock().unwrap();
        let addresses: Addrs = Box::new(iter::once(address));
        Box::pin(async { Ok(addresses) })
    }
}

/// How the clients connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// As the API server does.
    Http1,
    Http2,
    /// A new connection for each review.
    Fresh,
}

/// Reviews of a signed image, each client one after the other.
struct Load {
    clients: Vec<JoinHandle<()>>,
    tally: Arc<Tally>,
}

#[derive(Default)]
struct Tally {
    answered: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Load {
    fn start(service: &Service, root: &str, way: Way) -> Self {
        let tally = Arc::<Tally>::default();
        let clients = (0..CLIENTS).map(|_| {
            let http = trusting(root).dns_resolver(service.clone());
            let http = match way {
                Way::Http1 => http.http1_only(),
                Way::Http2 => http,
                Way::Fresh => http.http1_only().pool_max_idle_per_host(0),
            };
            let (http, tally) = (http.build().unwrap(), tally.clone());
            tokio::spawn(async move {
                loop {
                    match review(&http).await {
                        Ok(()) => drop(tally.answered.fetch_add(1, Ordering::SeqCst)),
                        Err(failure) => tally.failures.lock().unwrap().push(failure),
                    }
                }
            })
        });
        Self { clients: clients.collect(), tally }
    }

    fn answered(&self) -> usize {
        self.tally.answered.load(Ordering::SeqCst)
    }

    /// Waits until so many more were answered.
    async fn go_on(&self, count: usize) {
        let wanted = self.answered() + count;
        let wait = async {
            while self.answered() < wanted {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let failures = || self.tally.failures.lock().unwrap().clone();
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("the load stands still: {:?}", failures()));
    }

    /// Ends the load: all reviews must have been answered.
    fn end(self) -> usize {
        for client in &self.clients {
            client.abort();
        }
        let failures = self.tally.failures.lock().unwrap();
        assert!(failures.is_empty(), "{} reviews failed: {:?}", failures.len(), failures.first());
        self.answered()
    }
}

async fn review(http: &reqwest::Client) -> Result<(), String> {
    let body = review_of(&[&format!("{HOST}/app:v1")], None).to_string();
    // Without a port, so that the one of the address counts.
    let request = http.post("https://webhook.test/admit/team-a/signed").body(body);
    let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
    let review: Value = answer.json().await.map_err(|error| format!("{error:?}"))?;
    if review["response"]["allowed"] == true { Ok(()) } else { Err(review.to_string()) }
}

async fn world() -> World {
    let world = World::new().await;
    let digest = world.registry.push("app", "v1", "one");
    world.registry.sign("app", &digest, &world.key);
    world
}

/// R-OPR-8: a replica that is told to end answers every review that reaches it, and is gone soon after it has drained,
/// however many connections are open.
#[rstest]
#[case(Way::Http1)]
#[case(Way::Http2)]
#[case(Way::Fresh)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_replica_costs_no_review(#[case] way: Way) {
    let world = world().await;
    let (ending, staying) = (world.replica(DRAIN).await, world.replica(DRAIN).await);
    let service = Service::to(ending.address);
    let load = Load::start(&service, &world.root, way);
    load.go_on(100).await;
    ending.stop.cancel();
    load.go_on(10).await;
    service.lead_to(staying.address);
    timeout(PATIENCE, ending.ended).await.unwrap().unwrap().unwrap();
    load.go_on(100).await;
    println!("{way:?}: {} reviews, none failed", load.end());
}

/// R-OPS-3: neither new certificates nor a new authority cost a review of those who trust the published bundle.
#[rstest]
#[case(Way::Http1)]
#[case(Way::Http2)]
#[case(Way::Fresh)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_certificates_cost_no_review(#[case] way: Way) {
    let (world, now, names) = (world().await, Timestamp::now(), ["webhook.test".to_owned()].into());
    let announced = now - ANNOUNCEMENT;
    let made = announced - AUTHORITY_LIFE / 3 * 2 - SignedDuration::from_hours(1);
    let (first, _) = Authority::advance(None, made).unwrap();
    let (announced, step) = Authority::advance(Some(first), announced).unwrap();
    assert_eq!(step, AuthorityStep::Announce);
    let (promoted, step) = Authority::advance(Some(announced.clone()), now).unwrap();
    assert_eq!(step, AuthorityStep::Promote);
    let serve_with = |authority: &Authority| {
        let issued = authority.issue(&names, now).unwrap();
        let secret = Secret { data: Some(issued.data(authority)), ..Secret::default() };
        world.certificate.set(&secret).unwrap();
    };
    serve_with(&announced);
    let service = Service::to(world.replica.address);
    // Trust in what was published a day before the new authority signs is enough.
    let load = Load::start(&service, announced.bundle().as_pem(), way);
    for authority in [announced, promoted] {
        for _ in 0..20 {
            serve_with(&authority);
            load.go_on(5).await;
        }
    }
    println!("{way:?}: {} reviews under 40 certificates, none failed", load.end());
}
