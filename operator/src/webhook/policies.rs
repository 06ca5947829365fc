//! Policies as they judge: read into rules once, and again only when the object or one of its Secrets changes. The
//! number of a policy stands for all of that, so that verdicts can be remembered by it. And which policies a namespace
//! has of its own, because they are asked all at once.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use berth_crds::{ImagePolicy, ImagePolicySpec};
use berth_operator_core::{
    image_policy::{Material, Rules},
    webhook_configuration::Entry,
};
use berth_registry_core::ImageReference;
use berth_trust::Anchors;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{
    Resource, ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};
use tokio::{sync::watch, time::Instant};

use crate::{
    image_policy::{Keys, validate::rules},
    stores::Guarded,
};

/// Rules are read anew after this time, behind the scenes, should a watch have missed something.
const MAX_AGE: Duration = Duration::from_mins(1);

/// The rules of one revision of a policy and of its Secrets.
#[derive(Debug)]
pub struct Compiled {
    /// Differs from that of every other revision of any policy.
    pub number: u64,
    /// What it says.
    pub rules: Rules,
}

struct Slot {
    compiled: Arc<Compiled>,
    object: Arc<Guarded<ImagePolicy>>,
    /// Of the Secrets.
    revision: u64,
    read: Instant,
}

/// Namespace and name.
type Name = (String, String);

/// A policy that binds its own namespace.
#[derive(Debug)]
pub struct Own {
    /// Its name.
    pub name: String,
    /// Objects that it selects by their labels; all if absent.
    pub objects: Option<LabelSelector>,
}

/// All policies of the cluster.
pub struct Policies {
    store: Store<Guarded<ImagePolicy>>,
    keys: Arc<Keys>,
    slots: Mutex<HashMap<Name, Slot>>,
    /// By namespace, in the order of their names.
    own: RwLock<HashMap<String, Arc<[Own]>>>,
    next: AtomicU64,
}

impl Policies {
    /// The policies in `store`, with the keys that they name. They are yet to be sorted.
    pub fn new(store: Store<Guarded<ImagePolicy>>, keys: Arc<Keys>) -> Self {
        Self { store, keys, slots: Mutex::default(), own: RwLock::default(), next: AtomicU64::new(0) }
    }

    /// The policies of a namespace; none if it has no policy that could bind anything.
    pub fn own(&self, namespace: &str) -> Option<Arc<[Own]>> {
        self.own.read().unwrap_or_else(PoisonError::into_inner).get(namespace).cloned()
    }

    /// Finds out which policies each namespace has. [`Policies::follow`] does it at each change.
    pub fn sort(&self) {
        let mut sorted = HashMap::<_, Vec<_>>::new();
        for object in self.store.state() {
            let (namespace, name) = key(&object);
            let spec = object.0.as_ref().ok().map(|policy| &policy.spec);
            // Only in the operator's namespace do policies select others, and there none is asked as one of its own.
            let Some(Entry { objects, .. }) = Entry::new("", &namespace, &name, spec) else { continue };
            sorted.entry(namespace).or_default().push(Own { name, objects });
        }
        let sorted = sorted.into_iter().map(|(namespace, mut own)| {
            own.sort_by(|a, b| a.name.cmp(&b.name));
            (namespace, own.into())
        });
        *self.own.write().unwrap_or_else(PoisonError::into_inner) = sorted.collect();
    }

    /// A policy as it is now; `None` if there is none.
    pub async fn get(self: &Arc<Self>, namespace: &str, name: &str) -> Option<Arc<Compiled>> {
        let key = (namespace.to_owned(), name.to_owned());
        let Some(object) = self.store.get(&ObjectRef::new(name).within(namespace)) else {
            self.slots().remove(&key);
            return None;
        };
        let revision = self.keys.revision();
        let kept = {
            let mut slots = self.slots();
            slots.get_mut(&key).filter(|slot| slot.is_of(&object, revision)).map(|slot| {
                let old = slot.read.elapsed() >= MAX_AGE;
                if old {
                    // One review has it read; the others go on.
                    slot.read = Instant::now();
                }
                (slot.compiled.clone(), old)
            })
        };
        match kept {
            Some((compiled, old)) => {
                if old {
                    let policies = self.clone();
                    tokio::spawn(async move { policies.compile(key, object).await });
                }
                Some(compiled)
            }
            None => Some(self.compile(key, object).await),
        }
    }

    /// What a policy and its Secrets hold now, for the record; `None` if it cannot be read.
    pub async fn written(
        &self,
        namespace: &str,
        name: &str,
    ) -> Option<(ImagePolicySpec, BTreeMap<String, Material>)> {
        let object = self.store.get(&ObjectRef::new(name).within(namespace))?;
        let spec = object.0.as_ref().ok()?.spec.clone();
        let secrets = self.keys.of(namespace, &spec).await;
        Some((spec, secrets))
    }

    async fn compile(&self, key: Name, object: Arc<Guarded<ImagePolicy>>) -> Arc<Compiled> {
        let before = self.keys.revision();
        let rules = rules(&object, &self.keys).await;
        let revision = self.keys.revision();
        let mut slots = self.slots();
        // Read again, and nothing had changed: what is remembered by its number still holds.
        if let Some(slot) = slots.get(&key).filter(|slot| slot.is_of(&object, revision)) {
            return slot.compiled.clone();
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let compiled = Arc::new(Compiled { number, rules });
        // What changed while it was read may or may not be in it; an older revision makes the next review look.
        let slot =
            Slot { compiled: compiled.clone(), object, revision: before.min(revision), read: Instant::now() };
        slots.insert(key, slot);
        compiled
    }

    /// The anchors of all policies that speak about an image and may have its registry asked. Facts established with
    /// them serve every review of the image.
    pub fn anchors_for(&self, image: &ImageReference, may_ask: impl Fn(&str) -> bool) -> Anchors {
        let slots = self.slots();
        let policies = slots.iter().filter_map(|((namespace, _), slot)| {
            let policy = slot.compiled.rules.policy.as_ref().ok()?;
            (policy.applies_to(image) && may_ask(namespace)).then_some(policy)
        });
        policies.flat_map(|policy| policy.anchors().clone()).collect()
    }

    /// Sorts and reads policies as soon as they change, so that no review has to. Returns when nothing can change any more.
    pub async fn follow(self: &Arc<Self>, changed: watch::Receiver<()>) {
        let mut unsorted = changed.clone();
        let sort = async {
            // Reading waits for Secrets, and this must not.
            loop {
                unsorted.mark_unchanged();
                self.sort();
                if unsorted.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::join!(sort, self.keep_read(changed));
    }

    async fn keep_read(self: &Arc<Self>, mut changed: watch::Receiver<()>) {
        let mut keys = self.keys.changes();
        loop {
            changed.mark_unchanged();
            keys.mark_unchanged();
            let objects = self.store.state();
            let names: std::collections::HashSet<_> = objects.iter().map(|object| key(object)).collect();
            self.slots().retain(|name, _| names.contains(name));
            for (namespace, name) in names {
                self.get(&namespace, &name).await;
            }
            tokio::select! {
                Ok(()) = changed.changed() => {}
                Ok(()) = keys.changed() => {}
                else => return,
            }
        }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Name, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Whether it was made from this object and these Secrets. What could not be read is read again each time.
    fn is_of(&self, object: &Arc<Guarded<ImagePolicy>>, revision: u64) -> bool {
        self.compiled.rules.policy.is_ok()
            && self.revision == revision
            && (Arc::ptr_eq(&self.object, object) || same_spec(&self.object, object))
    }
}

fn key(object: &Guarded<ImagePolicy>) -> Name {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// A status that changes is no new revision.
fn same_spec(a: &Guarded<ImagePolicy>, b: &Guarded<ImagePolicy>) -> bool {
    let spec = |object: &Guarded<ImagePolicy>| Some((object.meta().uid.clone()?, object.meta().generation?));
    spec(a).is_some_and(|a| Some(a) == spec(b))
}
