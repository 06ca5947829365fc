//! The binary: picks the one TLS provider, reads the command line and hands over to the library.

use std::process::ExitCode;

use clap::Parser as _;

#[tokio::main]
async fn main() -> ExitCode {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    berth_operator::log::to_stdout();
    // On the heap: all controllers and servers are one large future.
    match Box::pin(berth_operator::run(berth_operator::cli::Cli::parse())).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, reason = error.reason(), "the operator ends");
            ExitCode::FAILURE
        }
    }
}
