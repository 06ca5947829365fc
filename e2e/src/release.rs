//! Berth's own binaries, built as for a release.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::Value;

use crate::command::{self, CommandError};

/// The packages, and the binary of the same name that each brings.
const REGISTRY: &str = "berth-registry";
const OPERATOR: &str = "berth-operator";
const PLUGIN: &str = "kubectl-berth";
const FUZZER: &str = "berth-fuzz";

/// Why there are no binaries.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// Cargo could not build them; its messages are on the terminal.
    #[error(transparent)]
    Cargo(#[from] CommandError),
    /// Cargo succeeded but made no such program.
    #[error("cargo built no program called {0}")]
    NotBuilt(&'static str),
}

/// The release binaries on disk.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// The server.
    pub registry: PathBuf,
    /// The operator.
    pub operator: PathBuf,
}

/// The folder of the workspace.
pub fn workspace() -> &'static Path {
    own_folder().parent().unwrap_or(own_folder())
}

/// The folder of this crate. Checkouts share what cargo builds, so the folder that was compiled in may be another
/// checkout's: the one that cargo names when it starts the program comes first.
pub fn own_folder() -> &'static Path {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
    });
    &FOLDER
}

/// Cargo, in the workspace: the one that started this program, if one did.
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace());
    cargo
}

/// Builds both binaries with the release profile.
pub fn build() -> Result<Binaries, ReleaseError> {
    let messages = build_packages(&[REGISTRY, OPERATOR])?;
    Ok(Binaries { registry: executable(&messages, REGISTRY)?, operator: executable(&messages, OPERATOR)? })
}

/// Builds the kubectl plugin, with the libraries of the tests: it is to be tried, and a release of it would need others
/// than the operator.
pub fn build_plugin() -> Result<PathBuf, ReleaseError> {
    let mut cargo = cargo();
    executable(&messages(cargo.args(["build", "--locked", "--workspace", "--bins"]))?, PLUGIN)
}

/// Builds the server alone.
pub fn build_registry() -> Result<PathBuf, ReleaseError> {
    executable(&build_packages(&[REGISTRY])?, REGISTRY)
}

/// Builds a benchmark of the server's package.
pub fn build_bench(name: &'static str) -> Result<PathBuf, ReleaseError> {
    let mut cargo = cargo();
    cargo.args(["bench", "--no-run", "--locked", "--package", REGISTRY, "--bench", name]);
    executable(&messages(&mut cargo)?, name)
}

/// Builds the fuzzer, with Berth's own crates instrumented. All others are those of the tests, so this takes seconds.
pub fn build_fuzzer() -> Result<PathBuf, ReleaseError> {
    let mut cargo = cargo();
    cargo.args(["build", "--locked", "--package", FUZZER, "--features", "libfuzzer"]);
    cargo.env("RUSTC_WORKSPACE_WRAPPER", own_folder().join("fuzz/instrument"));
    executable(&messages(&mut cargo)?, FUZZER)
}

fn build_packages(packages: &[&str]) -> Result<String, CommandError> {
    let mut cargo = cargo();
    cargo.args(["build", "--release", "--locked", "--bins"]);
    messages(cargo.args(packages.iter().flat_map(|package| ["--package", package])))
}

/// Runs cargo and returns what it said, a JSON object a line.
fn messages(cargo: &mut Command) -> Result<String, CommandError> {
    // Its progress is for the person who waits; its list of files is for us.
    command::run(cargo.args(["--message-format", "json-render-diagnostics"]).stderr(Stdio::inherit()))
}

fn executable(messages: &str, name: &'static str) -> Result<PathBuf, ReleaseError> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .ok_or(ReleaseError::NotBuilt(name))
}
