//! `/healthz`, `/readyz` and `/metrics`, on every replica, without TLS: they hold nothing secret.

use axum::{Router, extract::State, http::StatusCode, routing::get};
use jiff::Timestamp;
use kube::ResourceExt as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{Context, OperatorError, certs::controller::days_until, metrics::RegistryLabels, stores::parsed};

/// Serves until the process ends.
pub(crate) async fn serve(context: &Context, stop: CancellationToken) -> Result<(), OperatorError> {
    let listener = TcpListener::bind(context.settings.metrics_listen).await?;
    tracing::info!(address = %listener.local_addr()?, "metrics listen");
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state((context.clone(), stop));
    Ok(axum::serve(listener, routes).await?)
}

/// Ready means: an admission review that arrives here can be answered.
async fn ready(State((context, stop)): State<(Context, CancellationToken)>) -> (StatusCode, &'static str) {
    if stop.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "ending");
    }
    let filled = tokio::time::timeout(std::time::Duration::ZERO, context.stores.wait_until_filled()).await;
    match (filled, context.bundle.borrow().is_some(), context.certificate.is_set()) {
        (Ok(()), true, true) => (StatusCode::OK, "ok"),
        (Err(_), _, _) => (StatusCode::SERVICE_UNAVAILABLE, "the stores are not filled yet"),
        (_, false, _) => (StatusCode::SERVICE_UNAVAILABLE, "the certificate authority is not there yet"),
        (_, _, false) => (StatusCode::SERVICE_UNAVAILABLE, "the webhook's certificate is not there yet"),
    }
}

async fn metrics(State((context, _)): State<(Context, CancellationToken)>) -> Result<String, StatusCode> {
    registry_certificates(&context);
    context.metrics.encode().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

/// From the store, so that a Registry that is gone leaves no alert behind.
fn registry_certificates(context: &Context) {
    let days = &context.metrics.registry_certificate_days;
    let now = Timestamp::now();
    days.clear();
    for registry in parsed(&context.stores.registries) {
        let Some(certificate) = registry.status.as_ref().and_then(|status| status.certificate.as_ref())
        else {
            continue;
        };
        let labels = RegistryLabels {
            namespace: registry.namespace().unwrap_or_default(),
            registry: registry.name_any(),
        };
        days.get_or_create(&labels).set(days_until(certificate.not_after.0, now));
    }
}
