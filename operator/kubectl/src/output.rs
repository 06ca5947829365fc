//! What a command prints: a report as a table, JSON or YAML, and the exit code that scripts read.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::ValueEnum;
use serde::Serialize;

/// `-o`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table with more columns.
    Wide,
    /// One JSON object.
    Json,
    /// The same as YAML.
    Yaml,
}

/// What the whole command came to, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Outcome {
    /// Nothing stands in the way.
    Admitted,
    /// Something could not be checked, and nothing is known to be denied.
    Unchecked,
    /// Something is denied.
    Denied,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Admitted => 0,
            Outcome::Denied => 1,
            Outcome::Unchecked => 2,
        })
    }
}

/// The result of a command.
pub(crate) trait Report: Serialize {
    /// For people; with more columns if `wide`.
    fn text(&self, wide: bool) -> String;

    /// What it came to.
    fn outcome(&self) -> Outcome;
}

/// Prints a report to standard output.
pub(crate) fn print(report: &impl Report, format: Option<Format>) -> io::Result<()> {
    let text = match format {
        None => report.text(false),
        Some(Format::Wide) => report.text(true),
        Some(Format::Json) => serde_json::to_string_pretty(report).map_err(io::Error::other)? + "\n",
        Some(Format::Yaml) => serde_yaml::to_string(report).map_err(io::Error::other)?,
    };
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has seen enough, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
