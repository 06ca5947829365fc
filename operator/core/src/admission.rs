//! Admission without I/O: which images of a review a policy has to judge, and what the API server is told.
//! `webhook` (in the operator) reads the body, asks here for the subjects, checks each against its registry, and
//! hands the findings back for the answer. Trust, "The webhook".

use std::{borrow::Cow, collections::BTreeMap, fmt::Display, iter};

use berth_registry_core::{Digest, ImageReference, Pattern, reference::InvalidImageReference};
use berth_trust::{Verdict, printable};
use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    decision::DecisionId,
    images::{ImageUse, changed, images},
    pulling::{Pulling, pulling},
};

/// Resources of one API group that the webhook is called for.
#[derive(Clone, Copy, Debug)]
pub struct GovernedResources {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Resources, with a subresource after a slash.
    pub resources: &'static [&'static str],
    /// Operations, as the API spells them.
    pub operations: &'static [&'static str],
}

/// All that makes Pods, all in version `v1`. The webhook configuration is built from it, and a review of anything
/// else is refused, so that the two cannot drift apart.
pub const GOVERNED: &[GovernedResources] = &[
    GovernedResources {
        group: "",
        resources: &["pods", "replicationcontrollers"],
        operations: &["CREATE", "UPDATE"],
    },
    GovernedResources { group: "", resources: &["pods/ephemeralcontainers"], operations: &["UPDATE"] },
    GovernedResources {
        group: "apps",
        resources: &["daemonsets", "deployments", "replicasets", "statefulsets"],
        operations: &["CREATE", "UPDATE"],
    },
    GovernedResources { group: "batch", resources: &["cronjobs", "jobs"], operations: &["CREATE", "UPDATE"] },
];

/// The most distinct images that one review may ask about.
pub const MAX_IMAGES: usize = 100;

/// The most images that one answer describes; the rest are counted.
const MAX_DESCRIBED: usize = 10;

/// A review that cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// The body is no `AdmissionReview` of version v1. There is no request to answer.
    #[error("the body is no AdmissionReview of admission.k8s.io/v1: {0}")]
    NotAReview(String),
    /// A kind of object that no policy speaks about.
    #[error(
        "{0} is no resource that image policies judge: remove it from the ValidatingWebhookConfiguration"
    )]
    NotGoverned(String),
    /// The object, or the one before the update, cannot be read without doubt.
    #[error("the images of the object cannot be read: {0}")]
    UnreadableObject(#[from] serde_json::Error),
    /// A create or update without an object.
    #[error("the review carries no object")]
    NoObject,
    /// More images than one review may ask about.
    #[error("the object names {0} distinct images, at most {MAX_IMAGES} can be checked at once")]
    TooManyImages(usize),
}

impl ReviewError {
    /// Stable name for metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotAReview(_) => "NotAReview",
            Self::NotGoverned(_) => "NotGoverned",
            Self::UnreadableObject(_) => "UnreadableObject",
            Self::NoObject => "NoObject",
            Self::TooManyImages(_) => "TooManyImages",
        }
    }
}

/// The request of an `AdmissionReview`, reduced to what a decision needs.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request<'a> {
    /// Returned with the answer.
    #[serde(borrow)]
    pub uid: Cow<'a, str>,
    /// `CREATE` or `UPDATE`; others carry nothing to judge.
    #[serde(borrow)]
    pub operation: Cow<'a, str>,
    /// Of the object; absent for what is not namespaced.
    #[serde(borrow, default)]
    pub namespace: Cow<'a, str>,
    /// Of the object; empty where the API server is to make one up.
    #[serde(borrow, default)]
    pub name: Cow<'a, str>,
    /// Nothing may be written because of it.
    #[serde(default)]
    pub dry_run: bool,
    #[serde(borrow, default)]
    kind: Kind<'a>,
    #[serde(borrow)]
    resource: Resource<'a>,
    #[serde(borrow, default)]
    sub_resource: Cow<'a, str>,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
    #[serde(borrow)]
    old_object: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Kind<'a> {
    #[serde(borrow)]
    group: Cow<'a, str>,
    #[serde(borrow)]
    version: Cow<'a, str>,
    #[serde(borrow, rename = "kind")]
    name: Cow<'a, str>,
}

#[derive(Debug, Deserialize)]
struct Resource<'a> {
    #[serde(borrow, default)]
    group: Cow<'a, str>,
    #[serde(borrow)]
    version: Cow<'a, str>,
    #[serde(borrow, rename = "resource")]
    plural: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    #[serde(borrow)]
    api_version: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    request: Request<'a>,
}

/// Reads the body of a review. The object inside stays unread until [`Request::images_to_check`].
pub fn parse(body: &[u8]) -> Result<Request<'_>, ReviewError> {
    let review: Review<'_> =
        serde_json::from_slice(body).map_err(|error| ReviewError::NotAReview(error.to_string()))?;
    if (review.api_version.as_ref(), review.kind.as_ref()) != ("admission.k8s.io/v1", "AdmissionReview") {
        return Err(ReviewError::NotAReview(format!("it is a {} of {}", review.kind, review.api_version)));
    }
    Ok(review.request)
}

impl Request<'_> {
    /// `pods`, `pods/ephemeralcontainers`, `deployments.apps`: how a person names the resource.
    pub fn resource(&self) -> String {
        let dot = if self.resource.group.is_empty() { "" } else { "." };
        format!("{}{dot}{}", self.resource_path(), self.resource.group)
    }

    fn resource_path(&self) -> Cow<'_, str> {
        if self.sub_resource.is_empty() {
            Cow::Borrowed(&self.resource.plural)
        } else {
            Cow::Owned(format!("{}/{}", self.resource.plural, self.sub_resource))
        }
    }

    /// Labels of the object and, of an update, of the one before: what selects either of them selects the request, as the
    /// API server has it.
    pub fn labels(&self) -> Result<Vec<BTreeMap<String, String>>, ReviewError> {
        #[derive(Deserialize)]
        struct Object {
            #[serde(default)]
            metadata: Metadata,
        }
        #[derive(Default, Deserialize)]
        struct Metadata {
            labels: Option<BTreeMap<String, String>>,
        }
        let labels = |object: &&RawValue| -> Result<_, ReviewError> {
            let Object { metadata } = serde_json::from_str(object.get())?;
            Ok(metadata.labels.unwrap_or_default())
        };
        self.object.iter().chain(&self.old_object).map(labels).collect()
    }

    /// With what the Pods of the object pull their images.
    pub fn pulling(&self) -> Result<Pulling, ReviewError> {
        Ok(pulling(&self.namespace, self.object.ok_or(ReviewError::NoObject)?.get())?)
    }

    /// The object, as Events name it. One that the API server has yet to name goes by what its name will begin with.
    pub fn object_reference(&self) -> ObjectReference {
        #[derive(Deserialize)]
        struct Named {
            metadata: Option<ObjectMeta>,
        }
        let generated = || {
            let named: Named = serde_json::from_str(self.object?.get()).ok()?;
            named.metadata?.generate_name
        };
        let Kind { group, version, name: kind } = &self.kind;
        let api_version = if group.is_empty() { version.to_string() } else { format!("{group}/{version}") };
        let name = if self.name.is_empty() { generated().unwrap_or_default() } else { self.name.to_string() };
        ObjectReference {
            api_version: Some(api_version),
            kind: Some(kind.to_string()),
            namespace: Some(self.namespace.to_string()),
            name: Some(name),
            ..ObjectReference::default()
        }
    }

    /// The images that this request brings in: all of a new object, the changed ones of an update.
    /// No other field of the object has a say: neither `deletionTimestamp` nor an owner nor an annotation.
    pub fn images_to_check(&self) -> Result<Vec<ImageUse>, ReviewError> {
        if matches!(self.operation.as_ref(), "DELETE" | "CONNECT") {
            return Ok(Vec::new());
        }
        let path = self.resource_path();
        let governed = self.resource.version == "v1"
            && GOVERNED
                .iter()
                .any(|rule| rule.group == self.resource.group && rule.resources.contains(&path.as_ref()));
        if !governed {
            return Err(ReviewError::NotGoverned(format!("{}/{}", self.resource(), self.resource.version)));
        }
        let new = images(self.object.ok_or(ReviewError::NoObject)?.get())?;
        match self.old_object {
            Some(old) if self.operation == "UPDATE" => Ok(changed(new, &images(old.get())?)),
            _ => Ok(new),
        }
    }
}

/// One distinct image that a policy judges, with every place that names it.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The image; the error if the text names none, which no policy can let pass.
    pub image: Result<ImageReference, InvalidImageReference>,
    /// Where it is named, at least once.
    pub uses: Vec<ImageUse>,
}

impl Subject {
    /// The reference in its normal form, or the text as written if it has none.
    pub fn shown(&self) -> String {
        match &self.image {
            Ok(image) => image.to_string(),
            Err(_) => self.uses.first().map(|first| first.image.clone()).unwrap_or_default(),
        }
    }

    /// Every container and volume that names it.
    pub fn places(&self) -> String {
        self.uses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// Sorts images into those that match one of `patterns` (by normalised `host/repository`) and the others, which the
/// policy does not speak about. A text that names no image could be anything, so it is judged, too.
pub fn subjects(patterns: &[Pattern], uses: Vec<ImageUse>) -> Result<Vec<Subject>, ReviewError> {
    let mut subjects = BTreeMap::<String, Subject>::new();
    for image_use in uses {
        let image = image_use.image.parse::<ImageReference>();
        let governed = image.as_ref().map_or(true, |image| {
            let name = image.name();
            patterns.iter().any(|pattern| pattern.matches(&name))
        });
        if governed {
            let key = image.as_ref().map_or_else(|_| image_use.image.clone(), ToString::to_string);
            let subject = subjects.entry(key).or_insert_with(|| Subject { image, uses: Vec::new() });
            subject.uses.push(image_use);
        }
    }
    if subjects.len() > MAX_IMAGES {
        return Err(ReviewError::TooManyImages(subjects.len()));
    }
    Ok(subjects.into_values().collect())
}

/// What the check of one image came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What the policy says.
    pub verdict: Verdict,
    /// The digest that was judged, if it came to that.
    pub digest: Option<Digest>,
}

impl Finding {
    /// Neither yes nor no. `reason` is a stable name, `cause` is for people; `transient` if asking again may help.
    pub fn uncheckable(reason: &str, cause: impl Display, transient: bool) -> Self {
        Self { verdict: Verdict::could_not_check(reason, cause, transient), digest: None }
    }

    /// How much a policy insists on what it says, whatever that is.
    pub fn insistence(&self, mode: Mode, uncheckable: Uncheckable) -> Mode {
        match (mode, uncheckable) {
            (Mode::Enforce, Uncheckable::Warn) if self.may_pass() => Mode::Warn,
            _ => mode,
        }
    }

    /// Whether the same check may come to something when a registry is well again. What only somebody's hand can change
    /// is not among it: whoever may push could make an image uncheckable for ever.
    pub fn may_pass(&self) -> bool {
        matches!(self.verdict, Verdict::CouldNotCheck { transient: true, .. })
    }
}

/// How much a policy insists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// What does not satisfy it is refused.
    Enforce,
    /// What does not satisfy it is let in, with a warning to the caller.
    Warn,
    /// What does not satisfy it is let in, and the caller is told nothing.
    Audit,
}

/// What it means that an image could not be checked for a cause that passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uncheckable {
    /// The same as that it does not satisfy the policy.
    Deny,
    /// It is let in, with a warning to the caller.
    Warn,
}

/// What the API server is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether the request may go on.
    pub allowed: bool,
    /// Why not; empty if allowed.
    pub message: String,
    /// What the caller is warned of, one line each.
    pub warnings: Vec<String>,
    /// What a policy in `Audit` mode has to say, one line each. The caller does not see it.
    pub audited: Vec<String>,
}

impl Answer {
    /// What the log shows: all that speaks against the request, whoever is told of it.
    pub fn complaints(&self) -> String {
        let message = (!self.message.is_empty()).then_some(&self.message);
        message.into_iter().chain(&self.warnings).chain(&self.audited).cloned().collect::<Vec<_>>().join("\n")
    }

    /// Nothing to say.
    pub fn allow() -> Self {
        Self { allowed: true, message: String::new(), warnings: Vec::new(), audited: Vec::new() }
    }

    /// The answer of policies that were asked at once: each has its say, and one refusal is enough.
    pub fn together(answers: &[Self]) -> Self {
        let told = |of: fn(&Self) -> Vec<String>| {
            let mut told: Vec<_> = answers.iter().map(of).filter(|lines| !lines.is_empty()).collect();
            let untold = told.len().saturating_sub(MAX_DESCRIBED);
            told.truncate(MAX_DESCRIBED);
            let rest = (untold > 0).then(|| format!("and {untold} more policies"));
            told.into_iter().flatten().chain(rest).collect::<Vec<_>>()
        };
        Self {
            allowed: answers.iter().all(|answer| answer.allowed),
            message: told(|answer| answer.message.lines().map(ToOwned::to_owned).collect()).join("\n"),
            warnings: told(|answer| answer.warnings.clone()),
            audited: told(|answer| answer.audited.clone()),
        }
    }

    /// A complaint about the whole request, said in the policy's mode. `policy` is `NAMESPACE/NAME`.
    pub fn complain(policy: &str, mode: Mode, complaint: impl Display) -> Self {
        Self::new(&[(mode, printable(&format!("ImagePolicy {policy}: {complaint}")))])
    }

    /// The answer of a policy that is not in order: what it governs, it cannot judge.
    pub fn cannot_judge(policy: &str, mode: Mode, subjects: &[Subject], error: impl Display) -> Self {
        let images: Vec<_> = subjects
            .iter()
            .take(MAX_DESCRIBED)
            .map(|subject| format!("{} ({})", subject.shown(), subject.places()))
            .collect();
        Self::complain(policy, mode, format_args!("cannot judge {}: {error}", images.join(", ")))
    }

    /// The answer of one policy, `NAMESPACE/NAME`, to all of its subjects.
    pub fn judge(
        policy: &str,
        mode: Mode,
        uncheckable: Uncheckable,
        findings: &[(Subject, Finding)],
    ) -> Self {
        Self::judge_noted(policy, mode, uncheckable, findings, "", &[])
    }

    /// The same where decisions are kept in `namespace` about some of the subjects, in their order: the answer says how to
    /// ask about them from wherever somebody is.
    pub fn judge_noted(
        policy: &str,
        mode: Mode,
        uncheckable: Uncheckable,
        findings: &[(Subject, Finding)],
        namespace: &str,
        decisions: &[Option<DecisionId>],
    ) -> Self {
        let decisions = decisions.iter().map(Option::as_ref).chain(iter::repeat(None));
        let complaints = findings.iter().zip(decisions).filter_map(|((subject, finding), decision)| {
            let complaint = printable(&complaint(policy, subject, finding)?);
            let complaint = match decision {
                Some(id) => format!("{complaint} (decision {id}: kubectl berth why {id} -n {namespace})"),
                None => complaint,
            };
            Some((finding.insistence(mode, uncheckable), complaint))
        });
        Self::new(&complaints.collect::<Vec<_>>())
    }

    /// Each complaint is told to whom its mode says.
    fn new(complaints: &[(Mode, String)]) -> Self {
        let told = |wanted: Mode| {
            let mut lines: Vec<_> =
                complaints.iter().filter(|(mode, _)| *mode == wanted).map(|(_, text)| text.clone()).collect();
            if lines.len() > MAX_DESCRIBED {
                let untold = lines.len() - MAX_DESCRIBED;
                lines.truncate(MAX_DESCRIBED);
                lines.push(format!("and {untold} more images"));
            }
            lines
        };
        let message = told(Mode::Enforce).join("\n");
        let allowed = complaints.iter().all(|(mode, _)| *mode != Mode::Enforce);
        Self { allowed, message, warnings: told(Mode::Warn), audited: told(Mode::Audit) }
    }

    /// The body of the response: an `AdmissionReview` of version v1.
    pub fn review<'a>(&'a self, uid: &'a str) -> Reply<'a> {
        let status =
            (!self.allowed).then(|| Status { code: 403, message: &self.message, reason: "Forbidden" });
        let response = Response { allowed: self.allowed, status, uid, warnings: &self.warnings };
        Reply { api_version: "admission.k8s.io/v1", kind: "AdmissionReview", response }
    }
}

/// An answer as it is sent.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reply<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Response<'a> {
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
    uid: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Status<'a> {
    code: u16,
    message: &'a str,
    reason: &'static str,
}

/// The image, what was found and is missing, the cure, and then who asked and who answers.
fn complaint(policy: &str, subject: &Subject, finding: &Finding) -> Option<String> {
    if finding.verdict.is_admitted() {
        return None;
    }
    let explanation = match &subject.image {
        Ok(image) => finding.verdict.explain(image, finding.digest.as_ref()),
        Err(error) => error.to_string(),
    };
    Some(format!("{explanation} ({}; ImagePolicy {policy})", subject.places()))
}

#[cfg(test)]
mod tests;
