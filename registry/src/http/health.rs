//! `GET /healthz`, `/readyz`, `/metrics`: for the kubelet, the operator and Prometheus; without credentials.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, Method, StatusCode, header::CONTENT_TYPE};

use super::{App, error::ApiError, route::Route};

const PROMETHEUS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

pub(super) async fn answer(app: &App, route: &Route, method: &Method) -> Result<Response, ApiError> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(ApiError::method_not_allowed("GET, HEAD"));
    }
    match route {
        Route::Metrics => Ok(([(CONTENT_TYPE, PROMETHEUS)], app.metrics.text()).into_response()),
        Route::Ready => match app.readiness.check().await {
            Ok(()) => Ok("ready\n".into_response()),
            Err(not_ready) => Ok((StatusCode::SERVICE_UNAVAILABLE, Json(not_ready)).into_response()),
        },
        _ => Ok("alive\n".into_response()),
    }
}
