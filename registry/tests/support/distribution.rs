//! CNCF distribution v3 as a child process, to test the tests: `BERTH_TOOL_DISTRIBUTION` names its
//! binary; without it the test that needs it says so and passes by.

use std::path::PathBuf;

use tempfile::TempDir;
use tokio::process::Command;

use super::http::Target;
use super::process::{Process, free_port, listens};

/// A running distribution with an empty directory, where anyone may write and delete.
pub(crate) struct Distribution {
    _process: Process,
    port: u16,
    _data: TempDir,
}

impl Distribution {
    /// Starts the registry, or says why the caller passes by.
    pub(crate) async fn start() -> Option<Self> {
        let Some(binary) = std::env::var_os("BERTH_TOOL_DISTRIBUTION").map(PathBuf::from) else {
            println!("skipped: BERTH_TOOL_DISTRIBUTION does not name a distribution binary");
            return None;
        };
        let data = TempDir::new().expect("a temporary directory can be made");
        let (port, file) = (free_port(), data.path().join("config.yaml"));
        let content = data.path().join("content");
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: '{}'}}, delete: {{enabled: true}}}}\n\
             validation: {{manifests: {{urls: {{allow: ['^https://']}}}}}}\n\
             http: {{addr: '127.0.0.1:{port}'}}\n",
            content.display()
        );
        std::fs::write(&file, config).expect("a file can be written");
        let mut command = Command::new(binary);
        command.env_clear().env("OTEL_TRACES_EXPORTER", "none").arg("serve").arg(file);
        let mut process = Process::start(&mut command);
        listens(&mut process, port).await;
        Some(Self { _process: process, port, _data: data })
    }

    pub(crate) fn target(&self) -> Target {
        Target::new(&format!("http://127.0.0.1:{}", self.port))
    }
}
