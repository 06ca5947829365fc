//! The command line.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::cluster::{self, Cluster, Lifetime, State};
use crate::image;
use crate::tools::Tools;
use crate::{bench, demo, fixtures, interrupt, packages, release, stage, verify};

/// Berth on a real cluster: the demo, all checks, and a cluster to look around in.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show what Berth does, from an empty machine to a signed image that runs.
    Demo {
        /// Leave the cluster up at the end, to look around.
        #[arg(long)]
        keep: bool,
    },
    /// Run every check that a change must pass: style, licences, tests, and the tests on a cluster.
    Verify(verify::Scope),
    /// Compare Berth with other servers on this machine, and print the figures as a Markdown table.
    BenchPeers(bench::Scope),
    /// Compare what Berth and policy-controller cost the admission of Pods, and print the figures as a Markdown table.
    BenchAdmission(bench::admission::Scope),
    /// Pack the registry and operator images of this version, as OCI layouts and tars.
    Images {
        /// The folder to write to.
        #[arg(long)]
        out: PathBuf,
    },
    /// A cluster by hand, with the node's own images only.
    #[command(subcommand)]
    Cluster(ClusterAction),
}

#[derive(Debug, Subcommand)]
enum ClusterAction {
    /// Boot a cluster that stays up.
    Up {
        #[command(flatten)]
        name: Name,
        /// Build and install Berth too, with everything that the cluster tests need.
        #[arg(long)]
        berth: bool,
    },
    /// End a cluster and remove every trace of it.
    Down {
        #[command(flatten)]
        name: Name,
    },
    /// Run a program in the cluster's network: `berth-e2e cluster exec kubectl get pods`.
    Exec {
        #[command(flatten)]
        name: Name,
        /// The program and its arguments.
        #[arg(trailing_var_arg = true, required = true)]
        command: Vec<String>,
    },
}

#[derive(Debug, clap::Args)]
struct Name {
    /// Which cluster.
    #[arg(long, default_value = "dev")]
    name: String,
}

impl Cli {
    /// Does what the command line says; an error is for a person to read.
    pub fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        interrupt::install()?;
        match self.command {
            Action::Demo { keep } => demo::run(keep)?,
            Action::Verify(scope) => {
                return Ok(if verify::run(&scope)? { ExitCode::SUCCESS } else { ExitCode::FAILURE });
            }
            Action::BenchPeers(scope) => bench::run(scope)?,
            Action::BenchAdmission(scope) => bench::admission::run(&scope)?,
            Action::Images { out } => {
                for image in image::pack_all(&image::release(&release::build()?)?, &out)? {
                    println!("{} {}", image.digest, image.name);
                }
            }
            Action::Cluster(action) => return action.run(),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl ClusterAction {
    fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        match self {
            Self::Up { name: Name { name }, berth } => {
                packages::ensure_cluster(&[])?;
                let tools = Tools::ensure()?;
                let _guard = interrupt::remember(interrupt::Started::Cluster(name.clone()));
                let cluster = if berth {
                    stage::raise(&name, &tools, &stage::build(&tools)?, fixtures::NAMESPACES, Lifetime::Kept)?
                } else {
                    Cluster::boot(&name, &tools, &image::node(&tools)?, Lifetime::Kept)?
                };
                let inside = cluster.state().path("inside");
                println!("look around: {} kubectl get pods --all-namespaces", inside.display());
            }
            Self::Down { name: Name { name } } => cluster::end(&State::named(&name))?,
            Self::Exec { name: Name { name }, command } => {
                let cluster = Cluster::find(State::named(&name))?;
                let (program, arguments) = command.split_first().ok_or("no program given")?;
                let status = cluster.command(program).args(arguments).status()?;
                return Ok(ExitCode::from(
                    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
                ));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
