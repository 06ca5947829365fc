//! What is known about images outlives the processes that know it: the leader writes it into a few Secrets, and every
//! replica reads them before it is ready. Which part of memory that is, how it is written and what it is worth afterwards
//! is `berth_operator_core::memory`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use berth_operator_core::{
    memory::{Revision, SHARDS},
    objects::{self, MANAGED_BY},
};
use berth_registry_core::Digest;
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use tokio::{
    sync::Mutex,
    task::spawn_blocking,
    time::{sleep, timeout},
};

use crate::{field_managers, uninstall::delete_from, webhook::looks::Looks};

/// Between two looks at what is new.
const EACH: Duration = Duration::from_mins(3);

/// Until the Secrets are read again that could not be read.
const RETRY: Duration = Duration::from_secs(10);

/// A replica that starts waits so long for what was kept. Without it, it asks the registries.
const PATIENCE: Duration = Duration::from_secs(5);

/// A leader that ends takes so long to write what is new. The lease is waiting.
const LAST: Duration = Duration::from_millis(1500);

/// In the data of each Secret.
const DATA: &str = "facts";

/// Labels of a write.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WriteLabels {
    /// `written` or `failed`.
    pub outcome: &'static str,
}

/// What Prometheus may ask about it.
#[derive(Clone, Default)]
pub struct KeptMetrics {
    restored: Counter,
    entries: Gauge,
    bytes: Gauge,
    writes: Family<WriteLabels, Counter>,
}

impl KeptMetrics {
    /// Makes them readable.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "restored_entries",
            "Digests and tags that were known from before this replica started or led",
            self.restored.clone(),
        );
        registry.register(
            "kept_entries",
            "Digests and tags that this replica, if it leads, keeps across restarts",
            self.entries.clone(),
        );
        registry.register("kept_bytes", "Bytes of the Secrets that keep them", self.bytes.clone());
        registry.register("kept_writes", "Writes of these Secrets, by outcome", self.writes.clone());
    }
}

/// The Secrets, and the memory that is kept in them.
pub struct Kept {
    secrets: Api<Secret>,
    looks: Arc<Looks>,
    metrics: KeptMetrics,
    /// On the leader, from when it has read them.
    state: Mutex<Option<State>>,
}

/// What the Secrets hold.
#[derive(Default)]
struct State {
    /// Hashes of their content.
    stored: [Option<Digest>; SHARDS],
    /// Of the memory that was written last.
    revision: Option<Revision>,
}

impl Kept {
    /// Secrets of the operator's `namespace`.
    pub fn new(client: Client, namespace: &str, looks: Arc<Looks>, metrics: KeptMetrics) -> Self {
        Self { secrets: Api::namespaced(client, namespace), looks, metrics, state: Mutex::default() }
    }

    /// Takes what was kept into memory, on every replica, before reviews arrive.
    pub async fn restore(&self) {
        match timeout(PATIENCE, self.read()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "what was known before cannot be read: registries are asked again");
            }
            Err(_) => {
                tracing::warn!("what was known before cannot be read in time: registries are asked again");
            }
        }
    }

    /// Keeps what is new. Runs until it is dropped, on the leader.
    pub async fn run(&self) {
        while let Err(error) = self.take_over().await {
            tracing::warn!(%error, "what other leaders kept cannot be read; nothing is written over it");
            sleep(RETRY).await;
        }
        loop {
            sleep(EACH).await;
            self.write().await;
        }
    }

    /// Reads what the leader before wrote since this replica started. From now on this one writes.
    pub async fn take_over(&self) -> Result<(), kube::Error> {
        let mut state = self.state.lock().await;
        *state = None;
        *state = Some(State { stored: self.read().await?, revision: None });
        Ok(())
    }

    /// What is new is written for the last time.
    pub(crate) async fn write_last(&self) {
        if timeout(LAST, self.write()).await.is_err() {
            tracing::warn!("the last that became known could not be written in time");
        }
    }

    /// Writes the parts in which something is new.
    pub async fn write(&self) {
        let mut state = self.state.lock().await;
        let Some(state) = state.as_mut() else { return };
        let revision = self.looks.memory.revision();
        if state.revision == Some(revision) {
            return;
        }
        let (mut entries, mut bytes, mut complete) = (0, 0, true);
        for (number, shard) in self.looks.memory.shards(Timestamp::now()).into_iter().enumerate() {
            let packed = match spawn_blocking(move || shard.pack()).await.map_err(std::io::Error::other) {
                Ok(Ok(packed)) => packed,
                Ok(Err(error)) | Err(error) => {
                    tracing::warn!(%error, "what is known cannot be written down");
                    return;
                }
            };
            entries += packed.entries;
            bytes += packed.bytes.len();
            let digest = Digest::sha256(&packed.bytes);
            let stored = &mut state.stored[number];
            if stored.as_ref() == Some(&digest) || (stored.is_none() && packed.entries == 0) {
                continue;
            }
            let outcome = match self.store(number, packed.bytes).await {
                Ok(()) => {
                    *stored = Some(digest);
                    "written"
                }
                Err(error) => {
                    tracing::warn!(secret = name(number), %error, "what is known could not be kept");
                    complete = false;
                    "failed"
                }
            };
            self.metrics.writes.get_or_create(&WriteLabels { outcome }).inc();
        }
        self.metrics.entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.metrics.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        if complete {
            state.revision = Some(revision);
        }
    }

    async fn store(&self, number: usize, bytes: Vec<u8>) -> Result<(), kube::Error> {
        let name = name(number);
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(objects::labels(&[MANAGED_BY, ("app.kubernetes.io/part-of", "berth")])),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(DATA.to_owned(), ByteString(bytes))])),
            ..Secret::default()
        };
        let parameters = PatchParams::apply(field_managers::KEPT).force();
        self.secrets.patch(&name, &parameters, &Patch::Apply(&secret)).await.map(drop)
    }

    /// Takes all Secrets into memory; returns hashes of what they hold.
    async fn read(&self) -> Result<[Option<Digest>; SHARDS], kube::Error> {
        let mut stored = [const { None }; SHARDS];
        let mut restored = 0;
        for (number, stored) in stored.iter_mut().enumerate() {
            let name = name(number);
            let Some(secret) = self.secrets.get_opt(&name).await? else { continue };
            let Some(ByteString(bytes)) = secret.data.and_then(|mut data| data.remove(DATA)) else {
                continue;
            };
            *stored = Some(Digest::sha256(&bytes));
            let looks = self.looks.clone();
            match spawn_blocking(move || looks.memory.restore(&bytes, Timestamp::now())).await {
                Ok(Ok(news)) => restored += news,
                Ok(Err(error)) => tracing::warn!(secret = name, %error, "what was known before is not used"),
                Err(error) => tracing::error!(secret = name, %error, "what was known before cannot be read"),
            }
        }
        self.metrics.restored.inc_by(u64::try_from(restored).unwrap_or(u64::MAX));
        tracing::info!(entries = restored, "what was known about images before is known again");
        Ok(stored)
    }
}

fn name(number: usize) -> String {
    format!("berth-facts-{number:x}")
}

/// Removes the Secrets; for the end of an installation.
pub(crate) async fn remove(client: &Client, namespace: &str) -> Result<(), kube::Error> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    for number in 0..SHARDS {
        delete_from(&secrets, &name(number)).await?;
    }
    Ok(())
}
