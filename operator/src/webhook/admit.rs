//! `POST /admit`: all policies of the object's own namespace judge one review; `POST /admit/NAMESPACE/NAME`: one policy
//! does. The pure part (what to check, in which words to answer) is `berth_operator_core::admission`; here the evidence
//! of all images is fetched at once, within our own deadline, so that a denial can say which registry kept us waiting.

use std::{
    cell::LazyCell,
    fmt::{self, Display},
    sync::Arc,
    time::Duration,
};

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use berth_operator_core::{
    admission::{self, Answer, Finding, Request, ReviewError, Subject, subjects},
    decision::DecisionId,
    image_policy::Rules,
    images::ImageUse,
    labels::are_selected,
    memory::{Belief, Known},
};
use berth_registry_core::{ImageReference, Pattern};
use berth_trust::{Anchors, FACTS_OUTDATED, Judgement, Policy, Verdict};
use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, timeout_at};

use crate::webhook::{
    decisions::{Decisions, Judged},
    directory::Directory,
    looks::{Looks, Source, Unseen, Why},
    metrics::Reviews,
    policies::{Own, Policies},
};

/// The longest review that is read: an object of the largest size that the API server stores, before and after.
pub const MAX_REVIEW: usize = 3 * 1024 * 1024;

/// Images of one review that are checked at the same time.
const CONCURRENCY: usize = 16;

/// A refusal is not older than this: who has just signed an image is not told that it is not signed. Longer than no
/// time at all, so that a controller that tries again and again costs a registry one look a second.
const REFUSAL: SignedDuration = SignedDuration::from_secs(1);

/// Judges reviews.
pub struct Admission {
    /// All policies of the cluster.
    pub policies: Arc<Policies>,
    /// The registries that evidence may come from.
    pub directory: Arc<dyn Directory>,
    /// What they showed.
    pub looks: Arc<Looks>,
    /// From the arrival of a review to its answer. Shorter than the API server waits.
    pub deadline: Duration,
    /// Counted and timed here.
    pub metrics: Reviews,
    /// What is complained of is kept here.
    pub decisions: Decisions,
}

/// Policies of the same namespace that judge a review at the same time.
const POLICIES: usize = 16;

/// Whom the API server asks.
enum Asked<'a> {
    /// One policy, by namespace and name.
    One(&'a str, &'a str),
    /// All policies of a namespace.
    Own(&'a str),
}

impl Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(namespace, name) => write!(f, "{namespace}/{name}"),
            Self::Own(namespace) => write!(f, "{namespace}/*"),
        }
    }
}

/// Answers a review.
pub(super) async fn admit(
    State(admission): State<Arc<Admission>>,
    policy: Option<Path<(String, String)>>,
    body: Bytes,
) -> Response {
    let began = Instant::now();
    let request = match admission::parse(&body) {
        Ok(request) => request,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let policy = match &policy {
        Some(Path((namespace, name))) => Asked::One(namespace, name),
        None => Asked::Own(&request.namespace),
    };
    let answer = admission.answer(&policy, &request, began + admission.deadline).await;
    admission.metrics.observe(answer.as_ref(), began.elapsed());
    let Some(answer) = answer else {
        // No verdict at all: the failure policy of the entry decides, as it would if we were not there. That refuses
        // what an enforcing policy binds, and lets pass what a warning one does.
        let message = format!(
            "ImagePolicy {policy} is not known here: it was deleted, or made a moment ago; try again"
        );
        return (StatusCode::SERVICE_UNAVAILABLE, message).into_response();
    };
    let object = format_args!("{}/{}", request.namespace, request.name);
    let complaints = answer.complaints();
    if complaints.is_empty() {
        tracing::debug!(uid = %request.uid, %policy, operation = %request.operation, resource = request.resource(), %object, "admitted");
    } else {
        tracing::info!(
            uid = %request.uid,
            %policy,
            operation = %request.operation,
            resource = request.resource(),
            %object,
            allowed = answer.allowed,
            complaints,
            "review"
        );
    }
    Json(answer.review(&request.uid)).into_response()
}

impl Admission {
    /// The answer of whoever is asked; `None` if there is no such policy and something to judge.
    async fn answer(&self, asked: &Asked<'_>, request: &Request<'_>, until: Instant) -> Option<Answer> {
        let uses = request.images_to_check();
        if uses.as_ref().is_ok_and(Vec::is_empty) {
            return Some(Answer::allow());
        }
        match asked {
            Asked::One(namespace, name) => self.answer_of(namespace, name, request, &uses, until).await,
            Asked::Own(namespace) => self.answer_of_own(namespace, request, &uses, until).await,
        }
    }

    /// The answer of all policies of a namespace that select the object.
    async fn answer_of_own(
        &self,
        namespace: &str,
        request: &Request<'_>,
        uses: &Result<Vec<ImageUse>, ReviewError>,
        until: Instant,
    ) -> Option<Answer> {
        let own = self.policies.own(namespace)?;
        let binding = binding(&own, request);
        if binding.is_empty() {
            return Some(Answer::allow());
        }
        let answers: Vec<_> = stream::iter(binding)
            .map(|name| async move { self.answer_of(namespace, &name, request, uses, until).await })
            .buffered(POLICIES)
            .collect()
            .await;
        // One that was deleted meanwhile has no say.
        let answers: Vec<_> = answers.into_iter().flatten().collect();
        (!answers.is_empty()).then(|| Answer::together(&answers))
    }

    /// The answer of one policy, if it is there.
    async fn answer_of(
        &self,
        namespace: &str,
        name: &str,
        request: &Request<'_>,
        uses: &Result<Vec<ImageUse>, ReviewError>,
        until: Instant,
    ) -> Option<Answer> {
        let policy = format!("{namespace}/{name}");
        let compiled = self.policies.get(namespace, name).await?;
        let rules = &compiled.rules;
        let subjects = match uses.as_ref().map(|uses| subjects(&rules.images, uses.clone())) {
            Ok(Ok(subjects)) => subjects,
            Ok(Err(error)) => return Some(Answer::complain(&policy, rules.mode, error)),
            Err(error) => return Some(Answer::complain(&policy, rules.mode, error)),
        };
        if subjects.is_empty() {
            return Some(Answer::allow());
        }
        let asking = match &rules.policy {
            Ok(policy) => {
                let (number, images) = (compiled.number, &rules.images);
                Asking { namespace, number, images, policy, request, until }
            }
            Err(error) => return Some(Answer::cannot_judge(&policy, rules.mode, &subjects, error)),
        };
        let findings = self.check(&asking, subjects).await;
        let decisions = self.note(&asking, name, &policy, rules, &findings).await;
        // Events are kept beside the object that they are about.
        let kept_in = &request.namespace;
        Some(Answer::judge_noted(&policy, rules.mode, rules.uncheckable, &findings, kept_in, &decisions))
    }

    /// Keeps what a policy complains of, so that somebody can ask why. A review without complaints costs nothing here.
    async fn note(
        &self,
        asking: &Asking<'_>,
        name: &str,
        policy: &str,
        rules: &Rules,
        findings: &[(Subject, Finding)],
    ) -> Vec<Option<DecisionId>> {
        let request = asking.request;
        if request.dry_run || findings.iter().all(|(_, finding)| finding.verdict.is_admitted()) {
            return Vec::new();
        }
        let written = self.policies.written(asking.namespace, name).await;
        let Some((spec, secrets)) = written else { return Vec::new() };
        let judged = Judged { policy, spec: &spec, secrets: &secrets, rules };
        let facts = |subject: &Subject| {
            let image = subject.image.as_ref().ok()?;
            let source = self.source(asking, image).ok()?;
            self.looks.remembered(&source, image, Timestamp::now()).known()?.facts()
        };
        let note = |(subject, finding): &(Subject, Finding)| {
            self.decisions.note(request, &judged, subject, finding, facts(subject))
        };
        findings.iter().map(note).collect()
    }

    /// Checks each image once, several at a time; the order of the answers is that of the subjects.
    async fn check(&self, asking: &Asking<'_>, subjects: Vec<Subject>) -> Vec<(Subject, Finding)> {
        let check = |subject: Subject| async move {
            let finding = match &subject.image {
                Ok(image) => self.check_one(asking, image).await,
                Err(error) => Finding::uncheckable("ImageInvalid", error, false),
            };
            (subject, finding)
        };
        stream::iter(subjects).map(check).buffered(CONCURRENCY).collect().await
    }

    /// On whose account an image's registry is asked; the error is a finding: that it may not be asked.
    fn source(&self, asking: &Asking<'_>, image: &ImageReference) -> Result<Source, Finding> {
        self.directory.source(asking.namespace, asking.images, image, || asking.request.pulling())
    }

    async fn check_one(&self, asking: &Asking<'_>, image: &ImageReference) -> Finding {
        let now = Timestamp::now();
        if let Some(judgement) = asking.policy.settled(image, None, now) {
            return Finding { verdict: judgement.verdict, digest: image.digest.clone() };
        }
        let source = match self.source(asking, image) {
            Ok(source) => source,
            Err(finding) => return finding,
        };
        let remembered = match self.looks.remembered(&source, image, now) {
            Belief::None => None,
            Belief::Sure(known) => Some(known),
            Belief::Due(known) => {
                self.looks.look_ahead(&source, image, &self.anchors_for(asking, image), Why::Age);
                Some(known)
            }
            Belief::Doubtful(known) => return self.check_doubtful(asking, &source, image, &known).await,
        };
        let remembered = remembered.map(|known| self.judge(asking, image, &known, now));
        let first = match remembered.filter(|(finding, _)| finding.verdict.reason() != FACTS_OUTDATED) {
            Some(first) => Ok(first),
            None => self.look(asking, &source, image, Why::Review).await,
        };
        match first {
            Ok((finding, seen)) if finding.verdict.is_admitted() || now.duration_since(seen) < REFUSAL => {
                finding
            }
            // That nothing new can be seen is no reason to take it back.
            Ok((finding, _)) => {
                self.look(asking, &source, image, Why::Refusal).await.map_or(finding, |(finding, _)| finding)
            }
            Err(finding) => finding,
        }
    }

    /// What is known from before a restart counts only while the registry cannot be asked. It is on its way back, too, and
    /// nothing changes in it meanwhile.
    async fn check_doubtful(
        &self,
        asking: &Asking<'_>,
        source: &Source,
        image: &ImageReference,
        known: &Known,
    ) -> Finding {
        match self.look(asking, source, image, Why::Doubt).await {
            Ok((finding, _)) => finding,
            Err(unseen) => {
                let (finding, _) = self.judge(asking, image, known, Timestamp::now());
                if unseen.may_pass() && finding.verdict.reason() != FACTS_OUTDATED { finding } else { unseen }
            }
        }
    }

    /// Asks the registry and judges what it shows; the error is a finding, too: that it could not be asked.
    async fn look(
        &self,
        asking: &Asking<'_>,
        source: &Source,
        image: &ImageReference,
        why: Why,
    ) -> Result<(Finding, Timestamp), Finding> {
        let anchors = self.anchors_for(asking, image);
        let look = timeout_at(asking.until, self.looks.look(source, image, &anchors, why)).await;
        let look = look.unwrap_or_else(|_| Err(Unseen::deadline(&image.host, self.deadline)));
        let now = Timestamp::now();
        match look {
            Ok(Some(known)) => Ok(self.judge(asking, image, &known, now)),
            Ok(None) => Ok((Finding { verdict: Verdict::image_not_found(), digest: None }, now)),
            Err(unseen) => Err(Finding::uncheckable(&unseen.reason, &unseen, unseen.transient)),
        }
    }

    /// What the policy says about facts, and when they were seen.
    fn judge(
        &self,
        asking: &Asking<'_>,
        image: &ImageReference,
        known: &Known,
        now: Timestamp,
    ) -> (Finding, Timestamp) {
        let judge = || match known.facts() {
            Some(facts) => asking.policy.verdict(image, &facts, now),
            None => Judgement {
                verdict: Verdict::could_not_check(FACTS_OUTDATED, "unreadable facts", true),
                until: None,
            },
        };
        let judged = self.looks.memory.verdict(asking.number, known, image, now, judge);
        let digest = Some(known.subject());
        (Finding { verdict: judged.verdict.clone(), digest }, known.seen())
    }

    /// What to look at an image with: the anchors of every policy that may ask about it, the asking one's among them.
    fn anchors_for(&self, asking: &Asking<'_>, image: &ImageReference) -> Anchors {
        let concerns = |namespace: &str| self.directory.may_concern(namespace, image);
        let mut anchors = self.policies.anchors_for(image, concerns);
        // It may have been replaced by a newer revision meanwhile.
        anchors.extend(asking.policy.anchors().clone());
        anchors
    }
}

/// The names of a namespace's policies that select the object. One whose labels cannot be read is selected by all.
fn binding(own: &[Own], request: &Request<'_>) -> Vec<String> {
    let labels = LazyCell::new(|| request.labels());
    let binds = |policy: &&Own| {
        let Some(selector) = &policy.objects else { return true };
        labels.as_ref().map_or(true, |all| all.iter().any(|labels| are_selected(selector, labels)))
    };
    own.iter().filter(binds).map(|policy| policy.name.clone()).collect()
}

/// On whose behalf images are checked.
struct Asking<'a> {
    /// Of the policy.
    namespace: &'a str,
    /// Of the policy's revision.
    number: u64,
    /// What it says it speaks about.
    images: &'a [Pattern],
    policy: &'a Policy,
    request: &'a Request<'a>,
    until: Instant,
}
