//! `POST /admit/NAMESPACE/NAME`: one policy judges one review. The pure part (what to check, in which words to answer)
//! is `berth_operator_core::admission`; here the evidence of all images is fetched at once, within our own deadline,
//! so that a denial can say which registry kept us waiting.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use berth_crds::ImagePolicy;
use berth_operator_core::admission::{self, Answer, Finding, Request, Subject, subjects};
use berth_trust::Policy;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::time::{Instant, timeout_at};

use crate::{
    image_policy::{Keys, validate::rules},
    stores::Guarded,
    webhook::{
        evidence::{Directory, examine},
        metrics::Reviews,
    },
};

/// The longest review that is read: an object of the largest size that the API server stores, before and after.
pub const MAX_REVIEW: usize = 3 * 1024 * 1024;

/// As `berth_client::ClientError` names a registry's refusal of our credentials.
const UNAUTHORIZED: &str = "Unauthorized";

/// Images of one review that are checked at the same time.
const CONCURRENCY: usize = 16;

/// Judges reviews.
pub struct Admission {
    /// All policies of the cluster.
    pub policies: Store<Guarded<ImagePolicy>>,
    /// Their keys.
    pub keys: Arc<Keys>,
    /// The registries that evidence may come from.
    pub directory: Arc<dyn Directory>,
    /// From the arrival of a review to its answer. Shorter than the API server waits.
    pub deadline: Duration,
    /// Counted and timed here.
    pub metrics: Reviews,
}

/// Answers a review.
pub(super) async fn admit(
    State(admission): State<Arc<Admission>>,
    Path((namespace, name)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    let began = Instant::now();
    let request = match admission::parse(&body) {
        Ok(request) => request,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let answer = admission.answer(&namespace, &name, &request, began + admission.deadline).await;
    admission.metrics.observe(answer.as_ref(), began.elapsed());
    let Some(answer) = answer else {
        // No verdict at all: the failure policy of the entry decides, as it would if we were not there. That refuses
        // what an enforcing policy binds, and lets pass what a warning one does.
        let message = format!(
            "ImagePolicy {namespace}/{name} is not known here: it was deleted, or made a moment ago; try again"
        );
        return (StatusCode::SERVICE_UNAVAILABLE, message).into_response();
    };
    tracing::info!(
        uid = request.uid,
        policy = %format_args!("{namespace}/{name}"),
        operation = request.operation,
        resource = request.resource(),
        object = %format_args!("{}/{}", request.namespace, request.name),
        allowed = answer.allowed,
        complaints = answer.complaints(),
        "review"
    );
    Json(answer.review(&request.uid)).into_response()
}

impl Admission {
    /// The answer of a policy; `None` if there is no such policy and something to judge.
    async fn answer(
        &self,
        namespace: &str,
        name: &str,
        request: &Request<'_>,
        until: Instant,
    ) -> Option<Answer> {
        let policy = format!("{namespace}/{name}");
        let uses = request.images_to_check();
        if uses.as_ref().is_ok_and(Vec::is_empty) {
            return Some(Answer::allow());
        }
        let stored = self.policies.get(&ObjectRef::new(name).within(namespace))?;
        let rules = rules(&stored, &self.keys).await;
        let subjects = match uses.and_then(|uses| subjects(&rules.images, uses)) {
            Ok(subjects) => subjects,
            Err(error) => return Some(Answer::complain(&policy, rules.mode, error)),
        };
        if subjects.is_empty() {
            return Some(Answer::allow());
        }
        let findings = match &rules.policy {
            Ok(requirements) => self.check(namespace, requirements, subjects, until).await,
            Err(error) => return Some(Answer::cannot_judge(&policy, rules.mode, &subjects, error)),
        };
        Some(Answer::judge(&policy, rules.mode, rules.uncheckable, &findings))
    }

    /// Checks each image once, several at a time; the order of the answers is that of the subjects.
    async fn check(
        &self,
        namespace: &str,
        policy: &Policy,
        subjects: Vec<Subject>,
        until: Instant,
    ) -> Vec<(Subject, Finding)> {
        let check = |subject: Subject| async move {
            let finding = self.check_one(namespace, policy, &subject, until).await;
            (subject, finding)
        };
        stream::iter(subjects).map(check).buffered(CONCURRENCY).collect().await
    }

    async fn check_one(
        &self,
        namespace: &str,
        policy: &Policy,
        subject: &Subject,
        until: Instant,
    ) -> Finding {
        let image = match &subject.image {
            Ok(image) => image,
            Err(error) => return Finding::uncheckable("ImageInvalid", error, false),
        };
        if let Some(judgement) = policy.settled(image, None, Timestamp::now()) {
            return Finding { verdict: judgement.verdict, digest: image.digest.clone() };
        }
        let client = match self.directory.client(namespace, &image.host) {
            Ok(client) => client,
            Err(error) => return Finding::uncheckable(error.reason(), &error, error.is_transient()),
        };
        let Ok(finding) = timeout_at(until, examine(&client, image, policy)).await else {
            let seconds = self.deadline.as_secs();
            let cause = format!("{} did not deliver the evidence within {seconds} seconds", image.host);
            return Finding::uncheckable("DeadlineExceeded", cause, true);
        };
        if finding.verdict.reason() == UNAUTHORIZED {
            self.directory.refused(&image.host);
        }
        finding
    }
}
