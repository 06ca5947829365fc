//! `policy test` and `images` on a cluster: whom a policy binds, and what runs.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::{cluster::Cluster, user::User};

const PODS: &str = "/api/v1/namespaces/team-a/pods";

const POLICY: &str = "
apiVersion: berth.dev/v1alpha1
kind: ImagePolicy
metadata: {name: signed}
spec:
  mode: Enforce
  images: ['HOST/**']
  require:
  - signature: {authorities: [{name: release, key: {secretName: release}}]}
";

/// A Pod of a Deployment, labelled `app: NAME`.
fn pod(deployment: &str, number: u8, image: &str, digest: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("{deployment}-5d4f-{number}"), "namespace": "team-a",
            "labels": {"pod-template-hash": "5d4f", "app": deployment},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{deployment}-5d4f"), "uid": "u", "controller": true,
            }],
        },
        "spec": {"containers": [{"name": "main", "image": image}]},
        "status": {"phase": "Running", "containerStatuses": [{
            "name": "main", "image": image, "imageID": format!("{}@{digest}", image.rsplit_once(':').map_or(image, |(name, _)| name)), "ready": true, "restartCount": 0,
        }]},
    })
}

/// A cluster in which one Deployment runs a signed image, one an unsigned one, one an image from elsewhere.
async fn cluster(user: &User) -> Cluster {
    user.key("release");
    let (signed, unsigned) = (user.push("web", "v1", "1").await, user.push("db", "v1", "2").await);
    user.sign("release", "web", &signed, &[]);
    let cluster = Cluster::default();
    let elsewhere = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let pods = [
        pod("web", 1, &user.image("web:v1"), &signed.to_string()),
        pod("web", 2, &user.image("web:v1"), &signed.to_string()),
        pod("db", 1, &user.image("db:v1"), &unsigned.to_string()),
        pod("proxy", 1, "docker.io/library/proxy:1", elsewhere),
    ];
    cluster.list(PODS, &pods);
    let pem = BASE64_STANDARD.encode(user.read("release.pub"));
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "release"}, "data": {"cosign.pub": pem}});
    cluster.put("/api/v1/namespaces/team-a/secrets/release", secret);
    user.write("config", &cluster.serve().await);
    cluster
}

/// The policy as `team-a` has it.
fn policy(user: &User, name: &str) -> Value {
    let mut policy: Value = serde_yaml::from_str(&POLICY.replace("HOST/", &user.image(""))).unwrap();
    policy["metadata"] = json!({"name": name, "namespace": "team-a"});
    policy
}

/// Policies of `team-a`; the cluster has no others.
fn in_force(cluster: &Cluster, policies: &[Value]) {
    cluster.list("/apis/berth.dev/v1alpha1/namespaces/team-a/imagepolicies", policies);
    cluster.list("/apis/berth.dev/v1alpha1/namespaces/berth-system/imagepolicies", &[]);
}

/// R-OPR-9: before a policy is applied, it is known whom it would hit; the Secret comes from the cluster.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_tried_on_what_runs() {
    let Some(user) = User::new() else { return };
    let _cluster = cluster(&user).await;
    user.write("policy.yaml", POLICY);
    let test = |more: &[&str]| {
        let common = ["policy", "test", "--kubeconfig=config", "--plain-http", "-f", "policy.yaml"];
        user.berth(&[common.as_slice(), more].concat())
    };
    insta::assert_snapshot!("forecast", test(&[]));
    insta::assert_snapshot!("forecast_wide", test(&["-o", "wide"]));
    // By the labels of the Pods themselves.
    user.write(
        "policy.yaml",
        &POLICY.replace("  images:", "  objects: {matchLabels: {app: web}}\n  images:"),
    );
    insta::assert_snapshot!("forecast_of_some", test(&[]));
    user.write("policy.yaml", &POLICY.replace("{name: signed}", "{name: signed, namespace: kube-system}"));
    insta::assert_snapshot!("forecast_without_a_secret", test(&[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_listed_by_digest() {
    let Some(user) = User::new() else { return };
    let cluster = cluster(&user).await;
    in_force(&cluster, &[policy(&user, "signed")]);
    insta::assert_snapshot!("images", user.berth(&["images", "--kubeconfig=config", "--plain-http"]));
    insta::assert_snapshot!(
        "images_wide",
        user.berth(&["images", "--kubeconfig=config", "--plain-http", "-o", "wide"])
    );
}

/// R-OPR-6: policies that cannot judge are named with the cause, and hide nothing of what the others say.
#[tokio::test(flavor = "multi_thread")]
async fn policies_that_cannot_judge_are_named() {
    let Some(user) = User::new() else { return };
    let cluster = cluster(&user).await;
    let [signed, mut incomplete, mut newer] =
        ["signed", "incomplete", "newer"].map(|name| policy(&user, name));
    incomplete["spec"]["require"][0]["signature"]["authorities"][0]["key"]["secretName"] = "gone".into();
    newer["spec"]["mode"] = "Whisper".into();
    in_force(&cluster, &[signed, incomplete, newer]);
    let images = |more: &[&str]| {
        user.berth(&[["images", "--kubeconfig=config", "--plain-http"].as_slice(), more].concat())
    };
    insta::assert_snapshot!("images_unable", images(&[]));
    insta::assert_snapshot!("images_unable_wide", images(&["-o", "wide"]));
    let json = images(&["-o", "json"]);
    let report: Value = serde_json::from_str(json.rsplit_once("exit code").unwrap().0).unwrap();
    let unable: Vec<_> = report["unableToJudge"].as_array().unwrap().iter().map(|it| &it["policy"]).collect();
    assert_eq!(unable, ["team-a/incomplete", "team-a/newer"]);
}

/// What a kubelet runs from its own disk is shown as that, and foretold nothing of.
#[tokio::test(flavor = "multi_thread")]
async fn static_pods_are_shown_as_such() {
    let Some(user) = User::new() else { return };
    let cluster = cluster(&user).await;
    let unsigned = user.push("log", "v1", "3").await;
    let mut mirror = pod("log", 1, &user.image("log:v1"), &unsigned.to_string());
    mirror["metadata"]["name"] = "log-node-1".into();
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "4f1c"});
    mirror["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": "u", "controller": true}]);
    cluster.list(PODS, &[mirror]);
    in_force(&cluster, &[policy(&user, "signed")]);
    insta::assert_snapshot!("images_static", user.berth(&["images", "--kubeconfig=config", "--plain-http"]));
    user.write("policy.yaml", POLICY);
    let forecast = ["policy", "test", "--kubeconfig=config", "--plain-http", "-f", "policy.yaml"];
    insta::assert_snapshot!("forecast_static", user.berth(&forecast));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_cluster_it_says_so() {
    let Some(user) = User::new() else { return };
    insta::assert_snapshot!("no_cluster", user.berth(&["images", "--kubeconfig=gone"]));
}
