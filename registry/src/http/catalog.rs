//! `GET /v2/_catalog`, in lexical order, in pages. Not in the specification since 1.0, but every client knows it.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{Method, header::LINK};
use serde_json::json;

use super::{Call, error::ApiError, query::PageRequest, value};
use crate::engine::Page;

pub(super) async fn answer(call: Call) -> Result<Response, ApiError> {
    if !matches!(call.method, Method::GET | Method::HEAD) {
        return Err(ApiError::method_not_allowed("GET, HEAD"));
    }
    let request = call.query.page()?;
    let page = call.engine.catalog(request.last.as_deref(), request.limit).await?;
    let response = Json(json!({"repositories": page.items})).into_response();
    linked(response, &request, &page, "/v2/_catalog")
}

/// Adds the link to the next page, if there is one.
pub(super) fn linked(
    mut response: Response,
    request: &PageRequest,
    page: &Page<String>,
    path: &str,
) -> Result<Response, ApiError> {
    if let (true, Some(last)) = (page.more, page.items.last()) {
        response.headers_mut().insert(LINK, value(request.next(path, last))?);
    }
    Ok(response)
}
