//! The subcommand around a pass: reads the file, prints the report, leaves it where Kubernetes finds it.

use std::path::{Path, PathBuf};

use berth_registry_core::config::ReplicateConfig;

use super::{ReplicateError, run};

/// Kubernetes shows what is written here in the Pod's status.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Why `berth-registry replicate` exits with an error.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no configuration.
    #[error("{}: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// The pass could not begin.
    #[error(transparent)]
    Replicate(#[from] ReplicateError),
    /// Some tags could not be brought; the report says why.
    #[error("{0} tags could not be brought to the destination")]
    Failed(u64),
}

/// Makes one pass as the file says. The last line on stdout is the report, as JSON; it is also the termination message.
pub async fn replicate(config: &Path) -> Result<(), CommandError> {
    let result = report(config).await;
    let message = match &result {
        Ok((report, _)) => {
            println!("{report}");
            report.clone()
        }
        Err(error) => error.to_string(),
    };
    if Path::new(TERMINATION_LOG).exists()
        && let Err(error) = std::fs::write(TERMINATION_LOG, message)
    {
        eprintln!("berth-registry: cannot write {TERMINATION_LOG}: {error}");
    }
    match result? {
        (_, 0) => Ok(()),
        (_, failed) => Err(CommandError::Failed(failed)),
    }
}

async fn report(path: &Path) -> Result<(String, u64), CommandError> {
    let malformed = |message: String| CommandError::Malformed { path: path.to_owned(), message };
    let text = tokio::fs::read_to_string(path)
        .await
        .map_err(|source| CommandError::Unreadable { path: path.to_owned(), source })?;
    let config: ReplicateConfig = serde_yaml::from_str(&text).map_err(|e| malformed(e.to_string()))?;
    let report = run(config).await?;
    let text = serde_json::to_string(&report).map_err(|e| malformed(e.to_string()))?;
    Ok((text, report.failed))
}
