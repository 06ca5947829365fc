//! A pass as its Job tells of it: what the Job was made for (annotations), how it ended (condition), and what the worker
//! said last (termination message). The Job itself is built in `replicate_job`.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;

use super::{End, Pass, job_number, report};

/// Annotations of a Job: which spec it was made for, and how many passes before it failed in a row.
const GENERATION: &str = "berth.dev/generation";
const FAILURES: &str = "berth.dev/failures";

/// The container of the worker.
pub const CONTAINER: &str = "replicate";

/// What is noted on the Job of a pass.
pub fn annotations(generation: i64, failures: u32) -> BTreeMap<String, String> {
    let notes = [(GENERATION, generation.to_string()), (FAILURES, failures.to_string())];
    notes.map(|(key, value)| (key.to_owned(), value)).into()
}

/// Reads a Job back. `terminated` is the termination message of its Pod, if there is one. `None` for a Job that is not
/// a pass of this policy.
pub fn pass(policy: &str, job: &Job, terminated: Option<&str>) -> Option<Pass> {
    let number = job_number(policy, job.metadata.name.as_deref()?)?;
    let empty = BTreeMap::new();
    let annotations = job.metadata.annotations.as_ref().unwrap_or(&empty);
    // Annotations that somebody has removed: another pass is due, which does no harm.
    let generation = annotations.get(GENERATION).and_then(|text| text.parse().ok()).unwrap_or(-1);
    let failures = annotations.get(FAILURES).and_then(|text| text.parse().ok()).unwrap_or(0);
    let created = job.metadata.creation_timestamp.as_ref()?.0;
    Some(Pass { number, generation, failures, created, end: end(job, terminated) })
}

fn end(job: &Job, terminated: Option<&str>) -> Option<End> {
    let conditions = job.status.as_ref()?.conditions.as_deref().unwrap_or_default();
    let condition = conditions.iter().find(|condition| {
        condition.status == "True" && matches!(condition.type_.as_str(), "Complete" | "Failed")
    })?;
    let at = condition.last_transition_time.as_ref()?.0;
    let report = terminated.and_then(report);
    let failure = if let Some(report) = report.as_ref().filter(|report| report.failed > 0) {
        let errors = report.errors.first().map(|error| format!(", for example: {error}")).unwrap_or_default();
        Some(format!("{} of the tags could not be copied{errors}", report.failed))
    } else if condition.type_ == "Failed" {
        let said = terminated.map(str::trim).filter(|text| !text.is_empty() && report.is_none());
        let last_line = said.and_then(|text| text.lines().last());
        Some(match (last_line, condition.message.as_deref()) {
            (Some(line), _) => line.to_owned(),
            (None, Some(message)) => format!("the Job failed: {message}"),
            (None, None) => "the Job failed".to_owned(),
        })
    } else if report.is_none() {
        Some("the Job ended without a report".to_owned())
    } else {
        None
    };
    Some(End { at, report, failure })
}

/// Numbers of the Jobs that are no longer needed: all but the newest two, and none that still runs.
pub fn superfluous(passes: &[Pass]) -> Vec<u64> {
    let mut newest_first: Vec<_> = passes.iter().collect();
    newest_first.sort_unstable_by_key(|pass| std::cmp::Reverse(pass.number));
    newest_first.into_iter().skip(2).filter(|pass| pass.end.is_some()).map(|pass| pass.number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn observed(conditions: &Value) -> Job {
        let metadata = json!({
            "name": "replication-mirror-7", "annotations": annotations(3, 2),
            "creationTimestamp": "2026-01-01T00:00:00Z",
        });
        serde_json::from_value(json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "status": {"conditions": conditions},
        }))
        .unwrap()
    }

    const GOOD: &str = r#"{"started":"2026-01-01T00:00:01Z","finished":"2026-01-01T00:00:09Z","copied":2,"unchanged":3,"failed":0,"bytes":77}"#;
    const PARTLY: &str = r#"{"started":"2026-01-01T00:00:01Z","finished":"2026-01-01T00:00:09Z","copied":2,"unchanged":3,"failed":4,"bytes":77,"errors":["app:v1: 503"]}"#;

    #[rstest]
    #[case::running(json!([]), None, "running")]
    #[case::suspended(json!([{"type": "Suspended", "status": "True"}]), None, "running")]
    #[case::no_longer_failed(json!([{"type": "Failed", "status": "False"}]), None, "running")]
    #[case::good(json!("Complete"), Some(GOOD), "good")]
    #[case::partly(
        json!("Failed"),
        Some(PARTLY),
        "4 of the tags could not be copied, for example: app:v1: 503"
    )]
    #[case::partly_but_complete(
        json!("Complete"),
        Some(PARTLY),
        "4 of the tags could not be copied, for example: app:v1: 503"
    )]
    #[case::silent(json!("Complete"), None, "the Job ended without a report")]
    #[case::killed(json!("Failed"), None, "the Job failed: because")]
    #[case::spoke(
        json!("Failed"),
        Some("line\nthe source cannot be reached\n"),
        "the source cannot be reached"
    )]
    fn ends(#[case] conditions: Value, #[case] message: Option<&str>, #[case] expected: &str) {
        let conditions = match conditions {
            Value::String(kind) => {
                json!([{"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:10Z", "message": "because"}])
            }
            list => list,
        };
        let pass = pass("mirror", &observed(&conditions), message).unwrap();
        assert_eq!((pass.number, pass.generation, pass.failures), (7, 3, 2));
        let shown = pass.end.as_ref().map_or("running", |end| end.failure.as_deref().unwrap_or("good"));
        assert_eq!(shown, expected);
    }

    #[test]
    fn jobs_of_others_are_none_of_ours() {
        assert_eq!(pass("other", &observed(&json!([])), None), None);
    }

    #[test]
    fn the_last_two_are_kept() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let pass = |number: u64, ended: bool| Pass {
            number,
            generation: 1,
            failures: 0,
            created: at(0),
            end: ended.then(|| End { at: at(1), report: None, failure: None }),
        };
        let passes = [pass(9, true), pass(10, true), pass(8, true), pass(7, false), pass(11, false)];
        assert_eq!(superfluous(&passes), [9, 8]);
        assert_eq!(superfluous(&passes[..2]), [0; 0]);
    }
}
