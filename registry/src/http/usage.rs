//! `GET /berth/v1/usage[?repository=…|totals=true][&refresh=true]`: the last snapshot of who uses how much, whole or in
//! part, or a new one.

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
    let switch = |name: &str| match call.query.get(name) {
        None | Some("false") => Ok(false),
        Some("true" | "") => Ok(true),
        Some(other) => {
            Err(ApiError::bad_request("UNSUPPORTED", format!("{name}={other:?} is not understood"))
                .detail(format!("write {name}=true, or leave it out")))
        }
    };
    let (refresh, totals) = (switch("refresh")?, switch("totals")?);
    let repository = call.query.get("repository").map(str::parse::<RepositoryName>).transpose();
    let repository = repository.map_err(|error| {
        ApiError::bad_request("NAME_INVALID", error.to_string()).detail("write a name like team/app")
    })?;
    let usage = call.engine.usage(refresh).await?;
    metrics.usage(&usage);
    if totals {
        return Ok(Json(usage.totals()).into_response());
    }
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
