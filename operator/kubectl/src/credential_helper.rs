//! Credential helpers: programs `docker-credential-NAME` that keep logins outside of Docker's `config.json`. They are given
//! a server on standard input and answer on standard output.

use std::{process::Stdio, time::Duration};

use berth_operator_core::pulling::Login;
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
    time::timeout,
};

use crate::table::clean;

/// How long a helper may take; it may have to ask a person or a cloud.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 64 * 1024;

/// The longest part of a complaint that is shown, in characters.
const MAX_SHOWN: usize = 200;

/// With these words every helper says that it has nothing for a server.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// The user of logins that are no passwords.
const TOKEN: &str = "<token>";

/// Why a helper was of no help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HelperError {
    #[error("Docker's config.json names the credential helper {0:?}, which is no name of a program")]
    Name(String),
    #[error("the credential helper {program} cannot be started: {cause}; install it, or {}", OTHERWISE)]
    Start { program: String, cause: String },
    #[error("the credential helper {program} did not answer within {} seconds", limit.as_secs())]
    TimedOut { program: String, limit: Duration },
    #[error("the credential helper {program} failed: {cause}")]
    Failed { program: String, cause: String },
    #[error("the credential helper {program} gave no answer that Docker would take: {cause}")]
    Malformed { program: String, cause: String },
    #[error(
        "the credential helper {program} has an identity token and no password for {server}: {}",
        OTHERWISE
    )]
    Token { program: String, server: String },
}

const OTHERWISE: &str = "give --user and --password-file";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// The login that a helper keeps for a server, if it keeps one. Its complaints on standard error go to ours.
pub(crate) async fn get(name: &str, server: &str, limit: Duration) -> Result<Option<Login>, HelperError> {
    if name.contains(['/', '\\']) {
        return Err(HelperError::Name(name.to_owned()));
    }
    let program = format!("docker-credential-{name}");
    match timeout(limit, ask(&program, server)).await {
        Ok(answer) => answer,
        Err(_) => Err(HelperError::TimedOut { program, limit }),
    }
}

async fn ask(program: &str, server: &str) -> Result<Option<Login>, HelperError> {
    let named = || program.to_owned();
    let failed = |cause: String| HelperError::Failed { program: named(), cause };
    let malformed = |cause: String| HelperError::Malformed { program: named(), cause };
    let mut command = Command::new(program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child =
        command.spawn().map_err(|error| HelperError::Start { program: named(), cause: error.to_string() })?;
    if let Some(mut input) = child.stdin.take() {
        // A helper that does not read still answers.
        let _ = input.write_all(server.as_bytes()).await;
    }
    let mut answer = Vec::new();
    if let Some(output) = child.stdout.take() {
        let read = output.take(MAX_ANSWER + 1).read_to_end(&mut answer).await;
        read.map_err(|error| failed(error.to_string()))?;
    }
    if answer.len() as u64 > MAX_ANSWER {
        return Err(malformed(format!("it is longer than {MAX_ANSWER} bytes")));
    }
    let status = child.wait().await.map_err(|error| failed(error.to_string()))?;
    if !status.success() {
        let said = String::from_utf8_lossy(&answer);
        return match said.trim() {
            NOT_FOUND => Ok(None),
            "" => Err(failed(status.to_string())),
            said => Err(failed(clean(said).chars().take(MAX_SHOWN).collect())),
        };
    }
    // What it holds is not repeated: it may be a password.
    let Answer { username, secret } = serde_json::from_slice(&answer)
        .map_err(|error| malformed(format!("line {}, column {}", error.line(), error.column())))?;
    match username.as_str() {
        "" => Ok(None),
        TOKEN => Err(HelperError::Token { program: named(), server: server.to_owned() }),
        _ => Ok(Some(Login { username, password: secret })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_with_a_path_is_no_program() {
        let error = get("../../tmp/evil", "r.io", LIMIT).await.err().unwrap();
        assert_eq!(error, HelperError::Name("../../tmp/evil".to_owned()));
    }

    #[tokio::test]
    async fn a_helper_that_is_missing_is_named() {
        let error = get("that-nobody-has", "r.io", LIMIT).await.err().unwrap().to_string();
        assert!(error.contains("docker-credential-that-nobody-has cannot be started"), "{error}");
    }

    #[tokio::test]
    async fn a_helper_that_hangs_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("hangs").display().to_string();
        std::fs::write(&program, "#!/bin/sh\nexec sleep 1000\n").unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let asked = timeout(Duration::from_millis(50), ask(&program, "r.io")).await;
        assert!(asked.is_err());
    }
}
