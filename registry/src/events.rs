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

use crate::metrics::Metrics;

/// Changes within this time share one event.
const COALESCE: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 3;

/// Why events cannot be sent at all.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// The CA of the sink cannot be read.
    #[error("cannot read the events' caFile {path}: {source}")]
    Ca {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The CA is no certificate, or no client could be built.
    #[error("cannot build a client for events: {0}")]
    Client(#[from] reqwest::Error),
}

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
    pub async fn start(sink: EventSink, metrics: Arc<Metrics>) -> Result<Self, EventsError> {
        let ca = tokio::fs::read(&sink.ca_file)
            .await
            .map_err(|source| EventsError::Ca { path: sink.ca_file.display().to_string(), source })?;
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .tls_certs_only(reqwest::Certificate::from_pem_bundle(&ca)?)
            .build()?;
        let queue = Arc::new(Queue::default());
        let sender = Sender { client, sink, metrics };
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
    client: reqwest::Client,
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
        let response = self
            .client
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
