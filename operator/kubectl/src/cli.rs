//! The command line, to kubectl's habits: `-n`, `-f`, `-o`; tables on standard output, errors on standard error. Exit code
//! 0: admitted, 1: denied, 2: could not be checked (a malformed command line included).

use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::{
    cluster::{self, Cluster},
    completion,
    documents::Documents,
    forecast, images,
    output::{Format, Outcome, Report, print},
    policy_test,
    registries::Registries,
    verify, why,
};

/// Explain and test Berth's image policies.
///
/// Verdicts and their words come from the same code that the admission webhook runs. Exit code 0: everything is admitted,
/// 1: something is denied, 2: something could not be checked.
#[derive(Debug, Parser)]
#[command(name = "kubectl berth", bin_name = "kubectl berth", version, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args, Debug)]
struct Global {
    #[command(flatten)]
    cluster: cluster::Flags,
    /// Output format; a table if not given.
    #[arg(short, long, global = true, value_enum)]
    output: Option<Format>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Work with image policies.
    #[command(subcommand, arg_required_else_help = true)]
    Policy(PolicyCommand),
    /// Say what is signed and attested about an image, and by whom.
    ///
    /// Looks at an image as the webhook does, without any policy. Exit code 0: signed by one of those given, 1: not, 2: could not
    /// be checked.
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(verify::Arguments),
    /// Say why an image was denied, warned of or recorded.
    ///
    /// Reads what the webhook recorded of a decision, tells its story, and makes it again from the recorded policy and facts: exit
    /// code 0 if the same verdict comes out, byte for byte, 2 if not or if there is no record.
    #[command(after_help = WHY_EXAMPLES)]
    Why(why::Arguments),
    /// List the images that run, with what the policies in force say about them.
    #[command(after_help = IMAGES_EXAMPLES)]
    Images(images::Arguments),
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Say what policies would decide, before they are applied.
    ///
    /// With --image, without a cluster: the policies, and the Secrets that they name, come from files, the evidence from the
    /// registries of the images; only a Registry of the cluster is reached through it. Without --image: what would become of the Pods that run in the cluster if the policies were
    /// applied and the Pods made anew. A policy in mode Warn or Audit denies nothing; its complaints are shown.
    #[command(after_help = TEST_EXAMPLES)]
    Test(policy_test::Arguments),
}

const TEST_EXAMPLES: &str = "Examples:
  # Would this image be admitted?
  kubectl berth policy test -f policy.yaml -f cosign-secret.yaml --image registry.example.com/app:v1

  # Several policies, several images, a registry with a certificate authority of its own
  kubectl berth policy test -f policies/ --image r.example.com/a:v1 --image r.example.com/b:v1 --ca ca.crt

  # Which running Pods would this policy deny, and why?
  kubectl berth policy test -f policy.yaml -n team-a

  # In a pipeline: exit code 1 if an image is denied, 2 if it could not be checked
  kustomize build overlays/prod | kubectl berth policy test -f - --image \"$IMAGE\" -o json";

const VERIFY_EXAMPLES: &str = "Examples:
  # Who signed this image?
  kubectl berth verify registry.example.com/app:v1 --key cosign.pub

  # Did this workflow sign it, without a key?
  kubectl berth verify registry.example.com/app:v1 --trust-root trusted_root.json \
    --issuer https://token.actions.githubusercontent.com --subject-regex 'https://github.com/acme/app/.*'

  # Which of two teams did, and where are the signatures kept?
  kubectl berth verify registry.example.com/app:v1 --key ci.pub --key release.pub -o wide";

const WHY_EXAMPLES: &str = "Examples:
  # As a denial says it
  kubectl berth why 4f2a9c01d3e5 -n team-a

  # All decisions about a Deployment and its Pods
  kubectl berth why deployment/web -n team-a";

const IMAGES_EXAMPLES: &str = "Examples:
  # What runs here?
  kubectl berth images

  # Everywhere, with what is wrong
  kubectl berth images -A -o wide";

/// All commands with their flags.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

/// Does what the command line says.
pub fn run() -> ExitCode {
    let mut arguments = std::env::args_os();
    if completion::is_asked(arguments.next().as_deref()) {
        let words: Vec<_> = arguments.map(|word| word.to_string_lossy().into_owned()).collect();
        print!("{}", completion::complete(command(), &words));
        return ExitCode::SUCCESS;
    }
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    match runtime.block_on(execute(cli)) {
        Ok(outcome) => outcome.into(),
        Err(error) => failed(error.as_ref()),
    }
}

async fn execute(cli: Cli) -> Result<Outcome, Box<dyn std::error::Error>> {
    let Global { cluster, output } = cli.global;
    match cli.command {
        Command::Policy(PolicyCommand::Test(arguments)) if arguments.image.is_empty() => {
            let documents = Documents::read(&arguments.filename)?;
            let outside = Registries::of_cluster(&arguments.access)?;
            let cluster = Cluster::connect(&cluster).await?;
            finish(&forecast::run(&documents, outside, &cluster).await?, output)
        }
        Command::Policy(PolicyCommand::Test(arguments)) => {
            finish(&policy_test::run(&arguments, &cluster).await?, output)
        }
        Command::Verify(arguments) => finish(&verify::run(&arguments, &cluster).await?, output),
        Command::Why(arguments) => {
            finish(&why::run(&arguments, &Cluster::connect(&cluster).await?).await?, output)
        }
        Command::Images(arguments) => {
            finish(&images::run(&arguments, &Cluster::connect(&cluster).await?).await?, output)
        }
    }
}

fn finish(report: &impl Report, output: Option<Format>) -> Result<Outcome, Box<dyn std::error::Error>> {
    print(report, output)?;
    Ok(report.outcome())
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("error: {error}");
    Outcome::Unchecked.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }
}
