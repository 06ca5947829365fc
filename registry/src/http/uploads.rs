//! Uploads: everything below `/v2/<name>/blobs/uploads/` (distribution-spec, "Pushing blobs"): monolithic, in chunks,
//! streamed, mounted. All state is in the store, so each request may reach another replica.

use axum::response::{IntoResponse, Response};
use berth_registry_core::{Algorithm, Digest, RepositoryName};
use futures::{StreamExt as _, stream};
use http::{
    HeaderName, HeaderValue, Method, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_RANGE, LOCATION, RANGE},
};
use http_body::Body as _;

use super::{
    Call, DOCKER_CONTENT_DIGEST, DOCKER_UPLOAD_UUID, error::ApiError, failure::uploaded_range, location,
    range, value,
};
use crate::engine::{ByteStream, Engine, EngineError, UploadId};

const CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// `POST …/uploads/`: begin, or mount, or the whole blob at once.
pub(super) async fn begin(call: Call, name: &RepositoryName) -> Result<Response, ApiError> {
    if call.method != Method::POST {
        return Err(ApiError::method_not_allowed("POST"));
    }
    if let Some(digest) = call.query.get("digest") {
        let digest = parse_digest(digest)?;
        let engine = call.engine.clone();
        engine.put_blob(name, &digest, call.into_stream()).await?;
        return created(name, &digest);
    }
    if let Some(mount) = call.query.get("mount") {
        let digest = parse_digest(mount)?;
        if mounted(&call.engine, call.query.get("from"), name, &digest).await? {
            return created(name, &digest);
        }
    }
    let algorithm = match call.query.get("digest-algorithm") {
        None => Algorithm::Sha256,
        Some(algorithm) => {
            algorithm.parse().map_err(|error: berth_registry_core::digest::InvalidDigest| {
                ApiError::bad_request("DIGEST_INVALID", error.to_string())
            })?
        }
    };
    let id = call.engine.begin_upload(name, algorithm).await?;
    let mut response = progress(StatusCode::ACCEPTED, name, &id, 0)?;
    response.headers_mut().insert(CHUNK_MIN_LENGTH, HeaderValue::from_static("1"));
    Ok(response)
}

/// Whoever may push may pull every repository of this registry, so it may also be told who has the blob.
async fn mounted(
    engine: &Engine,
    from: Option<&str>,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<bool, ApiError> {
    let sources = match from {
        Some(from) => vec![from.parse().map_err(|error: berth_registry_core::name::InvalidName| {
            ApiError::bad_request("NAME_INVALID", error.to_string())
        })?],
        None => engine.repositories_with(digest).await?,
    };
    for from in sources {
        if engine.mount(name, &from, digest).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `GET`, `PATCH`, `PUT`, `DELETE …/uploads/<id>`.
pub(super) async fn answer(call: Call, name: &RepositoryName, id: String) -> Result<Response, ApiError> {
    let id = UploadId(id);
    let engine = call.engine.clone();
    match call.method {
        Method::GET | Method::HEAD => {
            let offset = engine.upload_offset(name, &id).await?;
            let id = if id.offset() == Some(offset) { id } else { id.at(offset) };
            progress(StatusCode::NO_CONTENT, name, &id, offset)
        }
        Method::PATCH => {
            let (offset, body) = chunk(call, &id)?;
            match engine.append(name, &id, offset, body).await {
                Ok(held) => progress(StatusCode::ACCEPTED, name, &held.id, held.offset),
                Err(error) => Err(resumable(error, name, &id)),
            }
        }
        Method::PUT => {
            let digest = call.query.get("digest").ok_or_else(|| {
                ApiError::bad_request("DIGEST_INVALID", "the digest is missing")
                    .detail("add ?digest=sha256:<hex> to the URL")
            })?;
            let digest = parse_digest(digest)?;
            let (offset, body) = chunk(call, &id)?;
            match engine.finish_upload(name, &id, offset, body, &digest).await {
                Ok(_) => created(name, &digest),
                Err(error) => Err(resumable(error, name, &id)),
            }
        }
        Method::DELETE => {
            engine.cancel_upload(name, &id).await?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        _ => Err(ApiError::method_not_allowed("GET, HEAD, PATCH, PUT, DELETE")),
    }
}

/// The body of a request, and where it begins if the client says so: by the header, or else by the name that it was given
/// for it. So a request that broke off adds nothing if it is read after the upload went on.
fn chunk(call: Call, id: &UploadId) -> Result<(Option<u64>, ByteStream), ApiError> {
    let Some(header) = call.headers.get(CONTENT_RANGE) else {
        // Nothing can be added at any place; some clients finish under a name that they were given earlier.
        let offset = id.offset().filter(|_| !call.body.is_end_stream());
        return Ok((offset, call.into_stream()));
    };
    let Some((first, last)) = header.to_str().ok().and_then(range::parse_chunk) else {
        return Err(ApiError::bad_request("BLOB_UPLOAD_INVALID", "the Content-Range is malformed")
            .detail("write <first byte>-<last byte>, both included"));
    };
    let length = (last - first).saturating_add(1);
    if let Some(announced) = call.header(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok())
        && announced != length
    {
        return Err(ApiError::bad_request(
            "SIZE_INVALID",
            format!("the Content-Range has {length} bytes, the Content-Length {announced}"),
        )
        .detail("make both say the length of the chunk"));
    }
    Ok((Some(first), exactly(length, call.into_stream())))
}

/// Fails a body that is shorter or longer than announced.
fn exactly(length: u64, body: ByteStream) -> ByteStream {
    let wrong = || {
        std::io::Error::new(std::io::ErrorKind::InvalidData, "the body is not as long as its Content-Range")
    };
    stream::unfold(Some((body, length)), move |state| async move {
        let (mut body, left) = state?;
        match body.next().await {
            None if left == 0 => None,
            None => Some((Err(wrong()), None)),
            Some(Err(error)) => Some((Err(error), None)),
            Some(Ok(bytes)) => match left.checked_sub(bytes.len() as u64) {
                Some(left) => Some((Ok(bytes), Some((body, left)))),
                None => Some((Err(wrong()), None)),
            },
        }
    })
    .boxed()
}

/// An upload that goes on elsewhere than the client thought says where.
fn resumable(error: EngineError, name: &RepositoryName, id: &UploadId) -> ApiError {
    let EngineError::UploadOffset { actual } = error else { return error.into() };
    let answer = ApiError::from(error);
    match upload_location(name, &id.at(actual)) {
        Ok(location) => answer.header(LOCATION, location),
        Err(_) => answer,
    }
}

fn upload_location(name: &RepositoryName, id: &UploadId) -> Result<HeaderValue, ApiError> {
    location(name, &format!("blobs/uploads/{}", id.0))
}

fn progress(
    status: StatusCode,
    name: &RepositoryName,
    id: &UploadId,
    offset: u64,
) -> Result<Response, ApiError> {
    let mut response = status.into_response();
    let headers = response.headers_mut();
    headers.insert(LOCATION, upload_location(name, id)?);
    headers.insert(RANGE, uploaded_range(offset));
    headers.insert(DOCKER_UPLOAD_UUID, value(&id.0)?);
    Ok(response)
}

fn created(name: &RepositoryName, digest: &Digest) -> Result<Response, ApiError> {
    let mut response = StatusCode::CREATED.into_response();
    let headers = response.headers_mut();
    headers.insert(LOCATION, location(name, &format!("blobs/{digest}"))?);
    headers.insert(DOCKER_CONTENT_DIGEST, value(digest)?);
    Ok(response)
}

fn parse_digest(text: &str) -> Result<Digest, ApiError> {
    text.parse().map_err(|error: berth_registry_core::digest::InvalidDigest| {
        ApiError::bad_request("DIGEST_INVALID", error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures::TryStreamExt as _;
    use rstest::rstest;

    #[rstest]
    #[case(&["ab", "c"], 3, true)]
    #[case(&[], 0, true)]
    #[case(&["ab"], 3, false)]
    #[case(&["ab", "cd"], 3, false)]
    #[tokio::test]
    async fn a_chunk_has_the_length_of_its_range(
        #[case] body: &'static [&'static str],
        #[case] length: u64,
        #[case] fits: bool,
    ) {
        let body = stream::iter(body.iter().map(|chunk| Ok(Bytes::from_static(chunk.as_bytes())))).boxed();
        let read: Result<Vec<Bytes>, _> = exactly(length, body).try_collect().await;
        assert_eq!(read.is_ok(), fits);
    }
}
