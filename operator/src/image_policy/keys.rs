//! What policies take from Secrets: read when a policy needs it, forgotten when the Secret changes. Used by the controller
//! for its conditions and by the webhook for its verdicts, so that both see the same.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use berth_crds::ImagePolicySpec;
use berth_operator_core::image_policy::{Material, secrets};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::Scope;

/// A Secret is read anew after this time, should the watch have missed its change.
const MAX_AGE: Duration = Duration::from_mins(1);

/// The API server is waited for so long. Reviews are waiting, too.
const PATIENCE: Duration = Duration::from_secs(3);

/// Namespace and name.
type SecretName = (String, String);

/// When a Secret was read, and what was found.
type Read = (Instant, Material);

/// Contents of the Secrets that policies take keys from.
pub struct Keys {
    client: Client,
    scope: Arc<Scope>,
    kept: Mutex<Kept>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Kept {
    /// Every Secret that was asked for, with what was read of it and when.
    asked: HashMap<SecretName, Option<Read>>,
    /// Counts what was forgotten, so that an answer that was asked for before a change is not kept after it.
    forgotten: u64,
}

impl Keys {
    /// Nothing read yet. `scope` says where Secrets may be read.
    pub fn new(client: Client, scope: Arc<Scope>) -> Self {
        Self { client, scope, kept: Mutex::default(), changed: watch::Sender::default() }
    }

    /// What became of each Secret that a policy of `namespace` names.
    pub async fn of(&self, namespace: &str, spec: &ImagePolicySpec) -> BTreeMap<String, Material> {
        let mut found = BTreeMap::new();
        for name in secrets(spec) {
            found.insert(name.to_owned(), self.get(namespace, name).await);
        }
        found
    }

    async fn get(&self, namespace: &str, name: &str) -> Material {
        if !self.scope.contains(namespace) {
            return Material::NotManaged;
        }
        let key = (namespace.to_owned(), name.to_owned());
        let before = {
            let mut kept = self.kept();
            match kept.asked.entry(key.clone()).or_default() {
                Some((read, material)) if read.elapsed() < MAX_AGE => return material.clone(),
                _ => kept.forgotten,
            }
        };
        let api = Api::<Secret>::namespaced(self.client.clone(), namespace);
        let Ok(answer) = timeout(PATIENCE, api.get_opt(name)).await else {
            return Material::Unreadable("the API server did not answer in time".to_owned());
        };
        match answer {
            Ok(Some(secret)) => {
                let data = secret.data.unwrap_or_default();
                let material = Material::of(data.iter().map(|(key, value)| (key, value.0.as_slice())));
                let mut kept = self.kept();
                if kept.forgotten == before {
                    let old = kept.asked.insert(key, Some((Instant::now(), material.clone())));
                    // The watch missed it.
                    if old.flatten().is_some_and(|(_, old)| old != material) {
                        kept.forgotten += 1;
                    }
                }
                material
            }
            Ok(None) => {
                let mut kept = self.kept();
                if kept.asked.insert(key, None).flatten().is_some() {
                    kept.forgotten += 1;
                }
                Material::NotFound
            }
            Err(error) => Material::Unreadable(error.to_string()),
        }
    }

    /// Counts the changes of Secrets that were seen: as long as it stays, [`Keys::of`] gives the same keys.
    pub fn revision(&self) -> u64 {
        self.kept().forgotten
    }

    /// Fires when a Secret that may hold a key was made, changed or deleted.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Watches the metadata of Secrets and forgets what changed. Never returns while the watches live.
    pub async fn follow(&self) {
        let watches = self.scope.apis::<PartialObjectMeta<Secret>>(&self.client).into_iter();
        let watches = watches.map(|api| watcher(api, watcher::Config::default()).default_backoff().boxed());
        stream::select_all(watches)
            .for_each(|event| {
                match event {
                    Ok(event) => self.take(event),
                    Err(error) => {
                        tracing::warn!(%error, "the watch of Secrets failed and is taken up again");
                    }
                }
                futures::future::ready(())
            })
            .await;
    }

    fn take(&self, event: Event<PartialObjectMeta<Secret>>) {
        let mut kept = self.kept();
        match event {
            // Whatever happened while nobody watched is unknown.
            Event::Init => kept.asked.values_mut().for_each(|read| *read = None),
            Event::Apply(secret) | Event::InitApply(secret) | Event::Delete(secret) => {
                let key = (secret.namespace().unwrap_or_default(), secret.name_any());
                match kept.asked.get_mut(&key) {
                    Some(read) => *read = None,
                    // Nobody's key.
                    None => return,
                }
            }
            Event::InitDone => return,
        }
        kept.forgotten += 1;
        drop(kept);
        self.changed.send_replace(());
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
