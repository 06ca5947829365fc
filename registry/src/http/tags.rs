//! `GET /v2/<name>/tags/list`, in lexical order, in pages (distribution-spec, "Listing Tags").

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use berth_registry_core::RepositoryName;
use http::Method;
use serde_json::json;

use super::{Call, catalog::linked, error::ApiError};

pub(super) async fn answer(call: Call, name: &RepositoryName) -> Result<Response, ApiError> {
    if !matches!(call.method, Method::GET | Method::HEAD) {
        return Err(ApiError::method_not_allowed("GET, HEAD"));
    }
    let request = call.query.page()?;
    let page = call.engine.tags(name, request.last.as_deref(), request.limit).await?;
    let response = Json(json!({"name": name, "tags": page.items})).into_response();
    linked(response, &request, &page, &format!("/v2/{name}/tags/list"))
}
