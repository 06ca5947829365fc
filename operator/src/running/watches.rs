//! What runs and where, kept by two watches: Pods, reduced on arrival to what is asked of them, and labels of namespaces.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use berth_operator_core::running::{Labels, Pods};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, Client, ResourceExt as _,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use tokio::sync::watch;

/// As the watches saw it last.
#[derive(Default)]
pub(super) struct World {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    pods: Listed<Pods>,
    namespaces: Listed<BTreeMap<String, Labels>>,
}

/// What is known of a kind, and the list that is to take its place once it is complete.
#[derive(Default)]
struct Listed<T> {
    known: Option<T>,
    coming: Option<T>,
}

impl<T: Default> Listed<T> {
    /// What the next event changes.
    fn current(&mut self) -> &mut T {
        match &mut self.coming {
            Some(coming) => coming,
            None => self.known.get_or_insert_default(),
        }
    }

    /// Follows a list: whether something may be different now. A change counts once the list is complete.
    fn take<E>(&mut self, event: Event<E>, mut apply: impl FnMut(&mut T, &E, bool) -> bool) -> bool {
        match event {
            Event::Init => {
                self.coming = Some(T::default());
                false
            }
            Event::InitApply(object) => {
                apply(self.current(), &object, true);
                false
            }
            Event::InitDone => {
                self.known = self.coming.take().or(self.known.take());
                true
            }
            Event::Apply(object) => apply(self.current(), &object, true),
            Event::Delete(object) => apply(self.current(), &object, false),
        }
    }
}

impl World {
    /// Fires when anything that policies could ask about is different.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Reads all of it at one moment; none as long as it is not complete.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Pods, &BTreeMap<String, Labels>) -> T) -> Option<T> {
        let state = self.state();
        Some(read(state.pods.known.as_ref()?, state.namespaces.known.as_ref()?))
    }

    /// Keeps it filled. Never returns while the watches live.
    pub(super) async fn follow(&self, client: &Client) {
        let pods = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default());
        let pods = pods.default_backoff().for_each(|event| {
            self.told("Pods", event, |state, event| state.pods.take(event, apply));
            futures::future::ready(())
        });
        let namespaces = Api::<PartialObjectMeta<Namespace>>::all(client.clone());
        let namespaces = watcher(namespaces, watcher::Config::default());
        let namespaces = namespaces.default_backoff().for_each(|event| {
            self.told("namespaces", event, |state, event| state.namespaces.take(event, label));
            futures::future::ready(())
        });
        tokio::join!(pods, namespaces);
    }

    fn told<E>(
        &self,
        kind: &str,
        event: watcher::Result<Event<E>>,
        take: impl FnOnce(&mut State, Event<E>) -> bool,
    ) {
        match event {
            Ok(event) => {
                if take(&mut self.state(), event) {
                    self.changed.send_replace(());
                }
            }
            Err(error) => tracing::warn!(kind, %error, "the watch failed and is taken up again"),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn apply(pods: &mut Pods, pod: &Pod, exists: bool) -> bool {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    if !exists {
        return pods.remove(&namespace, &name);
    }
    pods.apply(pod).unwrap_or_else(|error| {
        tracing::warn!(namespace, name, %error, "the images of a Pod cannot be read");
        false
    })
}

fn label(
    namespaces: &mut BTreeMap<String, Labels>,
    namespace: &PartialObjectMeta<Namespace>,
    exists: bool,
) -> bool {
    let (name, labels) = (namespace.name_any(), namespace.labels());
    if !exists {
        return namespaces.remove(&name).is_some();
    }
    namespaces.insert(name, labels.clone()).as_ref() != Some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "as for Pods")]
    fn add(set: &mut Vec<u8>, &object: &u8, exists: bool) -> bool {
        set.retain(|other| *other != object);
        if exists {
            set.push(object);
        }
        true
    }

    /// A list that is taken up again replaces what was known, at once and as a whole.
    #[test]
    fn a_list_replaces_another_when_it_is_complete() {
        let mut listed = Listed::<Vec<u8>>::default();
        assert!(!listed.take(Event::Init, add) && !listed.take(Event::InitApply(1), add));
        assert_eq!(listed.known, None);
        assert!(listed.take(Event::InitDone, add) && listed.take(Event::Apply(2), add));
        assert_eq!(listed.known, Some(vec![1, 2]));
        listed.take(Event::Init, add);
        listed.take(Event::InitApply(3), add);
        assert_eq!(listed.known, Some(vec![1, 2]));
        assert!(listed.take(Event::InitDone, add) && listed.take(Event::Delete(3), add));
        assert_eq!(listed.known, Some(vec![]));
    }
}
