//! `berth-registry serve`: puts the parts together, in the order in which they can fail, and runs until told to stop.

use std::sync::Arc;

use arc_swap::ArcSwap;
use berth_registry_core::config::Anonymous;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    auth::{
        htpasswd::{Users, UsersError},
        token_review::TokenReviewError,
    },
    configuration::{Configuration, engine_options},
    events::Events,
    http::App,
    jobs::Jobs,
    log::Log,
    metrics::Metrics,
    outbound::OutboundError,
    readiness::Readiness,
    server,
    store::StoreOptions,
    tls::{self, TlsError},
    traces::Traces,
};

/// Why the server cannot start. A store that is not there is no reason: it is waited for.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The users file.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// The API server.
    #[error(transparent)]
    Tokens(#[from] TokenReviewError),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The event sink.
    #[error("cannot send events: {0}")]
    Events(OutboundError),
    /// The collector of traces.
    #[error("cannot send traces: {0}")]
    Traces(OutboundError),
    /// The address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// As configured.
        address: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The operating system gives no signals.
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
}

/// Serves until SIGTERM or SIGINT, then drains.
pub async fn run(configuration: Configuration, log: Log) -> Result<(), ServeError> {
    let settings = configuration.settings().clone();
    if settings.anonymous == Anonymous::None
        && settings.htpasswd.is_none()
        && settings.service_accounts.is_none()
    {
        tracing::warn!("nobody may enter: set --htpasswd, serviceAccounts or --anonymous");
    }
    let metrics = Arc::new(Metrics::default());
    let users = match &settings.htpasswd {
        Some(path) => Some(Users::open(path.clone()).await?),
        None => None,
    };
    let tls = match &settings.tls {
        Some(files) => Some(TlsAcceptor::from(tls::server_config(files, metrics.clone()).await?)),
        None => None,
    };
    let events = match settings.events.clone() {
        Some(sink) => Events::start(sink, metrics.clone()).await.map_err(ServeError::Events)?,
        None => Events::default(),
    };
    let traces = match settings.traces.clone() {
        Some(sink) => Some(Traces::start(sink, metrics.clone()).await.map_err(ServeError::Traces)?),
        None => None,
    };
    let live = Arc::new(ArcSwap::from_pointee(configuration.live(users).await?));
    let app = Arc::new(App {
        readiness: Readiness::new(engine_options(&settings), metrics.clone(), events.clone()),
        jobs: Jobs::new(live.clone(), events.clone(), &metrics),
        live,
        events,
        traces: traces.clone(),
        metrics,
        log,
    });
    let follower = tokio::spawn(configuration.follow(app.clone()));
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
    let listening = async {
        let listener = TcpListener::bind(&settings.listen).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    let (listener, address) =
        listening.await.map_err(|source| ServeError::Listen { address: settings.listen.clone(), source })?;
    tracing::info!(%address, tls = tls.is_some(), "listening");
    let opener = tokio::spawn({
        let (app, store) = (app.clone(), settings.store);
        let options = StoreOptions { ca_file: settings.store_ca_file };
        async move { app.readiness.open(&store, &options).await }
    });
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    server::serve(listener, tls, app, stop, settings.drain_delay).await;
    opener.abort();
    follower.abort();
    if let Some(traces) = traces {
        traces.stop().await;
    }
    tracing::info!("stopped");
    Ok(())
}
