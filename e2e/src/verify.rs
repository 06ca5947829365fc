//! Every check that a change must pass, in the order in which failures are cheapest: style, then the tests
//! without a cluster, then the tests on one. Each phase is timed; the first that fails ends the run.

use std::error::Error;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::cluster::{CLUSTER_VARIABLE, Lifetime};
use crate::command::{self, CommandError};
use crate::interrupt::{self, Started};
use crate::release::cargo;
use crate::tools::{self, Tools};
use crate::{chart, packages, stage};

/// The version of cargo-deny that the run installs if its cache has none.
const CARGO_DENY: &str = "0.20.2";

/// Runs everything; `false` if a check failed. What was started has ended by then in every case.
pub fn run() -> Result<bool, Box<dyn Error>> {
    let mut phases = Phases::default();
    let done = checks(&mut phases);
    if let Err(error) = &done {
        eprintln!("\n{error}");
    }
    phases.print();
    Ok(done.is_ok())
}

fn checks(phases: &mut Phases) -> Result<(), Box<dyn Error>> {
    phases.time("format", || check(cargo().args(["fmt", "--all", "--check"])))?;
    phases.time("clippy", || {
        check(cargo().args([
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ]))
    })?;
    phases.time("dependencies", dependencies)?;
    let tools = phases.time("tools", || {
        packages::ensure()?;
        Ok(Tools::ensure()?)
    })?;
    phases.time("tests", || {
        check(cargo().args(["test", "--locked", "--workspace", "--no-fail-fast"]).envs(tools.environment()))
    })?;
    let images = phases.time("images", || stage::build(&tools))?;
    // A name of its own, so that a cluster kept for looking around is not in the way.
    let name = format!("verify-{}", std::process::id());
    let _guard = interrupt::remember(Started::Cluster(name.clone()));
    let cluster = phases.time("cluster", || {
        stage::raise(&name, &tools, &images, chart::TEAM_NAMESPACES, Lifetime::Process)
    })?;
    phases.time("cluster tests", || {
        check(
            cargo()
                .args(["test", "--locked", "--package", "berth-e2e", "--test", "cluster", "--no-fail-fast"])
                .env(CLUSTER_VARIABLE, cluster.state().folder())
                .envs(tools.environment()),
        )
    })?;
    if let Some(bytes) = cluster.memory_peak() {
        println!("peak memory of the cluster, page cache included: {} MiB", bytes >> 20);
    }
    phases.time("teardown", || Ok(cluster.end()?))
}

/// Licences, banned crates and sources always; known vulnerabilities where their database is at hand.
fn dependencies() -> Result<(), Box<dyn Error>> {
    let deny = cargo_deny()?;
    let deny = |checks: &[&str]| {
        let mut command = cargo();
        command.env("PATH", prefixed_path(&deny)).args(["deny", "--all-features", "--locked"]);
        command.args(["--config", ".config/deny.toml", "check", "--hide-inclusion-graph"]).args(checks);
        command
    };
    check(&mut deny(&["bans", "licenses", "sources"]))?;
    match command::run(deny(&["--disable-fetch", "advisories"]).stderr(Stdio::piped())) {
        Err(error) if error.stderr().contains("advisory database") => {
            println!(
                "advisories: skipped, their database is not on this machine (`cargo deny fetch` brings it)"
            );
            Ok(())
        }
        other => Ok(other.map(|_| ())?),
    }
}

/// The folder with the pinned cargo-deny, built the first time.
fn cargo_deny() -> Result<PathBuf, Box<dyn Error>> {
    let place = tools::cache().join(format!("cargo-deny-{CARGO_DENY}"));
    if !place.is_dir() {
        eprintln!("building cargo-deny {CARGO_DENY}, once: about five minutes");
        let half = tools::cache().join(format!(".cargo-deny-{}", std::process::id()));
        fs::create_dir_all(&half)?;
        // Run elsewhere, so that it does not take this workspace's settings and lock.
        let mut install = cargo();
        install.current_dir(&half).args(["install", "--quiet", "--locked", "cargo-deny"]);
        check(install.args(["--version", CARGO_DENY, "--root"]).arg(&half))?;
        fs::rename(&half, &place)?;
    }
    Ok(place.join("bin"))
}

fn prefixed_path(folder: &std::path::Path) -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path));
    std::env::join_paths(folders).unwrap_or(path)
}

/// Runs a check with its output on the terminal, in a process group that an interrupt can end as a whole.
fn check(command: &mut Command) -> Result<(), Box<dyn Error>> {
    let name = command::describe(command);
    let start = |source| CommandError::Start { command: name.clone(), source };
    let mut child = command.stdin(Stdio::null()).process_group(0).spawn().map_err(start)?;
    let _guard = interrupt::remember(Started::Group(child.id()));
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("`{name}` ended with {status}").into()) }
}

/// What ran, how it ended, how long it took.
#[derive(Default)]
struct Phases(Vec<(&'static str, bool, Duration)>);

impl Phases {
    fn time<T>(
        &mut self,
        name: &'static str,
        work: impl FnOnce() -> Result<T, Box<dyn Error>>,
    ) -> Result<T, Box<dyn Error>> {
        println!("\n== {name}");
        let start = Instant::now();
        let done = work();
        self.0.push((name, done.is_ok(), start.elapsed()));
        done
    }

    fn print(&self) {
        println!();
        for (name, ok, time) in &self.0 {
            println!("{} {name:14} {:6.1} s", if *ok { "ok    " } else { "FAILED" }, time.as_secs_f32());
        }
    }
}
