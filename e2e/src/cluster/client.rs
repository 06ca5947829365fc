//! Programs that use the cluster from outside a Pod. They run in the cluster's network with its name service
//! and trust, but on the machine's files, so that real clients meet a registry by the name users give it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::{ClusterError, State};
use crate::command::{self, CommandError};

/// The longest that [`Client::run`] lets a program take, in seconds.
const LIMIT: &str = "600";

/// A person or a machine that uses the cluster, with a home folder for its logins.
#[derive(Debug, Clone)]
pub struct Client {
    inside: PathBuf,
    home: PathBuf,
}

impl Client {
    pub(super) fn new(state: &State, name: &str) -> Result<Self, ClusterError> {
        let home = state.path("home").join(name);
        fs::create_dir_all(&home).map_err(|source| ClusterError::io(&home, source))?;
        Ok(Self { inside: state.path("inside"), home })
    }

    /// The home folder.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// A program to run in the cluster's network: one of the tools (`kubectl`, `helm`, `crane`, `cosign`,
    /// `notation`, `regctl`, `oras`) or anything in PATH. It resolves the names of Services, trusts the cluster's
    /// authority and each trusted registry (`SSL_CERT_FILE`), and may do anything on the API server.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(&self.inside);
        command.arg(program).env("BERTH_HOME", &self.home);
        command
    }

    /// The same from outside of the cluster: of it, only the API server is known.
    pub fn command_outside(&self, program: &str) -> Command {
        let mut command = self.command(program);
        command.env("BERTH_OUTSIDE", "1");
        command
    }

    /// Runs a program to its end, for ten minutes at most, and returns its standard output.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String, CommandError> {
        command::run(&mut self.limited(program, arguments))
    }

    /// The same with something on its standard input.
    pub fn run_with_input(
        &self,
        program: &str,
        arguments: &[&str],
        input: &str,
    ) -> Result<String, CommandError> {
        command::run_with_input(&mut self.limited(program, arguments), input)
    }

    /// Writes a login for a registry to where Docker clients look for it. Returns that file, which also is
    /// the content of a `kubernetes.io/dockerconfigjson` Secret.
    pub fn login(&self, host: &str, user: &str, password: &str) -> Result<PathBuf, ClusterError> {
        let file = self.home.join(".docker/config.json");
        let mut config: Value = fs::read(&file)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_else(|| json!({"auths": {}}));
        config["auths"][host] = json!({"auth": BASE64_STANDARD.encode(format!("{user}:{password}"))});
        fs::create_dir_all(self.home.join(".docker"))
            .and_then(|()| fs::write(&file, config.to_string()))
            .map_err(|source| ClusterError::io(&file, source))?;
        Ok(file)
    }

    fn limited(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", LIMIT]).arg(&self.inside).arg(program).args(arguments);
        command.env("BERTH_HOME", &self.home);
        command
    }
}

/// Writes the certificates that clients trust: the cluster's own authority and every trusted registry's.
pub(super) fn write_bundle(state: &State) -> Result<(), ClusterError> {
    let authority = state.path("pki/ca.crt");
    let mut bundle = fs::read_to_string(&authority).map_err(|source| ClusterError::io(&authority, source))?;
    let mut registries: Vec<PathBuf> = fs::read_dir(state.path("certs.d"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    registries.sort();
    for registry in registries {
        bundle += &fs::read_to_string(registry.join("ca.crt")).unwrap_or_default();
        bundle.push('\n');
    }
    // Moved into place whole: a client may be reading it, and another test may be writing it.
    let new = state.write(&format!("ca-bundle.{:?}.new", std::thread::current().id()), bundle)?;
    let place = state.path("ca-bundle.crt");
    fs::rename(&new, &place).map_err(|source| ClusterError::io(&place, source))
}
