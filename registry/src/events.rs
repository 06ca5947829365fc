//! Tells the operator that content changed, so that replication starts sooner and the webhook forgets what it remembers,
//! and that the store refuses writes or takes them again (`CloudEvents` 1.0 over HTTPS). Every replica of the webhook is told, each at its own pace: one that does not answer
//! keeps no other waiting. Best effort and coalesced: what is lost here, the operator finds by looking itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use berth_registry_core::{
    RepositoryName,
    config::EventSink,
    event::{CONTENT_CHANGED, Changes, ContentChanged, MAX_IMAGES, MAX_REPOSITORIES},
};
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use reqwest::Url;
use tokio::{
    net::lookup_host,
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use ulid::Ulid;

use crate::{
    metrics::Metrics,
    outbound::{Outbound, OutboundError},
};

/// The first change is told at once, those within this time after it together.
const COALESCE: Duration = Duration::from_millis(100);
const TIMEOUT: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 3;
/// Before the second attempt; it doubles.
const PAUSE: Duration = Duration::from_secs(1);
/// Replicas that are told.
const MAX_REPLICAS: usize = 16;

/// Takes note of changes; clones share one queue. Without a sink it does nothing.
#[derive(Clone, Default)]
pub struct Events(Option<Arc<Queue>>);

#[derive(Default)]
struct Queue {
    changed: Mutex<Pending>,
    wake: Notify,
}

#[derive(Clone, Default)]
struct Pending {
    repositories: BTreeSet<String>,
    more: bool,
    images: BTreeSet<String>,
    store: bool,
    last: Timestamp,
}

impl Events {
    /// Builds the sender and starts it.
    pub async fn start(sink: EventSink, metrics: Arc<Metrics>) -> Result<Self, OutboundError> {
        // Says at once whether the certificates can be used.
        Outbound::new(sink.ca_file.clone(), TIMEOUT).await?;
        let queue = Arc::new(Queue::default());
        let sender = Sender { sink: Arc::new(sink), metrics, replicas: BTreeMap::new() };
        tokio::spawn(sender.run(queue.clone()));
        Ok(Self(Some(queue)))
    }

    /// A manifest or tag of this repository was deleted, or brought back.
    pub fn changed(&self, repository: &RepositoryName) {
        self.pushed(repository, []);
    }

    /// A manifest of this repository was written, which concerns these images (`event::image`).
    pub fn pushed(&self, repository: &RepositoryName, images: impl IntoIterator<Item = String>) {
        let Some(queue) = &self.0 else { return };
        queue.add(Pending {
            repositories: BTreeSet::from([repository.to_string()]),
            images: images.into_iter().collect(),
            last: Timestamp::now(),
            ..Pending::default()
        });
    }

    /// The store began to refuse writes, or takes them again.
    pub fn store_changed(&self) {
        let Some(queue) = &self.0 else { return };
        queue.add(Pending { store: true, last: Timestamp::now(), ..Pending::default() });
    }
}

impl Queue {
    fn add(&self, new: Pending) {
        let mut pending = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        pending.repositories.extend(new.repositories);
        pending.more |= new.more;
        pending.store |= new.store;
        while pending.repositories.len() > MAX_REPOSITORIES {
            pending.repositories.pop_last();
            pending.more = true;
        }
        pending.images.extend(new.images);
        while pending.images.len() > MAX_IMAGES {
            pending.images.pop_last();
        }
        pending.last = pending.last.max(new.last);
        self.wake.notify_one();
    }

    /// What was added since; waits until there is something.
    async fn take(&self) -> Pending {
        loop {
            self.wake.notified().await;
            let pending = std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner));
            if pending.more || pending.store || !pending.repositories.is_empty() {
                return pending;
            }
        }
    }
}

/// Hands each change to the senders of all replicas.
struct Sender {
    sink: Arc<EventSink>,
    metrics: Arc<Metrics>,
    /// By address; `None` is wherever the URL leads.
    replicas: BTreeMap<Option<SocketAddr>, Replica>,
}

/// One receiver: what it has not been told yet, and who tells it.
struct Replica {
    queue: Arc<Queue>,
    _task: AbortOnDropHandle<()>,
}

impl Sender {
    async fn run(mut self, queue: Arc<Queue>) {
        loop {
            let pending = queue.take().await;
            let addresses = self.addresses().await;
            self.follow(addresses);
            for replica in self.replicas.values() {
                replica.queue.add(pending.clone());
            }
            sleep(COALESCE).await;
        }
    }

    async fn addresses(&self) -> BTreeSet<Option<SocketAddr>> {
        let Some(replicas) = &self.sink.replicas else { return BTreeSet::from([None]) };
        let found: BTreeSet<_> = match timeout(TIMEOUT, lookup_host(replicas)).await {
            Ok(Ok(found)) => found.take(MAX_REPLICAS).map(Some).collect(),
            Ok(Err(_)) | Err(_) => self.replicas.keys().copied().collect(),
        };
        if found.is_empty() { BTreeSet::from([None]) } else { found }
    }

    /// Begins with new replicas and ends with those that are gone.
    fn follow(&mut self, addresses: BTreeSet<Option<SocketAddr>>) {
        self.replicas.retain(|address, _| addresses.contains(address));
        for address in addresses {
            let (sink, metrics) = (&self.sink, &self.metrics);
            self.replicas.entry(address).or_insert_with(|| {
                let queue = Arc::new(Queue::default());
                let task = tell(address, sink.clone(), metrics.clone(), queue.clone());
                Replica { queue, _task: AbortOnDropHandle::new(tokio::spawn(task)) }
            });
        }
    }
}

/// Tells one replica, for as long as it is there.
async fn tell(address: Option<SocketAddr>, sink: Arc<EventSink>, metrics: Arc<Metrics>, queue: Arc<Queue>) {
    let host = Url::parse(&sink.url).ok().and_then(|url| url.host_str().map(str::to_owned));
    let mut outbound = None;
    loop {
        let event = event(&sink, queue.take().await);
        for attempt in 1..=ATTEMPTS {
            if outbound.is_none() {
                outbound = Outbound::at(sink.ca_file.clone(), TIMEOUT, host.clone().zip(address)).await.ok();
            }
            let result = match &outbound {
                Some(outbound) => post(outbound, &sink, &event).await,
                None => Err(format!("the certificates in {} cannot be used", sink.ca_file.display())),
            };
            match result {
                Ok(()) => {
                    metrics.event(true);
                    break;
                }
                Err(error) if attempt == ATTEMPTS => {
                    tracing::warn!(%error, ?address, "event given up; the operator finds the change at its next look");
                    metrics.event(false);
                }
                Err(error) => {
                    tracing::debug!(%error, ?address, attempt, "event not delivered, trying again");
                    sleep(PAUSE * attempt).await;
                }
            }
        }
    }
}

fn event(sink: &EventSink, pending: Pending) -> ContentChanged {
    ContentChanged {
        specversion: "1.0".to_owned(),
        event_type: CONTENT_CHANGED.to_owned(),
        source: sink.source.clone(),
        id: Ulid::generate().to_string(),
        time: pending.last,
        data: Changes {
            repositories: pending.repositories.into_iter().collect(),
            more: pending.more,
            images: pending.images.into_iter().collect(),
            store: pending.store,
        },
    }
}

async fn post(outbound: &Outbound, sink: &EventSink, event: &ContentChanged) -> Result<(), String> {
    let token = tokio::fs::read_to_string(&sink.token_file)
        .await
        .map_err(|error| format!("cannot read {}: {error}", sink.token_file.display()))?;
    let client = outbound.client().await;
    let response = client
        .post(&sink.url)
        .bearer_auth(token.trim())
        .header(CONTENT_TYPE, "application/cloudevents+json; charset=utf-8")
        .body(serde_json::to_vec(event).map_err(|error| error.to_string())?)
        .send()
        .await
        .map_err(|error| error.to_string())?;
    response.error_for_status().map(drop).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use axum::{Router, extract::State, http::HeaderMap, routing::post};
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_burst_is_one_event_and_a_failure_is_tried_again() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let (ca_file, token_file) = (directory.path().join("ca.crt"), directory.path().join("token"));
        let ca = rcgen::generate_simple_self_signed(["sink".to_owned()]).unwrap();
        std::fs::write(&ca_file, ca.cert.pem()).unwrap();
        std::fs::write(&token_file, "first").unwrap();
        let (sender, mut received) = mpsc::unbounded_channel();
        let take = |State(sender): State<mpsc::UnboundedSender<_>>, headers: HeaderMap, body: String| async move {
            let token = headers["authorization"].to_str().unwrap().to_owned();
            let event: ContentChanged = serde_json::from_str(&body).unwrap();
            let status = if token == "Bearer first" { 503 } else { 204 };
            sender.send((token, event)).unwrap();
            http::StatusCode::from_u16(status).unwrap()
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/events", listener.local_addr().unwrap());
        let router = Router::new().route("/events", post(take)).with_state(sender);
        tokio::spawn(async move { axum::serve(listener, router).await });

        let sink = EventSink {
            url,
            replicas: None,
            ca_file,
            token_file: token_file.clone(),
            source: "team-a/registry".to_owned(),
        };
        let metrics = Arc::new(Metrics::default());
        let events = Events::start(sink, metrics.clone()).await.unwrap();
        for name in ["b", "a", "b"] {
            events.changed(&name.parse().unwrap());
        }
        let (token, first) = received.recv().await.unwrap();
        assert_eq!(token, "Bearer first");
        assert_eq!(first.data.repositories, ["a", "b"]);
        assert_eq!((first.event_type.as_str(), first.source.as_str()), (CONTENT_CHANGED, "team-a/registry"));
        std::fs::write(&token_file, "second\n").unwrap();
        let (token, again) = received.recv().await.unwrap();
        assert_eq!((token.as_str(), again), ("Bearer second", first));
        events.store_changed();
        let (_, store) = received.recv().await.unwrap();
        assert_eq!(store.data, Changes { store: true, ..Changes::default() });
        let delivered = async {
            while !metrics.text().contains("berth_events_total{outcome=\"delivered\"} 2") {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), delivered).await.unwrap();
    }

    /// Each replica is told at its own address, under the Service's name; one that hangs keeps no other waiting.
    #[tokio::test]
    async fn every_replica_is_told() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let (ca_file, token_file) = (directory.path().join("ca.crt"), directory.path().join("token"));
        let ca = rcgen::generate_simple_self_signed(["sink".to_owned()]).unwrap();
        std::fs::write(&ca_file, ca.cert.pem()).unwrap();
        std::fs::write(&token_file, "t").unwrap();
        let (sender, mut received) = mpsc::unbounded_channel();
        let take = |State(sender): State<mpsc::UnboundedSender<_>>, headers: HeaderMap, body: String| async move {
            sender.send((headers["host"].to_str().unwrap().to_owned(), body)).unwrap();
        };
        let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [&hanging, &listener].map(|listener| Some(listener.local_addr().unwrap()));
        let router = Router::new().route("/events", post(take)).with_state(sender);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let sink = EventSink {
            url: "http://webhook.berth-system.svc.cluster.local/events".to_owned(),
            replicas: None,
            ca_file,
            token_file,
            source: "team-a/registry".to_owned(),
        };
        let mut sender = Sender { sink: sink.into(), metrics: Arc::default(), replicas: BTreeMap::new() };
        sender.follow(addresses.into());
        for name in ["a", "b"] {
            for replica in sender.replicas.values() {
                let repositories = BTreeSet::from([name.to_owned()]);
                replica.queue.add(Pending { repositories, ..Pending::default() });
            }
            let (host, body) = received.recv().await.unwrap();
            let event: ContentChanged = serde_json::from_str(&body).unwrap();
            assert_eq!(
                (host.as_str(), event.data.repositories),
                ("webhook.berth-system.svc.cluster.local", vec![name.to_owned()])
            );
        }
        sender.follow(addresses[..1].iter().copied().collect());
        assert_eq!(sender.replicas.len(), 1, "who is gone is not told any more");
    }

    /// What does not fit into an event is not lost without a word: the receiver then forgets everything.
    #[test]
    fn too_many_changes_are_said_to_be_more() {
        let queue = Queue::default();
        for number in 0..=MAX_REPOSITORIES {
            queue.add(Pending {
                repositories: BTreeSet::from([format!("r{number:03}")]),
                ..Pending::default()
            });
        }
        let pending = queue.changed.lock().unwrap();
        assert_eq!((pending.repositories.len(), pending.more), (MAX_REPOSITORIES, true));
    }
}
