//! Tables of times: when a pass is due, and since when a destination is behind.

use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn plan_of(spec: Value) -> Result<Plan, InvalidField> {
    Plan::new("team-a", &serde_json::from_value(spec).unwrap())
}

fn plan(trigger: &Value) -> Plan {
    plan_of(json!({"source": {"registry": "a"}, "destination": {"registry": "b"}, "trigger": trigger}))
        .unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn pass(created: i64, end: Option<(i64, bool)>) -> Pass {
    let end = end.map(|(second, ok)| End {
        at: at(second),
        report: None,
        failure: (!ok).then(|| "no route".to_owned()),
    });
    Pass { number: 7, generation: 1, failures: 0, created: at(created), end }
}

#[rstest]
#[case::first(None, 1, None, 0, Due::Now)]
#[case::running(Some(pass(0, None)), 1, None, 9999, Due::AfterThis)]
#[case::running_though_changed(Some(pass(0, None)), 2, Some(5), 9999, Due::AfterThis)]
#[case::resting(Some(pass(0, Some((10, true)))), 1, None, 20, Due::At(at(610)))]
#[case::interval_over(Some(pass(0, Some((10, true)))), 1, None, 610, Due::Now)]
#[case::new_spec(Some(pass(0, Some((10, true)))), 2, None, 20, Due::Now)]
#[case::new_spec_after_failure(Some(pass(0, Some((10, false)))), 2, None, 20, Due::Now)]
#[case::pushed_before(Some(pass(5, Some((10, true)))), 1, Some(4), 20, Due::At(at(610)))]
#[case::pushed_meanwhile(Some(pass(5, Some((10, true)))), 1, Some(7), 20, Due::Now)]
#[case::pushed_in_the_same_second(Some(pass(5, Some((10, true)))), 1, Some(5), 20, Due::Now)]
#[case::pushed_after(Some(pass(5, Some((10, true)))), 1, Some(15), 20, Due::Now)]
#[case::failed(Some(pass(0, Some((10, false)))), 1, None, 20, Due::At(at(25)))]
#[case::failed_and_pushed(Some(pass(0, Some((10, false)))), 1, Some(15), 20, Due::At(at(25)))]
#[case::failed_long_ago(Some(pass(0, Some((10, false)))), 1, None, 25, Due::Now)]
#[case::failed_thrice(Some(Pass { failures: 2, ..pass(0, Some((10, false))) }), 1, None, 20, Due::At(at(70)))]
#[case::failed_for_ever(Some(Pass { failures: u32::MAX, ..pass(0, Some((10, false))) }), 1, None, 20, Due::At(at(610)))]
#[case::healed(Some(Pass { failures: 3, ..pass(0, Some((10, true))) }), 1, None, 20, Due::At(at(610)))]
fn when_a_pass_is_due(
    #[case] newest: Option<Pass>,
    #[case] generation: i64,
    #[case] changed: Option<i64>,
    #[case] now: i64,
    #[case] expected: Due,
) {
    let plan = plan(&json!({"onPush": true, "interval": "10m"}));
    assert_eq!(due(&plan, generation, newest.as_ref(), changed.map(at), at(now)), expected);
}

#[test]
fn pushes_wait_for_the_interval_unless_asked_for() {
    let plan = plan(&json!({"interval": "10m"}));
    let ended = pass(5, Some((10, true)));
    assert_eq!(due(&plan, 1, Some(&ended), Some(at(15)), at(20)), Due::At(at(610)));
}

#[test]
fn a_short_interval_is_not_slowed_down_by_failures() {
    let plan = plan(&json!({"interval": "5s"}));
    let ended = Pass { failures: 9, ..pass(0, Some((10, false))) };
    assert_eq!(due(&plan, 1, Some(&ended), None, at(11)), Due::At(at(15)));
}

#[test]
fn the_interval_without_one_is_a_quarter_of_an_hour() {
    assert_eq!(plan(&Value::Null).interval.to_string(), "15m");
}

#[rstest]
#[case::nothing_known(None, None, None, None)]
#[case::told_before_any_pass(None, None, Some(3), Some(3))]
#[case::in_sync(Some(3), Some((5, true)), Some(4), None)]
#[case::never_told(None, Some((5, true)), None, None)]
#[case::changed_meanwhile(None, Some((5, true)), Some(6), Some(6))]
#[case::changed_twice(Some(6), Some((5, true)), Some(9), Some(6))]
#[case::older_lag_is_over(Some(3), Some((5, true)), Some(9), Some(9))]
#[case::failed(None, Some((5, false)), None, Some(5))]
#[case::fails_still(Some(2), Some((5, false)), Some(9), Some(2))]
fn since_when_behind(
    #[case] before: Option<i64>,
    #[case] ended: Option<(i64, bool)>,
    #[case] changed: Option<i64>,
    #[case] expected: Option<i64>,
) {
    let ended = ended.map(|(created, ok)| pass(created, Some((created + 1, ok))));
    assert_eq!(behind_since(before.map(at), ended.as_ref(), changed.map(at)), expected.map(at));
}

#[rstest]
#[case("app", "replication-app-1", Some(1))]
#[case("app", "replication-app-18446744073709551615", Some(u64::MAX))]
#[case("app", "replication-app-18446744073709551616", None)]
#[case("app", "replication-app", None)]
#[case("app", "replication-app-", None)]
#[case("app", "replication-app-01", None)]
#[case("app", "replication-app-+1", None)]
#[case("app", "replication-app-b-1", None)]
#[case("app-b", "replication-app-b-1", Some(1))]
#[case("app", "other-app-1", None)]
fn numbers_of_jobs(#[case] policy: &str, #[case] job: &str, #[case] number: Option<u64>) {
    assert_eq!(job_number(policy, job), number);
}

/// The longest policy and the largest number still make a name that Pods can carry as a label.
#[test]
fn names_of_jobs_fit() {
    assert!(job_name(&"a".repeat(berth_crds::MAX_NAME), 9_999_999_999).len() <= 63);
}

#[test]
fn numbers_and_failures_go_on() {
    assert_eq!(next_pass(None), (1, 0));
    assert_eq!(next_pass(Some(&pass(0, Some((1, true))))), (8, 0));
    assert_eq!(next_pass(Some(&Pass { failures: 2, ..pass(0, Some((1, false))) })), (8, 3));
}

#[rstest]
#[case::both_registries(json!({"source": {"registry": "a"}, "destination": {"registry": "b"}}))]
#[case::everything(json!({
    "source": {"registry": "a"},
    "destination": {"url": "https://r.example.com/", "credentials": {"secretName": "login"}, "ca": {"secretName": "ca"}},
    "select": [{"repositories": ["app/**"], "tags": ["v*"]}, {}],
    "rewrite": {"prefix": "mirror/"}, "trigger": {"onPush": true, "interval": "1h"},
}))]
#[case::elsewhere(json!({"source": {"registry": "a"}, "destination": {"url": "https://b.team-b.svc.cluster.local"}}))]
#[case::anonymous(json!({"source": {"url": "http://r:5000"}, "destination": {"registry": "b"}}))]
fn plans(#[case] spec: Value) {
    let name = match (
        spec["select"].is_array(),
        spec["source"]["url"].is_string(),
        spec["destination"]["url"].is_string(),
    ) {
        (true, ..) => "everything",
        (_, true, _) => "anonymous",
        (.., true) => "elsewhere",
        _ => "registries",
    };
    insta::assert_yaml_snapshot!(format!("plan_{name}"), plan_of(spec).unwrap().config);
}

#[rstest]
#[case(json!({"source": {}, "destination": {"registry": "b"}}), "spec.source")]
#[case(json!({"source": {"registry": "a", "url": "https://x"}, "destination": {"registry": "b"}}), "spec.source")]
#[case(json!({"source": {"registry": "a"}, "destination": {}}), "spec.destination")]
#[case(json!({"source": {"registry": "a"}, "destination": {"url": "http://x", "credentials": {"secretName": "s"}}}), "spec.destination.url")]
#[case(json!({"source": {"registry": "a"}, "destination": {"registry": "b"}, "trigger": {"interval": "soon"}}), "spec.trigger.interval")]
#[case(json!({"source": {"registry": "a"}, "destination": {"registry": "b"}, "trigger": {"interval": "0s"}}), "spec.trigger.interval")]
#[case(json!({"source": {"registry": "a"}, "destination": {"registry": "b"}, "select": [{}, {"tags": ["v*", "***"]}]}), "spec.select[1].tags[1]")]
#[case(json!({"source": {"registry": "a"}, "destination": {"registry": "b"}, "select": [{"repositories": [""]}]}), "spec.select[0].repositories[0]")]
fn errors_name_the_field(#[case] spec: Value, #[case] path: &str) {
    assert_eq!(plan_of(spec).unwrap_err().path, path);
}

#[test]
fn reports_are_found_in_termination_messages() {
    let text = r#"{"started":"2026-01-01T00:00:00Z","finished":"2026-01-01T00:00:09Z","copied":2,"unchanged":3,"failed":0,"bytes":77}"#;
    let read = report(&format!("starting\n{text}\n")).unwrap();
    assert_eq!((read.copied, read.bytes), (2, 77));
    let status = last_sync(&ReplicationReport { bytes: u64::MAX, ..read });
    assert_eq!((status.copied, status.unchanged, status.bytes), (2, 3, i64::MAX));
    assert_eq!(report("OOMKilled"), None);
    assert_eq!(report(""), None);
}
