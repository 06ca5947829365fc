//! `GET /v2/<name>/referrers/<digest>`: what is attached to a manifest (distribution-spec, "Listing Referrers").

use axum::response::{IntoResponse, Response};
use berth_registry_core::{Digest, RepositoryName, manifest::OCI_INDEX};
use http::{HeaderName, HeaderValue, Method, header::CONTENT_TYPE};
use serde_json::json;

use super::{Call, error::ApiError};

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

pub(super) async fn answer(
    call: Call,
    name: &RepositoryName,
    subject: &Digest,
) -> Result<Response, ApiError> {
    if !matches!(call.method, Method::GET | Method::HEAD) {
        return Err(ApiError::method_not_allowed("GET, HEAD"));
    }
    let artifact_type = call.query.get("artifactType").filter(|artifact_type| !artifact_type.is_empty());
    let manifests = call.engine.referrers(name, subject, artifact_type).await?;
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests});
    let mut response = index.to_string().into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(OCI_INDEX));
    if artifact_type.is_some() {
        headers.insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    Ok(response)
}
