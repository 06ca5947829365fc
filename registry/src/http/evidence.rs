//! `GET /berth/v1/evidence?repository=…&reference=TAG|DIGEST`: what admission needs to know about an image, in one answer
//! (`berth_registry_core::pack`). For whoever may pull; it shows nothing that pulling would not.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::Method;

use super::{Call, error::ApiError, management::image};

pub(super) async fn answer(call: Call) -> Result<Response, ApiError> {
    if call.method != Method::GET {
        return Err(ApiError::method_not_allowed("GET"));
    }
    let (repository, reference) = image(&call)?;
    Ok(Json(call.engine.evidence(&repository, &reference).await?).into_response())
}
