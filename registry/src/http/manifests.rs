//! Manifests: `GET`, `HEAD`, `PUT`, `DELETE /v2/<name>/manifests/<reference>` (distribution-spec, "Pulling manifests",
//! "Pushing Manifests", "Deleting Manifests"). The only bodies that are held in memory, up to 4 MiB.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use berth_registry_core::{Digest, Reference, RepositoryName, Tag, event, manifest::MAX_MANIFEST};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use http::{
    HeaderMap, HeaderName, Method, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH, LOCATION},
};
use jiff::Timestamp;

use super::{Call, DOCKER_CONTENT_DIGEST, error::ApiError, etag, location, value};
use crate::engine::{Condition, EngineError, PutOptions};

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
/// Room for the headers of an answer, those that every answer has included.
const HEADERS: usize = 6;
/// The most tags that one request may set beside the one in its path.
const MAX_TAGS: usize = 100;
/// A body that is too large is read on for so long, so that the client is not cut off before it sees the 413.
const MAX_DISCARDED: usize = 4 * MAX_MANIFEST;

pub(super) async fn answer(
    call: Call,
    name: &RepositoryName,
    reference: &Reference,
) -> Result<Response, ApiError> {
    match call.method {
        Method::GET => get(call, name, reference).await,
        Method::HEAD => head(call, name, reference).await,
        Method::PUT => Box::pin(put(call, name, reference)).await,
        Method::DELETE => Box::pin(delete(call, name, reference)).await,
        _ => Err(ApiError::method_not_allowed("GET, HEAD, PUT, DELETE")),
    }
}

async fn get(call: Call, name: &RepositoryName, reference: &Reference) -> Result<Response, ApiError> {
    let manifest = match as_of(&call, reference)? {
        Some((tag, at)) => Box::pin(call.engine.get_manifest_as_of(name, tag, at)).await?,
        None => call.engine.get_manifest(name, reference).await?,
    };
    if let Some(guard) = &call.guard {
        Box::pin(guard.pass(&call.engine, &call.caller, name, &manifest)).await?;
    }
    let has = etag::client_has(&call.headers, &manifest.digest);
    let (status, body) =
        if has { (StatusCode::NOT_MODIFIED, Bytes::new()) } else { (StatusCode::OK, manifest.bytes) };
    described(status, &manifest.digest, &manifest.media_type, body.into())
}

/// `?at=<RFC 3339>`: what a tag meant then.
fn as_of<'a>(call: &Call, reference: &'a Reference) -> Result<Option<(&'a Tag, Timestamp)>, ApiError> {
    match (call.query.get("at"), reference) {
        (None, _) => Ok(None),
        (Some(at), Reference::Tag(tag)) => {
            let at = at.parse().map_err(|_| {
                ApiError::bad_request("UNSUPPORTED", format!("at={at:?} is no time"))
                    .detail("write a time like 2026-11-21T18:00:00Z")
            })?;
            Ok(Some((tag, at)))
        }
        (Some(_), Reference::Digest(_)) => {
            Err(ApiError::bad_request("UNSUPPORTED", "a digest means the same at any time")
                .detail("leave out at, or ask for a tag"))
        }
    }
}

async fn head(call: Call, name: &RepositoryName, reference: &Reference) -> Result<Response, ApiError> {
    if as_of(&call, reference)?.is_some() || call.guard.is_some() {
        // The server keeps the headers and drops the body.
        return Box::pin(get(call, name, reference)).await;
    }
    let stat = call.engine.stat_manifest(name, reference).await?;
    if etag::client_has(&call.headers, &stat.digest) {
        return described(StatusCode::NOT_MODIFIED, &stat.digest, &stat.media_type, Body::empty());
    }
    let mut response = described(StatusCode::OK, &stat.digest, &stat.media_type, Body::empty())?;
    response.headers_mut().insert(CONTENT_LENGTH, stat.size.into());
    Ok(response)
}

async fn put(call: Call, name: &RepositoryName, reference: &Reference) -> Result<Response, ApiError> {
    let tags = call.query.all("tag").map(parse_tag).collect::<Result<Vec<Tag>, _>>()?;
    if tags.len() > MAX_TAGS {
        return Err(ApiError::new(
            StatusCode::URI_TOO_LONG,
            "MANIFEST_INVALID",
            format!("{} tags are more than the {MAX_TAGS} of one request", tags.len()),
        )
        .detail("set the others by pushing the manifest again"));
    }
    let condition = condition(&call)?;
    let media_type = call.header(CONTENT_TYPE).map(str::to_owned);
    let (engine, caller, events) = (call.engine.clone(), call.caller.clone(), call.events.clone());
    let bytes = body(call).await?;
    let options = PutOptions { author: caller.name.as_deref(), tags: &tags, condition };
    let stored = engine.put_manifest(name, reference, media_type.as_deref(), bytes, options).await?;
    let about = stored.subject.as_ref().map_or_else(
        || event::image(name, reference),
        |subject| event::image(name, &Reference::Digest(subject.clone())),
    );
    let also = tags.iter().map(|tag| event::image(name, &Reference::Tag(tag.clone())));
    events.pushed(name, also.chain([about]));
    let mut response = StatusCode::CREATED.into_response();
    let headers = response.headers_mut();
    headers.insert(LOCATION, location(name, &format!("manifests/{}", stored.digest))?);
    headers.insert(DOCKER_CONTENT_DIGEST, value(&stored.digest)?);
    headers.insert(ETAG, value(etag::etag(&stored.digest))?);
    if let Some(subject) = &stored.subject {
        headers.insert(OCI_SUBJECT, value(subject)?);
    }
    if !tags.is_empty() {
        // One line: clients take a hundred headers at most.
        let tags: Vec<&str> = tags.iter().map(Tag::as_str).collect();
        headers.insert(OCI_TAG, value(tags.join(", "))?);
    }
    Ok(response)
}

async fn delete(call: Call, name: &RepositoryName, reference: &Reference) -> Result<Response, ApiError> {
    match reference {
        Reference::Digest(digest) => call.engine.delete_manifest(name, digest).await?,
        Reference::Tag(tag) => call.engine.delete_tag(name, tag, &condition(&call)?).await?,
    }
    call.events.changed(name);
    Ok(StatusCode::ACCEPTED.into_response())
}

/// `If-Match` and `If-None-Match` of a write: two jobs that race for a tag, and exactly one wins.
fn condition(call: &Call) -> Result<Condition, ApiError> {
    let unsupported = |header: &HeaderName| {
        ApiError::bad_request("UNSUPPORTED", format!("this {header} is not supported"))
            .detail("write If-Match: \"<digest>\" or If-None-Match: *")
    };
    match (call.header(IF_MATCH), call.header(IF_NONE_MATCH)) {
        (None, None) => Ok(Condition::None),
        (None, Some("*")) => Ok(Condition::Absent),
        (Some(tag), None) => {
            let digest = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            let digest =
                digest.and_then(|digest| digest.parse().ok()).ok_or_else(|| unsupported(&IF_MATCH))?;
            Ok(Condition::Matches(digest))
        }
        (_, Some(_)) => Err(unsupported(&IF_NONE_MATCH)),
    }
}

fn parse_tag(text: &str) -> Result<Tag, ApiError> {
    text.parse().map_err(|error: berth_registry_core::name::InvalidName| {
        ApiError::bad_request("MANIFEST_INVALID", error.to_string())
    })
}

/// Reads a manifest into memory, and what is too large into nothing.
async fn body(call: Call) -> Result<Bytes, ApiError> {
    let mut stream = call.into_stream();
    let (mut body, mut size) = (BytesMut::new(), 0);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(EngineError::Body)?;
        size += chunk.len();
        if size <= MAX_MANIFEST {
            body.extend_from_slice(&chunk);
        } else if size > MAX_DISCARDED {
            break;
        }
    }
    if size > MAX_MANIFEST { Err(ApiError::manifest_too_large()) } else { Ok(body.freeze()) }
}

fn described(
    status: StatusCode,
    digest: &Digest,
    media_type: &str,
    body: Body,
) -> Result<Response, ApiError> {
    let mut headers = HeaderMap::with_capacity(HEADERS);
    headers.insert(CONTENT_TYPE, value(media_type)?);
    headers.insert(DOCKER_CONTENT_DIGEST, value(digest)?);
    headers.insert(ETAG, value(etag::etag(digest))?);
    let mut response = Response::new(body);
    (*response.status_mut(), *response.headers_mut()) = (status, headers);
    Ok(response)
}
