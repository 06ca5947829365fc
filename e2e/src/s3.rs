//! A real S3 server in the cluster, for Registries that keep their content in a bucket.

use std::time::Duration;

use crate::cluster::Cluster;
use crate::command::CommandError;

/// The URL of the server, as a Registry's `storage.s3.endpoint`.
pub const ENDPOINT: &str = "http://s3.s3.svc.cluster.local:7070";
/// The region that the server answers for.
pub const REGION: &str = "us-east-1";
/// The access key of the one user.
pub const ACCESS_KEY: &str = "berth-test";
/// Its secret.
pub const SECRET_KEY: &str = "berth-test-secret";

/// Starts the server, or restarts it empty if its Pod is gone, and waits until it is ready.
pub fn start(cluster: &Cluster) -> Result<(), CommandError> {
    let manifest = include_str!("s3.yaml")
        .replace("value: ACCESS_KEY", &format!("value: {ACCESS_KEY}"))
        .replace("value: SECRET_KEY", &format!("value: {SECRET_KEY}"));
    cluster.apply(&manifest)?;
    cluster.wait_rollout("s3", "deployment/s3", Duration::from_mins(2))
}

/// Makes an empty bucket; one that is there stays as it is.
pub fn create_bucket(cluster: &Cluster, bucket: &str) -> Result<(), CommandError> {
    in_pod(cluster, &["mkdir", "-p", &format!("/data/buckets/{bucket}")])
}

/// Removes a bucket with everything in it.
pub fn delete_bucket(cluster: &Cluster, bucket: &str) -> Result<(), CommandError> {
    in_pod(cluster, &["rm", "-rf", &format!("/data/buckets/{bucket}")])
}

/// Makes the Secret that a Registry's `storage.s3.credentials` names.
pub fn create_credentials(cluster: &Cluster, namespace: &str, secret: &str) -> Result<(), CommandError> {
    let manifest = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret, "namespace": namespace},
        "stringData": {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY},
    });
    cluster.apply(&manifest.to_string()).map(|_| ())
}

fn in_pod(cluster: &Cluster, command: &[&str]) -> Result<(), CommandError> {
    let exec = ["--namespace=s3", "exec", "deployment/s3", "--container=s3", "--"];
    cluster.kubectl(&[exec.as_slice(), command].concat()).map(|_| ())
}
