//! The plugin's process: kubectl runs it as `kubectl-berth` when somebody types `kubectl berth`.

use std::process::ExitCode;

fn main() -> ExitCode {
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("error: another cryptography provider is installed already");
        return ExitCode::from(2);
    }
    kubectl_berth::run()
}
