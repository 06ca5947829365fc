//! Running other programs: every module of this crate starts its programs here, so that a failure
//! always names the command and shows what the program said.

use std::io::{self, Write};
use std::process::{Command, ExitStatus, Output, Stdio};

/// A program that could not be started, or that ended badly.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The program is missing, or may not be executed.
    #[error("cannot start `{command}`: {source}")]
    Start {
        /// The command line.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// The program ended with a status other than 0.
    #[error("`{command}` ended with {status}\n{stderr}{stdout}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it printed.
        stdout: String,
        /// What it complained about.
        stderr: String,
    },
}

impl CommandError {
    /// What the program wrote to standard error; empty if it never started.
    pub fn stderr(&self) -> &str {
        match self {
            Self::Start { .. } => "",
            Self::Failed { stderr, .. } => stderr,
        }
    }
}

/// Runs the command to its end and returns its standard output.
pub fn run(command: &mut Command) -> Result<String, CommandError> {
    finish(describe(command), command.stdin(Stdio::null()).output())
}

/// Runs the command with `input` on its standard input and returns its standard output.
/// Meant for programs that read all of their input before they write.
pub fn run_with_input(command: &mut Command, input: &str) -> Result<String, CommandError> {
    let name = describe(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = command.spawn().and_then(|mut child| {
        // A program that ends before it has read everything tells the reason by its status.
        if let Some(mut stdin) = child.stdin.take() {
            let _ = stdin.write_all(input.as_bytes());
        }
        child.wait_with_output()
    });
    finish(name, output)
}

fn finish(command: String, output: io::Result<Output>) -> Result<String, CommandError> {
    let output = output.map_err(|source| CommandError::Start { command: command.clone(), source })?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(CommandError::Failed { command, status: output.status, stdout, stderr })
}

/// The command line as a person would type it.
pub fn describe(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_shows_its_complaint() {
        let error = run(Command::new("sh").args(["-c", "echo no such bucket >&2; exit 3"])).unwrap_err();
        assert_eq!(error.stderr(), "no such bucket\n");
        assert!(
            error
                .to_string()
                .starts_with("`sh -c echo no such bucket >&2; exit 3` ended with exit status: 3")
        );
    }

    #[test]
    fn input_reaches_the_program() {
        assert_eq!(run_with_input(&mut Command::new("cat"), "berth").unwrap(), "berth");
    }
}
