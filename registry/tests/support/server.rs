//! Our own server as a real process: `berth-registry serve` with the flags, variables and files that
//! a test gives it, at a port that the system chooses.

use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::process::Command;

use super::http::Target;
use super::process::{PATIENCE, Process};

/// How to start a server. Nothing is inherited from the environment but what a test sets here.
#[derive(Default, Clone)]
pub(crate) struct Options {
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
}

impl Options {
    /// A server without TLS where anyone may write: the usual subject of a test.
    pub(crate) fn open(store: &str) -> Self {
        Self::plain(store).flag("--anonymous", "write")
    }

    /// A server without TLS, closed unless the test opens it.
    pub(crate) fn plain(store: &str) -> Self {
        Self::on(store).switch("--plain-http")
    }

    /// A server with a store and a port, and nothing decided about TLS.
    pub(crate) fn on(store: &str) -> Self {
        Self::default().flag("--listen", "127.0.0.1:0").flag("--store", store)
    }

    pub(crate) fn flag(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.arguments.extend([name.into(), value.as_ref().to_string_lossy().into_owned()]);
        self
    }

    pub(crate) fn switch(mut self, name: &str) -> Self {
        self.arguments.push(name.into());
        self
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth-registry"));
        // Coverage runs tell an instrumented binary with these where to write.
        let profiling = std::env::vars().filter(|(name, _)| name.starts_with("LLVM_PROFILE"));
        command.arg("serve").args(&self.arguments).env_clear();
        command.envs(profiling).envs(self.variables.iter().cloned());
        command
    }

    /// Starts the process without waiting for anything.
    pub(crate) fn spawn(&self) -> Process {
        Process::start(&mut self.command())
    }

    /// Starts the process and waits until it says where it listens and that it is ready.
    pub(crate) async fn start(&self) -> Server {
        let mut server = self.start_unready().await;
        let target = server.target();
        let ready = async {
            while !target.get("/readyz").await.is_ok_and(|reply| reply.status == 200) {
                if server.process.ended() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let ready = tokio::time::timeout(PATIENCE, ready).await;
        assert!(ready.is_ok() && !server.process.ended(), "never ready:\n{}", server.process.log());
        server
    }

    /// Starts the process and waits until it listens.
    pub(crate) async fn start_unready(&self) -> Server {
        let mut process = self.spawn();
        let address = process.wait_for_line(listening).await;
        let address =
            address.unwrap_or_else(|| panic!("the server never said \"listening\":\n{}", process.log()));
        Server { process, address }
    }
}

/// The address in the log line that says that the server serves.
fn listening(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    (line["message"] == "listening").then(|| line["address"].as_str().map(String::from))?
}

/// A running server.
pub(crate) struct Server {
    pub(crate) process: Process,
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
}

impl Server {
    /// The server over plain HTTP, asked by nobody.
    pub(crate) fn target(&self) -> Target {
        Target::new(&format!("http://{}", self.address))
    }

    /// The status of `/readyz`, 0 if nobody answers.
    pub(crate) async fn readiness(&self) -> u16 {
        self.target().call(Method::GET, "/readyz").send().await.map_or(0, |reply| reply.status)
    }
}

/// A `--store` value for a directory.
pub(crate) fn directory(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// One line of an htpasswd file, with the cheapest cost that bcrypt has.
pub(crate) fn htpasswd(user: &str, password: &str) -> String {
    let hash = bcrypt::hash(password, 4).expect("a short password can be hashed");
    format!("{user}:{hash}\n")
}
