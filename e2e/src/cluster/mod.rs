//! A real one-node Kubernetes cluster on this machine, in namespaces of its own, with no way out of them.
//!
//! `pki` and `settings` write what the daemons read, `boot` starts them by `node.sh`, `client` runs programs
//! in the cluster's network by `inside.sh`, `network` our own code, `diagnosis` tells what is wrong, `teardown`
//! removes every trace.

mod boot;
mod cgroup;
mod client;
mod diagnosis;
mod network;
mod pki;
mod settings;
mod state;
mod sysctl;
mod teardown;

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use crate::command::CommandError;
use crate::wait::WaitError;

pub use client::Client;
pub use network::Network;
pub use state::State;
pub use teardown::end;

const NODE_NAME: &str = "node";
const NODE_ADDRESS: &str = "10.88.0.1";
const POD_RANGE: &str = "10.244.0.0/24";
const SERVICE_RANGE: &str = "10.96.0.0/16";
const API_ADDRESS: &str = "10.96.0.1";
const DNS_ADDRESS: &str = "10.96.0.10";

/// The variable by which `verify` tells the tests which cluster to use: the path of its folder.
pub const CLUSTER_VARIABLE: &str = "BERTH_CLUSTER";

/// Why the cluster could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error("cannot make the cluster's certificates: {0}")]
    Pki(#[from] rcgen::Error),
    /// A program failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A condition did not come true in time.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// The node ended, or did not come up in time.
    #[error("{cause}\n{logs}")]
    Boot {
        /// What was being waited for, and what was seen instead.
        cause: String,
        /// The last lines of the logs that tell why.
        logs: String,
    },
    /// There is such a cluster already.
    #[error("the cluster {0} is already up: use it, or end it with `berth-e2e cluster down --name {0}`")]
    AlreadyUp(String),
    /// There is no such cluster.
    #[error("no cluster is up in {0}")]
    NotUp(PathBuf),
    /// An image could not be packed.
    #[error(transparent)]
    Image(#[from] crate::image::ImageError),
    /// A tool is missing.
    #[error(transparent)]
    Tool(#[from] crate::tools::ToolError),
    /// The machine lacks a program.
    #[error(transparent)]
    Package(#[from] crate::packages::PackageError),
}

impl ClusterError {
    fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

/// How long a cluster lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Until the value is dropped, or this process ends for whatever reason. The kernel watches the thread
    /// that boots the cluster: boot it on one that lives as long as the cluster shall.
    Process,
    /// Until [`Cluster::end`] or `berth-e2e cluster down`.
    Kept,
}

/// A cluster that is up.
#[derive(Debug)]
pub struct Cluster {
    state: State,
    admin: Client,
    /// The process to reap, if this value ends the cluster.
    owned: Option<Child>,
}

impl Cluster {
    /// Uses the cluster whose folder the variable `BERTH_CLUSTER` names. `None`: the variable is not set,
    /// so the test has nothing to run against and says so.
    pub fn attach() -> Option<Result<Self, ClusterError>> {
        std::env::var_os(CLUSTER_VARIABLE).map(|folder| Self::find(State::at(folder.into())))
    }

    /// Uses a cluster that is up.
    pub fn find(state: State) -> Result<Self, ClusterError> {
        if state.holder().is_none() {
            return Err(ClusterError::NotUp(state.folder().to_owned()));
        }
        Ok(Self { admin: Client::new(&state, "admin")?, state, owned: None })
    }

    /// The folder with everything that belongs to the cluster: `log/`, `pki/`, the command `inside`.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The administrator's kubeconfig; its server can be reached from inside only.
    pub fn kubeconfig(&self) -> PathBuf {
        self.state.path("pki/admin.kubeconfig")
    }

    /// A client with a home folder of its own, so that its logins are no one else's.
    pub fn client(&self, name: &str) -> Result<Client, ClusterError> {
        Client::new(&self.state, name)
    }

    /// See [`Client::command`], as the administrator.
    pub fn command(&self, program: &str) -> Command {
        self.admin.command(program)
    }

    /// See [`Client::run`], as the administrator.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String, CommandError> {
        self.admin.run(program, arguments)
    }

    /// Runs kubectl and returns what it printed.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String, CommandError> {
        self.admin.run("kubectl", arguments)
    }

    /// Applies manifests (YAML, any number of documents) by server-side apply.
    pub fn apply(&self, yaml: &str) -> Result<String, CommandError> {
        self.admin.run_with_input("kubectl", &["apply", "--server-side", "--filename=-"], yaml)
    }

    /// Waits until all replicas of a workload such as `deployment/NAME` run the
    /// newest version; on failure the error ends with what is wrong in the namespace.
    pub fn wait_rollout(
        &self,
        namespace: &str,
        workload: &str,
        timeout: Duration,
    ) -> Result<(), CommandError> {
        let limit = format!("--timeout={}s", timeout.as_secs());
        let done = self.kubectl(&["--namespace", namespace, "rollout", "status", workload, &limit]);
        if done.is_err() {
            self.diagnose(namespace);
        }
        done.map(|_| ())
    }

    /// Makes the node and every client trust a registry: `host` as it stands in image references (with
    /// `:port` if they have one), `ca_pem` one or more certificates. Takes effect at once.
    pub fn trust_registry(&self, host: &str, ca_pem: &str) -> Result<(), ClusterError> {
        self.state.write(&format!("certs.d/{host}/ca.crt"), ca_pem)?;
        client::write_bundle(&self.state)
    }

    /// The OCI layout of an image that the cluster was booted with, for example `localhost/busybox:1`; what
    /// `crane push` and the like take.
    pub fn layout(&self, image: &str) -> PathBuf {
        self.state.path("images").join(crate::image::file_name(image))
    }

    /// Puts one more program beside the tools that clients run.
    pub fn add_program(&self, name: &str, path: &Path) -> Result<(), ClusterError> {
        let link = self.state.path("bin").join(name);
        symlink(path, &link).map_err(|source| ClusterError::io(&link, source))
    }

    /// Loads one more image into the node, from a tar with an OCI layout.
    pub fn load_image(&self, tar: &Path) -> Result<(), ClusterError> {
        let init = fs::read_to_string(self.state.path("init"))
            .map_err(|source| ClusterError::io(&self.state.path("init"), source))?;
        crate::command::run(
            Command::new("nsenter")
                .args(["--mount", "--pid", "--target", init.trim(), "--", "ctr", "--namespace", "k8s.io"])
                .args(["images", "import", "--no-unpack"])
                .arg(tar),
        )?;
        Ok(())
    }

    /// A way into the cluster's network for this process's own sockets.
    pub fn network(&self) -> Result<Network, ClusterError> {
        Network::of(&self.state).map_err(|source| ClusterError::io(&self.state.path("init"), source))
    }

    /// The most memory that the node and everything in it held at any time, page cache included, in bytes.
    pub fn memory_peak(&self) -> Option<u64> {
        cgroup::Cgroup::named(&self.state.name()).memory_peak()
    }

    /// Prints what may be wrong in a namespace: Pods, conditions, events, last log lines; and the operator's.
    pub fn diagnose(&self, namespace: &str) {
        diagnosis::print(&self.admin, namespace);
    }

    /// Ends the cluster and removes every trace of it.
    pub fn end(mut self) -> Result<(), ClusterError> {
        let done = teardown::end(&self.state);
        self.reap();
        done
    }

    fn reap(&mut self) {
        if let Some(mut child) = self.owned.take() {
            let _ = child.wait();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.owned.is_some() {
            if let Err(error) = teardown::end(&self.state) {
                eprintln!("the cluster did not end cleanly: {error}");
            }
            self.reap();
        }
    }
}
