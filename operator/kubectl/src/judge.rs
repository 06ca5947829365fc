//! From an image to what policies say about it: the facts are fetched once, by the same code as in the webhook, and each
//! policy is asked for its verdict.

use std::{collections::BTreeMap, fmt};

use berth_client::{
    Client,
    examine::{ExamineError, examine},
};
use berth_operator_core::{
    admission::{Answer, Finding, Mode, Subject, subjects},
    asking::{self, NotAsked, is_named},
    decision::Look,
    image_policy::{InvalidPolicy, Material, Rules},
    images::{ImageUse, Place},
};
use berth_registry_core::{Digest, ImageReference, reference::InvalidImageReference};
use berth_trust::{Anchors, Bounds, Policy, Verdict};
use jiff::Timestamp;
use serde::Serialize;

use crate::{output::Outcome, registries::Registries};

/// A policy, and what it says.
#[derive(Debug)]
pub(crate) struct Judge {
    /// `NAMESPACE/NAME`.
    pub(crate) name: String,
    namespace: String,
    /// Where the operator is.
    operator: String,
    pub(crate) rules: Rules,
}

/// What happens to an image because of a policy, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Effect {
    /// It holds.
    Admitted,
    /// Somebody answers for it.
    Excepted,
    /// The policy does not speak about it.
    NotMatched,
    /// It does not hold; it may run, and who applies it is warned.
    Warned,
    /// It does not hold; it may run, and that is recorded.
    Audited,
    /// Nobody can say.
    Unchecked,
    /// It does not hold.
    Denied,
}

/// What one policy says about one image.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sentence {
    /// In its normal form.
    pub(crate) image: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<Digest>,
    /// `NAMESPACE/NAME`.
    pub(crate) policy: String,
    pub(crate) mode: &'static str,
    pub(crate) verdict: Effect,
    /// Stable name of the cause.
    pub(crate) reason: String,
    /// As the webhook says it.
    pub(crate) message: String,
    /// The first instant at which the same facts could give another verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<Timestamp>,
}

impl Effect {
    pub(crate) fn outcome(self) -> Outcome {
        match self {
            Self::Admitted | Self::Excepted | Self::NotMatched | Self::Warned | Self::Audited => {
                Outcome::Admitted
            }
            Self::Denied => Outcome::Denied,
            Self::Unchecked => Outcome::Unchecked,
        }
    }
}

/// Asks a registry about an image, and looks at what it shows with these anchors.
pub(crate) async fn look(client: &Client, image: &ImageReference, anchors: &Anchors) -> Look {
    match examine(client, image, anchors, &Bounds::default()).await {
        Ok(Some(facts)) => Look::Seen(facts),
        Ok(None) => Look::NoSuchImage,
        Err(error) => unseen(&error),
    }
}

/// The registry gave no answer, or not the one asked for.
pub(crate) fn unseen(error: &ExamineError) -> Look {
    let (reason, message) = (error.reason().to_owned(), error.to_string());
    Look::Unseen { reason, message, transient: error.is_transient() }
}

/// A policy that the operator would refuse everything for that it governs.
#[derive(Debug, thiserror::Error)]
#[error("ImagePolicy {policy}: {cause}")]
pub(crate) struct NotInOrder {
    policy: String,
    pub(crate) cause: InvalidPolicy,
}

/// What policies may need of a Secret's data.
pub(crate) fn material(data: &BTreeMap<String, Vec<u8>>) -> Material {
    Material::of(data.iter().map(|(key, value)| (key, value.as_slice())))
}

impl Judge {
    /// A policy in `namespace`; the operator is in `operator`.
    pub(crate) fn new(operator: &str, namespace: &str, name: &str, rules: Rules) -> Self {
        let name = format!("{namespace}/{name}");
        Self { name, namespace: namespace.to_owned(), operator: operator.to_owned(), rules }
    }

    /// Itself, unless the operator would refuse everything for it.
    pub(crate) fn in_order(self) -> Result<Self, NotInOrder> {
        match self.rules.policy {
            Ok(_) => Ok(self),
            Err(cause) => Err(NotInOrder { policy: self.name, cause }),
        }
    }

    /// What an image must show; none if the policy is not in order.
    pub(crate) fn policy(&self) -> Option<&Policy> {
        self.rules.policy.as_ref().ok()
    }

    /// What takes the place of a look at the registry of an image, if the operator would not ask it for this policy.
    pub(crate) fn not_asked(&self, registries: &Registries, image: &ImageReference) -> Option<Look> {
        let error = asking::registry(&self.operator, &self.namespace, &image.host).err()?;
        let is_elsewhere = matches!(error, NotAsked::NotOurs(_));
        if is_elsewhere && (registries.asks_any() || is_named(&self.rules.images, image)) {
            return None;
        }
        let (reason, message) = (error.reason().to_owned(), error.to_string());
        Some(Look::Unseen { reason, message, transient: false })
    }

    /// The image as a subject of this policy; none if the policy does not speak about it.
    pub(crate) fn subject(&self, image: &ImageReference) -> Option<Subject> {
        let place = ImageUse {
            place: Place::Container,
            name: String::new(),
            path: String::new(),
            image: image.to_string(),
        };
        subjects(&self.rules.images, vec![place]).ok()?.pop()
    }

    /// What the policy says about an image that it speaks about.
    pub(crate) fn sentence(
        &self,
        image: &ImageReference,
        subject: Subject,
        look: &Look,
        now: Timestamp,
    ) -> Sentence {
        let policy = match &self.rules.policy {
            Ok(policy) => policy,
            Err(cause) => {
                return self.unchecked(subject.shown(), cause.reason(), format!("nobody can tell: {cause}"));
            }
        };
        let (finding, until) = look.finding(policy, image, now);
        let message = finding.verdict.explain(image, finding.digest.as_ref());
        Sentence {
            image: image.to_string(),
            digest: finding.digest.clone(),
            policy: self.name.clone(),
            mode: self.mode(),
            reason: finding.verdict.reason().to_owned(),
            verdict: self.effect(subject, finding),
            message,
            until,
        }
    }

    /// That it says nothing about an image.
    pub(crate) fn silence(&self, image: &ImageReference) -> Sentence {
        Sentence {
            image: image.to_string(),
            digest: image.digest.clone(),
            policy: self.name.clone(),
            mode: self.mode(),
            verdict: Effect::NotMatched,
            reason: "NotMatched".to_owned(),
            until: None,
            message: format!("{image} matches none of the policy's images, so the policy lets it run"),
        }
    }

    /// What it says about a text that names no image, which could be anything.
    pub(crate) fn nonsense(&self, text: String, error: &InvalidImageReference) -> Sentence {
        self.unchecked(text, "ImageInvalid", error.to_string())
    }

    fn unchecked(&self, image: String, reason: &str, message: String) -> Sentence {
        Sentence {
            image,
            digest: None,
            policy: self.name.clone(),
            mode: self.mode(),
            verdict: Effect::Unchecked,
            reason: reason.to_owned(),
            message,
            until: None,
        }
    }

    fn effect(&self, subject: Subject, finding: Finding) -> Effect {
        match finding.verdict {
            Verdict::Admit { .. } => return Effect::Admitted,
            Verdict::Excepted { .. } => return Effect::Excepted,
            Verdict::CouldNotCheck { .. } => return Effect::Unchecked,
            Verdict::Deny { .. } => {}
        }
        let Rules { mode, uncheckable, .. } = self.rules;
        let answer = Answer::judge(&self.name, mode, uncheckable, &[(subject, finding)]);
        if !answer.allowed {
            Effect::Denied
        } else if answer.warnings.is_empty() {
            Effect::Audited
        } else {
            Effect::Warned
        }
    }

    fn mode(&self) -> &'static str {
        match self.rules.mode {
            Mode::Enforce => "Enforce",
            Mode::Warn => "Warn",
            Mode::Audit => "Audit",
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
