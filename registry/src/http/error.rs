//! Errors as clients see them (distribution-spec, "Error Codes"): a status, a code, what is wrong, and in `detail` what
//! to do about it. Everything that fails on the way of a request ends here.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{
    HeaderName, HeaderValue, Method, StatusCode,
    header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde_json::json;

use super::route::InvalidRoute;

/// An error answer.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    detail: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl ApiError {
    /// An error with a code of the specification and a message for people.
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), detail: String::new(), headers: Vec::new() }
    }

    /// 400.
    pub(super) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// 401 with the challenge that makes clients send what they have.
    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message)
            .header(WWW_AUTHENTICATE, CHALLENGE)
            .detail("log in, for example with `docker login`, or send a ServiceAccount token that this registry allows")
    }

    /// 403.
    pub(super) fn denied(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "DENIED", message)
    }

    /// 405 with the methods that would do.
    pub(super) fn method_not_allowed(allow: &'static str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "this endpoint does not have this method")
            .header(ALLOW, HeaderValue::from_static(allow))
            .detail(format!("it has {allow}"))
    }

    /// 503; the client may try again soon.
    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", message)
            .header(RETRY_AFTER, HeaderValue::from_static("5"))
    }

    /// 429; the client must try again later.
    pub(super) fn too_many_requests(message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", message)
            .header(RETRY_AFTER, HeaderValue::from_static("5"))
            .detail("try again in a few seconds")
    }

    /// Says what to do.
    pub(super) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// Adds a header.
    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// What a path that is no endpoint answers. Asking for a tag that cannot exist is a question with the answer no.
    pub(super) fn invalid_route(error: &InvalidRoute, method: &Method) -> Self {
        let message = error.to_string();
        match error {
            InvalidRoute::Unknown => Self::new(StatusCode::NOT_FOUND, "UNSUPPORTED", message)
                .detail("the endpoints are those of the OCI distribution specification 1.1, below /v2/"),
            InvalidRoute::Encoding | InvalidRoute::Name(_) => {
                Self::bad_request("NAME_INVALID", message).detail("write a name like team/app")
            }
            InvalidRoute::Digest(_) => Self::bad_request("DIGEST_INVALID", message)
                .detail("write sha256: and 64 lower-case hex digits"),
            InvalidRoute::Tag(_) if method == Method::PUT => {
                Self::bad_request("MANIFEST_INVALID", message).detail("write a tag like v1.2.3")
            }
            InvalidRoute::Tag(_) => {
                Self::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", message).detail("no tag has such a name")
            }
        }
    }
}

/// The challenge of a 401.
pub(super) const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"berth\"");

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            tracing::warn!(status = self.status.as_u16(), code = self.code, error = %self.message, "request failed");
        }
        let mut error = json!({"code": self.code, "message": self.message});
        if !self.detail.is_empty() {
            error["detail"] = self.detail.into();
        }
        let mut response = (self.status, Json(json!({"errors": [error]}))).into_response();
        response.headers_mut().extend(self.headers);
        response
    }
}
