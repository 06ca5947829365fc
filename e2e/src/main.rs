//! The binary `berth-e2e`: parses the command line and hands over to the library.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match berth_e2e::cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("berth-e2e: {error}");
            ExitCode::FAILURE
        }
    }
}
