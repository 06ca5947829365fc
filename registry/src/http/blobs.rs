//! Blobs: `GET`, `HEAD`, `DELETE /v2/<name>/blobs/<digest>` (distribution-spec, "Pulling blobs", "Deleting Blobs").

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use berth_registry_core::{Digest, RepositoryName};
use http::{
    HeaderValue, Method, StatusCode,
    header::{
        ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, LOCATION,
        RANGE,
    },
};

use super::{Call, DOCKER_CONTENT_DIGEST, error::ApiError, etag, range, value};
use crate::engine::ByteRange;

pub(super) async fn answer(call: Call, name: &RepositoryName, digest: &Digest) -> Result<Response, ApiError> {
    match call.method {
        Method::GET => get(call, name, digest).await,
        Method::HEAD => head(call, name, digest).await,
        Method::DELETE => {
            call.engine.delete_blob(name, digest).await?;
            Ok(StatusCode::ACCEPTED.into_response())
        }
        _ => Err(ApiError::method_not_allowed("GET, HEAD, DELETE")),
    }
}

async fn get(call: Call, name: &RepositoryName, digest: &Digest) -> Result<Response, ApiError> {
    if etag::client_has(&call.headers, digest) {
        // The digest says what the content is, not that it still is there.
        call.engine.stat_blob(name, digest).await?;
        return described(StatusCode::NOT_MODIFIED, digest, Body::empty());
    }
    if let Some(lifetime) = call.redirect
        && let Some(url) = call.engine.blob_url(name, digest, lifetime).await?
    {
        return redirected(&url, digest);
    }
    let range = requested_range(&call, digest);
    let reader = call.engine.read_blob(name, digest, range).await?;
    let status = if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let mut response = described(status, digest, Body::from_stream(reader.stream))?;
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, (reader.range.end - reader.range.start).into());
    if range.is_some() {
        let (first, last) = (reader.range.start, reader.range.end.saturating_sub(1));
        headers.insert(CONTENT_RANGE, value(format_args!("bytes {first}-{last}/{}", reader.size))?);
    }
    Ok(response)
}

/// The store answers ranges too, and knows no digest. The URL works for whoever has it, so nobody may keep it.
fn redirected(url: &str, digest: &Digest) -> Result<Response, ApiError> {
    let mut response = StatusCode::TEMPORARY_REDIRECT.into_response();
    let headers = response.headers_mut();
    headers.insert(LOCATION, value(url)?);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(DOCKER_CONTENT_DIGEST, value(digest)?);
    Ok(response)
}

async fn head(call: Call, name: &RepositoryName, digest: &Digest) -> Result<Response, ApiError> {
    let stat = call.engine.stat_blob(name, digest).await?;
    if etag::client_has(&call.headers, digest) {
        return described(StatusCode::NOT_MODIFIED, digest, Body::empty());
    }
    let mut response = described(StatusCode::OK, digest, Body::empty())?;
    response.headers_mut().insert(CONTENT_LENGTH, stat.size.into());
    Ok(response)
}

/// A range counts unless `If-Range` names other content.
fn requested_range(call: &Call, digest: &Digest) -> Option<ByteRange> {
    let same = call.headers.get(IF_RANGE).is_none_or(|tag| tag.as_bytes() == etag::etag(digest).as_bytes());
    call.header(RANGE).filter(|_| same).and_then(range::parse)
}

fn described(status: StatusCode, digest: &Digest, body: Body) -> Result<Response, ApiError> {
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(DOCKER_CONTENT_DIGEST, value(digest)?);
    headers.insert(ETAG, value(etag::etag(digest))?);
    Ok(response)
}
