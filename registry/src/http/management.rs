//! The management API's jobs, `POST /berth/v1/{prune,…}`: starts one and streams its lines. A job does not end with its
//! caller.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{HeaderValue, Method, StatusCode, header::CONTENT_TYPE};
use serde::de::DeserializeOwned;

use super::{Call, error::ApiError};
use crate::{
    engine::EngineError,
    jobs::{Job, Work},
};

const JSON_LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");
const MAX_REQUEST: usize = 64 * 1024;

pub(super) async fn job<W: Work>(call: Call, job: &Job<W>) -> Result<Response, ApiError> {
    if call.method != Method::POST {
        return Err(ApiError::method_not_allowed("POST"));
    }
    let engine = call.engine.clone();
    let request = request(call).await?;
    let lines = job.start(engine, request).ok_or_else(|| {
        ApiError::new(StatusCode::CONFLICT, "DENIED", format!("a {} is running already", W::NAME))
            .detail("wait until it has ended")
    })?;
    let lines = stream::unfold(lines, async |mut lines| {
        let line = lines.recv().await?;
        let mut text = serde_json::to_vec(&line).unwrap_or_default();
        text.push(b'\n');
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(text)), lines))
    });
    let mut response = Body::from_stream(lines).into_response();
    response.headers_mut().insert(CONTENT_TYPE, JSON_LINES);
    Ok(response)
}

/// No body is the request with nothing set.
async fn request<T: DeserializeOwned + Default>(call: Call) -> Result<T, ApiError> {
    let mut stream = call.into_stream();
    let mut body = Vec::new();
    while let Some(chunk) = stream.next().await {
        body.extend_from_slice(&chunk.map_err(EngineError::Body)?);
        if body.len() > MAX_REQUEST {
            return Err(ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "SIZE_INVALID",
                "the request is too large",
            ));
        }
    }
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&body).map_err(|error| {
        ApiError::bad_request("UNSUPPORTED", format!("the request is malformed: {error}"))
            .detail("send JSON like {\"dryRun\": true}")
    })
}
