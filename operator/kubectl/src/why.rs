//! `kubectl berth why`: the story of a decision that the webhook made, and the proof of it: the same verdict, made again
//! from what was recorded.

use std::fmt::Write as _;

use berth_operator_core::{
    decision::{ANNOTATION, Decision, DecisionError, DecisionId, Look},
    image_policy::summary,
};
use berth_trust::{Cause, Facts, Form, Says};
use clap::Args;
use k8s_openapi::api::core::v1::{Event, ObjectReference};
use kube::{Api, ResourceExt as _, api::ListParams};
use serde::Serialize;

use crate::{
    cluster::{Cluster, ClusterError, asking},
    output::{Outcome, Report},
    table::{NONE, clean},
};

/// What to explain.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// The id of a decision, as a denial names it, or a Pod or workload: all decisions about it.
    #[arg(value_name = "ID|NAME|KIND/NAME")]
    target: String,
    /// Look in all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
}

/// Why there is no story.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WhyError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(
        "no decision about {target} in {place}: Events are kept for an hour unless the cluster says otherwise, dry runs leave \
         none, and what is too much at once is not written; try again what was refused, or look elsewhere with -n or -A"
    )]
    NotFound { target: String, place: String },
}

/// All decisions that were found.
#[derive(Debug, Serialize)]
pub(crate) struct Explained {
    decisions: Vec<Story>,
}

/// One decision.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Story {
    id: String,
    namespace: String,
    object: String,
    /// `ImageDenied`, `ImageWarned` or `ImageAudited`.
    effect: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<String>,
    times: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<Decision>,
    replay: Replayed,
}

/// What came of judging again.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum Replayed {
    /// The same, byte for byte.
    Same,
    /// Something else.
    Different { reason: String, message: String },
    /// The record is of no use.
    Failed { cause: String },
}

/// Finds and explains decisions.
pub(crate) async fn run(arguments: &Arguments, cluster: &Cluster) -> Result<Explained, WhyError> {
    let target = &arguments.target;
    // Those of the core group, which the usual roles let people read; they are the same.
    let api = if arguments.all_namespaces {
        Api::all(cluster.client.clone())
    } else {
        Api::<Event>::namespaced(cluster.client.clone(), &cluster.namespace)
    };
    let id = target.parse::<DecisionId>().ok();
    let parameters = match &id {
        Some(id) => ListParams::default().fields(&format!("metadata.name={}", id.event_name())),
        None => ListParams::default(),
    };
    let events = api.list(&parameters).await.map_err(asking("the Events cannot be read"))?;
    let mut stories: Vec<_> = events
        .items
        .into_iter()
        .filter_map(|event| Some((DecisionId::of_event(&event.name_any())?, event)))
        .filter(|(found, event)| match &id {
            Some(id) => id == found,
            None => is_about(&event.involved_object, target),
        })
        .map(|(id, event)| Story::new(&id, &event))
        .collect();
    if stories.is_empty() {
        let place = if arguments.all_namespaces {
            "any namespace".to_owned()
        } else {
            format!("the namespace {}", cluster.namespace)
        };
        return Err(WhyError::NotFound { target: target.clone(), place });
    }
    stories.sort_by(|a, b| (&a.last, &a.id).cmp(&(&b.last, &b.id)));
    Ok(Explained { decisions: stories })
}

/// Whether somebody who types `target` means an object: its name, `kind/name`, or what its name begins with where that was
/// made up from the workload's.
fn is_about(object: &ObjectReference, target: &str) -> bool {
    let (kind, name) = target.split_once('/').map_or((None, target), |(kind, name)| (Some(kind), name));
    let found = object.name.as_deref().unwrap_or_default();
    let is_named = found == name || found.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
    let is_made_by_it = found != name;
    let kind_of = object.kind.as_deref().unwrap_or_default().to_ascii_lowercase();
    let is_kind = kind.is_none_or(|kind| {
        let kind = kind.to_ascii_lowercase();
        is_made_by_it || kind == kind_of || kind.strip_suffix('s') == Some(&kind_of)
    });
    is_named && is_kind
}

impl Story {
    fn new(id: &DecisionId, event: &Event) -> Self {
        let object = event.involved_object.clone();
        let annotation = event.annotations().get(ANNOTATION).map(String::as_str).unwrap_or_default();
        let (decision, replay) = match Decision::decode(id, annotation) {
            Ok(decision) => {
                let replay = Replayed::of(&decision);
                (Some(decision), replay)
            }
            Err(error) => (None, Replayed::failed(&error)),
        };
        let time = |time: jiff::Timestamp| format!("{time:.0}");
        let first = event.event_time.as_ref().map(|it| time(it.0));
        let series = event.series.as_ref();
        Self {
            id: id.to_string(),
            namespace: event.namespace().unwrap_or_default(),
            object: format!("{} {}", object.kind.unwrap_or_default(), object.name.unwrap_or_default()),
            effect: event.reason.clone().unwrap_or_default(),
            last: series.and_then(|it| it.last_observed_time.as_ref()).map(|it| time(it.0)).or(first.clone()),
            first,
            times: series.and_then(|series| series.count).unwrap_or(1),
            decision,
            replay,
        }
    }
}

impl Replayed {
    fn of(decision: &Decision) -> Self {
        match decision.replay() {
            Ok(replay) if decision.agrees(&replay) => Self::Same,
            Ok(replay) => Self::Different { reason: replay.reason, message: replay.message },
            Err(error) => Self::failed(&error),
        }
    }

    fn failed(error: &DecisionError) -> Self {
        Self::Failed { cause: error.to_string() }
    }
}

impl Report for Explained {
    fn text(&self, wide: bool) -> String {
        self.decisions.iter().map(|story| story.text(wide)).collect::<Vec<_>>().join("\n")
    }

    fn outcome(&self) -> Outcome {
        let same = |story: &Story| matches!(story.replay, Replayed::Same);
        if self.decisions.iter().all(same) { Outcome::Admitted } else { Outcome::Unchecked }
    }
}

impl Story {
    /// As `kubectl describe` shows an object.
    fn text(&self, wide: bool) -> String {
        let mut lines = vec![("Decision", self.id.clone()), ("Namespace", self.namespace.clone())];
        lines.push(("Object", self.object.clone()));
        lines.push(("Effect", self.effect.clone()));
        lines.push(("First", self.first.clone().unwrap_or_default()));
        if self.times > 1 {
            let last = self.last.clone().unwrap_or_default();
            lines.push(("Last", format!("{last} (at least {} times)", self.times)));
        }
        if let Some(decision) = &self.decision {
            lines.push(("Policy", decision.policy.clone()));
            lines.push(("Rule", summary(&decision.spec, decision.spec.namespaces.is_some(), decision.now)));
            lines.push(("Image", decision.image.clone()));
            lines.push(("Digest", decision.look.digest().map(ToString::to_string).unwrap_or_default()));
            lines.extend(found(&decision.look, wide).into_iter().map(|text| ("Found", text)));
            lines.push(("Reason", decision.reason.clone()));
            lines.push(("Message", decision.message.clone()));
        }
        match &self.replay {
            Replayed::Same => lines.push(("Replay", "the same verdict, byte for byte".to_owned())),
            Replayed::Different { reason, message } => {
                lines.push((
                    "Replay",
                    "ANOTHER VERDICT: the record was altered, or this plugin judges differently".to_owned(),
                ));
                lines.push(("", format!("{reason}: {message}")));
            }
            Replayed::Failed { cause } => lines.push(("Replay", format!("FAILED: {cause}"))),
        }
        let mut text = String::new();
        let mut before = "";
        for (label, value) in lines {
            let shown = if label == before || label.is_empty() { String::new() } else { format!("{label}:") };
            let _ = writeln!(text, "{shown:<12}{}", clean(&value));
            before = label;
        }
        text
    }
}

/// What was there to see, a line each.
fn found(look: &Look, wide: bool) -> Vec<String> {
    match look {
        Look::Seen(facts) => statements(facts, wide),
        Look::NoSuchImage => vec!["the registry has no such image".to_owned()],
        Look::NotNeeded => vec!["nobody looked: the policy decides by the name".to_owned()],
        Look::Unseen { message, .. } => vec![format!("nothing: {message}")],
    }
}

fn statements(facts: &Facts, wide: bool) -> Vec<String> {
    let place =
        |manifest: &dyn std::fmt::Display| if wide { format!(", in {manifest}") } else { String::new() };
    let stated = facts.statements().map(|statement| {
        let what = match &statement.says {
            Says::Signature => "a signature".to_owned(),
            Says::Attestation { predicate_type, .. } => format!("an attestation of type {predicate_type}"),
        };
        let form = match statement.form {
            Form::Classic => "classic",
            Form::Bundle => "bundle",
            Form::Notary => "Notary Project",
        };
        format!("{what} by {} ({form}){}", statement.by, place(&statement.at.manifest))
    });
    let refused = facts.refusals().map(|refusal| {
        let what = match &refusal.cause {
            Cause::OtherDigest { by, about } => format!("a statement by {by} about {about}, another image"),
            Cause::UnknownSigner => "a statement by somebody else, or altered".to_owned(),
            Cause::Refused { why, .. } => format!("a signature, but {why}"),
            Cause::Malformed { why, .. } => format!("a malformed statement: {why}"),
        };
        format!("{what}{}", place(&refusal.at.manifest))
    });
    let lines: Vec<_> = stated.chain(refused).collect();
    if lines.is_empty() { vec![NONE.to_owned()] } else { lines }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("Pod", "web-5d4f-x7", "web-5d4f-x7", true)]
    #[case("Pod", "web-5d4f-x7", "pod/web-5d4f-x7", true)]
    #[case("Pod", "web-5d4f-x7", "pods/web-5d4f-x7", true)]
    #[case("Pod", "web-5d4f-x7", "web", true)]
    #[case("Pod", "web-5d4f-x7", "deployment/web", true)]
    #[case("Deployment", "web", "deployment/web", true)]
    #[case("Deployment", "web", "job/web", false)]
    #[case("Pod", "webs", "web", false)]
    #[case("Pod", "db", "web", false)]
    fn objects_by_name(#[case] kind: &str, #[case] name: &str, #[case] target: &str, #[case] expected: bool) {
        let (kind, name) = (Some(kind.to_owned()), Some(name.to_owned()));
        assert_eq!(is_about(&ObjectReference { kind, name, ..ObjectReference::default() }, target), expected);
    }
}
