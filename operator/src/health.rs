//! `/healthz`, `/readyz` and `/metrics`, on every replica, without TLS: they hold nothing secret.

use axum::{Router, extract::State, http::StatusCode, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{Context, OperatorError};

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
    match (filled, context.bundle.borrow().is_some()) {
        (Ok(()), true) => (StatusCode::OK, "ok"),
        (Err(_), _) => (StatusCode::SERVICE_UNAVAILABLE, "the stores are not filled yet"),
        (_, false) => (StatusCode::SERVICE_UNAVAILABLE, "the certificate authority is not there yet"),
    }
}

async fn metrics(State((context, _)): State<(Context, CancellationToken)>) -> Result<String, StatusCode> {
    context.metrics.encode().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}
