//! Berth's own objects in memory, on every replica: filled by watches, read by controllers and by the webhook.
//! An object that does not parse is kept as such and stops nothing.

use std::{hash::Hash, sync::Arc};

use berth_crds::{ImagePolicy, Registry, ReplicationPolicy};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Resource,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt as _,
        reflector::{self, ObjectRef, Store, store::Writer},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::certs::{AUTHORITY_SECRET, Bundle};

/// A kind that may hold objects that do not parse.
pub type Guarded<K> = DeserializeGuard<K>;

/// The reading ends.
#[derive(Clone)]
pub struct Stores {
    /// All Registries.
    pub registries: Store<Guarded<Registry>>,
    /// All `ReplicationPolicies`.
    pub replication_policies: Store<Guarded<ReplicationPolicy>>,
    /// All `ImagePolicies`.
    pub image_policies: Store<Guarded<ImagePolicy>>,
    /// Marked as changed whenever an object in one of the stores is.
    pub changed: watch::Receiver<()>,
}

/// The writing ends.
pub struct Writers {
    registries: Writer<Guarded<Registry>>,
    replication_policies: Writer<Guarded<ReplicationPolicy>>,
    image_policies: Writer<Guarded<ImagePolicy>>,
    changed: watch::Sender<()>,
    bundle: watch::Sender<Option<Bundle>>,
}

impl Stores {
    /// Empty stores.
    pub fn new(bundle: watch::Sender<Option<Bundle>>) -> (Self, Writers) {
        let (registries, registries_writer) = reflector::store();
        let (replication_policies, replication_policies_writer) = reflector::store();
        let (image_policies, image_policies_writer) = reflector::store();
        let (changed_sender, changed) = watch::channel(());
        (
            Self { registries, replication_policies, image_policies, changed },
            Writers {
                registries: registries_writer,
                replication_policies: replication_policies_writer,
                image_policies: image_policies_writer,
                changed: changed_sender,
                bundle,
            },
        )
    }

    /// A Registry that exists and parses.
    pub fn registry(&self, namespace: &str, name: &str) -> Option<Registry> {
        let object = self.registries.get(&ObjectRef::new(name).within(namespace))?;
        object.0.as_ref().ok().cloned()
    }

    /// The `ReplicationPolicies` of a namespace that parse.
    pub fn replication_policies_in(&self, namespace: &str) -> Vec<ReplicationPolicy> {
        let in_namespace =
            |object: &Guarded<ReplicationPolicy>| object.meta().namespace.as_deref() == Some(namespace);
        let mut policies: Vec<_> = self
            .replication_policies
            .state_filter(in_namespace)
            .iter()
            .filter_map(|object| object.0.as_ref().ok().cloned())
            .collect();
        policies.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        policies
    }

    /// Returns once every store holds what the cluster held when it was first listed.
    pub async fn wait_until_filled(&self) {
        // An error means that the writer is gone, and with it the process.
        let _ = tokio::join!(
            self.registries.wait_until_ready(),
            self.replication_policies.wait_until_ready(),
            self.image_policies.wait_until_ready()
        );
    }
}

/// Keeps the stores filled. Never returns while the process lives.
pub async fn run(client: &Client, namespace: &str, writers: Writers) {
    tokio::join!(
        fill(client, writers.registries, &writers.changed),
        fill(client, writers.replication_policies, &writers.changed),
        fill(client, writers.image_policies, &writers.changed),
        follow_bundle(client, namespace, writers.bundle),
    );
}

async fn fill<K>(client: &Client, writer: Writer<Guarded<K>>, changed: &watch::Sender<()>)
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Hash + Eq,
{
    let stream =
        watcher(Api::<Guarded<K>>::all(client.clone()), watcher::Config::default()).default_backoff();
    reflector::reflector(writer, stream)
        .for_each(|event| {
            match event {
                Ok(_) => changed.send_replace(()),
                Err(error) => {
                    tracing::warn!(kind = %K::kind(&()), %error, "the watch failed and is taken up again");
                }
            }
            futures::future::ready(())
        })
        .await;
}

async fn follow_bundle(client: &Client, namespace: &str, bundle: watch::Sender<Option<Bundle>>) {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let stream = watcher::watch_object(secrets, AUTHORITY_SECRET).default_backoff();
    let mut stream = std::pin::pin!(stream);
    loop {
        match stream.try_next().await {
            // A Secret that is deleted comes back with the leader's next look; until then the last bundle stays.
            Ok(Some(None)) => {}
            Ok(Some(Some(secret))) => match Bundle::read(&secret) {
                Ok(read) => {
                    bundle.send_if_modified(|current| {
                        let changed = current.as_ref() != Some(&read);
                        *current = Some(read);
                        changed
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the Secret of the certificate authority cannot be used");
                }
            },
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "the watch of the certificate authority failed and is taken up again");
            }
        }
    }
}

/// The objects that parse, as a list.
pub fn parsed<K: Clone + Resource<DynamicType = ()> + 'static>(store: &Store<Guarded<K>>) -> Vec<K>
where
    K::DynamicType: Hash + Eq,
{
    store.state().iter().filter_map(|object: &Arc<Guarded<K>>| object.0.as_ref().ok().cloned()).collect()
}
