//! What runs and where, kept by two watches: Pods, reduced on arrival to what is asked of them, and labels of namespaces. A
//! third keeps what is there of our reports, so that one that somebody edits or deletes is put right.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use berth_operator_core::{
    objects,
    running::{Labels, Pods, PolicyReport, REPORT},
};
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
use tokio::{sync::watch, time::sleep};

use crate::stores::Guarded;

/// Whether the cluster knows by now what a report is, is asked again after this time.
const UNDEFINED: Duration = Duration::from_mins(1);

/// Reports on a page of a list: they are large, and little is kept of each.
const PAGE: u32 = 20;

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
    /// Ours, by namespace.
    reports: Listed<BTreeMap<String, Live>>,
    /// Hashes that they shall have.
    expected: BTreeMap<String, String>,
}

/// A report that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Live {
    /// What it was applied with; none if it says something else by now.
    pub(super) hash: Option<String>,
    pub(super) uid: Option<String>,
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

    /// From now on the reports shall have these hashes. Those that are there; none as long as they are not listed, or where
    /// the cluster does not know what a report is.
    pub(super) fn expect(&self, hashes: &BTreeMap<String, String>) -> Option<BTreeMap<String, Live>> {
        let mut state = self.state();
        state.expected.clone_from(hashes);
        state.reports.known.clone()
    }

    /// What is there after a write, which the watch will say later.
    pub(super) fn wrote(&self, namespace: &str, now: Option<Live>) {
        if let Some(reports) = &mut self.state().reports.known {
            match now {
                Some(live) => reports.insert(namespace.to_owned(), live),
                None => reports.remove(namespace),
            };
        }
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
        tokio::join!(pods, namespaces, self.follow_reports(client));
    }

    /// Follows the reports where the cluster has their definition, which may come and go.
    async fn follow_reports(&self, client: &Client) {
        let config = watcher::Config::default().labels(&objects::selector()).page_size(PAGE);
        loop {
            let reports = watcher(Api::<Guarded<PolicyReport>>::all(client.clone()), config.clone());
            let mut reports = pin!(reports.default_backoff());
            while let Some(event) = reports.next().await {
                if event.as_ref().is_err_and(is_undefined) {
                    break;
                }
                self.told("PolicyReports", event, |State { reports, expected, .. }, event| {
                    reports.take(event, |reports, object, exists| report(reports, expected, object, exists))
                });
            }
            self.state().reports = Listed::default();
            sleep(UNDEFINED).await;
        }
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

/// Whether a report is not what it shall be now. Our own writes come back, too, and are no news.
fn report(
    reports: &mut BTreeMap<String, Live>,
    expected: &BTreeMap<String, String>,
    report: &Guarded<PolicyReport>,
    exists: bool,
) -> bool {
    if report.name_any() != REPORT {
        return false;
    }
    let namespace = report.namespace().unwrap_or_default();
    if exists {
        let hash = report.0.as_ref().ok().and_then(PolicyReport::intact);
        reports.insert(namespace.clone(), Live { hash, uid: report.uid() });
    } else {
        reports.remove(&namespace);
    }
    match (reports.get(&namespace), expected.get(&namespace)) {
        (Some(live), Some(expected)) => live.hash.as_ref() != Some(expected),
        (live, expected) => live.is_some() || expected.is_some(),
    }
}

/// Of a group that it does not know, the API server says so without a reason.
fn is_undefined(error: &watcher::Error) -> bool {
    use watcher::Error::{InitialListFailed, WatchStartFailed};
    match error {
        InitialListFailed(kube::Error::Api(status)) | WatchStartFailed(kube::Error::Api(status)) => {
            status.code == 404
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

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

    fn live(hash: &str) -> Live {
        Live { hash: Some(hash.to_owned()), uid: Some("u".to_owned()) }
    }

    /// A report is news only if it is not what it shall be; what cannot even be read is not.
    #[rstest]
    #[case::as_we_wrote_it(json!({"metadata": {"annotations": {"berth.dev/applied": "HASH"}}}), true, true, false)]
    #[case::edited(json!({"metadata": {"annotations": {"berth.dev/applied": "HASH"}}, "summary": {"pass": 9}}), true, true, true)]
    #[case::without_its_hash(json!({}), true, true, true)]
    #[case::unreadable(json!({"results": "none"}), true, true, true)]
    #[case::deleted(json!({}), false, true, true)]
    #[case::deleted_by_us(json!({}), false, false, false)]
    #[case::brought_back(json!({"metadata": {"annotations": {"berth.dev/applied": "HASH"}}}), true, false, true)]
    #[case::of_another_name(json!({"metadata": {"name": "other"}}), true, true, false)]
    fn what_is_news(#[case] more: Value, #[case] exists: bool, #[case] wanted: bool, #[case] news: bool) {
        let desired = PolicyReport::empty("team-a");
        let hash = objects::hash(&desired);
        let mut object = json!(desired);
        merge(&mut object, more);
        let object = object.to_string().replace("HASH", &hash);
        let object: Guarded<PolicyReport> = serde_json::from_str(&object).unwrap();
        let expected = wanted.then(|| ("team-a".to_owned(), hash)).into_iter().collect();
        let mut reports = [("team-a".to_owned(), live("older"))].into();
        assert_eq!(report(&mut reports, &expected, &object, exists), news);
    }

    /// As RFC 7386 has it.
    fn merge(object: &mut Value, patch: Value) {
        match (object, patch) {
            (Value::Object(object), Value::Object(patch)) => {
                for (key, value) in patch {
                    merge(object.entry(key).or_insert(Value::Null), value);
                }
            }
            (object, patch) => *object = patch,
        }
    }
}
