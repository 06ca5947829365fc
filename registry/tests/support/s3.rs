//! A real S3 server, versitygw, as a child process. `BERTH_TOOL_VERSITYGW` names its binary; without
//! it the tests that need S3 say so and pass by.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::process::Command;

use super::process::{Process, free_port, listens};
use super::server::Options;

const ACCESS_KEY: &str = "berth-test";
const SECRET_KEY: &str = "berth-test-secret";

/// A running S3 server.
pub(crate) struct S3 {
    pub(crate) process: Process,
    pub(crate) port: u16,
    buckets: PathBuf,
    data: Option<TempDir>,
}

impl S3 {
    /// Starts the server with one empty bucket, or says why the caller passes by.
    pub(crate) async fn start() -> Option<Self> {
        let data = TempDir::new().expect("a temporary directory can be made");
        let s3 = Self::start_at(free_port(), data.path()).await?;
        Some(Self { data: Some(data), ..s3 })
    }

    /// The same at a given port, on a directory that outlives it.
    pub(crate) async fn start_at(port: u16, data: &Path) -> Option<Self> {
        let Some(binary) = std::env::var_os("BERTH_TOOL_VERSITYGW").map(PathBuf::from) else {
            println!("skipped: BERTH_TOOL_VERSITYGW does not name a versitygw binary");
            return None;
        };
        // A directory below the root is a bucket.
        let buckets = data.join("buckets");
        std::fs::create_dir_all(buckets.join("images")).expect("a directory can be made");
        let mut command = Command::new(binary);
        command.env_clear().env("ROOT_ACCESS_KEY", ACCESS_KEY).env("ROOT_SECRET_KEY", SECRET_KEY);
        command.args(["--port", &format!("127.0.0.1:{port}"), "--region", "us-east-1", "--quiet"]);
        // Without `--sidecar`: with it, a GET beside a PUT may answer the old bytes under the new ETag.
        command.arg("posix").arg(&buckets);
        let mut process = Process::start(&mut command);
        listens(&mut process, port).await;
        Some(Self { process, port, buckets, data: None })
    }

    /// Makes an empty bucket.
    pub(crate) fn create_bucket(&self, name: &str) {
        std::fs::create_dir(self.buckets.join(name)).expect("a directory can be made");
    }

    /// Loses an object of the bucket.
    pub(crate) fn lose(&self, key: &str) {
        std::fs::remove_file(self.buckets.join("images").join(key)).expect("the object is there");
    }

    /// The options of a server whose content is in the bucket, below a prefix.
    pub(crate) fn options(&self, prefix: &str) -> Options {
        self.options_for("images", prefix)
    }

    /// The same for another bucket.
    pub(crate) fn options_for(&self, bucket: &str, prefix: &str) -> Options {
        Self::options_at(self.port, bucket, prefix)
    }

    /// The same for whatever will listen at a port.
    pub(crate) fn options_at(port: u16, bucket: &str, prefix: &str) -> Options {
        Self::login(port, Options::open(&format!("s3://{bucket}/{prefix}")))
    }

    /// Options with what a server needs to reach this one.
    pub(crate) fn at(&self, options: Options) -> Options {
        Self::login(self.port, options)
    }

    fn login(port: u16, options: Options) -> Options {
        options
            .variable("AWS_ENDPOINT_URL", &format!("http://127.0.0.1:{port}"))
            .variable("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .variable("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .variable("AWS_REGION", "us-east-1")
            .variable("AWS_ALLOW_HTTP", "true")
    }
}
