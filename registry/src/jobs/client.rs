//! `berth-registry prune`: a thin client of the management API. It needs neither the volume nor bucket credentials;
//! a `CronJob` runs it as a `ServiceAccount` that may do nothing else.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use berth_registry_core::job::{PruneLine, PruneRequest, PruneSummary};
use futures::StreamExt as _;

/// Kubernetes shows what is written here in the Pod's status.
const TERMINATION_LOG: &str = "/dev/termination-log";
const MAX_LINE: usize = 1024 * 1024;

/// What to ask, and whom.
#[derive(Clone, Debug)]
pub struct PruneArguments {
    /// `https://host[:port]`.
    pub url: String,
    /// PEM certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// File with the bearer token.
    pub token_file: Option<PathBuf>,
    /// Remove nothing.
    pub dry_run: bool,
}

/// Why the prune did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No connection, no TLS, a broken answer.
    #[error("cannot ask {url}: {message}")]
    Request {
        /// Whom.
        url: String,
        /// Why, with its causes.
        message: String,
    },
    /// The registry refuses.
    #[error("the registry answered {status}: {body}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// What it says.
        body: String,
    },
    /// The answer is not what this version understands.
    #[error("the registry's answer is not understood: {0}")]
    Answer(String),
    /// The answer ended before the summary.
    #[error("the registry's answer broke off before its summary; the job may still be running there")]
    NoSummary,
    /// Some images could not be removed.
    #[error("{0} images could not be removed")]
    Failed(u64),
}

/// Asks, prints each line, leaves the summary where Kubernetes finds it.
pub async fn prune(arguments: PruneArguments) -> Result<(), PruneError> {
    let result = ask(&arguments).await;
    let (message, result) = match result {
        Ok(summary) => {
            let failed = summary.failed;
            (
                serde_json::to_string(&summary),
                if failed == 0 { Ok(()) } else { Err(PruneError::Failed(failed)) },
            )
        }
        Err(error) => (Ok(error.to_string()), Err(error)),
    };
    if let (Ok(message), true) = (message, Path::new(TERMINATION_LOG).exists())
        && let Err(error) = std::fs::write(TERMINATION_LOG, message)
    {
        eprintln!("berth-registry: cannot write {TERMINATION_LOG}: {error}");
    }
    result
}

async fn ask(arguments: &PruneArguments) -> Result<PruneSummary, PruneError> {
    let failed =
        |error: reqwest::Error| PruneError::Request { url: arguments.url.clone(), message: causes(&error) };
    let mut client = reqwest::Client::builder().connect_timeout(std::time::Duration::from_secs(10));
    if let Some(path) = &arguments.ca_file {
        client = client.tls_certs_only(reqwest::Certificate::from_pem_bundle(&read(path)?).map_err(failed)?);
    }
    let url = format!("{}/berth/v1/prune", arguments.url.trim_end_matches('/'));
    let mut request =
        client.build().map_err(failed)?.post(url).json(&PruneRequest { dry_run: arguments.dry_run });
    if let Some(path) = &arguments.token_file {
        request = request.bearer_auth(String::from_utf8_lossy(&read(path)?).trim());
    }
    let response = request.send().await.map_err(failed)?;
    if !response.status().is_success() {
        let status = response.status().as_u16();
        return Err(PruneError::Refused { status, body: response.text().await.unwrap_or_default() });
    }
    let (mut stream, mut buffer, mut summary) = (response.bytes_stream(), Vec::new(), None);
    while let Some(chunk) = stream.next().await {
        buffer.extend_from_slice(&chunk.map_err(failed)?);
        while let Some(end) = buffer.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            if let Some(last) = show(&line)? {
                summary = Some(last);
            }
        }
        if buffer.len() > MAX_LINE {
            return Err(PruneError::Answer("a line is too long".to_owned()));
        }
    }
    summary.ok_or(PruneError::NoSummary)
}

fn show(line: &[u8]) -> Result<Option<PruneSummary>, PruneError> {
    let parsed: PruneLine =
        serde_json::from_slice(line).map_err(|error| PruneError::Answer(error.to_string()))?;
    // A closed pipe is no reason to leave the job's outcome unknown.
    let _ = std::io::stdout().write_all(line);
    Ok(match parsed {
        PruneLine::Summary(summary) => Some(summary),
        _ => None,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, PruneError> {
    std::fs::read(path).map_err(|source| PruneError::Unreadable { path: path.to_owned(), source })
}

fn causes(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
