//! Fourth verb: writes the `PolicyReports`, where the cluster has their definition. What is in place is not written; a
//! report of somebody else's that has our name is left alone.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use berth_operator_core::{
    objects::{self, APPLIED_HASH},
    running::{PolicyReport, REPORT},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions},
};

use crate::{Context, field_managers, metrics::Controller};

/// Reports on a page of a list.
const PAGE: u32 = 500;

/// What is in place is looked at again after this time.
const EACH: Duration = Duration::from_mins(10);

/// Whether there is a definition by now is asked again after this time.
const UNDEFINED: Duration = Duration::from_mins(1);

/// The reports as they were written last.
#[derive(Default)]
pub(super) struct Reports {
    /// Hash of each, by namespace.
    written: BTreeMap<String, String>,
    /// When the cluster was asked last, and whether it has the definition.
    asked: Option<(Instant, bool)>,
}

/// One that is there: its hash, if it is ours, and its uid.
struct Live {
    hash: Option<String>,
    uid: Option<String>,
}

impl Reports {
    /// Brings the reports of the cluster to what is wanted.
    pub(super) async fn apply(
        &mut self,
        context: &Context,
        wanted: &BTreeMap<String, PolicyReport>,
    ) -> Result<(), kube::Error> {
        let hashes: BTreeMap<_, _> =
            wanted.iter().map(|(namespace, report)| (namespace.clone(), objects::hash(report))).collect();
        let is_done = self.asked.is_some_and(|(asked, defined)| {
            asked.elapsed() < self.pause() && (!defined || self.written == hashes)
        });
        if is_done {
            return Ok(());
        }
        self.asked = None;
        let Some(live) = live(context).await? else {
            self.asked = Some((Instant::now(), false));
            return Ok(());
        };
        let mut failure = None;
        for (namespace, report) in wanted {
            let found = live.get(namespace);
            if found.is_none_or(|found| found.hash.as_ref() != hashes.get(namespace)) {
                failure = write(context, namespace, report, found.is_some()).await.err().or(failure);
            }
        }
        for (namespace, found) in live.iter().filter(|(namespace, _)| !wanted.contains_key(*namespace)) {
            failure = remove(context, namespace, found).await.err().or(failure);
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        self.written = hashes;
        self.asked = Some((Instant::now(), true));
        Ok(())
    }

    /// The longest time until it should be asked to apply again.
    pub(super) fn pause(&self) -> Duration {
        match self.asked {
            Some((_, true)) => EACH,
            Some((_, false)) | None => UNDEFINED,
        }
    }
}

/// Our reports by namespace; `None` where the cluster does not know what a report is.
async fn live(context: &Context) -> Result<Option<BTreeMap<String, Live>>, kube::Error> {
    let api = Api::<PolicyReport>::all(context.client.clone());
    let mut found = BTreeMap::new();
    let mut page = ListParams::default().labels(&objects::selector()).limit(PAGE);
    loop {
        let list = match api.list_metadata(&page).await {
            Ok(list) => list,
            // Of a group that it does not know, the API server says so without a reason.
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
            Err(error) => return Err(error),
        };
        for report in list.items.iter().filter(|report| report.name_any() == REPORT) {
            let live = Live {
                hash: report.annotations().get(APPLIED_HASH).cloned(),
                uid: report.metadata.uid.clone(),
            };
            found.insert(report.namespace().unwrap_or_default(), live);
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(Some(found)),
        }
    }
}

async fn write(
    context: &Context,
    namespace: &str,
    report: &PolicyReport,
    is_ours: bool,
) -> Result<(), kube::Error> {
    let api = Api::<PolicyReport>::namespaced(context.client.clone(), namespace);
    let parameters = PatchParams::apply(field_managers::POLICY_REPORT);
    // Only what is ours already is taken back from whoever changed it.
    let parameters = if is_ours { parameters.force() } else { parameters };
    match api.patch_metadata(REPORT, &parameters, &Patch::Apply(objects::sealed(report))).await {
        Ok(_) => {
            written(context);
            tracing::info!(namespace, name = REPORT, "PolicyReport applied");
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.code == 409 => {
            tracing::warn!(
                namespace,
                name = REPORT,
                "the PolicyReport belongs to somebody else and is left as it is"
            );
            Ok(())
        }
        // The namespace is gone, or about to be.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.code == 403 => {
            tracing::debug!(namespace, error = %status.message, "no PolicyReport written");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

async fn remove(context: &Context, namespace: &str, found: &Live) -> Result<(), kube::Error> {
    let api = Api::<PolicyReport>::namespaced(context.client.clone(), namespace);
    let preconditions = Some(Preconditions { uid: found.uid.clone(), resource_version: None });
    match api.delete(REPORT, &DeleteParams { preconditions, ..DeleteParams::default() }).await {
        Ok(_) => {
            written(context);
            tracing::info!(namespace, name = REPORT, "PolicyReport removed");
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_not_found() || status.code == 409 => Ok(()),
        Err(error) => Err(error),
    }
}

fn written(context: &Context) {
    context.metrics.writes.get_or_create(&Controller { controller: super::NAME.to_owned() }).inc();
}
