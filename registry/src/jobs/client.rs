//! `berth-registry prune` and its like: thin clients of the management API. They need neither the volume nor bucket
//! credentials; a `CronJob` runs them as a `ServiceAccount` that may do nothing else.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use berth_registry_core::job::{UndeleteReport, UndeleteRequest};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};

/// Kubernetes shows what is written here in the Pod's status.
const TERMINATION_LOG: &str = "/dev/termination-log";
const MAX_LINE: usize = 1024 * 1024;

/// A running registry, and how to ask it.
#[derive(Clone, Debug)]
pub struct Remote {
    /// `https://host[:port]`.
    pub url: String,
    /// PEM certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// File with the bearer token.
    pub token_file: Option<PathBuf>,
    /// A user, and the file with the password.
    pub user: Option<(String, PathBuf)>,
}

/// Why asking did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
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
    /// The job ended, but could not do all.
    #[error("{0} could not be done: the lines above and the registry's log say why")]
    Failed(u64),
}

/// What the client must understand of a line; the rest is for people.
#[derive(Deserialize)]
struct Line {
    kind: String,
    #[serde(default)]
    failed: u64,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

/// Starts a job, prints each line, leaves the summary where Kubernetes finds it.
pub async fn run_job(remote: &Remote, name: &str, request: &impl Serialize) -> Result<(), ClientError> {
    let result = follow(remote, name, request).await;
    let (message, result) = match result {
        Ok(Line { failed, mut rest, .. }) => {
            rest.insert("failed".to_owned(), failed.into());
            let message = serde_json::Value::from(rest).to_string();
            (message, if failed == 0 { Ok(()) } else { Err(ClientError::Failed(failed)) })
        }
        Err(error) => (error.to_string(), Err(error)),
    };
    if Path::new(TERMINATION_LOG).exists()
        && let Err(error) = std::fs::write(TERMINATION_LOG, message)
    {
        eprintln!("berth-registry: cannot write {TERMINATION_LOG}: {error}");
    }
    result
}

/// `undelete`: prints the report. What is lost is a failure.
pub async fn undelete(remote: &Remote, request: &UndeleteRequest) -> Result<(), ClientError> {
    let response =
        remote.send(|client, url| client.post(format!("{url}/berth/v1/undelete")).json(request)).await?;
    let report: UndeleteReport = response.json().await.map_err(|error| remote.failed(&error))?;
    let text =
        serde_json::to_string_pretty(&report).map_err(|error| ClientError::Answer(error.to_string()))?;
    let _ = writeln!(std::io::stdout(), "{text}");
    if report.lost.is_empty() { Ok(()) } else { Err(ClientError::Failed(report.lost.len() as u64)) }
}

/// Asks a question and prints the answer.
pub async fn show(remote: &Remote, path: &str, query: &[(&str, String)]) -> Result<(), ClientError> {
    let request = |client: &reqwest::Client, url: &str| client.get(format!("{url}{path}")).query(query);
    let mut answer = remote.send(request).await?.bytes_stream();
    while let Some(chunk) = answer.next().await {
        let _ = std::io::stdout().write_all(&chunk.map_err(|error| remote.failed(&error))?);
    }
    println!();
    Ok(())
}

/// The job's lines to standard output; the summary.
async fn follow(remote: &Remote, name: &str, request: &impl Serialize) -> Result<Line, ClientError> {
    let response =
        remote.send(|client, url| client.post(format!("{url}/berth/v1/{name}")).json(request)).await?;
    let (mut stream, mut buffer, mut summary) = (response.bytes_stream(), Vec::new(), None);
    while let Some(chunk) = stream.next().await {
        buffer.extend_from_slice(&chunk.map_err(|error| remote.failed(&error))?);
        while let Some(end) = buffer.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let parsed: Line =
                serde_json::from_slice(&line).map_err(|error| ClientError::Answer(error.to_string()))?;
            // A closed pipe is no reason to leave the job's outcome unknown.
            let _ = std::io::stdout().write_all(&line);
            if parsed.kind == "summary" {
                summary = Some(parsed);
            }
        }
        if buffer.len() > MAX_LINE {
            return Err(ClientError::Answer("a line is too long".to_owned()));
        }
    }
    summary.ok_or(ClientError::NoSummary)
}

impl Remote {
    /// Makes a request and answers its response, if that is a success.
    async fn send(
        &self,
        request: impl FnOnce(&reqwest::Client, &str) -> reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, ClientError> {
        let failed = |error: reqwest::Error| self.failed(&error);
        let mut client = reqwest::Client::builder().connect_timeout(std::time::Duration::from_secs(10));
        if let Some(path) = &self.ca_file {
            client =
                client.tls_certs_only(reqwest::Certificate::from_pem_bundle(&read(path)?).map_err(failed)?);
        }
        let client = client.build().map_err(failed)?;
        let mut request = request(&client, self.url.trim_end_matches('/'));
        if let Some(path) = &self.token_file {
            request = request.bearer_auth(String::from_utf8_lossy(&read(path)?).trim());
        }
        if let Some((user, path)) = &self.user {
            request = request.basic_auth(user, Some(String::from_utf8_lossy(&read(path)?).trim()));
        }
        let response = request.send().await.map_err(failed)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        Err(ClientError::Refused { status, body: response.text().await.unwrap_or_default() })
    }

    fn failed(&self, error: &reqwest::Error) -> ClientError {
        ClientError::Request { url: self.url.clone(), message: causes(error) }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ClientError> {
    std::fs::read(path).map_err(|source| ClientError::Unreadable { path: path.to_owned(), source })
}

fn causes(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
