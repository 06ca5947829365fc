//! What the webhook complained of, kept as Events that `kubectl berth why` reads. A note is taken while the review is
//! answered and costs it no request; the writing happens behind, a few a second. What is too much is dropped and counted,
//! and a denial names no decision that nobody will find.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use berth_crds::ImagePolicySpec;
use berth_operator_core::{
    admission::{Finding, Mode, Request, Subject},
    decision::{ANNOTATION, Decision, DecisionId, Look},
    image_policy::{Material, Rules},
};
use berth_trust::{Facts, Verdict};
use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval},
};

/// Notes that wait to be written.
const WAITING: usize = 256;

/// Between two writes of a replica.
const PACE: Duration = Duration::from_millis(100);

/// A decision that is made again within this time is not written again.
const REPEAT: Duration = Duration::from_mins(1);

/// Decisions of which it is known when they were written last.
const RECENT: usize = 4096;

/// Bytes of an Event's note; the API server takes 1024.
const MAX_NOTE: usize = 1000;

/// In every Event, as its source.
const CONTROLLER: &str = "berth.dev/operator";

/// Labels of a note.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct NoteLabels {
    /// `written`, `repeated`, `dropped` (too many at once), `too_large`, `failed`.
    pub outcome: &'static str,
}

/// Decisions by what became of them.
#[derive(Clone, Default)]
pub struct Noted(Family<NoteLabels, Counter>);

impl Noted {
    /// Makes them readable.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("decisions", "Decisions to be kept as Events, by outcome", self.0.clone());
    }

    fn count(&self, outcome: &'static str) {
        self.0.get_or_create(&NoteLabels { outcome }).inc();
    }
}

/// An Event to be written.
struct Note {
    id: DecisionId,
    annotation: String,
    object: ObjectReference,
    reason: &'static str,
    text: String,
}

/// Takes notes.
pub struct Decisions {
    queue: mpsc::Sender<Note>,
    recent: Mutex<HashMap<(String, DecisionId), Instant>>,
    noted: Noted,
}

/// Writes them.
pub struct Writer {
    queue: mpsc::Receiver<Note>,
    client: Client,
    instance: String,
    noted: Noted,
    /// How often a decision was made, as far as this replica knows.
    counts: HashMap<(String, DecisionId), i32>,
}

/// A policy as it judged.
pub struct Judged<'a> {
    /// `NAMESPACE/NAME`.
    pub policy: &'a str,
    /// As it is stored.
    pub spec: &'a ImagePolicySpec,
    /// What its Secrets held.
    pub secrets: &'a BTreeMap<String, Material>,
    /// Made from both.
    pub rules: &'a Rules,
}

impl Decisions {
    /// A place for notes, and who writes them in the name of `instance`.
    pub fn new(client: Client, instance: &str, noted: Noted) -> (Self, Writer) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let writer = Writer {
            queue: receiver,
            client,
            instance: instance.to_owned(),
            noted: noted.clone(),
            counts: HashMap::new(),
        };
        (Self { queue: sender, recent: Mutex::default(), noted }, writer)
    }

    /// Takes a note of what a policy complains of, with the `facts` that it judged. The id, if the decision will be found
    /// under it: a dry run writes nothing.
    pub fn note(
        &self,
        request: &Request<'_>,
        judged: &Judged<'_>,
        subject: &Subject,
        finding: &Finding,
        facts: Option<Facts>,
    ) -> Option<DecisionId> {
        if request.dry_run || finding.verdict.is_admitted() {
            return None;
        }
        let image = subject.image.as_ref().ok()?;
        let look = look(finding, facts);
        let Judged { policy, spec, secrets, rules } = judged;
        let decision = Decision::new(policy, spec, secrets, image, look, Timestamp::now()).ok()?;
        // Made from something newer than the finding was: it would explain another denial.
        if decision.message != finding.verdict.explain(image, finding.digest.as_ref()) {
            return None;
        }
        let id = decision.id();
        let key = (request.namespace.to_string(), id.clone());
        if self.is_repeated(&key) {
            self.noted.count("repeated");
            return Some(id);
        }
        let annotation = match decision.encode() {
            Ok(annotation) => annotation,
            Err(error) => {
                tracing::warn!(%policy, %image, %error, "a decision is not kept");
                self.noted.count("too_large");
                return None;
            }
        };
        let reason = match finding.insistence(rules.mode, rules.uncheckable) {
            Mode::Enforce => "ImageDenied",
            Mode::Warn => "ImageWarned",
            Mode::Audit => "ImageAudited",
        };
        let text = format!("{} ({}; ImagePolicy {policy})", decision.message, subject.places());
        let note = Note { id: id.clone(), annotation, object: request.object_reference(), reason, text };
        if self.queue.try_send(note).is_err() {
            self.noted.count("dropped");
            return None;
        }
        self.remember(key);
        Some(id)
    }

    fn is_repeated(&self, key: &(String, DecisionId)) -> bool {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.get(key).is_some_and(|noted| noted.elapsed() < REPEAT)
    }

    fn remember(&self, key: (String, DecisionId)) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() >= RECENT {
            recent.retain(|_, noted| noted.elapsed() < REPEAT);
        }
        if recent.len() >= RECENT {
            recent.clear();
        }
        recent.insert(key, Instant::now());
    }
}

/// What was seen of an image, told from the finding and from the facts that are remembered now.
fn look(finding: &Finding, facts: Option<Facts>) -> Look {
    if let Verdict::CouldNotCheck { reason, message, transient } = &finding.verdict {
        let (reason, message) = (reason.clone(), message.clone());
        return Look::Unseen { reason, message, transient: *transient };
    }
    let facts = facts.filter(|facts| Some(facts.subject()) == finding.digest.as_ref());
    match (facts, &finding.verdict) {
        (_, verdict) if *verdict == Verdict::image_not_found() => Look::NoSuchImage,
        (Some(facts), _) => Look::Seen(facts),
        (None, _) => Look::NotNeeded,
    }
}

impl Writer {
    /// Writes notes until nobody can take any more.
    pub async fn run(mut self) {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while let Some(note) = self.queue.recv().await {
            pace.tick().await;
            match self.write(&note).await {
                Ok(()) => self.noted.count("written"),
                Err(error) => {
                    tracing::warn!(event = note.id.event_name(), %error, "a decision could not be written");
                    self.noted.count("failed");
                }
            }
        }
    }

    async fn write(&mut self, note: &Note) -> Result<(), kube::Error> {
        let namespace = note.object.namespace.clone().unwrap_or_default();
        let api = Api::<Event>::namespaced(self.client.clone(), &namespace);
        let count = self.count((namespace, note.id.clone()));
        let event = event(note, &self.instance, Timestamp::now());
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => Ok(()),
            // All but the series of an Event is for good; a decision is the same each time, so nothing else would change.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let now = MicroTime(Timestamp::now());
                let patch = json!({"series": {"count": count.max(2), "lastObservedTime": now}});
                let name = note.id.event_name();
                api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
            }
            Err(error) => Err(error),
        }
    }

    fn count(&mut self, key: (String, DecisionId)) -> i32 {
        if self.counts.len() >= RECENT {
            self.counts.clear();
        }
        let count = self.counts.entry(key).or_default();
        *count += 1;
        *count
    }
}

fn event(note: &Note, instance: &str, now: Timestamp) -> Event {
    let annotations = BTreeMap::from([(ANNOTATION.to_owned(), note.annotation.clone())]);
    Event {
        metadata: ObjectMeta {
            name: Some(note.id.event_name()),
            namespace: note.object.namespace.clone(),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        type_: Some(if note.reason == "ImageAudited" { "Normal" } else { "Warning" }.to_owned()),
        reason: Some(note.reason.to_owned()),
        action: Some("Admit".to_owned()),
        note: Some(note.text.get(..note.text.floor_char_boundary(MAX_NOTE)).unwrap_or_default().to_owned()),
        regarding: Some(note.object.clone()),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        ..Event::default()
    }
}
