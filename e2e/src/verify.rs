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
use crate::{fixtures, fuzz, packages, stage};

/// The version of cargo-deny that the run installs if its cache has none.
const CARGO_DENY: &str = "0.20.2";

/// The tests on a cluster: the target, and how many of its tests may run at once. Those that end the operator
/// or the node's programs run alone, and those that remove Berth run last.
const CLUSTER_TESTS: &[(&str, &str)] =
    &[("cluster", "--test-threads=4"), ("disruption", "--test-threads=1"), ("uninstall", "--test-threads=1")];

/// What to run.
#[derive(Debug, clap::Args)]
pub struct Scope {
    /// Run only the tests on a cluster.
    #[arg(long)]
    cluster: bool,
    /// Run only the fuzz targets; `-- TARGET -max_total_time=600` runs one for ten minutes.
    #[arg(long, conflicts_with = "cluster")]
    fuzz: bool,
    /// Arguments for the cluster tests, for example a part of a test's name; with --fuzz, a target and options of libFuzzer.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Runs the checks; `false` if one failed. What was started has ended by then in every case.
pub fn run(scope: &Scope) -> Result<bool, Box<dyn Error>> {
    let mut phases = Phases::default();
    let done = if scope.fuzz {
        fuzzing(&mut phases, &scope.arguments)
    } else {
        let done = if scope.cluster { Ok(()) } else { without_cluster(&mut phases) };
        done.and_then(|()| on_cluster(&mut phases, &scope.arguments))
    };
    if let Err(error) = &done {
        eprintln!("\n{error}");
    }
    phases.print();
    Ok(done.is_ok())
}

fn without_cluster(phases: &mut Phases) -> Result<(), Box<dyn Error>> {
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
    let tools = programs(phases)?;
    phases.time("tests", || {
        let mut tests = cargo();
        tests.args(["test", "--locked", "--workspace", "--no-fail-fast"]);
        check(tests.envs(tools.environment()).envs(packages::environment()))
    })?;
    fuzzing(phases, &[])
}

fn fuzzing(phases: &mut Phases, arguments: &[String]) -> Result<(), Box<dyn Error>> {
    phases.time("fuzzing", || fuzz::commands(arguments)?.iter_mut().try_for_each(check))
}

fn programs(phases: &mut Phases) -> Result<Tools, Box<dyn Error>> {
    phases.time("programs", || {
        packages::ensure_cluster(packages::CLIENTS)?;
        Ok(Tools::ensure()?)
    })
}

fn on_cluster(phases: &mut Phases, arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let tools = programs(phases)?;
    let images = phases.time("release build", || stage::build(&tools))?;
    // A name of its own, so that a cluster kept for looking around is not in the way.
    let name = format!("verify-{}", std::process::id());
    let _guard = interrupt::remember(Started::Cluster(name.clone()));
    let cluster = phases
        .time("boot", || stage::raise(&name, &tools, &images, fixtures::NAMESPACES, Lifetime::Process))?;
    let tests = CLUSTER_TESTS.iter().try_for_each(|(target, threads)| {
        phases.time(target, || {
            check(
                cargo()
                    .args(["test", "--locked", "--package", "berth-e2e", "--test", target, "--"])
                    .args([threads, "--show-output"])
                    .args(arguments)
                    .env(CLUSTER_VARIABLE, cluster.state().folder())
                    .envs(tools.environment()),
            )
        })
    });
    if let Some(bytes) = cluster.memory_peak() {
        println!("peak memory of the cluster, page cache included: {} MiB", bytes >> 20);
    }
    tests.and(phases.time("teardown", || Ok(cluster.end()?)))
}

/// Licences, banned crates and sources always; known vulnerabilities where their database is at hand.
fn dependencies() -> Result<(), Box<dyn Error>> {
    let deny = cargo_deny()?;
    let deny = |arguments: &[&str], checks: &[&str]| {
        let mut command = cargo();
        command.env("PATH", prefixed_path(&deny)).args(["deny", "--locked", "--config", ".config/deny.toml"]);
        command.args(arguments).args(["check", "--hide-inclusion-graph"]).args(checks);
        command
    };
    check(&mut deny(&[], &["bans", "licenses", "sources"]))?;
    match command::run(&mut deny(&["--offline"], &["advisories"])) {
        Err(error) if error.stderr().contains("advisory-db") => {
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
