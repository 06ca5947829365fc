//! `GET /healthz`, `/readyz`, `/metrics`: for the kubelet, the operator and Prometheus; without credentials.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, Method, StatusCode, header::CONTENT_TYPE};

use super::{App, error::ApiError, route::Route, usage, value};
use crate::{configuration::Live, readiness::Ready};

const PROMETHEUS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Which configuration is in force, so that one can wait for a change to apply.
const CONFIG: HeaderName = HeaderName::from_static("berth-config-sha256");

pub(super) async fn answer(
    app: &App,
    live: &Live,
    route: &Route,
    method: &Method,
) -> Result<Response, ApiError> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(ApiError::method_not_allowed("GET, HEAD"));
    }
    match route {
        Route::Metrics => {
            usage::follow(app);
            if let Ok(engine) = app.readiness.engine() {
                app.metrics.uploading(&engine.upload_load());
            }
            app.metrics.log_lines_dropped(app.log.dropped());
            Ok(([(CONTENT_TYPE, PROMETHEUS)], app.metrics.text()).into_response())
        }
        Route::Ready => {
            let mut response = match app.readiness.check().await {
                Ok(Ready::Whole) => "ready\n".into_response(),
                Ok(Ready::ReadOnly(why)) => Json(why).into_response(),
                Err(not_ready) => (StatusCode::SERVICE_UNAVAILABLE, Json(not_ready)).into_response(),
            };
            if let Some(hash) = &live.hash {
                response.headers_mut().insert(CONFIG, value(hash)?);
            }
            Ok(response)
        }
        _ => Ok("alive\n".into_response()),
    }
}
