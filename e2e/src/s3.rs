//! A real S3 server in the cluster, for Registries that keep their content in a bucket.

use std::time::Duration;

use crate::cluster::Cluster;
use crate::command::CommandError;

/// The URL of the server, as a Registry's `storage.s3.endpoint`.
pub const ENDPOINT: &str = "http://s3.s3.svc.cluster.local:7070";
/// The region that the server answers for.
pub const REGION: &str = "us-east-1";
/// The access key of the owner of all buckets.
pub const ACCESS_KEY: &str = "berth-test";
/// Its secret; for the guest, too.
pub const SECRET_KEY: &str = "berth-test-secret";

/// The access key of a user who may do what the policy of a bucket allows ([`allow_guest`]).
pub const GUEST: &str = "berth-guest";

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

/// Makes the user [`GUEST`], if there is none.
pub fn create_guest(cluster: &Cluster) -> Result<(), CommandError> {
    let admin = ["versitygw", "admin", "--endpoint-url=http://127.0.0.1:7070"];
    let owner = ["--access", ACCESS_KEY, "--secret", SECRET_KEY];
    let guest = ["create-user", "--access", GUEST, "--secret", SECRET_KEY, "--role=user"];
    match in_pod(cluster, &[admin.as_slice(), &owner, &guest].concat()) {
        Err(error) if error.stderr().contains("already exists") => Ok(()),
        done => done,
    }
}

/// Gives a bucket a policy that allows the guest these actions (`s3:GetObject`) and no others.
pub fn allow_guest(cluster: &Cluster, bucket: &str, actions: &[&str]) -> Result<(), CommandError> {
    let policy = serde_json::json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Principal": {"AWS": [GUEST]},
        "Action": actions,
        "Resource": [format!("arn:aws:s3:::{bucket}"), format!("arn:aws:s3:::{bucket}/*")],
    }]});
    let (signer, owner) = (format!("aws:amz:{REGION}:s3"), format!("{ACCESS_KEY}:{SECRET_KEY}"));
    let sign =
        ["--aws-sigv4", &signer, "--user", &owner, "--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"];
    let (policy, url) = (policy.to_string(), format!("{ENDPOINT}/{bucket}?policy="));
    let put = ["--request", "PUT", "--data-binary", &policy, &url];
    let curl = ["--silent", "--show-error", "--fail-with-body"];
    cluster.run("curl", &[curl.as_slice(), &sign, &put].concat()).map(|_| ())
}

fn in_pod(cluster: &Cluster, command: &[&str]) -> Result<(), CommandError> {
    let exec = ["--namespace=s3", "exec", "deployment/s3", "--container=s3", "--"];
    cluster.kubectl(&[exec.as_slice(), command].concat()).map(|_| ())
}
