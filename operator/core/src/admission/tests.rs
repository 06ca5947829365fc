//! Tables of reviews: what is checked, what is not, and in which words.

use berth_trust::{Cure, Ground, Way, What};
use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn review(operation: &str, resource: &str, object: &Value, old: &Value) -> Vec<u8> {
    let (group, rest) = resource.split_once('/').unwrap_or(("", resource));
    let (resource, sub) = rest.split_once(':').unwrap_or((rest, ""));
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u1", "operation": operation, "namespace": "team-a", "name": "x", "subResource": sub,
            "kind": {"group": group, "version": "v1", "kind": "Any"},
            "resource": {"group": group, "version": "v1", "resource": resource},
            "userInfo": {"username": "eve", "groups": ["system:masters"]},
            "object": object, "oldObject": old, "dryRun": false, "options": null,
        },
    })
    .to_string()
    .into_bytes()
}

fn pod(images: &[(&str, &str)]) -> Value {
    let containers: Vec<_> =
        images.iter().map(|(name, image)| json!({"name": name, "image": image})).collect();
    json!({"kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": containers}})
}

fn template(images: &[(&str, &str)]) -> Value {
    json!({"spec": {"replicas": 3, "template": pod(images)}})
}

fn to_check(body: &[u8]) -> Vec<String> {
    parse(body).unwrap().images_to_check().unwrap().into_iter().map(|image| image.image).collect()
}

#[rstest]
#[case::new_pod("CREATE", "pods", pod(&[("a", "x")]), Value::Null, &["x"])]
#[case::new_pod_with_twins("CREATE", "pods", pod(&[("a", "x"), ("b", "x")]), Value::Null, &["x", "x"])]
#[case::unchanged_pod("UPDATE", "pods", pod(&[("a", "x")]), pod(&[("a", "x")]), &[])]
#[case::changed_pod("UPDATE", "pods", pod(&[("a", "y"), ("b", "x")]), pod(&[("a", "x"), ("b", "x")]), &["y"])]
#[case::debug("UPDATE", "pods:ephemeralcontainers", json!({"spec": {"containers": [{"name": "a", "image": "x"}], "ephemeralContainers": [{"name": "d", "image": "shell"}]}}), pod(&[("a", "x")]), &["shell"])]
#[case::deployment("CREATE", "apps/deployments", template(&[("a", "x")]), Value::Null, &["x"])]
#[case::scaled_down("UPDATE", "apps/deployments", json!({"spec": {"replicas": 0, "template": pod(&[("a", "y")])}}), template(&[("a", "x")]), &["y"])]
#[case::labels_only("UPDATE", "apps/deployments", template(&[("a", "x")]), template(&[("a", "x")]), &[])]
#[case::stateful_set("UPDATE", "apps/statefulsets", template(&[("a", "y")]), template(&[("a", "x")]), &["y"])]
#[case::daemon_set("CREATE", "apps/daemonsets", template(&[("a", "x")]), Value::Null, &["x"])]
#[case::replica_set("CREATE", "apps/replicasets", template(&[("a", "x")]), Value::Null, &["x"])]
#[case::replication_controller("CREATE", "replicationcontrollers", template(&[("a", "x")]), Value::Null, &["x"])]
#[case::job("CREATE", "batch/jobs", template(&[("a", "x")]), Value::Null, &["x"])]
#[case::cron_job("CREATE", "batch/cronjobs", json!({"spec": {"jobTemplate": template(&[("a", "x")])}}), Value::Null, &["x"])]
#[case::update_without_old("UPDATE", "pods", pod(&[("a", "x")]), Value::Null, &["x"])]
#[case::create_ignores_old("CREATE", "pods", pod(&[("a", "x")]), pod(&[("a", "x")]), &["x"])]
#[case::delete("DELETE", "pods", Value::Null, pod(&[("a", "x")]), &[])]
fn what_is_checked(
    #[case] operation: &str,
    #[case] resource: &str,
    #[case] object: Value,
    #[case] old: Value,
    #[case] expected: &[&str],
) {
    assert_eq!(to_check(&review(operation, resource, &object, &old)), expected);
}

/// No field of the object buys a way past the check (CVE-2023-34091).
#[rstest]
#[case(json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}))]
#[case(json!({"ownerReferences": [{"kind": "ReplicaSet", "name": "trusted", "controller": true}]}))]
#[case(json!({"annotations": {"kubernetes.io/config.mirror": "x"}}))]
#[case(json!({"labels": {"app.kubernetes.io/managed-by": "berth"}}))]
fn metadata_is_no_way_past(#[case] metadata: Value) {
    let mut object = pod(&[("a", "y")]);
    object["metadata"] = metadata;
    assert_eq!(to_check(&review("UPDATE", "pods", &object, &pod(&[("a", "x")]))), ["y"]);
    assert_eq!(to_check(&review("CREATE", "pods", &object, &Value::Null)), ["y"]);
}

#[rstest]
#[case("CREATE", "services")]
#[case("UPDATE", "pods:status")]
#[case("UPDATE", "apps/deployments:scale")]
#[case("CREATE", "extensions/deployments")]
#[case("CREATE", "apps/pods")]
fn other_resources_are_refused(#[case] operation: &str, #[case] resource: &str) {
    let body = review(operation, resource, &pod(&[]), &Value::Null);
    assert_eq!(parse(&body).unwrap().images_to_check().unwrap_err().reason(), "NotGoverned");
}

/// What a version that nobody knew may mean by its fields is not guessed.
#[rstest]
#[case("pods", "v2")]
#[case("apps/deployments", "v1beta1")]
#[case("batch/cronjobs", "v2alpha1")]
fn unknown_versions_are_refused(#[case] resource: &str, #[case] version: &str) {
    let body = String::from_utf8(review("CREATE", resource, &pod(&[]), &Value::Null)).unwrap();
    let body = body.replace(r#""version":"v1""#, &format!(r#""version":"{version}""#));
    assert_eq!(parse(body.as_bytes()).unwrap().images_to_check().unwrap_err().reason(), "NotGoverned");
}

#[test]
fn an_unknown_operation_is_checked_like_a_create() {
    assert_eq!(to_check(&review("REPLACE", "pods", &pod(&[("a", "x")]), &pod(&[("a", "x")]))), ["x"]);
}

#[test]
fn a_review_without_an_object_is_refused() {
    let body = review("CREATE", "pods", &Value::Null, &Value::Null);
    assert_eq!(parse(&body).unwrap().images_to_check().unwrap_err().reason(), "NoObject");
}

#[rstest]
#[case::new(r#"{"spec":{"containers":[{"name":"a","image":"x","image":"y"}]}}"#, "null")]
#[case::old(r#"{"spec":{}}"#, r#"{"spec":{"containers":[],"containers":[]}}"#)]
fn duplicate_keys_in_objects_are_refused(#[case] object: &str, #[case] old: &str) {
    let body = format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"u","operation":"UPDATE",
        "resource":{{"group":"","version":"v1","resource":"pods"}},"object":{object},"oldObject":{old}}}}}"#
    );
    assert_eq!(parse(body.as_bytes()).unwrap().images_to_check().unwrap_err().reason(), "UnreadableObject");
}

#[rstest]
#[case::empty("")]
#[case::array("[]")]
#[case::no_request(r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#)]
#[case::old_version(r#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{"uid":"u","operation":"CREATE","resource":{"version":"v1","resource":"pods"}}}"#)]
#[case::two_requests(
    r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{},"request":{}}"#
)]
#[case::two_objects(r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","operation":"CREATE","resource":{"version":"v1","resource":"pods"},"object":{},"object":{}}}"#)]
fn other_bodies_are_no_review(#[case] body: &str) {
    assert_eq!(parse(body.as_bytes()).unwrap_err().reason(), "NotAReview");
}

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Patterns meet the normalised name, whatever spelling the Pod chose (R-OPR-6).
#[rstest]
#[case("r.team-a.svc.cluster.local/**", "r.team-a.svc.cluster.local/app:v1", true)]
#[case("r.team-a.svc.cluster.local/**", "R.Team-A.svc.cluster.local/app:v1", true)]
#[case("r.team-a.svc.cluster.local/**", "r.team-a.svc.cluster.local:443/app:v1", true)]
#[case("r.team-a.svc.cluster.local/**", "r.team-a.svc.cluster.local/a/b/c", true)]
#[case("r.team-a.svc.cluster.local/**", "r.team-a.svc.cluster.local:5000/app", false)]
#[case("r.team-a.svc.cluster.local/**", "evil.io/r.team-a.svc.cluster.local/app", false)]
#[case("r.io/*", "r.io/a/b", false)]
#[case("h:5000/**", "h:5000/a", true)]
#[case("docker.io/library/*", "alpine", true)]
#[case("docker.io/library/*", "index.docker.io/library/alpine:3", true)]
#[case("docker.io/**", "ghcr.io/x/y", false)]
#[case("**", "anything/at:all", true)]
#[case(
    "r.io/app",
    "r.io/app:v1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    true
)]
#[case::no_image_at_all("r.io/app", "", true)]
#[case::malformed("r.io/app", "r.io/APP", true)]
#[case::letters_that_look_alike("r.io/app", "r.io/\u{430}pp", true)]
#[case::too_long("r.io/app", &"a".repeat(256), true)]
#[case::image_id("r.io/app", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", true)]
#[case::wrong_digest("r.io/app", "q.io/app@sha256:1", true)]
fn what_a_policy_governs(#[case] pattern: &str, #[case] image: &str, #[case] governed: bool) {
    let uses = images(&pod(&[("a", image)]).to_string()).unwrap();
    let subjects = subjects(&[pattern.parse().unwrap()], uses).unwrap();
    assert_eq!(!subjects.is_empty(), governed, "{pattern} ~ {image}");
}

#[test]
fn one_image_is_one_subject_however_often_it_is_named() {
    let same = format!("r.io/app@{DIGEST}");
    let object = pod(&[("a", "r.io/app:v1"), ("b", "R.io/app:v1"), ("c", "r.io:443/app:v1"), ("d", &same)]);
    let subjects = subjects(&["**".parse().unwrap()], images(&object.to_string()).unwrap()).unwrap();
    let counts: Vec<_> = subjects.iter().map(|subject| (subject.shown(), subject.uses.len())).collect();
    assert_eq!(counts, [("r.io/app:v1".to_owned(), 3), (same, 1)]);
}

#[test]
fn the_number_of_images_is_bounded() {
    let names: Vec<_> = (0..=MAX_IMAGES).map(|n| format!("r.io/a{n}")).collect();
    let object = pod(&names.iter().map(|name| ("a", name.as_str())).collect::<Vec<_>>());
    let uses = images(&object.to_string()).unwrap();
    assert!(subjects(&["**".parse().unwrap()], uses[1..].to_vec()).is_ok());
    assert_eq!(subjects(&["**".parse().unwrap()], uses).unwrap_err().reason(), "TooManyImages");
}

fn admitted() -> Verdict {
    Verdict::Admit { grounds: [Ground::NamedByDigest].into() }
}

fn finding(subject: &Subject) -> Finding {
    let findings = match subject.shown().as_str() {
        "r.io/ok:latest" => {
            return Finding { verdict: admitted(), digest: None };
        }
        "r.io/app:v1" => {
            [berth_trust::Finding::Missing { what: What::Signature, wanted: ["release".to_owned()].into() }]
        }
        _ => return Finding::uncheckable("NoSuchRegistry", "q.io is no Registry\r\nof this cluster", false),
    };
    let (findings, cures) = (findings.into(), [Cure::Sign(Way::Key)].into());
    Finding { verdict: Verdict::Deny { findings, cures }, digest: Some(DIGEST.parse().unwrap()) }
}

fn findings() -> Vec<(Subject, Finding)> {
    let object = json!({"spec": {
        "containers": [{"name": "web", "image": "r.io/app:v1"}, {"name": "ok", "image": "r.io/ok"}, {"name": "bad", "image": "r.io/BAD"}],
        "initContainers": [{"name": "setup", "image": "r.io/app:v1"}],
        "volumes": [{"name": "model", "image": {"reference": "q.io/model"}}],
    }});
    let subjects = subjects(&["**".parse().unwrap()], images(&object.to_string()).unwrap()).unwrap();
    subjects.into_iter().map(|subject| (subject.clone(), finding(&subject))).collect()
}

/// A denial names image, container, policy, what was found, what is missing and the cure.
#[test]
fn words_of_a_denial() {
    let answer = Answer::judge("team-a/signed", Mode::Enforce, Uncheckable::Deny, &findings());
    insta::assert_json_snapshot!(answer.review("u1"));
}

#[test]
fn words_of_a_warning() {
    let answer = Answer::judge("team-a/signed", Mode::Warn, Uncheckable::Deny, &findings());
    insta::assert_json_snapshot!(answer.review("u1"));
}

/// What would have been refused is there for who reads the records, and nobody else (R-OPR-6).
#[test]
fn an_audit_is_silent_and_complete() {
    let denied = Answer::judge("team-a/signed", Mode::Enforce, Uncheckable::Deny, &findings());
    let audited = Answer::judge("team-a/signed", Mode::Audit, Uncheckable::Deny, &findings());
    assert_eq!(audited.audited.join("\n"), denied.message);
    assert_eq!(audited.complaints(), denied.complaints());
    assert_eq!(audited.review("u1"), Answer::allow().review("u1"));
}

/// `uncheckable` speaks about outages only: what stays as it is until somebody acts is refused all the same.
#[rstest]
#[case::outage(true)]
#[case::too_many_referrers_or_no_registry_at_all(false)]
fn what_uncheckable_lets_in(#[case] transient: bool) {
    let uses = images(&pod(&[("a", "r.io/app:v1")]).to_string()).unwrap();
    let subject = subjects(&["**".parse().unwrap()], uses).unwrap().remove(0);
    let findings = [(subject, Finding::uncheckable("Reason", "it is so", transient))];
    let answer = |mode, uncheckable| Answer::judge("a/b", mode, uncheckable, &findings);
    let denied = answer(Mode::Enforce, Uncheckable::Deny);
    assert!(!denied.allowed && denied.warnings.is_empty());
    assert_eq!(denied.message.contains("try again"), transient, "{}", denied.message);
    let lenient = answer(Mode::Enforce, Uncheckable::Warn);
    assert_eq!((lenient.allowed, lenient.warnings.len()), (transient, usize::from(transient)));
    for mode in [Mode::Warn, Mode::Audit] {
        assert_eq!(answer(mode, Uncheckable::Warn), answer(mode, Uncheckable::Deny));
    }
}

/// One image that could not be checked does not buy a way in for one that was, and failed.
#[test]
fn a_denial_stands_beside_a_warning() {
    let of = |image: &str, finding: Finding| {
        let uses = images(&pod(&[("a", image)]).to_string()).unwrap();
        (subjects(&["**".parse().unwrap()], uses).unwrap().remove(0), finding)
    };
    let findings = [
        of("r.io/app:v1", Finding { verdict: Verdict::image_not_found(), digest: None }),
        of("r.io/b", Finding::uncheckable("Unreachable", "r.io is down", true)),
    ];
    let answer = Answer::judge("a/b", Mode::Enforce, Uncheckable::Warn, &findings);
    assert!(!answer.allowed && answer.message.contains("r.io/app:v1") && !answer.message.contains("r.io/b"));
    assert!(answer.warnings[0].contains("r.io/b"));
}

/// Two policies on one image answer each for itself, and the API server refuses if one does: a mild one loosens nothing.
#[test]
fn policies_do_not_loosen_each_other() {
    let answers = [Mode::Audit, Mode::Warn, Mode::Enforce].map(|mode| {
        let policy = format!("team-a/{mode:?}");
        Answer::judge(&policy, mode, Uncheckable::Warn, &findings())
    });
    assert_eq!(answers.map(|answer| answer.allowed), [true, true, false]);
}

#[test]
fn satisfied_policies_are_silent() {
    let admit = Finding { verdict: admitted(), digest: None };
    let all: Vec<_> = findings().into_iter().map(|(subject, _)| (subject, admit.clone())).collect();
    for mode in [Mode::Enforce, Mode::Warn, Mode::Audit] {
        assert_eq!(Answer::judge("a/b", mode, Uncheckable::Deny, &all), Answer::allow());
        assert_eq!(Answer::judge("a/b", mode, Uncheckable::Deny, &[]), Answer::allow());
    }
    insta::assert_json_snapshot!(Answer::allow().review("u1"));
}

#[test]
fn a_policy_that_cannot_judge_says_so_in_its_mode() {
    let complaint = "key release: the Secret team-a/cosign does not exist";
    let denied = Answer::complain("team-a/signed", Mode::Enforce, complaint);
    assert_eq!((denied.allowed, denied.message), (false, format!("ImagePolicy team-a/signed: {complaint}")));
    let warned = Answer::complain("team-a/signed", Mode::Warn, complaint);
    assert_eq!((warned.allowed, warned.warnings.len()), (true, 1));
    let subjects = findings().into_iter().map(|(subject, _)| subject).collect::<Vec<_>>();
    insta::assert_snapshot!(
        Answer::cannot_judge("team-a/signed", Mode::Enforce, &subjects, complaint).message
    );
}

#[test]
fn long_answers_are_cut() {
    let uses = |n: usize| images(&pod(&[("a", &format!("r.io/a{n}"))]).to_string()).unwrap();
    let findings: Vec<_> = (0..30)
        .map(|n| {
            let subject = subjects(&["**".parse().unwrap()], uses(n)).unwrap().remove(0);
            (subject, Finding::uncheckable("Unreachable", "x".repeat(9000), true))
        })
        .collect();
    let answer = Answer::judge("a/b", Mode::Enforce, Uncheckable::Deny, &findings);
    assert!(answer.message.ends_with("and 20 more images"));
    assert!(answer.message.lines().count() == 11 && answer.message.len() < 32_000);
}

/// Policies that are asked at once say what each would have said alone, the first ten of them (R-OPR-6).
#[test]
fn policies_speak_together_as_each_does_alone() {
    let lines = |count: usize| (0..count).map(|line| format!("image {line}")).collect::<Vec<_>>();
    let refusal = Answer { allowed: false, message: lines(11).join("\n"), ..Answer::allow() };
    assert_eq!(Answer::together(std::slice::from_ref(&refusal)), refusal);
    let warning = Answer { warnings: lines(2), audited: lines(1), ..Answer::allow() };
    assert_eq!(Answer::together(&[Answer::allow(), warning.clone()]), warning);
    let both = Answer::together(&[warning.clone(), refusal.clone()]);
    assert_eq!((both.allowed, &both.message, &both.warnings), (false, &refusal.message, &warning.warnings));
    let many = Answer::together(&vec![refusal; 12]);
    assert_eq!(many.message.lines().count(), 10 * 11 + 1);
    assert!(many.message.ends_with("and 2 more policies"));
}
