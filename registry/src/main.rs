//! The registry server's process.

use std::process::ExitCode;

fn main() -> ExitCode {
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("another cryptography provider is installed already");
        return ExitCode::FAILURE;
    }
    berth_registry::cli::run()
}
