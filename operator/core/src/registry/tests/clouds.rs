//! R-STO-1: what a Registry becomes on every kind of storage, and that credentials stay where they are.

use k8s_openapi::ByteString;
use rstest::rstest;
use serde_json::{Value, json};

use super::{berth_yaml, children, config_hash, full, registry, valid, world};

fn on_gcs() -> Value {
    json!({"replicas": 2, "redirects": {}, "storage": {"gcs": {
        "bucket": "team-a", "prefix": "images/", "endpoint": "http://gcs.gcs.svc:4443",
        "credentials": {"secretName": "google"}, "ca": {"secretName": "s3-ca"},
    }}})
}

fn on_azure() -> Value {
    json!({"replicas": 2, "storage": {"azure": {
        "account": "teama", "container": "images", "prefix": "a/b", "endpoint": "https://azure.example/teama",
        "credentials": {"secretName": "azure"}, "ca": {"secretName": "s3-ca"},
    }}})
}

/// R-STO-1: one snapshot of all that differs between the clouds.
#[rstest]
#[case("gcs", on_gcs())]
#[case("gcs_identity", json!({
    "storage": {"gcs": {"bucket": "team-a"}},
    "pod": {"serviceAccountAnnotations": {"iam.gke.io/gcp-service-account": "registry@team-a.iam"}},
}))]
#[case("azure", on_azure())]
#[case("azure_identity", json!({
    "storage": {"azure": {"account": "teama", "container": "images"}},
    "pod": {
        "labels": {"azure.workload.identity/use": "true"},
        "serviceAccountAnnotations": {"azure.workload.identity/client-id": "00000000-0000-0000-0000-000000000000"},
    },
}))]
fn a_registry_on_another_cloud(#[case] name: &str, #[case] spec: Value) {
    let children = children(spec, &world());
    let deployment = children.deployments[0].spec.clone().unwrap();
    let template = deployment.template;
    let pod = template.spec.unwrap();
    insta::assert_yaml_snapshot!(
        format!("cloud_{name}"),
        json!({
            "berth.yaml": serde_yaml::from_str::<Value>(&berth_yaml(&children)).unwrap()["store"],
            "storeCaFile": serde_yaml::from_str::<Value>(&berth_yaml(&children)).unwrap()["storeCaFile"],
            "strategy": deployment.strategy,
            "labels": template.metadata.unwrap().labels,
            "env": pod.containers[0].env,
            "mounts": pod.containers[0].volume_mounts,
            "volumes": pod.volumes,
            "serviceAccount": children.service_accounts[0].metadata,
            "disruptionBudgets": children.disruption_budgets.len(),
            "cronJobs": children.cron_jobs.iter().map(|job| job.metadata.name.clone()).collect::<Vec<_>>(),
        })
    );
}

/// R-STO-1: all that a server begins with, from which the registry's own tests start the real one (`rendered`).
#[rstest]
#[case("s3", full())]
#[case("gcs", on_gcs())]
#[case("azure", on_azure())]
#[case("volume", json!({"storage": {"volume": {"size": "20Gi"}}}))]
#[case("memory", json!({"storage": {"memory": {}}, "access": {"anonymous": "Pull"}}))]
fn what_a_server_begins_with(#[case] name: &str, #[case] spec: Value) {
    let children = children(spec, &world());
    let pod = children.deployments[0].spec.clone().unwrap().template.spec.unwrap();
    let container = &pod.containers[0];
    let given = json!({"args": container.args, "env": container.env, "berth.yaml": berth_yaml(&children)});
    insta::assert_yaml_snapshot!(format!("begins_{name}"), given);
}

/// R-STO-1: what a Secret holds stands in no object that is made from it.
#[rstest]
#[case(full(), "s3", "AWS_SECRET_ACCESS_KEY")]
#[case(on_gcs(), "google", "credentials.json")]
#[case(on_azure(), "azure", "AZURE_STORAGE_ACCOUNT_KEY")]
fn credentials_stay_in_their_secret(#[case] spec: Value, #[case] secret: &str, #[case] key: &str) {
    let mut world = world();
    let content = ByteString(b"not-to-be-told".to_vec());
    world.secrets.get_mut(secret).unwrap().insert(key.to_owned(), content.clone());
    let children = children(spec, &world);
    for object in [
        serde_json::to_string(&children.config_maps).unwrap(),
        serde_json::to_string(&children.deployments).unwrap(),
        serde_json::to_string(&children.cron_jobs).unwrap(),
        berth_yaml(&children),
    ] {
        assert!(!object.contains("not-to-be-told"), "{object}");
    }
    assert!(
        children
            .secrets
            .iter()
            .flat_map(|secret| secret.data.iter().flatten())
            .all(|(_, data)| *data != content)
    );
}

/// Servers on every cloud are replaced when their credentials change, or who they are.
#[test]
fn servers_restart_for_credentials() {
    for (spec, secret, key) in
        [(on_gcs(), "google", "credentials.json"), (on_azure(), "azure", "AZURE_STORAGE_ACCOUNT_KEY")]
    {
        let before = config_hash(&children(spec.clone(), &world()));
        let mut rotated = world();
        rotated.secrets.get_mut(secret).unwrap().insert(key.into(), ByteString(b"y".to_vec()));
        assert_ne!(config_hash(&children(spec.clone(), &rotated)), before);
        let mut renamed = spec;
        renamed["pod"] = json!({"serviceAccountAnnotations": {"a/b": "c"}});
        assert_ne!(config_hash(&children(renamed, &world())), before);
    }
}

/// R-OPR-8: what the samples say can be built, once the Secrets that they name are there.
#[test]
fn samples_can_be_built() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/samples");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_registry = |name: &str| name.starts_with("registry-");
    let files: Vec<_> =
        files.filter(|file| is_registry(file.file_name().unwrap().to_str().unwrap())).collect();
    assert!(files.len() >= 5);
    for file in files {
        let sample: Value = serde_yaml::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let registry = registry(sample["spec"].clone());
        let mut world = world();
        let names = ["users", "s3", "google", "azure"].map(|kind| (kind, world.secrets[kind].clone()));
        for (kind, data) in names {
            world.secrets.insert(format!("registry-{kind}"), data);
        }
        let result = valid(&registry, &world);
        assert!(result.is_ok(), "{}: {:?}", file.display(), result.err());
    }
}
