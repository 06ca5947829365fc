//! `GET /v2/`: is there a registry, and does it want to know who calls (distribution-spec, "Determining Support").
//!
//! A caller without credentials gets 401 only where it may do nothing: a 401 here would end every anonymous pull of
//! clients that then insist on credentials. Where it may pull, the answer is 200 with the challenge added, from which
//! clients that hold credentials (podman, skopeo) learn to send them; others (crane, containerd, oras, helm) send them
//! anyhow, or after the 401 of a push.

use axum::response::{IntoResponse, Response};
use berth_registry_core::config::Anonymous;
use http::{Method, header::WWW_AUTHENTICATE};

use super::error::{ApiError, CHALLENGE};
use crate::auth::Authenticator;

pub(super) fn answer(auth: &Authenticator, method: &Method) -> Result<Response, ApiError> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(ApiError::method_not_allowed("GET, HEAD"));
    }
    let mut response = axum::Json(serde_json::json!({})).into_response();
    if auth.anonymous == Anonymous::Read {
        response.headers_mut().insert(WWW_AUTHENTICATE, CHALLENGE);
    }
    Ok(response)
}
