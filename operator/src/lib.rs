//! The operator and its admission webhook. `run` starts what every replica does (stores, webhook, metrics) and competes
//! for the lease; the controllers run only where it is held.

pub mod apply;
pub mod certs;
pub mod cli;
pub mod context;
pub mod controllers;
mod definitions;
mod error;
pub mod events;
pub mod field_managers;
mod health;
pub mod image_policy;
pub mod kept;
mod leader;
pub mod log;
pub mod metrics;
pub mod registry;
pub mod replication;
pub mod runner;
pub mod running;
pub mod scope;
mod servers;
pub mod stores;
mod token_review;
mod uninstall;
mod unreadable;
pub mod webhook;

pub use context::Context;
pub use error::OperatorError;
pub use scope::Scope;

use tokio_util::sync::CancellationToken;

/// Does what the command line says; returns when it is done or when the process is told to end.
pub async fn run(cli: cli::Cli) -> Result<(), OperatorError> {
    let client = kube::Client::try_default().await?;
    match cli.command {
        cli::Command::Uninstall { namespace } => uninstall::run(&client, &namespace).await,
        cli::Command::Run(settings) => {
            let stop = stop_on_signal()?;
            definitions::check(&client).await;
            let (context, stores) = Context::new(client, settings);
            // Both end when told to; the servers last, because requests still arrive for a while.
            tokio::try_join!(
                servers::run(context.clone(), stores, stop.clone()),
                leader::run(&context, stop)
            )?;
            Ok(())
        }
    }
}

/// A token that is cancelled by SIGTERM or SIGINT.
fn stop_on_signal() -> Result<CancellationToken, OperatorError> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let cancel = stop.clone();
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => (), _ = interrupt.recv() => () }
        tracing::info!("told to end");
        cancel.cancel();
    });
    Ok(stop)
}
