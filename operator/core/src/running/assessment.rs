//! What a policy comes to for all that runs: how many images it admits, and which workloads stop being admissible when.
//! This is what the policy's status shows, so it holds nothing that changes from look to look.

use std::collections::{BTreeMap, BTreeSet};

use berth_crds::image_policy::{Forecast, RunningImages};
use berth_trust::Verdict;
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::running::{Question, Standing, Workload};

/// Days that a forecast names.
const MAX_DAYS: usize = 10;

/// Workloads that a sentence names.
const MAX_NAMED: usize = 5;

/// The longest message, in characters.
const MAX_MESSAGE: usize = 1000;

/// What a policy says about all that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assessment {
    /// Images, each once a namespace.
    pub images: RunningImages,
    /// What will be refused, though nothing changes but the date.
    pub forecast: Vec<Forecast>,
    /// Workloads that run what is refused.
    pub denied: BTreeSet<Workload>,
}

/// The better first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Admitted,
    Uncheckable,
    Denied,
}

impl Class {
    fn of(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Admit { .. } | Verdict::Excepted { .. } => Self::Admitted,
            Verdict::CouldNotCheck { .. } => Self::Uncheckable,
            Verdict::Deny { .. } => Self::Denied,
        }
    }
}

impl Assessment {
    /// Of one policy, from its questions and what became of them.
    pub fn of<'a>(answers: impl IntoIterator<Item = (&'a Question, &'a Standing)>) -> Self {
        let mut images = BTreeMap::new();
        let mut in_static_pods = BTreeSet::new();
        let mut ends = BTreeMap::<&Workload, (Timestamp, String)>::new();
        let mut denied = BTreeSet::new();
        for (question, standing) in answers {
            let workload = &question.template.workload;
            let class = Class::of(&standing.finding.verdict);
            let look = question.look.as_ref().map(ToString::to_string);
            let image = (&workload.namespace, question.subject.shown(), look);
            if workload.is_static {
                in_static_pods.insert(image.clone());
            }
            let worst = images.entry(image).or_insert(class);
            *worst = class.max(*worst);
            if class == Class::Denied {
                denied.insert(workload.clone());
            }
            if let (Some((at, finding)), Ok(image)) = (&standing.end, &question.subject.image) {
                let end = (*at, finding.verdict.explain(image, finding.digest.as_ref()));
                let first = ends.entry(workload).or_insert_with(|| end.clone());
                *first = end.min(first.clone());
            }
        }
        let count =
            |class| i64::try_from(images.values().filter(|it| **it == class).count()).unwrap_or(i64::MAX);
        ends.retain(|workload, _| !denied.contains(*workload));
        Self {
            images: RunningImages {
                admitted: count(Class::Admitted),
                denied: count(Class::Denied),
                uncheckable: count(Class::Uncheckable),
                static_pods: i64::try_from(in_static_pods.len()).ok().filter(|count| *count > 0),
            },
            forecast: forecast(ends),
            denied,
        }
    }
}

/// One entry a day, because what was built on one day often ends on one day.
fn forecast(ends: BTreeMap<&Workload, (Timestamp, String)>) -> Vec<Forecast> {
    let mut days = BTreeMap::<Date, Vec<(Timestamp, &Workload, String)>>::new();
    for (workload, (at, message)) in ends {
        let day = at.to_zoned(TimeZone::UTC).date();
        days.entry(day).or_default().push((at, workload, message));
    }
    let entry = |mut ends: Vec<(Timestamp, &Workload, String)>| {
        ends.sort();
        let (at, _, cause) = ends.first()?;
        let message = format!("{}: {cause}", named(ends.iter().map(|(_, workload, _)| *workload)));
        Some(Forecast {
            at: Time(*at),
            workloads: i64::try_from(ends.len()).unwrap_or(i64::MAX),
            message: message.chars().take(MAX_MESSAGE).collect(),
        })
    };
    days.into_values().take(MAX_DAYS).filter_map(entry).collect()
}

/// `team-a/deployment/web, team-a/deployment/api and 3 more`.
pub fn named<'a>(workloads: impl ExactSizeIterator<Item = &'a Workload>) -> String {
    let more = workloads.len().saturating_sub(MAX_NAMED);
    let names = workloads.take(MAX_NAMED).map(|workload| format!("{}/{workload}", workload.namespace));
    let names = names.collect::<Vec<_>>().join(", ");
    if more == 0 { names } else { format!("{names} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        admission::{Finding, Subject},
        running::Template,
    };
    use proptest::prelude::*;

    /// The Deployment `name` in `namespace` runs `image`.
    fn question(namespace: &str, name: &str, image: &str) -> Question {
        Question {
            policy: 0,
            template: Template::deployment(namespace, name),
            pods: vec!["p".into()],
            subject: Subject { image: image.parse(), uses: Vec::new() },
            look: image.parse().ok(),
        }
    }

    fn standing(verdict: Verdict, end: Option<i64>) -> Standing {
        let refused = Finding { verdict: Verdict::image_not_found(), digest: None };
        let end = end.map(|second| (Timestamp::from_second(second).unwrap(), refused));
        Standing { finding: Finding { verdict, digest: None }, until: end.as_ref().map(|end| end.0), end }
    }

    fn admitted(end: Option<i64>) -> Standing {
        standing(Verdict::Admit { grounds: [].into() }, end)
    }

    fn unknown() -> Standing {
        standing(Verdict::could_not_check("X", "", true), None)
    }

    fn denied() -> Standing {
        standing(Verdict::image_not_found(), None)
    }

    fn assess(answers: &[(Question, Standing)]) -> Assessment {
        Assessment::of(answers.iter().map(|(question, standing)| (question, standing)))
    }

    #[test]
    fn images_count_once_a_namespace_and_by_the_worst() {
        let found = assess(&[
            (question("team-a", "web", "r.io/web:1"), admitted(None)),
            (question("team-a", "api", "r.io/web:1"), admitted(None)),
            (question("team-b", "web", "r.io/web:1"), unknown()),
            (question("team-b", "api", "r.io/web:1"), denied()),
            (question("team-b", "api", "r.io/db:1"), unknown()),
        ]);
        assert_eq!(found.images, RunningImages { admitted: 1, denied: 1, uncheckable: 1, static_pods: None });
        assert_eq!(named(found.denied.iter()), "team-b/deployment/api");
    }

    /// What a static Pod runs counts like the rest, and is told apart.
    #[test]
    fn static_pods_are_told_apart() {
        let mut mirror = question("team-a", "web-node-1", "r.io/web:1");
        let mut template = Template::clone(&mirror.template);
        (template.workload.kind, template.workload.is_static) = ("Pod".to_owned(), true);
        mirror.template = template.into();
        let found = assess(&[
            (mirror, denied()),
            (question("team-a", "web", "r.io/web:1"), denied()),
            (question("team-a", "api", "r.io/api:1"), admitted(None)),
        ]);
        let expected = RunningImages { admitted: 1, denied: 1, uncheckable: 0, static_pods: Some(1) };
        assert_eq!(found.images, expected);
        assert_eq!(named(found.denied.iter()), "team-a/deployment/web, team-a/pod/web-node-1 (static)");
    }

    /// A workload stops being admissible once: with its first image; what is refused already does not stop any more.
    #[test]
    fn forecasts_are_by_day_and_workload() {
        const DAY: i64 = 86_400;
        let found = assess(&[
            (question("team-a", "web", "r.io/web:1"), admitted(Some(DAY + 7))),
            (question("team-a", "web", "r.io/log:1"), admitted(Some(3 * DAY))),
            (question("team-a", "api", "r.io/api:1"), admitted(Some(DAY + 5))),
            (question("team-a", "old", "r.io/old:1"), admitted(Some(9))),
            (question("team-a", "old", "r.io/bad:1"), denied()),
            (question("team-b", "far", "r.io/far:1"), admitted(Some(3 * DAY))),
            (question("team-b", "far", "r.io/odd:1"), unknown()),
        ]);
        let told: Vec<_> = found
            .forecast
            .iter()
            .map(|it| (it.at.0.as_second(), it.workloads, it.message.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                (
                    DAY + 5,
                    2,
                    "team-a/deployment/api, team-a/deployment/web: r.io/api:1: the registry has no such image; push it first, or correct the name"
                ),
                (
                    3 * DAY,
                    1,
                    "team-b/deployment/far: r.io/far:1: the registry has no such image; push it first, or correct the name"
                ),
            ]
        );
    }

    #[test]
    fn sentences_name_a_few() {
        let many: Vec<_> =
            (0..7).map(|n| question("a", &n.to_string(), "r.io/a").template.workload.clone()).collect();
        assert_eq!(
            named(many.iter()),
            "a/deployment/0, a/deployment/1, a/deployment/2, a/deployment/3, a/deployment/4 and 2 more"
        );
    }

    proptest! {
        /// Whatever runs: each image is of one class, order does not matter, forecasts are bounded and sorted, and no workload is
        /// told of twice.
        #[test]
        fn nothing_is_counted_twice(runs in prop::collection::vec((0..2_u8, 0..4_u8, 0..3_u8, 0..3_u8, 0..2_000_000_i64), 0..40)) {
            let mut answers: Vec<_> = runs
                .iter()
                .map(|(namespace, name, image, class, end)| {
                    let question = question(&namespace.to_string(), &name.to_string(), &format!("r.io/i{image}"));
                    (question, match class { 0 => admitted(Some(*end)), 1 => unknown(), _ => denied() })
                })
                .collect();
            let found = assess(&answers);
            let distinct: BTreeSet<_> = runs.iter().map(|(namespace, _, image, _, _)| (namespace, image)).collect();
            let RunningImages { admitted, denied, uncheckable, .. } = found.images;
            prop_assert_eq!(usize::try_from(admitted + denied + uncheckable).unwrap(), distinct.len());
            prop_assert!(found.forecast.len() <= MAX_DAYS);
            prop_assert!(found.forecast.is_sorted_by(|a, b| a.at.0 < b.at.0));
            let ending: i64 = found.forecast.iter().map(|it| it.workloads).sum();
            let workloads: BTreeSet<_> = runs.iter().map(|(namespace, name, ..)| (namespace, name)).collect();
            prop_assert!(usize::try_from(ending).unwrap() + found.denied.len() <= workloads.len());
            answers.reverse();
            prop_assert_eq!(assess(&answers), found);
        }
    }
}
