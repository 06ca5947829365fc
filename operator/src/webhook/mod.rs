//! The webhook server, on every replica: `/admit` and `/admit/NAMESPACE/NAME` for the API server, `/events` for
//! registries, and `/healthz`, `/readyz`. It needs no lease: what it knows comes from watches, and it writes nothing but
//! one time stamp and Events about what it refused.

mod admit;
pub mod decisions;
pub mod directory;
pub mod events;
pub mod looks;
pub mod metrics;
pub mod outside;
pub mod policies;
pub mod server;
pub mod tokens;
mod warm;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    routing::{get, post},
};
use berth_operator_core::webhook_configuration::{OWN_PATH, path};
use kube::Client;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{Context, OperatorError, certs::serving};

pub use admit::{Admission, MAX_REVIEW};
pub use events::MAX_EVENT;

/// From the arrival of a review to its answer; the API server waits two seconds longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(8);

/// Bytes of what is remembered about images; a hundred thousand digests, about.
pub(crate) const MEMORY: u64 = 64 * 1024 * 1024;

/// Between the moment when readiness fails and the one when no new connections are taken. Endpoints are withdrawn
/// within it.
const DRAIN: Duration = Duration::from_secs(5);

/// Everything that is served. `ready` says why not, if not.
pub fn router(
    admission: Arc<Admission>,
    client: Client,
    ready: Arc<dyn Fn() -> Result<(), &'static str> + Send + Sync>,
) -> Router {
    let warmer =
        warm::Warmer::new(admission.looks.clone(), admission.policies.clone(), admission.directory.clone());
    let receiver = Arc::new(events::Events::new(client, Arc::new(warmer)));
    let admit = Router::new()
        .route(OWN_PATH, post(admit::admit))
        .route(&path("{namespace}", "{name}"), post(admit::admit))
        .layer(DefaultBodyLimit::max(MAX_REVIEW))
        .with_state(admission);
    let events = Router::new()
        .route("/events", post(events::take))
        .layer(DefaultBodyLimit::max(MAX_EVENT))
        .with_state(receiver);
    let health = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(readyz))
        .with_state(ready);
    admit.merge(events).merge(health)
}

type Ready = Arc<dyn Fn() -> Result<(), &'static str> + Send + Sync>;

async fn readyz(State(ready): State<Ready>) -> (StatusCode, &'static str) {
    match ready() {
        Ok(()) => (StatusCode::OK, "ok"),
        Err(why_not) => (StatusCode::SERVICE_UNAVAILABLE, why_not),
    }
}

/// Serves until `stop` is cancelled, then drains and returns. Ends earlier only with an error.
pub async fn run(context: Context, stop: CancellationToken) -> Result<(), OperatorError> {
    // Whoever connects before everything is known would be refused for no fault of theirs.
    context.stores.wait_until_filled().await;
    context.policies.sort();
    context.kept.restore().await;
    let certificate = context.certificate.clone();
    let (has_certificate, _) = watch::channel(false);
    let settings = &context.settings;
    let noted = decisions::Noted::default();
    let (decisions, writer) =
        decisions::Decisions::new(context.client.clone(), &settings.pod_name, noted.clone());
    let admission = Arc::new(Admission {
        policies: context.policies.clone(),
        directory: context.directory.clone(),
        looks: context.looks.clone(),
        deadline: DEADLINE,
        metrics: metrics::Reviews::default(),
        decisions,
    });
    context.metrics.register(|registry| {
        admission.metrics.register(registry);
        noted.register(registry);
    });
    let ready = {
        let (stop, certificate) = (stop.clone(), certificate.clone());
        Arc::new(move || match (stop.is_cancelled(), certificate.is_set()) {
            (true, _) => Err("ending"),
            (false, false) => Err("the certificate is not there yet"),
            (false, true) => Ok(()),
        })
    };
    let listener = TcpListener::bind(settings.webhook_listen).await?;
    tracing::info!(address = %listener.local_addr()?, "webhook listens");
    let router = router(admission, context.client.clone(), ready);
    tokio::select! {
        result = server::serve(listener, certificate.clone(), router, stop, DRAIN) => Ok(result?),
        () = writer.run() => Err(OperatorError::Ended("the writing of decisions")),
        () = context.keys.follow() => Err(OperatorError::Ended("the watch of Secrets")),
        () = context.policies.follow(context.stores.changed.clone()) => {
            Err(OperatorError::Ended("the watches of policies"))
        }
        () = serving::follow(&context.client, &settings.namespace, &certificate, has_certificate) => {
            Err(OperatorError::Ended("the watch of the webhook's certificate"))
        }
    }
}
