//! First verb: what registries show of what runs. From memory where that is fresh, because the webhook looks at the same
//! images; each image that has to be looked at is looked at once, some at a time, and nothing of it is held longer than it
//! takes to judge it.

use std::{collections::BTreeMap, sync::Arc};

use berth_operator_core::{
    admission::Finding,
    decision::Look,
    memory::{Belief, Known},
    running::{Question, Standing},
};
use berth_registry_core::ImageReference;
use berth_trust::{Anchors, FACTS_OUTDATED, Facts, Policy, Verdict};
use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};

use crate::{
    Context,
    running::validate::InForce,
    webhook::looks::{Source, Why},
};

/// Images that are looked at at the same time, so that reviews find seats free.
const CONCURRENCY: usize = 16;

/// What is older is looked at again. Registries of the cluster tell when something changes; this is for what was lost.
const OWN_AGE: SignedDuration = SignedDuration::from_mins(10);

/// Other registries tell nothing, and count what they are asked: nobody's pulls shall be refused because of us.
const FOREIGN_AGE: SignedDuration = SignedDuration::from_hours(6);

/// What registries elsewhere showed, by who asked and by image. Only of what runs.
pub(super) type Foreign = BTreeMap<(Source, String), Arc<Known>>;

/// One image as one source shows it, and the questions about it.
struct Wanted {
    source: Source,
    image: ImageReference,
    anchors: Anchors,
    questions: Vec<usize>,
}

/// How each question stands, in their order.
pub(super) async fn standings(
    context: &Context,
    policies: &[&InForce],
    questions: &[Question],
    foreign: &mut Foreign,
) -> Vec<Standing> {
    let now = Timestamp::now();
    let mut found: Vec<Option<Standing>> = Vec::with_capacity(questions.len());
    let mut wanted = BTreeMap::new();
    for (index, question) in questions.iter().enumerate() {
        let policy = policies[question.policy];
        found.push(match needs(context, policy, question, now) {
            Needs::Nothing(standing) => Some(standing),
            Needs::Look(source, image) => {
                let entry = wanted.entry((source.clone(), image.to_string()));
                let entry = entry.or_insert_with(|| Wanted {
                    anchors: context
                        .policies
                        .anchors_for(&image, |namespace| context.directory.may_concern(namespace, &image)),
                    source,
                    image,
                    questions: Vec::new(),
                });
                // It may be of another revision than the policies' own list.
                if let Ok(policy) = &policy.compiled.rules.policy {
                    entry.anchors.extend(policy.anchors().clone());
                }
                entry.questions.push(index);
                None
            }
        });
    }
    let kept = std::mem::take(foreign);
    let answers = stream::iter(wanted).map(|(key, wanted)| {
        let kept = kept.get(&key);
        async move {
            let (look, known) = look(context, &wanted, kept, now).await;
            let standing = |index: &usize| {
                let question = &questions[*index];
                Some((*index, stand(policies[question.policy], question, &look, now)?))
            };
            let standings: Vec<_> = wanted.questions.iter().filter_map(standing).collect();
            (known.filter(|_| !wanted.source.is_own()).map(|known| (key, known)), standings)
        }
    });
    let mut answers = answers.buffer_unordered(CONCURRENCY);
    while let Some((known, standings)) = answers.next().await {
        foreign.extend(known);
        for (index, standing) in standings {
            found[index] = Some(standing);
        }
    }
    let unasked = || Standing::unknown(Finding::uncheckable("NoEvidence", "no evidence was looked at", true));
    found.into_iter().map(|standing| standing.unwrap_or_else(unasked)).collect()
}

/// What it takes to answer a question.
enum Needs {
    Nothing(Standing),
    Look(Source, ImageReference),
}

fn needs(context: &Context, policy: &InForce, question: &Question, now: Timestamp) -> Needs {
    let rules = &policy.compiled.rules;
    let unknown = |reason: &str, cause: String| {
        Needs::Nothing(Standing::unknown(Finding::uncheckable(reason, cause, false)))
    };
    let judge = match &rules.policy {
        Ok(policy) => policy,
        Err(error) => return unknown(error.reason(), format!("nobody can tell: {error}")),
    };
    let (image, look) = match (&question.subject.image, &question.look) {
        (Ok(image), Some(look)) => (image, look),
        (Err(error), _) => return unknown("ImageInvalid", error.to_string()),
        (Ok(_), None) => return unknown("NoEvidence", "no evidence was looked at".to_owned()),
    };
    let settled = judge.settled(image, None, now);
    if settled.is_some_and(|judgement| judgement.until.is_none()) {
        return Needs::Nothing(Standing::of(&Look::NotNeeded, judge, image, now));
    }
    let pulling = || Ok(question.template.pulling.clone());
    match context.directory.source(&policy.namespace, &rules.images, look, pulling) {
        Ok(source) => Needs::Look(source, look.clone()),
        Err(finding) => Needs::Nothing(match finding.verdict {
            // What its name settles for now, nobody will be able to check afterwards.
            Verdict::CouldNotCheck { reason, message, transient } => {
                Standing::of(&Look::Unseen { reason, message, transient }, judge, image, now)
            }
            _ => Standing::unknown(finding),
        }),
    }
}

fn stand(policy: &InForce, question: &Question, look: &Look, now: Timestamp) -> Option<Standing> {
    let judge: &Policy = policy.compiled.rules.policy.as_ref().ok()?;
    Some(Standing::of(look, judge, question.subject.image.as_ref().ok()?, now))
}

/// Memory if it is fresh, else the registry; memory again if that gives no answer.
async fn look(
    context: &Context,
    Wanted { source, image, anchors, .. }: &Wanted,
    kept: Option<&Arc<Known>>,
    now: Timestamp,
) -> (Look, Option<Arc<Known>>) {
    let covering = |known: &Known| -> Option<Facts> { known.facts().filter(|facts| facts.covers(anchors)) };
    let remembered = context.looks.remembered(source, image, now);
    // What is known from before a restart is for the case that nobody answers.
    let is_doubtful = matches!(remembered, Belief::Doubtful(_));
    let known = remembered.known().or_else(|| kept.cloned());
    let age = if source.is_own() { OWN_AGE } else { FOREIGN_AGE };
    let is_fresh = |known: &&Arc<Known>| !is_doubtful && now.duration_since(known.seen()) < age;
    if let Some(facts) = known.as_ref().filter(is_fresh).and_then(|known| covering(known)) {
        return (Look::Seen(facts), known);
    }
    match context.looks.look(source, image, anchors, Why::Running).await {
        Ok(Some(known)) => match covering(&known) {
            Some(facts) => (Look::Seen(facts), Some(known)),
            None => (unseen(FACTS_OUTDATED, "the policies changed meanwhile".to_owned(), true), None),
        },
        Ok(None) => (Look::NoSuchImage, None),
        // That nothing new can be seen is no reason to take back what was.
        Err(error) => match known.as_ref().and_then(|known| covering(known)) {
            Some(facts) => (Look::Seen(facts), known),
            None => (unseen(&error.reason, error.to_string(), error.transient), None),
        },
    }
}

fn unseen(reason: &str, message: String, transient: bool) -> Look {
    Look::Unseen { reason: reason.to_owned(), message, transient }
}
