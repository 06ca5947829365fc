//! What an error of `object_store` means for the caller. It keeps the status and the body of an answer only as text.

use std::error::Error as _;

use object_store::{Error, client::HttpError};

use super::StoreError;

/// Codes of a bucket or container that is not there.
const NO_BUCKET: [&str; 2] = ["NoSuchBucket", "ContainerNotFound"];
/// Codes of a multipart upload that is finished or was dropped.
const NO_UPLOAD: [&str; 2] = ["NoSuchUpload", "InvalidBlockList"];
/// Codes of credentials that are wrong or may not do this.
const REFUSED: [&str; 6] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "AccessDenied",
    "ExpiredToken",
    "InvalidToken",
    "AuthenticationFailed",
];
/// Without credentials in the environment the last hope of every library is the cloud's metadata service.
const METADATA: [(&str, &str); 3] = [
    ("169.254.169.254/latest/", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    ("/computeMetadata/", "GOOGLE_APPLICATION_CREDENTIALS"),
    ("/metadata/identity/", "AZURE_STORAGE_ACCOUNT_KEY"),
];

pub(super) fn classify(bucket: &str, key: &str, error: &Error) -> StoreError {
    let text = describe(error);
    let says = |codes: &[&str]| codes.iter().any(|code| text.contains(code));
    if says(&NO_BUCKET) {
        return StoreError::BucketNotFound(bucket.to_owned());
    }
    match error {
        Error::NotFound { .. } => StoreError::NotFound(key.to_owned()),
        _ if says(&NO_UPLOAD) => StoreError::NotFound(key.to_owned()),
        Error::AlreadyExists { .. } | Error::Precondition { .. } => StoreError::Precondition(key.to_owned()),
        Error::NotModified { .. } => StoreError::NotModified(key.to_owned()),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            StoreError::CredentialsRefused(text)
        }
        _ if says(&REFUSED) => StoreError::CredentialsRefused(text),
        _ if let Some((_, variables)) = METADATA.iter().find(|(url, _)| text.contains(url)) => {
            StoreError::CredentialsRefused(format!("there are none: set {variables}, or a workload identity"))
        }
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
        if error.is::<HttpError>() || error.is::<reqwest::Error>() {
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
