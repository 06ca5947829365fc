//! What clients are told when the engine or the identity check fails: status and code of the specification, and the cure.

use http::{HeaderValue, StatusCode};

use super::error::ApiError;
use crate::{auth::AuthError, engine::EngineError, store::StoreError};

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let message = error.to_string();
        let not_found = |code| Self::new(StatusCode::NOT_FOUND, code, message.clone());
        let conflict = |code| Self::new(StatusCode::CONFLICT, code, message.clone());
        match error {
            EngineError::BlobUnknown(_) => {
                not_found("BLOB_UNKNOWN").detail("push the blob, or mount it from a repository that has it")
            }
            EngineError::BlobReferenced { .. } => {
                conflict("DENIED").detail("delete the manifests that need the blob first")
            }
            EngineError::UploadUnknown | EngineError::UploadLost => not_found("BLOB_UPLOAD_UNKNOWN")
                .detail("begin a new upload with POST /v2/<name>/blobs/uploads/"),
            EngineError::UploadOffset { actual } => {
                Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", message)
                    .header(http::header::RANGE, uploaded_range(actual))
                    .detail("send the bytes that follow the range in the header Range")
            }
            EngineError::UploadBusy => {
                Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", message)
                    .detail("ask for the upload's state with GET and go on from there, one request at a time")
            }
            EngineError::UploadTooLarge => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", message)
                .detail("split the content into smaller layers"),
            EngineError::TooManyUploads => Self::too_many_requests(message),
            EngineError::Body(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                Self::new(StatusCode::REQUEST_TIMEOUT, "BLOB_UPLOAD_INVALID", message).detail(
                    "ask for the upload's state with GET and send what is missing, without long pauses",
                )
            }
            EngineError::Body(_) => Self::bad_request("BLOB_UPLOAD_INVALID", message)
                .detail("ask for the upload's state with GET and send what is missing"),
            EngineError::DigestMismatch { .. } => Self::bad_request("DIGEST_INVALID", message).detail(
                "the content was damaged on its way, or the digest is not of this content: send it again",
            ),
            EngineError::RangeNotSatisfiable { size } => {
                let error = Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "SIZE_INVALID", message)
                    .detail(format!("ask for bytes from 0 to {}", size.saturating_sub(1)));
                match HeaderValue::try_from(format!("bytes */{size}")) {
                    Ok(range) => error.header(http::header::CONTENT_RANGE, range),
                    Err(_) => error,
                }
            }
            EngineError::ManifestInvalid(invalid) => match invalid {
                berth_registry_core::manifest::InvalidManifest::TooLarge(_) => Self::manifest_too_large(),
                _ => Self::bad_request("MANIFEST_INVALID", message).detail(
                    "push an OCI or Docker schema 2 manifest or index, with its media type as Content-Type",
                ),
            },
            EngineError::ManifestUnknown(_) => not_found("MANIFEST_UNKNOWN")
                .detail("see the tags with GET /v2/<name>/tags/list, or push the image"),
            EngineError::ManifestBlobUnknown(missing) => {
                let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
                not_found("MANIFEST_BLOB_UNKNOWN")
                    .detail(format!("push {} to this repository first", missing.join(", ")))
            }
            EngineError::Reclaimed(_) => Self::new(StatusCode::GONE, "MANIFEST_BLOB_UNKNOWN", message)
                .detail("what is deleted can be brought back for as long as undeleteWindow says"),
            EngineError::NameUnknown(_) => {
                not_found("NAME_UNKNOWN").detail("push an image to it, that creates the repository")
            }
            EngineError::Precondition { .. } => Self::new(StatusCode::PRECONDITION_FAILED, "DENIED", message)
                .detail("someone else moved the tag: look at it and decide anew"),
            EngineError::TagImmutable { .. } => conflict("DENIED").detail(
                "push under another tag; only the registry's lifecycle rules remove an immutable one, or its \
                 owner takes the pattern out of immutableTags",
            ),
            EngineError::Contended(_) => Self::unavailable(message).detail("try again"),
            EngineError::Damaged { .. } => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", message)
                .detail("push the image again; if that does not help, tell the registry's operator the key"),
            EngineError::StoreUnsafe(_) => Self::unavailable(message)
                .detail("the registry's operator must move it to a store with conditional writes"),
            EngineError::Store(StoreError::NameTooLong(_)) => {
                Self::bad_request("NAME_INVALID", message).detail("use shorter path components")
            }
            EngineError::Store(_) => Self::unavailable(message)
                .detail("the registry's store is in trouble; try again in a few seconds"),
        }
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        let message = error.to_string();
        match error {
            AuthError::Malformed | AuthError::Refused => Self::unauthorized(message),
            AuthError::Busy => Self::too_many_requests(message),
            AuthError::Unavailable(_) => Self::unavailable(message)
                .detail("try again in a few seconds, or log in with a user of the registry"),
        }
    }
}

impl ApiError {
    /// 413.
    pub(super) fn manifest_too_large() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "SIZE_INVALID",
            format!("a manifest may have at most {} bytes", berth_registry_core::manifest::MAX_MANIFEST),
        )
        .detail("push large content as a blob and refer to it")
    }
}

/// The `Range` of an upload that holds `size` bytes: `0-<last byte>`, and `0-0` for an empty one, as clients expect.
pub(super) fn uploaded_range(size: u64) -> HeaderValue {
    HeaderValue::try_from(format!("0-{}", size.saturating_sub(1))).unwrap_or(HeaderValue::from_static("0-0"))
}
