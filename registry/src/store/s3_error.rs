//! What an error of `object_store` means for the caller. It keeps the status and the body of an answer only as text.

use std::error::Error as _;

use object_store::{Error, client::HttpError};

use super::StoreError;

pub(super) fn classify(bucket: &str, key: &str, error: &Error) -> StoreError {
    let text = describe(error);
    if text.contains("NoSuchBucket") {
        return StoreError::BucketNotFound(bucket.to_owned());
    }
    match error {
        Error::NotFound { .. } => StoreError::NotFound(key.to_owned()),
        Error::AlreadyExists { .. } | Error::Precondition { .. } => StoreError::Precondition(key.to_owned()),
        Error::NotModified { .. } => StoreError::NotModified(key.to_owned()),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            StoreError::CredentialsRefused(text)
        }
        _ if [
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "AccessDenied",
            "ExpiredToken",
            "InvalidToken",
        ]
        .iter()
        .any(|code| text.contains(code)) =>
        {
            StoreError::CredentialsRefused(text)
        }
        // Without credentials in the environment the SDK's last hope is the cloud's metadata service.
        _ if text.contains("/latest/") && text.contains("169.254.") => StoreError::CredentialsRefused(
            "there are none: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a web identity".to_owned(),
        ),
        _ if has_http_error(error)
            || text.contains("status code: 5")
            || text.contains("status code: 429") =>
        {
            StoreError::Unreachable(text)
        }
        _ => StoreError::Other(text),
    }
}

fn has_http_error(error: &Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if error.is::<HttpError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// The whole chain on one line.
fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
