//! What runs already is judged again when a policy, a key, an image, a Pod or a label changes, and when the day comes on
//! which the same facts mean something else. Runs on the leader and shares the webhook's memory. One loop over all of it, as
//! for image policies: what it says is counts and lists, and no Pod is touched.

mod apply;
mod fetch;
mod status;
mod validate;
mod watches;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use berth_operator_core::running::{Assessment, Question, Standing, Which, questions, reports};
use berth_trust::Verdict;
use jiff::Timestamp;
use tokio::time::sleep;

use crate::{
    Context,
    metrics::{Controller, Metrics, Reconciliation},
};

use apply::Reports;
use fetch::Foreign;
use status::Told;
use watches::World;

pub(crate) use apply::remove_all as remove_reports;

const NAME: &str = "running";

/// Changes that come together are answered together.
const SETTLE: Duration = Duration::from_secs(1);

/// Between two looks, as a multiple of what the first took: a busy cluster costs a tenth of a core at most.
const REST: u32 = 10;

/// The longest of these rests.
const LONGEST_REST: Duration = Duration::from_mins(1);

/// Everything is looked at again, should something have been missed.
const EACH: Duration = Duration::from_mins(10);

/// What could not be checked for a cause that passes is tried again.
const RETRY: Duration = Duration::from_mins(1);

/// What each policy, by namespace and name, says about all that runs.
pub type Assessments = BTreeMap<(String, String), Assessment>;

/// Runs until it is dropped.
pub async fn run(context: Context) {
    // Of when this replica led before.
    context.assessments.send_replace(Assessments::new());
    let _shown = Shown(&context.metrics);
    let world = World::default();
    tokio::select! {
        () = world.follow(&context.client) => tracing::error!("the watches of Pods and namespaces ended"),
        () = look_forever(&context, &world) => {}
    }
}

/// Takes the metrics back: what a replica that leads no more has seen is worth nothing.
struct Shown<'a>(&'a Metrics);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.0.forget_running();
    }
}

/// What is kept from one look to the next.
#[derive(Default)]
struct Looker {
    foreign: Foreign,
    reports: Reports,
    told: Told,
}

async fn look_forever(context: &Context, world: &World) {
    let mut policies = context.stores.changed.clone();
    let mut keys = context.keys.changes();
    let mut registries = context.looks.changes();
    let mut pods = world.changes();
    let mut looker = Looker::default();
    loop {
        policies.mark_unchanged();
        keys.mark_unchanged();
        registries.mark_unchanged();
        pods.mark_unchanged();
        let began = Instant::now();
        let pause = looker.look(context, world).await;
        let took = began.elapsed();
        tokio::select! {
            _ = policies.changed() => {}
            _ = keys.changed() => {}
            _ = registries.changed() => {}
            _ = pods.changed() => {}
            () = sleep(pause) => {}
        }
        sleep((took * REST).clamp(SETTLE, LONGEST_REST)).await;
    }
}

impl Looker {
    /// Looks at all that runs; returns when to look again if nothing happens.
    async fn look(&mut self, context: &Context, world: &World) -> Duration {
        let policies = validate::policies(context).await;
        let bound: Vec<_> = policies.iter().filter(|policy| policy.binding.is_some()).collect();
        let asked: Vec<_> = bound
            .iter()
            .filter_map(|policy| Some((&policy.compiled.rules, policy.binding.as_ref()?)))
            .collect();
        let Some(questions) =
            world.read(|pods, namespaces| questions(&asked, namespaces, pods, Which::Running))
        else {
            return EACH;
        };
        let began = Instant::now();
        let standings = fetch::standings(context, &bound, &questions, &mut self.foreign).await;
        let assess = |policy: &validate::InForce| {
            let index = bound.iter().position(|other| std::ptr::eq(*other, policy));
            let answers = questions.iter().zip(&standings);
            Assessment::of(answers.filter(|(question, _)| Some(question.policy) == index))
        };
        let assessments = policies.iter().map(assess).collect();
        let shown: Vec<_> = bound.iter().map(|policy| policy.shown()).collect();
        let written = self.reports.apply(context, world, &reports(&shown, &questions, &standings)).await;
        self.told.publish(context, &policies, assessments).await;
        observe(context, began, &questions, written.err().as_ref());
        let pause = pause(&standings, Timestamp::now());
        self.reports.pause().map_or(pause, |again| again.min(pause))
    }
}

/// Until the first instant at which something may be different.
fn pause(standings: &[Standing], now: Timestamp) -> Duration {
    let passes = |standing: &Standing| {
        matches!(standing.finding.verdict, Verdict::CouldNotCheck { transient: true, .. })
    };
    let longest = if standings.iter().any(passes) { RETRY } else { EACH };
    let next = standings.iter().filter_map(|standing| standing.until).min();
    let next = next.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
    next.map_or(longest, |next| next.min(longest))
}

fn observe(context: &Context, began: Instant, questions: &[Question], error: Option<&kube::Error>) {
    let outcome = match error {
        None => "ok",
        Some(error) => {
            tracing::warn!(controller = NAME, %error, "PolicyReports could not be written");
            "ApiServerFailed"
        }
    };
    let labels = Reconciliation { controller: NAME.to_owned(), outcome: outcome.to_owned() };
    context.metrics.reconciliations.get_or_create(&labels).inc();
    let label = Controller { controller: NAME.to_owned() };
    context.metrics.durations.get_or_create(&label).observe(began.elapsed().as_secs_f64());
    tracing::debug!(questions = questions.len(), "looked at what runs");
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_operator_core::admission::Finding;
    use rstest::rstest;

    fn standing(until: Option<i64>, transient: bool) -> Standing {
        let verdict = if transient {
            Verdict::could_not_check("X", "", true)
        } else {
            Verdict::Admit { grounds: [].into() }
        };
        let until = until.map(|second| Timestamp::from_second(second).unwrap());
        Standing { finding: Finding { verdict, digest: None }, until, end: None }
    }

    /// R-OPR-7: the date alone makes it look again.
    #[rstest]
    #[case::nothing(&[], 600)]
    #[case::far(&[standing(Some(100_000), false)], 600)]
    #[case::soon(&[standing(Some(100_000), false), standing(Some(1030), false)], 30)]
    #[case::now(&[standing(Some(999), false)], 0)]
    #[case::outage(&[standing(None, true), standing(None, false)], 60)]
    fn it_looks_again(#[case] standings: &[Standing], #[case] seconds: u64) {
        let now = Timestamp::from_second(1000).unwrap();
        assert_eq!(pause(standings, now), Duration::from_secs(seconds));
    }
}
