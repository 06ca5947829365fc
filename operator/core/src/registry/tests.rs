//! Snapshots of every object that a Registry becomes, and tables of what makes it invalid or unready (R-OPR-1).

use std::collections::BTreeMap;

use berth_crds::Registry;
use k8s_openapi::{
    ByteString,
    api::{apps::v1::Deployment, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use rstest::rstest;
use serde_json::{Value, json};

mod clouds;
mod gate;
mod inquiry;

use super::{
    status::{Facts, Observed, Unready},
    validate::World,
    *,
};
use crate::{conditions::State, objects::Owner};

#[rstest]
#[case("registry.team-a.svc.cluster.local", Some(("registry", "team-a")))]
#[case("registry.team-a.svc", None)]
#[case("registry.svc.cluster.local", None)]
#[case(".team-a.svc.cluster.local", None)]
#[case("a.b.team-a.svc.cluster.local", None)]
#[case("registry.team-a.svc.cluster.local:5000", None)]
#[case("registry.team-a.svc.cluster.local.evil.io", None)]
#[case("docker.io", None)]
fn hosts_of_registries(#[case] host: &str, #[case] expected: Option<(&str, &str)>) {
    assert_eq!(of_host(host), expected);
}

#[allow(clippy::needless_pass_by_value)] // `json!` makes values.
fn registry(spec: Value) -> Registry {
    let object = json!({
        "apiVersion": "berth.dev/v1alpha1",
        "kind": "Registry",
        "metadata": {"name": "registry", "namespace": "team-a", "uid": "uid-1", "generation": 3},
        "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

fn owner(registry: &Registry) -> Owner {
    Owner::registry(registry).unwrap()
}

fn installation() -> Installation {
    Installation {
        namespace: "berth-system".into(),
        service_account: "berth-operator".into(),
        image: "localhost/berth-registry@sha256:0".into(),
        pull_secrets: vec!["pull".into()],
    }
}

fn world() -> World {
    let data = |keys: &[&str]| -> BTreeMap<String, ByteString> {
        keys.iter().map(|key| ((*key).to_owned(), ByteString(b"x".to_vec()))).collect()
    };
    World {
        secrets: [
            ("users".to_owned(), [("htpasswd".to_owned(), ByteString(b"ci:x\nnode:x\n".to_vec()))].into()),
            ("s3".to_owned(), data(&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])),
            ("s3-ca".to_owned(), data(&["ca.crt"])),
            ("google".to_owned(), data(&["credentials.json"])),
            ("azure".to_owned(), data(&["AZURE_STORAGE_ACCOUNT_KEY"])),
            ("collector".to_owned(), data(&["headers", "ca.crt"])),
            ("empty".to_owned(), data(&[])),
        ]
        .into(),
        claims: vec!["old".to_owned()],
        ..World::default()
    }
}

fn valid(registry: &Registry, world: &World) -> Result<ValidRegistry, RegistryError> {
    validate(registry, owner(registry), &installation(), world)
}

fn children(spec: Value, world: &World) -> Children {
    let registry = registry(spec);
    let tls = Tls { certificate: "CERT".into(), key: "KEY".into(), bundle: "CA".into() };
    build(&valid(&registry, world).unwrap(), &installation(), &tls).unwrap()
}

fn full() -> Value {
    json!({
        "replicas": 2,
        "storage": {"s3": {
            "bucket": "team-a", "prefix": "images/", "region": "eu-central-1", "endpoint": "http://s3.s3.svc:7070",
            "credentials": {"secretName": "s3"}, "ca": {"secretName": "s3-ca"},
        }},
        "access": {"anonymous": "Pull", "users": {"secretName": "users"}, "immutableTags": ["v*"]},
        "redirects": {"networks": ["10.0.0.0/8"]},
        "lifecycle": {"schedule": "0 3 * * *", "dryRun": true, "undeleteWindow": "14d", "scrubSchedule": "0 5 1 * *", "rules": [
            {"priority": 20, "tagStatus": "Untagged", "olderThan": "14d"},
            {"priority": 10, "description": "ten releases", "repositories": ["app/**"], "tagPatterns": ["v*"], "keepLast": 10},
        ]},
        "pod": {
            "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "1Gi"}},
            "nodeSelector": {"disk": "fast"},
            "tolerations": [{"key": "registry", "operator": "Exists", "effect": "NoSchedule"}],
        },
    })
}

#[test]
fn a_registry_on_a_bucket() {
    let children = children(full(), &world());
    insta::assert_yaml_snapshot!("bucket_service_accounts", children.service_accounts);
    insta::assert_yaml_snapshot!("bucket_config_maps", children.config_maps);
    insta::assert_yaml_snapshot!("bucket_services", children.services);
    insta::assert_yaml_snapshot!("bucket_network_policies", children.network_policies);
    insta::assert_yaml_snapshot!("bucket_disruption_budgets", children.disruption_budgets);
    insta::assert_yaml_snapshot!("bucket_deployments", children.deployments);
    insta::assert_yaml_snapshot!("bucket_cron_jobs", children.cron_jobs);
    assert!(children.claims.is_empty());
    let names: Vec<_> =
        children.secrets.iter().filter_map(|secret| secret.metadata.name.as_deref()).collect();
    assert_eq!(names, ["registry-config", "registry-tls"]);
    insta::assert_snapshot!("bucket_berth_yaml", berth_yaml(&children));
}

#[test]
fn a_registry_on_a_volume() {
    let spec = json!({"storage": {"volume": {"size": "20Gi", "storageClassName": "fast"}}});
    let children = children(spec, &world());
    insta::assert_yaml_snapshot!("volume_claims", children.claims);
    insta::assert_yaml_snapshot!("volume_deployments", children.deployments);
    insta::assert_snapshot!("volume_berth_yaml", berth_yaml(&children));
    assert!(children.disruption_budgets.is_empty());
    let jobs: Vec<_> = children.cron_jobs.iter().filter_map(|job| job.metadata.name.as_deref()).collect();
    assert_eq!(jobs, ["registry-gc", "registry-scrub"]);
}

#[test]
fn memory_has_no_jobs() {
    let children = children(json!({"storage": {"memory": {}}}), &world());
    assert!(children.cron_jobs.is_empty());
    assert_eq!(children.service_accounts.len(), 1);
}

fn berth_yaml(children: &Children) -> String {
    let data = children.secrets[0].data.as_ref().unwrap();
    String::from_utf8(data[config::FILE].0.clone()).unwrap()
}

/// The registry itself must be able to read what the operator renders.
#[test]
fn what_is_rendered_parses() {
    let yaml = berth_yaml(&children(full(), &world()));
    let config: berth_registry_core::config::ServerConfig = serde_yaml::from_str(&yaml).unwrap();
    assert_eq!(config.lifecycle.iter().map(|rule| rule.priority).collect::<Vec<_>>(), [10, 20]);
}

/// R-OPS-2: where traces go is told to the servers, what is secret by a mount of the Secret only.
#[test]
fn traces_reach_the_servers() {
    let children = children(
        json!({"storage": {"memory": {}}, "traces": {
            "endpoint": "https://collector:4318", "samplingRatePerMillion": 1000,
            "headers": {"secretName": "collector"}, "ca": {"secretName": "collector"},
        }}),
        &world(),
    );
    let yaml = berth_yaml(&children);
    let (_, traces) = yaml.split_once("traces:\n").unwrap();
    assert_eq!(
        traces,
        "  endpoint: https://collector:4318\n  samplingRatePerMillion: 1000\n  headersFile: /etc/berth/traces/headers\n  caFile: /etc/berth/traces-ca/ca.crt\n"
    );
    let pod = children.deployments[0].spec.as_ref().unwrap().template.spec.clone().unwrap();
    let volumes: Vec<_> = pod.volumes.iter().flatten().map(|volume| volume.name.as_str()).collect();
    assert!(volumes.contains(&"traces") && volumes.contains(&"traces-ca"), "{volumes:?}");
}

fn config_hash(children: &Children) -> String {
    let template = &children.deployments[0].spec.as_ref().unwrap().template;
    template.metadata.as_ref().unwrap().annotations.as_ref().unwrap()[workload::CONFIG_HASH].clone()
}

/// Every Secret that a spec names is watched.
#[test]
fn secrets_that_a_spec_names() {
    let spec = json!({
        "storage": {
            "s3": {"bucket": "a", "credentials": {"secretName": "a"}, "ca": {"secretName": "b"}},
            "gcs": {"bucket": "a", "credentials": {"secretName": "c"}, "ca": {"secretName": "d"}},
            "azure": {"account": "a", "container": "a", "credentials": {"secretName": "e"}, "ca": {"secretName": "f"}},
        },
        "access": {"users": {"secretName": "g"}},
        "traces": {"endpoint": "http://a", "headers": {"secretName": "h"}, "ca": {"secretName": "i"}},
    });
    let registry = registry(spec);
    let mut names = validate::secret_names(&registry);
    names.sort_unstable();
    assert_eq!(names.concat(), "abcdefghi");
}

/// Servers are replaced when something changes that they do not pick up by themselves, and only then.
#[test]
fn servers_restart_only_for_what_matters() {
    let before = config_hash(&children(full(), &world()));
    let mut rotated_users = world();
    rotated_users.secrets.get_mut("users").unwrap().insert("htpasswd".into(), ByteString(b"y".to_vec()));
    assert_eq!(config_hash(&children(full(), &rotated_users)), before);
    let mut rotated_keys = world();
    rotated_keys.secrets.get_mut("s3").unwrap().insert("AWS_ACCESS_KEY_ID".into(), ByteString(b"y".to_vec()));
    assert_ne!(config_hash(&children(full(), &rotated_keys)), before);
    let mut scaled = full();
    scaled["replicas"] = json!(3);
    assert_eq!(config_hash(&children(scaled, &world())), before);
    let mut rules = full();
    rules["lifecycle"]["rules"][0]["olderThan"] = json!("15d");
    let with_rules = children(rules, &world());
    assert_eq!(config_hash(&with_rules), before);
    assert_ne!(with_rules.configuration, children(full(), &world()).configuration);
    let mut redirected = full();
    redirected["redirects"]["networks"] = json!(["10.1.0.0/16"]);
    assert_eq!(config_hash(&children(redirected, &world())), before);
    let mut moved = full();
    moved["storage"]["s3"]["prefix"] = json!("elsewhere/");
    assert_ne!(config_hash(&children(moved, &world())), before);
}

#[test]
fn replication_is_granted_what_it_needs() {
    let policy = |name: &str, source: &str, destination: &str| {
        serde_json::from_value(json!({
            "apiVersion": "berth.dev/v1alpha1", "kind": "ReplicationPolicy",
            "metadata": {"name": name, "namespace": "team-a"},
            "spec": {"source": {"registry": source}, "destination": {"registry": destination}},
        }))
        .unwrap()
    };
    let policies =
        vec![policy("in", "other", "registry"), policy("out", "registry", "other"), policy("no", "a", "b")];
    let registry = registry(json!({"storage": {"memory": {}}}));
    let grants = valid(&registry, &World { policies, ..world() }).unwrap().grants;
    let grants: Vec<_> = grants.iter().map(|grant| format!("{} {:?}", grant.name, grant.role)).collect();
    assert_eq!(
        grants,
        [
            "system:serviceaccount:berth-system:berth-operator Inspect",
            "system:serviceaccount:team-a:replication-in Push",
            "system:serviceaccount:team-a:replication-out Pull",
        ]
    );
}

#[rstest]
#[case(json!({"storage": {"memory": {}}}), None)]
#[case(json!({"storage": {"volume": {"claimName": "old"}}}), None)]
#[case(json!({"storage": {"volume": {"claimName": "gone"}}}), Some("ClaimNotFound"))]
#[case(json!({"storage": {}}), Some("StorageInvalid"))]
#[case(json!({"storage": {"memory": {}, "volume": {"claimName": "old"}}}), Some("StorageInvalid"))]
#[case(json!({"storage": {"volume": {}}}), Some("StorageInvalid"))]
#[case(json!({"storage": {"memory": {}}, "access": {"users": {"secretName": "gone"}}}), Some("SecretNotFound"))]
#[case(json!({"storage": {"memory": {}}, "access": {"users": {"secretName": "empty"}}}), Some("SecretKeyMissing"))]
#[case(json!({"storage": {"s3": {"bucket": "abc", "credentials": {"secretName": "gone"}}}}), Some("SecretNotFound"))]
#[case(json!({"storage": {"s3": {"bucket": "abc", "credentials": {"secretName": "users"}}}}), Some("SecretKeyMissing"))]
#[case(json!({"storage": {"s3": {"bucket": "abc", "ca": {"secretName": "s3"}}}}), Some("SecretKeyMissing"))]
#[case(json!({"storage": {"gcs": {"bucket": "abc"}}}), None)]
#[case(json!({"storage": {"gcs": {"bucket": "abc", "credentials": {"secretName": "gone"}}}}), Some("SecretNotFound"))]
#[case(json!({"storage": {"gcs": {"bucket": "abc", "credentials": {"secretName": "s3"}}}}), Some("SecretKeyMissing"))]
#[case(json!({"storage": {"gcs": {"bucket": "abc", "ca": {"secretName": "s3"}}}}), Some("SecretKeyMissing"))]
#[case(json!({"storage": {"azure": {"account": "abc", "container": "abc"}}}), None)]
#[case(json!({"storage": {"azure": {"account": "abc", "container": "abc", "credentials": {"secretName": "gone"}}}}), Some("SecretNotFound"))]
#[case(json!({"storage": {"azure": {"account": "abc", "container": "abc", "credentials": {"secretName": "s3"}}}}), Some("SecretKeyMissing"))]
#[case(json!({"storage": {"azure": {"account": "abc", "container": "abc", "ca": {"secretName": "gone"}}}}), Some("SecretNotFound"))]
#[case(json!({"storage": {"gcs": {"bucket": "abc"}, "azure": {"account": "abc", "container": "abc"}}}), Some("StorageInvalid"))]
#[case(json!({"storage": {"s3": {"bucket": "abc"}}, "redirects": {"networks": ["10.0.0.0/64"]}}), Some("FieldInvalid"))]
#[case(json!({"storage": {"memory": {}}, "traces": {"endpoint": "http://a", "headers": {"secretName": "s3"}}}), Some("SecretKeyMissing"))]
#[case(json!({"storage": {"memory": {}}, "traces": {"endpoint": "http://a", "ca": {"secretName": "gone"}}}), Some("SecretNotFound"))]
#[case(json!({"storage": {"memory": {}}, "access": {"immutableTags": ["***"]}}), Some("FieldInvalid"))]
#[case(json!({"storage": {"memory": {}}, "lifecycle": {"undeleteWindow": "99999999999999999999d"}}), Some("FieldInvalid"))]
#[case(json!({"storage": {"memory": {}}, "lifecycle": {"schedule": "0 3 * * *", "rules": [
    {"priority": 1, "tagPatterns": ["***"], "keepLast": 1}]}}), Some("FieldInvalid"))]
#[case(json!({"storage": {"memory": {}}, "lifecycle": {"schedule": "0 3 * * *", "rules": [
    {"priority": 1, "tagStatus": "Any", "olderThan": "soon"}]}}), Some("FieldInvalid"))]
fn what_makes_a_registry_invalid(#[case] spec: Value, #[case] reason: Option<&str>) {
    let result = valid(&registry(spec), &world());
    assert_eq!(result.as_ref().err().map(RegistryError::reason), reason, "{result:?}");
}

#[test]
fn errors_say_what_to_do() {
    let spec = json!({"storage": {"memory": {}}, "access": {"users": {"secretName": "gone"}}});
    let error = valid(&registry(spec), &world()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "secret gone, named by access.users, does not exist in the namespace: create it with the key htpasswd"
    );
}

/// A Deployment of generation 2 with counts: all replicas, updated, available.
fn deployment(observed: i64, replicas: i32, updated: i32, available: i32) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"generation": 2},
        "status": {
            "observedGeneration": observed, "replicas": replicas, "updatedReplicas": updated,
            "availableReplicas": available, "readyReplicas": available,
        },
    }))
    .unwrap()
}

fn pod(status: &Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "registry-1"}, "status": status})).unwrap()
}

fn waiting_pod(reason: &str) -> Vec<Pod> {
    vec![pod(&json!({"containerStatuses": [{
        "name": "registry", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": reason, "message": "why"}},
    }]}))]
}

fn unready(reason: &str) -> Vec<Unready> {
    vec![Unready { reason: reason.into(), message: "why".into() }]
}

#[rstest]
#[case::nothing_yet(Observed::default(), "Reconciling Creating")]
#[case::ready(Observed { deployment: Some(deployment(2, 2, 2, 2)), ..Observed::default() }, "Ready Available")]
#[case::old_configuration(
    Observed { deployment: Some(deployment(2, 2, 2, 2)), outdated: vec!["registry-1".into()], ..Observed::default() },
    "Reconciling Configuring"
)]
#[case::read_only(
    Observed { deployment: Some(deployment(2, 2, 2, 2)), refusal: unready("StoreFailed").pop(), ..Observed::default() },
    "Stalled StoreReadOnly"
)]
#[case::not_seen_yet(Observed { deployment: Some(deployment(1, 2, 2, 2)), ..Observed::default() }, "Reconciling RollingOut")]
#[case::old_servers_left(Observed { deployment: Some(deployment(2, 3, 2, 3)), ..Observed::default() }, "Reconciling RollingOut")]
#[case::one_of_two(Observed { deployment: Some(deployment(2, 2, 2, 1)), ..Observed::default() }, "Reconciling RollingOut")]
#[case::no_bucket(
    Observed { deployment: Some(deployment(2, 2, 2, 0)), unready: unready("BucketNotFound"), ..Observed::default() },
    "Stalled BucketNotFound"
)]
#[case::no_route(
    Observed { deployment: Some(deployment(2, 2, 2, 0)), unready: unready("StoreUnreachable"), ..Observed::default() },
    "Reconciling StoreUnreachable"
)]
#[case::no_image(
    Observed { deployment: Some(deployment(2, 2, 2, 0)), pods: waiting_pod("ImagePullBackOff"), ..Observed::default() },
    "Reconciling ImagePullFailed"
)]
#[case::crash(
    Observed { deployment: Some(deployment(2, 2, 2, 0)), pods: waiting_pod("CrashLoopBackOff"), ..Observed::default() },
    "Reconciling ServerCrashes"
)]
#[case::starting(
    Observed { deployment: Some(deployment(2, 2, 2, 0)), pods: waiting_pod("ContainerCreating"), ..Observed::default() },
    "Reconciling RollingOut"
)]
fn states(#[case] observed: Observed, #[case] expected: &str) {
    let state = status::state(2, false, &observed);
    let conditions = state.conditions(Some(3), &[], &now());
    let last = conditions.last().unwrap();
    assert_eq!(format!("{} {}", last.type_, last.reason), expected);
    assert!(conditions.iter().all(|condition| condition.observed_generation == Some(3)));
}

/// While servers are replaced, those of before say what was wrong before.
#[test]
fn only_the_newest_servers_are_asked() {
    let annotated = |hash: &str| json!({"annotations": {"berth.dev/config": hash}});
    let deployment: Deployment = serde_json::from_value(json!({
        "spec": {"selector": {}, "template": {"metadata": annotated("new")}},
    }))
    .unwrap();
    let pods =
        ["old", "new"].map(|hash| serde_json::from_value(json!({"metadata": annotated(hash)})).unwrap());
    let current = status::current(Some(&deployment), pods.to_vec());
    assert_eq!(current, pods[1..]);
}

#[test]
fn paused_and_scaled_to_zero_are_ready() {
    let observed = Observed { deployment: Some(deployment(2, 0, 0, 0)), ..Observed::default() };
    assert_eq!(status::state(0, false, &observed).reason(), "ScaledToZero");
    assert_eq!(status::state(0, true, &observed).reason(), "Paused");
}

fn now() -> Time {
    Time("2030-01-01T00:00:00Z".parse().unwrap())
}

#[test]
fn the_whole_status() {
    let registry = registry(full());
    let deployment = deployment(2, 2, 2, 2);
    let observed = Observed { deployment: Some(deployment.clone()), ..Observed::default() };
    let state = status::state(2, false, &observed);
    let message = r#"{"dryRun":true,"started":"2029-12-31T03:00:00Z","finished":"2029-12-31T03:00:09Z","examined":9,"removed":4,"failed":0}"#;
    let finished = pod(&json!({"containerStatuses": [{
        "name": "prune", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 0, "message": message}},
    }]}));
    let facts = Facts {
        certificate_until: Some("2030-03-01T00:00:00Z".parse().unwrap()),
        configuration: Some("0".repeat(64)),
        lifecycle: jobs::last_run(&[finished]),
        storage: Some(inquiry::stored(4096, "2029-12-31T04:00:00Z")),
    };
    let status = status::status(
        &owner(&registry),
        Some(3),
        &berth_crds::RegistryStatus::default(),
        &state,
        Some(&deployment),
        facts,
        &now(),
    );
    insta::assert_yaml_snapshot!("status", status);
    let again = status::status(
        &owner(&registry),
        Some(3),
        &status,
        &state,
        Some(&deployment),
        Facts::default(),
        &Time("2031-01-01T00:00:00Z".parse().unwrap()),
    );
    assert_eq!(again, status, "what is not known at the moment is kept, and nothing else changes");
}

#[test]
fn refusals_are_stalled() {
    let error = RegistryError::NamespaceNotManaged { namespace: "team-z".into() };
    let State::Stalled { reason, message } = status::refused(&error) else { panic!("not stalled") };
    assert_eq!(reason, "NamespaceNotManaged");
    assert!(message.contains("team-z") && message.contains("allNamespaces"));
}
