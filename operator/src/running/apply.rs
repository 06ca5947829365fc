//! Fourth verb: writes the `PolicyReports`, where the cluster has their definition. What is in place is not written; what
//! somebody has changed is put right; a report of somebody else's that has our name is left alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use berth_operator_core::{
    objects,
    running::{PolicyReport, REPORT},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions},
};

use crate::{
    Context, field_managers,
    metrics::Controller,
    running::watches::{Live, World},
};

/// Reports on a page of a list.
const PAGE: u32 = 500;

/// What somebody else has is asked for again after this time.
const TAKEN: Duration = Duration::from_mins(10);

/// What somebody changes again and again is put right so often, and what failed is tried again.
const AGAIN: Duration = Duration::from_mins(1);

/// What was tried last with each report.
#[derive(Default)]
pub(super) struct Reports {
    /// By namespace.
    tried: BTreeMap<String, Tried>,
    /// When the first of what was left alone is to be tried again.
    again: Option<Instant>,
}

#[derive(Clone, PartialEq, Eq)]
struct Tried {
    /// Hash of what was wanted; none if that was a removal.
    hash: Option<String>,
    /// The same is not tried again before.
    until: Instant,
}

/// What came of a write.
enum Outcome {
    Written(Option<Live>),
    /// Somebody else has a report of this name.
    Taken,
    /// The namespace is gone, or about to be.
    Gone,
}

impl Reports {
    /// Brings the reports of the cluster to what is wanted.
    pub(super) async fn apply(
        &mut self,
        context: &Context,
        world: &World,
        wanted: &BTreeMap<String, PolicyReport>,
    ) -> Result<(), kube::Error> {
        let hashes: BTreeMap<_, _> =
            wanted.iter().map(|(namespace, report)| (namespace.clone(), objects::hash(report))).collect();
        self.again = None;
        let Some(live) = world.expect(&hashes) else { return Ok(()) };
        let namespaces: BTreeSet<_> = wanted.keys().chain(live.keys()).collect();
        self.tried.retain(|namespace, _| namespaces.contains(namespace));
        let mut failure = None;
        for namespace in namespaces {
            let (report, found, hash) = (wanted.get(namespace), live.get(namespace), hashes.get(namespace));
            let is_done = report.is_some() && found.is_some_and(|found| found.hash.as_ref() == hash);
            if is_done || !self.may(namespace, hash, Instant::now()) {
                continue;
            }
            let outcome = match (report, found) {
                (Some(report), _) => write(context, namespace, report, found.is_some()).await,
                (None, Some(found)) => remove(&context.client, namespace, found).await,
                (None, None) => continue,
            };
            self.note(namespace, hash, outcome.as_ref().ok(), Instant::now());
            match outcome {
                Ok(Outcome::Written(now)) => {
                    let label = Controller { controller: super::NAME.to_owned() };
                    context.metrics.writes.get_or_create(&label).inc();
                    world.wrote(namespace, now);
                }
                Ok(Outcome::Taken | Outcome::Gone) => {}
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Whether this may be tried now; if not, it is remembered when.
    fn may(&mut self, namespace: &str, hash: Option<&String>, now: Instant) -> bool {
        let tried = self.tried.get(namespace).filter(|tried| tried.hash.as_ref() == hash);
        let Some(until) = tried.map(|tried| tried.until).filter(|until| *until > now) else { return true };
        self.again = Some(self.again.map_or(until, |again| again.min(until)));
        false
    }

    /// What came of it. What is put right once is put right at once; whoever goes on changing it is not raced.
    fn note(&mut self, namespace: &str, hash: Option<&String>, outcome: Option<&Outcome>, now: Instant) {
        let is_first = self.tried.get(namespace).is_none_or(|tried| tried.hash.as_ref() != hash);
        let pause = match outcome {
            Some(Outcome::Written(_)) if is_first => Duration::ZERO,
            Some(Outcome::Taken) => TAKEN,
            Some(Outcome::Written(_) | Outcome::Gone) | None => AGAIN,
        };
        let until = now + pause;
        self.tried.insert(namespace.to_owned(), Tried { hash: hash.cloned(), until });
        if !matches!(outcome, Some(Outcome::Written(_))) {
            self.again = Some(self.again.map_or(until, |again| again.min(until)));
        }
    }

    /// The longest time until it should be asked to apply again.
    pub(super) fn pause(&self) -> Option<Duration> {
        self.again.map(|again| again.saturating_duration_since(Instant::now()))
    }
}

async fn write(
    context: &Context,
    namespace: &str,
    report: &PolicyReport,
    is_ours: bool,
) -> Result<Outcome, kube::Error> {
    let api = Api::<PolicyReport>::namespaced(context.client.clone(), namespace);
    let parameters = PatchParams::apply(field_managers::POLICY_REPORT);
    // Only what is ours already is taken back from whoever changed it.
    let parameters = if is_ours { parameters.force() } else { parameters };
    match api.patch_metadata(REPORT, &parameters, &Patch::Apply(objects::sealed(report))).await {
        Ok(written) => {
            tracing::info!(namespace, name = REPORT, "PolicyReport applied");
            let hash = Some(objects::hash(report));
            Ok(Outcome::Written(Some(Live { hash, uid: written.metadata.uid })))
        }
        Err(kube::Error::Api(status)) if status.code == 409 => {
            tracing::warn!(
                namespace,
                name = REPORT,
                "the PolicyReport belongs to somebody else and is left as it is"
            );
            Ok(Outcome::Taken)
        }
        Err(kube::Error::Api(status)) if status.is_not_found() || status.code == 403 => {
            tracing::debug!(namespace, error = %status.message, "no PolicyReport written");
            Ok(Outcome::Gone)
        }
        Err(error) => Err(error),
    }
}

async fn remove(client: &Client, namespace: &str, found: &Live) -> Result<Outcome, kube::Error> {
    let api = Api::<PolicyReport>::namespaced(client.clone(), namespace);
    let preconditions = Some(Preconditions { uid: found.uid.clone(), resource_version: None });
    match api.delete(REPORT, &DeleteParams { preconditions, ..DeleteParams::default() }).await {
        Ok(_) => tracing::info!(namespace, name = REPORT, "PolicyReport removed"),
        // Gone, or another one by now, which will be heard of.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.code == 409 => {}
        Err(error) => return Err(error),
    }
    Ok(Outcome::Written(None))
}

/// Removes all of them; for the end of an installation.
pub(crate) async fn remove_all(client: &Client) -> Result<(), kube::Error> {
    let api = Api::<PolicyReport>::all(client.clone());
    let mut page = ListParams::default().labels(&objects::selector()).limit(PAGE);
    loop {
        let list = match api.list_metadata(&page).await {
            Ok(list) => list,
            // Of a group that it does not know, the API server says so without a reason.
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            Err(error) => return Err(error),
        };
        for report in list.items.iter().filter(|report| report.name_any() == REPORT) {
            let live = Live { hash: None, uid: report.uid() };
            remove(client, &report.namespace().unwrap_or_default(), &live).await?;
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Method, Request, Response};
    use kube::client::Body;
    use rstest::rstest;
    use serde_json::{Value, json};
    use std::sync::{Arc, Mutex};

    /// Each line: the second, what is wanted, whether it is tried, and with what outcome. Who changes a report is answered at
    /// once, and not raced; what is wanted anew is not held back.
    #[rstest]
    #[case::written(&[(0, "a", true), (1, "a", true), (2, "a", false), (60, "a", false), (61, "a", true), (62, "a", false)], || Some(Outcome::Written(None)))]
    #[case::others_wanted(&[(0, "a", true), (1, "a", true), (2, "b", true), (3, "a", true), (4, "a", true), (5, "a", false)], || Some(Outcome::Written(None)))]
    #[case::taken(&[(0, "a", true), (599, "a", false), (600, "a", true)], || Some(Outcome::Taken))]
    #[case::failed(&[(0, "a", true), (59, "a", false), (60, "a", true)], || None)]
    fn nobody_is_raced(#[case] steps: &[(u64, &str, bool)], #[case] outcome: fn() -> Option<Outcome>) {
        let (start, mut reports) = (Instant::now(), Reports::default());
        for (second, hash, tried) in steps {
            let (now, hash) = (start + Duration::from_secs(*second), (*hash).to_owned());
            reports.again = None;
            assert_eq!(reports.may("team-a", Some(&hash), now), *tried, "{second}");
            assert_eq!(reports.again.is_some(), !tried, "{second}");
            if *tried {
                reports.note("team-a", Some(&hash), outcome().as_ref(), now);
            }
        }
    }

    /// What was deleted, with the uid that was meant, in a cluster that answers lists with these pages.
    async fn removed(pages: &[Value]) -> Vec<String> {
        let (pages, seen) = (Arc::new(Mutex::new(pages.to_vec())), Arc::new(Mutex::new(Vec::new())));
        let deleted = seen.clone();
        let server = tower::service_fn(move |request: Request<Body>| {
            let (pages, seen) = (pages.clone(), seen.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body: Value = serde_json::from_slice(&body.collect_bytes().await?).unwrap_or_default();
                let answer = if parts.method == Method::DELETE {
                    let line = format!("{} {}", parts.uri.path(), body["preconditions"]["uid"]);
                    seen.lock().unwrap().push(line);
                    json!({"kind": "Status", "status": "Success"})
                } else {
                    assert!(
                        parts.uri.query().unwrap().contains("labelSelector=app.kubernetes.io%2Fmanaged-by")
                    );
                    pages.lock().unwrap().remove(0)
                };
                let code = answer["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(200);
                let body = Body::from(answer.to_string().into_bytes());
                Ok::<_, kube::Error>(Response::builder().status(code).body(body).unwrap())
            }
        });
        remove_all(&Client::new(server, "default")).await.unwrap();
        let deleted = deleted.lock().unwrap();
        deleted.clone()
    }

    /// R-OPR-1: an operator that goes leaves no report that nobody will ever correct.
    #[tokio::test]
    async fn all_reports_go_with_the_operator() {
        let report = |namespace: &str, name: &str| json!({"metadata": {"namespace": namespace, "name": name, "uid": format!("of-{namespace}")}});
        let page = |meta: Value, items: &[Value]| json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": meta, "items": items});
        let pages = [
            page(json!({"continue": "more"}), &[report("team-a", "berth"), report("team-a", "other")]),
            page(json!({}), &[report("team-b", "berth")]),
        ];
        let path = |namespace: &str| {
            format!(
                "/apis/wgpolicyk8s.io/v1alpha2/namespaces/{namespace}/policyreports/berth \"of-{namespace}\""
            )
        };
        assert_eq!(removed(&pages).await, [path("team-a"), path("team-b")]);
    }

    #[tokio::test]
    async fn without_a_definition_there_is_nothing_to_remove() {
        let unknown =
            json!({"kind": "Status", "status": "Failure", "code": 404, "message": "404 page not found"});
        assert!(removed(&[unknown]).await.is_empty());
    }
}
