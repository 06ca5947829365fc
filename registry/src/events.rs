//! Tells the operator that content changed, so that replication starts sooner (`CloudEvents` 1.0 over HTTPS).
//! Best effort and coalesced: what is lost here is found by the operator's periodic comparison.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use berth_registry_core::{
    RepositoryName,
    config::EventSink,
    event::{CONTENT_CHANGED, Changes, ContentChanged, MAX_REPOSITORIES},
};
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use tokio::sync::Notify;
use ulid::Ulid;

use crate::{
    metrics::Metrics,
    outbound::{Outbound, OutboundError},
};

/// Changes within this time share one event.
const COALESCE: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 3;

/// Takes note of changes; clones share one queue. Without a sink it does nothing.
#[derive(Clone, Default)]
pub struct Events(Option<Arc<Queue>>);

#[derive(Default)]
struct Queue {
    changed: Mutex<Pending>,
    wake: Notify,
}

#[derive(Default)]
struct Pending {
    repositories: BTreeSet<String>,
    last: Timestamp,
}

impl Events {
    /// Builds the sender and starts it.
    pub async fn start(sink: EventSink, metrics: Arc<Metrics>) -> Result<Self, OutboundError> {
        let outbound = Outbound::new(sink.ca_file.clone(), TIMEOUT).await?;
        let queue = Arc::new(Queue::default());
        let sender = Sender { outbound, sink, metrics };
        tokio::spawn(sender.run(queue.clone()));
        Ok(Self(Some(queue)))
    }

    /// A manifest or tag of this repository was written or deleted.
    pub fn changed(&self, repository: &RepositoryName) {
        let Some(queue) = &self.0 else { return };
        let mut pending = queue.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.repositories.len() < MAX_REPOSITORIES {
            pending.repositories.insert(repository.to_string());
        }
        pending.last = Timestamp::now();
        queue.wake.notify_one();
    }
}

impl Queue {
    fn take(&self) -> Pending {
        std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Sender {
    outbound: Outbound,
    sink: EventSink,
    metrics: Arc<Metrics>,
}

impl Sender {
    async fn run(self, queue: Arc<Queue>) {
        loop {
            queue.wake.notified().await;
            // The first change of a burst is told after the burst's first second, with the rest of it.
            tokio::time::sleep(COALESCE).await;
            let pending = queue.take();
            if !pending.repositories.is_empty() {
                self.deliver(self.event(pending)).await;
            }
        }
    }

    fn event(&self, pending: Pending) -> ContentChanged {
        ContentChanged {
            specversion: "1.0".to_owned(),
            event_type: CONTENT_CHANGED.to_owned(),
            source: self.sink.source.clone(),
            id: Ulid::generate().to_string(),
            time: pending.last,
            data: Changes { repositories: pending.repositories.into_iter().collect() },
        }
    }

    async fn deliver(&self, event: ContentChanged) {
        for attempt in 1..=ATTEMPTS {
            match self.post(&event).await {
                Ok(()) => return self.metrics.event(true),
                Err(error) if attempt == ATTEMPTS => {
                    tracing::warn!(%error, "event given up; the operator finds the change at its next comparison");
                    self.metrics.event(false);
                }
                Err(error) => {
                    tracing::debug!(%error, attempt, "event not delivered, trying again");
                    tokio::time::sleep(COALESCE * 2u32.pow(attempt)).await;
                }
            }
        }
    }

    async fn post(&self, event: &ContentChanged) -> Result<(), String> {
        let token = tokio::fs::read_to_string(&self.sink.token_file)
            .await
            .map_err(|error| format!("cannot read {}: {error}", self.sink.token_file.display()))?;
        let client = self.outbound.client().await;
        let response = client
            .post(&self.sink.url)
            .bearer_auth(token.trim())
            .header(CONTENT_TYPE, "application/cloudevents+json; charset=utf-8")
            .body(serde_json::to_vec(event).map_err(|error| error.to_string())?)
            .send()
            .await
            .map_err(|error| error.to_string())?;
        response.error_for_status().map(drop).map_err(|error| error.to_string())
    }
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

        let sink =
            EventSink { url, ca_file, token_file: token_file.clone(), source: "team-a/registry".to_owned() };
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
        let delivered = async {
            while !metrics.text().contains("berth_events_total{outcome=\"delivered\"} 1") {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), delivered).await.unwrap();
    }
}
