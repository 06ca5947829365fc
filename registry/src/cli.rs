//! The command line: `serve`, thin clients of a running server (`prune`, `gc`, `undelete`, `explain`), `replicate`.
//! Every flag of `serve` is also a `BERTH_…` variable and a key of the file; errors go to stderr with what to do, and the
//! exit code is 1 (2 for a malformed command line).

use std::{path::PathBuf, process::ExitCode};

use berth_registry_core::{
    Digest, Pattern, RepositoryName, Tag,
    config::Anonymous,
    job::{JobRequest, UndeleteRequest},
    scrub::ScrubRequest,
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;

use crate::{
    configuration::Configuration,
    jobs::client::{self, Remote, run_job, show},
    log::Log,
    serve,
    settings::Overrides,
    store::URLS,
};

/// An OCI registry whose only state is its store.
#[derive(Debug, Parser)]
#[command(name = "berth-registry", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the registry.
    Serve(Serve),
    /// Ask a running registry to apply its lifecycle rules, and print what it removes.
    Prune(Job),
    /// Ask a running registry to give back what nothing refers to any more, and print what it does.
    Gc(Job),
    /// Ask a running registry to check everything that it stores, and print what it finds and repairs.
    Scrub(Scrub),
    /// Ask a running registry who uses how much.
    Usage(Usage),
    /// Ask a running registry to bring back a tag, a manifest or all of a repository.
    Undelete(Undelete),
    /// Ask a running registry why a tag, manifest or blob is there, and until when.
    Explain(Explain),
    /// Bring images from one registry to another, once.
    Replicate(Replicate),
}

#[derive(Debug, Args)]
struct Serve {
    /// Address to listen on, host:port [default: 0.0.0.0:5000].
    #[arg(long, env = "BERTH_LISTEN")]
    listen: Option<String>,
    #[arg(
        long,
        env = "BERTH_STORE",
        help = format!("Where content is kept: {URLS}")
    )]
    store: Option<String>,
    /// PEM file with the certificate chain.
    #[arg(long, env = "BERTH_TLS_CERT")]
    tls_cert: Option<PathBuf>,
    /// PEM file with the key of the certificate.
    #[arg(long, env = "BERTH_TLS_KEY")]
    tls_key: Option<PathBuf>,
    /// Serve without TLS.
    #[arg(long, env = "BERTH_PLAIN_HTTP")]
    plain_http: bool,
    /// Users: an htpasswd file with bcrypt hashes.
    #[arg(long, env = "BERTH_HTPASSWD")]
    htpasswd: Option<PathBuf>,
    /// What a caller without credentials may do [default: none].
    #[arg(long, env = "BERTH_ANONYMOUS", value_enum)]
    anonymous: Option<AnonymousFlag>,
    /// Patterns of tags that never move once they exist, separated by commas.
    #[arg(long, env = "BERTH_IMMUTABLE_TAGS", value_delimiter = ',')]
    immutable_tags: Vec<Pattern>,
    /// Accept manifests of which some content was never pushed.
    #[arg(long, env = "BERTH_SPARSE_MANIFESTS")]
    sparse_manifests: bool,
    /// Configuration file; flags and variables win over it.
    #[arg(long, env = "BERTH_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AnonymousFlag {
    /// Nothing.
    None,
    /// Pull.
    Read,
    /// Pull, push and delete.
    Write,
}

/// Which registry to ask, and how.
#[derive(Debug, Args)]
struct Asked {
    #[arg(long, help = "The registry, https://host[:port]")]
    url: String,
    /// PEM file with the certificates to trust instead of the system's.
    #[arg(long)]
    ca: Option<PathBuf>,
    /// File with a bearer token.
    #[arg(long, conflicts_with = "user")]
    token_file: Option<PathBuf>,
    /// A user of the registry.
    #[arg(long, requires = "password_file")]
    user: Option<String>,
    /// File with the user's password.
    #[arg(long, requires = "user")]
    password_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Job {
    #[command(flatten)]
    asked: Asked,
    /// Say what would be removed, remove nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct Scrub {
    #[command(flatten)]
    job: Job,
    /// Bytes of blobs to read in a second, at most; 0 is without limit.
    #[arg(long, default_value_t = ScrubRequest::default().rate)]
    rate: u64,
    /// Whether to hash every blob; without it, only presence and size are checked.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    verify_bytes: bool,
}

#[derive(Debug, Args)]
struct Usage {
    #[command(flatten)]
    asked: Asked,
    /// Only this repository.
    #[arg(long)]
    repository: Option<String>,
    /// Measure now; else the last snapshot is shown.
    #[arg(long)]
    refresh: bool,
}

#[derive(Debug, Args)]
struct Undelete {
    #[command(flatten)]
    asked: Asked,
    /// The repository; all of it without --tag and --digest.
    #[arg(long)]
    repository: RepositoryName,
    /// The tag that is to point again to what it pointed to last.
    #[arg(long, conflicts_with = "digest")]
    tag: Option<Tag>,
    /// The manifest that is to be there again, with its tags.
    #[arg(long)]
    digest: Option<Digest>,
    /// Only what was deleted since this time, like 2026-11-21T18:00:00Z.
    #[arg(long, conflicts_with_all = ["tag", "digest"])]
    since: Option<Timestamp>,
}

#[derive(Debug, Args)]
struct Explain {
    #[command(flatten)]
    asked: Asked,
    /// The repository.
    #[arg(long)]
    repository: RepositoryName,
    #[arg(long, help = "A tag, or the digest of a manifest or blob")]
    reference: String,
}

#[derive(Debug, Args)]
struct Replicate {
    /// What to bring from where to where.
    #[arg(long, env = "BERTH_CONFIG")]
    config: PathBuf,
}

/// Does what the command line says.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let result = match cli.command {
        Command::Serve(flags) => runtime.block_on(run_serve(flags)),
        Command::Replicate(flags) => {
            runtime.block_on(crate::replicate::replicate(&flags.config)).map_err(Into::into)
        }
        Command::Prune(flags) => runtime.block_on(start("prune", flags)),
        Command::Gc(flags) => runtime.block_on(start("gc", flags)),
        Command::Scrub(flags) => runtime.block_on(scrub(flags)),
        Command::Usage(flags) => runtime.block_on(usage(flags)),
        Command::Undelete(Undelete { asked, repository, tag, digest, since }) => {
            let request = UndeleteRequest { repository, tag, digest, since };
            runtime.block_on(client::undelete(&asked.into(), &request)).map_err(Into::into)
        }
        Command::Explain(Explain { asked, repository, reference }) => {
            let query = [("repository", repository.to_string()), ("reference", reference)];
            runtime.block_on(show(&asked.into(), "/berth/v1/explain", &query)).map_err(Into::into)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(error.as_ref()),
    }
}

async fn run_serve(flags: Serve) -> Result<(), Box<dyn std::error::Error>> {
    // Dropped last: what is said until then is written.
    let (log, _writer) = Log::start(std::io::stdout())?;
    log.take_tracing();
    let configuration = Configuration::open(flags.config.clone(), flags.into()).await?;
    Ok(serve::run(configuration, log).await?)
}

async fn start(job: &str, flags: Job) -> Result<(), Box<dyn std::error::Error>> {
    Ok(run_job(&flags.asked.into(), job, &JobRequest { dry_run: flags.dry_run }).await?)
}

async fn scrub(flags: Scrub) -> Result<(), Box<dyn std::error::Error>> {
    let Scrub { job, rate, verify_bytes } = flags;
    let request = ScrubRequest { dry_run: job.dry_run, rate, verify_bytes };
    Ok(run_job(&job.asked.into(), "scrub", &request).await?)
}

async fn usage(flags: Usage) -> Result<(), Box<dyn std::error::Error>> {
    let mut query: Vec<(&str, String)> =
        flags.repository.into_iter().map(|name| ("repository", name)).collect();
    query.extend(flags.refresh.then(|| ("refresh", "true".to_owned())));
    Ok(show(&flags.asked.into(), "/berth/v1/usage", &query).await?)
}

impl From<Asked> for Remote {
    fn from(flags: Asked) -> Self {
        Self {
            url: flags.url,
            ca_file: flags.ca,
            token_file: flags.token_file,
            user: flags.user.zip(flags.password_file),
        }
    }
}

impl From<Serve> for Overrides {
    fn from(flags: Serve) -> Self {
        Self {
            listen: flags.listen,
            store: flags.store,
            tls_cert: flags.tls_cert,
            tls_key: flags.tls_key,
            plain_http: flags.plain_http,
            htpasswd: flags.htpasswd,
            anonymous: flags.anonymous.map(|anonymous| match anonymous {
                AnonymousFlag::None => Anonymous::None,
                AnonymousFlag::Read => Anonymous::Read,
                AnonymousFlag::Write => Anonymous::Write,
            }),
            immutable_tags: flags.immutable_tags,
            sparse_manifests: flags.sparse_manifests,
        }
    }
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("berth-registry: {error}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
