//! A real S3 server, versitygw, as a child process. `BERTH_TOOL_VERSITYGW` names its binary; without
//! it the tests that need S3 say so and pass by.

use std::path::PathBuf;

use tempfile::TempDir;
use tokio::process::Command;

use super::process::{Process, free_port, listens};
use super::server::Options;

const ACCESS_KEY: &str = "berth-test";
const SECRET_KEY: &str = "berth-test-secret";

/// A running S3 server with one empty bucket.
pub(crate) struct S3 {
    pub(crate) process: Process,
    port: u16,
    _data: TempDir,
}

impl S3 {
    /// Starts the server, or says why the caller passes by.
    pub(crate) async fn start() -> Option<Self> {
        let Some(binary) = std::env::var_os("BERTH_TOOL_VERSITYGW").map(PathBuf::from) else {
            println!("skipped: BERTH_TOOL_VERSITYGW does not name a versitygw binary");
            return None;
        };
        let data = TempDir::new().expect("a temporary directory can be made");
        // A directory below the root is a bucket.
        let (buckets, sidecar) = (data.path().join("buckets"), data.path().join("sidecar"));
        for directory in [buckets.join("images"), sidecar.clone()] {
            std::fs::create_dir_all(directory).expect("a directory can be made");
        }
        let port = free_port();
        let mut command = Command::new(binary);
        command.env_clear().env("ROOT_ACCESS_KEY", ACCESS_KEY).env("ROOT_SECRET_KEY", SECRET_KEY);
        command.args(["--port", &format!("127.0.0.1:{port}"), "--region", "us-east-1", "--quiet"]);
        command.arg("posix").arg("--sidecar").arg(sidecar).arg(buckets);
        let mut process = Process::start(&mut command);
        listens(&mut process, port).await;
        Some(Self { process, port, _data: data })
    }

    /// The options of a server whose content is in the bucket, below a prefix.
    pub(crate) fn options(&self, prefix: &str) -> Options {
        Options::open(&format!("s3://images/{prefix}"))
            .variable("AWS_ENDPOINT_URL", &format!("http://127.0.0.1:{}", self.port))
            .variable("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .variable("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .variable("AWS_REGION", "us-east-1")
            .variable("AWS_ALLOW_HTTP", "true")
    }
}
