//! `why`: the story of a decision, its replay, and records that somebody altered.

use berth_operator_core::{
    admission::{Answer, Finding, Mode, Subject, Uncheckable},
    decision::{ANNOTATION, Decision, Look},
    image_policy::Material,
};
use berth_trust::{PublicKey, Verdict};
use serde_json::{Value, json};

use crate::{cluster::Cluster, user::User};

const EVENTS: &str = "/api/v1/namespaces/team-a/events";
const PEM: &str = include_str!("../../../../registry/trust/tests/vectors/p256.pub");
const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A denial of an image that nobody signed.
fn decision() -> Decision {
    let spec = json!({
        "mode": "Enforce", "images": ["r.io/**"],
        "require": [{"signature": {"authorities": [{"name": "release", "key": {"secretName": "release"}}]}}],
    });
    let secrets = [("release".to_owned(), Material::of([(&"cosign.pub".to_owned(), PEM.as_bytes())]))].into();
    let key = PublicKey::from_pem(PEM).unwrap();
    let facts = json!({"subject": DIGEST, "anchors": [key.id()], "statements": [], "refusals": []});
    let look = Look::Seen(serde_json::from_value(facts).unwrap());
    let (image, now) = ("r.io/app:v1".parse().unwrap(), "2026-11-21T20:00:00Z".parse().unwrap());
    let spec = serde_json::from_value(spec).unwrap();
    Decision::new("team-a/signed", &spec, &secrets, &image, look, now).unwrap()
}

/// As the webhook keeps it, and the core group shows it.
fn event(name: &str, decision: &Decision) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": name, "namespace": "team-a", "annotations": {ANNOTATION: decision.encode().unwrap()}},
        "eventTime": "2026-11-21T20:00:00.000000Z", "reason": "ImageDenied", "type": "Warning", "action": "Admit",
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": "team-a", "name": "web-5d4f-"},
        "series": {"count": 3, "lastObservedTime": "2026-11-21T20:05:00.000000Z"},
    })
}

/// R-OPR-9: why was this image denied?
#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_told_and_made_again() {
    let Some(user) = User::new() else { return };
    let (cluster, decision) = (Cluster::default(), decision());
    let id = decision.id();
    cluster.list(EVENTS, &[event(&id.event_name(), &decision), json!({"metadata": {"name": "another"}})]);
    user.write("config", &cluster.serve().await);
    let why = |target: &str, more: &[&str]| {
        user.berth(&[["why", "--kubeconfig=config", target].as_slice(), more].concat())
    };
    let story = why(&id.to_string(), &[]);
    insta::assert_snapshot!("why", story);
    // The same by what it is about.
    for target in ["deployment/web", "web", "web-5d4f-", "pod/web-5d4f-"] {
        assert_eq!(why(target, &[]), story);
    }
    insta::assert_snapshot!("why_not_found", why("deployment/db", &[]));
    let json = why(&id.to_string(), &["-o", "json"]);
    let report: Value = serde_json::from_str(json.rsplit_once("exit code").unwrap().0).unwrap();
    assert_eq!(report["decisions"][0]["decision"]["message"], decision.message);
}

/// The command that a denial prints works as it stands, whatever namespace is the current one.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_denial_prints_can_be_pasted() {
    let Some(user) = User::new() else { return };
    let (cluster, decision) = (Cluster::default(), decision());
    cluster.list("/api/v1/namespaces/team-b/events", &[event(&decision.id().event_name(), &decision)]);
    user.write("config", &cluster.serve().await);
    let subject = Subject { image: decision.image.parse(), uses: Vec::new() };
    let finding = Finding { verdict: Verdict::image_not_found(), digest: None };
    let (findings, kept) = ([(subject, finding)], [Some(decision.id())]);
    let answer =
        Answer::judge_noted("team-b/a", Mode::Enforce, Uncheckable::Deny, &findings, "team-b", &kept);
    let (_, command) = answer.message.rsplit_once("kubectl berth ").unwrap();
    let mut words: Vec<_> = command.trim_end_matches(')').split(' ').collect();
    words.push("--kubeconfig=config");
    let story = user.berth(&words);
    assert!(story.starts_with(&format!("Decision:   {}", decision.id())), "{story}");
}

/// A record with another verdict is found out, with its own id or without.
#[tokio::test(flavor = "multi_thread")]
async fn altered_records_are_found_out() {
    let Some(user) = User::new() else { return };
    let (cluster, honest) = (Cluster::default(), decision());
    user.write("config", &cluster.serve().await);
    let altered = Decision { message: "r.io/app:v1 is signed by release".to_owned(), ..honest.clone() };
    cluster.list(EVENTS, &[event(&honest.id().event_name(), &altered)]);
    insta::assert_snapshot!("why_altered", user.berth(&["why", "--kubeconfig=config", "web"]));
    cluster.list(EVENTS, &[event(&altered.id().event_name(), &altered)]);
    insta::assert_snapshot!("why_forged", user.berth(&["why", "--kubeconfig=config", "web"]));
}
