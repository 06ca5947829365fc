//! R-OPR-7, R-SIG-5: what runs is judged again when an image, a policy or a Pod changes, and told where people look.

use std::{sync::Arc, time::Duration};

use berth_crds::image_policy::RunningImages;
use berth_operator::{
    Context, Scope,
    cli::{Cli, Command},
    image_policy::Keys,
    running, stores,
    webhook::{directory::Directory, looks::Looks, metrics::Looked, outside::Outside, policies::Policies},
};
use berth_operator_core::running::Assessment;
use berth_registry_core::{Digest, event::Changes};
use clap::Parser as _;
use serde_json::{Value, json};

use crate::{
    cluster::Cluster,
    registry::{HOST, Key, Registry},
};

const PODS: &str = "/api/v1/pods";
const POLICIES: &str = "/apis/berth.dev/v1alpha1/imagepolicies";
const REPORTS: &str = "/apis/wgpolicyk8s.io/v1alpha2/policyreports";
const REPORT: &str = "/apis/wgpolicyk8s.io/v1alpha2/namespaces/team-a/policyreports/berth";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/team-a/events";

/// The controller in a cluster in which one Deployment runs a signed image, and one an unsigned one.
struct Stage {
    cluster: Cluster,
    registry: Registry,
    key: Key,
    context: Context,
    unsigned: Digest,
}

fn pod(name: &str, image: &str, digest: &Digest) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "team-a", "resourceVersion": "2", "labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": format!("{HOST}/{image}")}]},
        "status": {"phase": "Running", "containerStatuses": [{
            "name": "main", "image": "x", "imageID": format!("{HOST}/{}@{digest}", image.split(':').next().unwrap()),
            "ready": true, "restartCount": 0,
        }]},
    })
}

impl Stage {
    async fn new() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let cluster = Cluster::default();
        let registry = Registry::start(Outside::new(cluster.client(), Arc::new(Scope::All))).await;
        let key = Key::new();
        let (signed, unsigned) = (registry.push("web", "v1", "web"), registry.push("api", "v1", "api"));
        registry.sign("web", &signed, &key);
        let labels = json!({"kubernetes.io/metadata.name": "team-a"});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a", "labels": labels}});
        cluster.list("/api/v1/namespaces", &[namespace]);
        cluster.list(PODS, &[pod("web", "web:v1", &signed), pod("api", "api:v1", &unsigned)]);
        cluster.list(REPORTS, &[]);
        cluster.list("/apis/berth.dev/v1alpha1/registries", &[]);
        cluster.list("/apis/berth.dev/v1alpha1/replicationpolicies", &[]);
        let report = json!({"apiVersion": "wgpolicyk8s.io/v1alpha2", "kind": "PolicyReport", "metadata": {"name": "berth", "uid": "r1"}});
        cluster.answer(&format!("PATCH {REPORT}"), report);
        let Command::Run(settings) = Cli::parse_from(["berth-operator", "run"]).command else { panic!() };
        let (mut context, writers) = Context::new(cluster.client(), settings);
        let keys = Arc::new(Keys::new(cluster.client(), Arc::new(Scope::All)));
        let directory: Arc<dyn Directory> = Arc::new(registry.clone());
        context.policies = Arc::new(Policies::new(context.stores.image_policies.clone(), keys.clone()));
        context.keys = keys;
        let patience = Duration::from_secs(2);
        context.looks = Arc::new(Looks::new(directory.clone(), patience, 1 << 20, Looked::default()));
        context.directory = directory;
        let stage = Self { cluster, registry, key, context, unsigned };
        stage.cluster.list(POLICIES, &[stage.policy(1, &json!([]))]);
        let client = stage.cluster.client();
        tokio::spawn(async move { Box::pin(stores::run(&client, "berth-system", writers)).await });
        stage.context.stores.wait_until_filled().await;
        tokio::spawn(Box::pin(running::run(stage.context.clone())));
        stage
    }

    /// The policy `team-a/signed`.
    fn policy(&self, generation: u8, exceptions: &Value) -> Value {
        json!({
            "apiVersion": "berth.dev/v1alpha1", "kind": "ImagePolicy",
            "metadata": {
                "name": "signed", "namespace": "team-a", "uid": "u", "generation": generation,
                "resourceVersion": generation.to_string(),
            },
            "spec": {
                "mode": "Enforce", "images": [format!("{HOST}/**")], "exceptions": exceptions,
                "require": [{"signature": {"authorities": [{"name": "release", "key": {"pem": self.key.pem()}}]}}],
            },
        })
    }

    /// Waits until so many images are admitted, denied and uncheckable.
    async fn until(&self, admitted: i64, denied: i64, uncheckable: i64) -> Assessment {
        let wanted = RunningImages { admitted, denied, uncheckable, static_pods: None };
        let mut assessments = self.context.assessments.subscribe();
        let key = ("team-a".to_owned(), "signed".to_owned());
        let right = |found: &running::Assessments| found.get(&key).is_some_and(|it| it.images == wanted);
        let found = tokio::time::timeout(Duration::from_secs(30), assessments.wait_for(right)).await;
        let found = found.unwrap_or_else(|_| panic!("{wanted:?}: {:?}", self.context.assessments.borrow()));
        found.unwrap()[&key].clone()
    }

    /// The registry tells that a repository changed.
    fn changed(&self, repository: &str) {
        let changes =
            Changes { repositories: [repository.to_owned()].into_iter().collect(), ..Changes::default() };
        self.context.looks.heed(HOST, &changes);
    }

    fn reports(&self) -> Vec<Value> {
        self.cluster.bodies(&format!("PATCH {REPORT}"))
    }

    /// Waits for the first body of `METHOD /path` after so many.
    async fn sent(&self, request: &str, before: usize) -> Value {
        let wait = async {
            loop {
                if let Some(body) = self.cluster.bodies(request).get(before) {
                    return body.clone();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap()
    }
}

#[tokio::test]
async fn what_runs_is_judged_when_an_image_changes() {
    let stage = Stage::new().await;
    let found = stage.until(1, 1, 0).await;
    assert_eq!(found.denied.iter().map(ToString::to_string).collect::<Vec<_>>(), ["pod/api"]);
    let reports = stage.reports();
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0]["summary"], json!({"pass": 1, "fail": 1, "warn": 0, "error": 0, "skip": 0}));
    let result = &reports[0]["results"][0];
    assert_eq!((&result["policy"], &result["result"]), (&json!("team-a/signed"), &json!("fail")));
    assert_eq!(result["properties"]["digest"], json!(stage.unsigned));
    let events = stage.cluster.bodies(&format!("POST {EVENTS}"));
    assert_eq!(events.len(), 1);
    assert_eq!(
        (&events[0]["reason"], &events[0]["regarding"]["name"]),
        (&json!("RunningImagesDenied"), &json!("signed"))
    );
    assert!(events[0]["note"].as_str().unwrap().contains("team-a/pod/api"), "{events:?}");
    let metrics = stage.context.metrics.encode().unwrap();
    let line = r#"running_images{namespace="team-a",policy="signed",verdict="denied"} 1"#;
    assert!(metrics.contains(line), "{metrics}");

    stage.registry.sign("api", &stage.unsigned, &stage.key);
    stage.changed("api");
    stage.until(2, 0, 0).await;
    let reports = stage.reports();
    assert_eq!((reports.len(), &reports[1]["summary"]["pass"]), (2, &json!(2)));
    assert_eq!(stage.cluster.bodies(&format!("POST {EVENTS}")).len(), 1, "nothing to tell");
}

/// An exception admits at once, and its end is known in advance.
#[tokio::test]
async fn what_runs_is_judged_when_a_policy_changes() {
    let stage = Stage::new().await;
    stage.until(1, 1, 0).await;
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(48);
    let end = jiff::Timestamp::from_second(end.as_second()).unwrap();
    let exception = json!({"images": [format!("{HOST}/api")], "owner": "bob", "reason": "r", "expires": end});
    stage.cluster.tell(POLICIES, &stage.policy(2, &json!([exception])));
    let found = stage.until(2, 0, 0).await;
    assert_eq!((found.forecast.len(), found.forecast[0].at.0, found.forecast[0].workloads), (1, end, 1));
    assert!(found.forecast[0].message.starts_with("team-a/pod/api: "), "{found:?}");
    let metrics = stage.context.metrics.encode().unwrap();
    assert!(metrics.contains(&format!("}} {}", end.as_second())), "{metrics}");
}

/// That a registry is down takes nothing back; what was never seen is uncheckable.
#[tokio::test]
async fn what_runs_is_judged_when_a_pod_comes() {
    let stage = Stage::new().await;
    stage.until(1, 1, 0).await;
    stage.registry.break_down(Some(crate::registry::Broken::Fails));
    let new = stage.registry.push("new", "v1", "new");
    stage.cluster.tell(PODS, &pod("new", "new:v1", &new));
    stage.until(1, 1, 1).await;
    let mut done = pod("api", "api:v1", &stage.unsigned);
    done["status"]["phase"] = "Succeeded".into();
    stage.cluster.tell(PODS, &done);
    stage.until(1, 0, 1).await;
}

/// Our report as the cluster holds it.
fn stored(report: &Value) -> Value {
    let mut stored = report.clone();
    stored["metadata"]["resourceVersion"] = "3".into();
    stored["metadata"]["uid"] = "r1".into();
    stored
}

#[tokio::test]
async fn a_report_that_somebody_edits_is_put_right() {
    let stage = Stage::new().await;
    stage.until(1, 1, 0).await;
    let report = stage.reports().remove(0);
    let mut edited = stored(&report);
    edited["summary"]["fail"] = 0.into();
    // It comes back from the watch as it was written, and then edited.
    stage.cluster.tell(REPORTS, &stored(&report));
    stage.cluster.tell(REPORTS, &edited);
    assert_eq!(stage.sent(&format!("PATCH {REPORT}"), 1).await, report);
    assert_eq!(stage.reports().len(), 2);
}

#[tokio::test]
async fn a_report_that_somebody_deletes_is_put_right() {
    let stage = Stage::new().await;
    stage.until(1, 1, 0).await;
    let report = stage.reports().remove(0);
    stage.cluster.tell_gone(REPORTS, &stored(&report));
    assert_eq!(stage.sent(&format!("PATCH {REPORT}"), 1).await, report);
}

/// Where nothing is bound any more, there is nothing to say; what others have is left to them.
#[tokio::test]
async fn a_report_goes_when_there_is_nothing_to_say() {
    let stage = Stage::new().await;
    stage.cluster.answer(&format!("DELETE {REPORT}"), json!({"kind": "Status", "status": "Success"}));
    stage.until(1, 1, 0).await;
    let mut other = stored(&stage.reports()[0]);
    other["metadata"]["name"] = "other".into();
    stage.cluster.tell(REPORTS, &other);
    for name in ["web", "api"] {
        stage.cluster.tell_gone(PODS, &pod(name, &format!("{name}:v1"), &stage.unsigned));
    }
    let body = stage.sent(&format!("DELETE {REPORT}"), 0).await;
    assert_eq!(body["preconditions"]["uid"], "r1");
    stage.until(0, 0, 0).await;
}
