//! `GET /berth/v1/usage[?repository=…][&refresh=true]`: the last snapshot of who uses how much, or a new one.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use berth_registry_core::{RepositoryName, usage::Held};
use http::Method;
use jiff::Timestamp;
use serde::Serialize;

use super::{App, Call, error::ApiError};
use crate::{engine::EngineError, metrics::Metrics};

/// What is said of one repository.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfRepository<'a> {
    taken: Timestamp,
    repository: &'a RepositoryName,
    #[serde(flatten)]
    held: &'a Held,
}

pub(super) async fn answer(call: Call, metrics: &Metrics) -> Result<Response, ApiError> {
    if !matches!(call.method, Method::GET | Method::HEAD) {
        return Err(ApiError::method_not_allowed("GET, HEAD"));
    }
    let refresh = match call.query.get("refresh") {
        None | Some("false") => false,
        Some("true" | "") => true,
        Some(other) => {
            return Err(ApiError::bad_request("UNSUPPORTED", format!("refresh={other:?} is not understood"))
                .detail("write refresh=true, or leave it out"));
        }
    };
    let repository = call.query.get("repository").map(str::parse::<RepositoryName>).transpose();
    let repository = repository.map_err(|error| {
        ApiError::bad_request("NAME_INVALID", error.to_string()).detail("write a name like team/app")
    })?;
    let usage = call.engine.usage(refresh).await?;
    metrics.usage(&usage);
    let Some(repository) = repository else { return Ok(Json(usage).into_response()) };
    let held = usage.repositories.get(&repository).ok_or_else(|| {
        ApiError::from(EngineError::NameUnknown(repository.to_string()))
            .detail(format!("it had no content on {}: ask with refresh=true", usage.taken))
    })?;
    Ok(Json(OfRepository { taken: usage.taken, repository: &repository, held }).into_response())
}

/// Brings a snapshot that another replica took into this one's metrics, now and then, and not while Prometheus waits.
pub(super) fn follow(app: &App) {
    if let Ok(engine) = app.readiness.engine()
        && app.metrics.usage_is_due()
    {
        let metrics = app.metrics.clone();
        tokio::spawn(async move {
            if let Ok(Some(usage)) = engine.last_usage().await {
                metrics.usage(&usage);
            }
        });
    }
}
