//! The management API. Jobs, `POST /berth/v1/{prune,gc,scrub}`: starts one and streams its lines; it does not end with
//! its caller. `undelete` and `explain` answer at once.

use axum::{
    Json,
    body::Body,
    response::{IntoResponse, Response},
};
use berth_registry_core::{
    Reference, RepositoryName,
    config::LifecycleRule,
    job::UndeleteRequest,
    name::{InvalidName, InvalidReference},
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

/// `POST /berth/v1/undelete`.
pub(super) async fn undelete(call: Call) -> Result<Response, ApiError> {
    if call.method != Method::POST {
        return Err(ApiError::method_not_allowed("POST"));
    }
    let (engine, caller, events) = (call.engine.clone(), call.caller.clone(), call.events.clone());
    let request: UndeleteRequest = parse(&body(call).await?)?;
    let is_part = request.tag.is_some() || request.digest.is_some();
    if (request.tag.is_some() && request.digest.is_some()) || (is_part && request.since.is_some()) {
        return Err(ApiError::bad_request("UNSUPPORTED", "tag, digest and since exclude each other")
            .detail("send a tag, or a digest, or neither and perhaps since"));
    }
    let report = engine.undelete(&request, caller.name.as_deref()).await?;
    if !report.restored.is_empty() {
        events.changed(&request.repository);
    }
    Ok(Json(report).into_response())
}

/// `GET /berth/v1/explain?repository=…&reference=TAG|DIGEST`.
pub(super) async fn explain(call: Call, rules: &[LifecycleRule]) -> Result<Response, ApiError> {
    if call.method != Method::GET {
        return Err(ApiError::method_not_allowed("GET"));
    }
    let (repository, reference) = image(&call)?;
    Ok(Json(call.engine.explain(&repository, &reference, rules).await?).into_response())
}

/// `repository` and `reference` of the query.
pub(super) fn image(call: &Call) -> Result<(RepositoryName, Reference), ApiError> {
    let wanted = |name: &str| {
        call.query.get(name).ok_or_else(|| {
            ApiError::bad_request("UNSUPPORTED", format!("the query lacks {name}"))
                .detail("ask with ?repository=team/app&reference=TAG or a digest")
        })
    };
    let repository: RepositoryName = wanted("repository")?
        .parse()
        .map_err(|error: InvalidName| ApiError::bad_request("NAME_INVALID", error.to_string()))?;
    let reference: Reference = wanted("reference")?
        .parse()
        .map_err(|error: InvalidReference| ApiError::bad_request("UNSUPPORTED", error.to_string()))?;
    Ok((repository, reference))
}

/// No body is the request with nothing set.
async fn request<T: DeserializeOwned + Default>(call: Call) -> Result<T, ApiError> {
    let body = body(call).await?;
    if body.is_empty() { Ok(T::default()) } else { parse(&body) }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        ApiError::bad_request("UNSUPPORTED", format!("the request is malformed: {error}"))
            .detail("send JSON like {\"dryRun\": true}, or {\"repository\": \"team/app\", \"tag\": \"v1\"} to undelete")
    })
}

async fn body(call: Call) -> Result<Vec<u8>, ApiError> {
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
    Ok(body)
}
