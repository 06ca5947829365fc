//! The client itself: one registry, one connection pool. Here every request is sent, repeated when that can help,
//! and its answer turned into a result; the modules beside this one know the endpoints.

use std::{sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder, Retryable};
use bytes::{Bytes, BytesMut};
use reqwest::{
    Method, Response, StatusCode, Url,
    header::{HeaderMap, LOCATION, RETRY_AFTER},
};
use serde::Deserialize;

use crate::{
    auth::{Scope, Tokens},
    credentials::Credentials,
    endpoint::{Endpoint, Reach},
    error::ClientError,
};

/// A client of one registry. Cheap to clone; clones share connections and tokens.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    base: Url,
    host: String,
    http: reqwest::Client,
    uploads: reqwest::Client,
    credentials: Credentials,
    reach: Reach,
    is_berth: bool,
    retries: usize,
    tokens: Tokens,
}

/// One request. Its body is in memory, so that it can be repeated.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) scope: Scope,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
    /// For messages: `manifest team/app:v1`.
    pub(crate) what: String,
}

/// Bytes of an error body that are worth reading.
const MAX_ERROR: u64 = 64 * 1024;

impl Client {
    /// A client for an endpoint; makes no request yet.
    pub fn new(endpoint: Endpoint) -> Result<Self, ClientError> {
        let (base, host) = endpoint.base()?;
        let (http, uploads) = endpoint.http(&base)?;
        let Endpoint { credentials, reach, is_berth, retries, .. } = endpoint;
        Ok(Self(Arc::new(Inner {
            base,
            host,
            http,
            uploads,
            credentials,
            reach,
            is_berth,
            retries,
            tokens: Tokens::default(),
        })))
    }

    /// The registry, `host[:port]`.
    pub fn host(&self) -> &str {
        &self.0.host
    }

    pub(crate) fn base(&self) -> &Url {
        &self.0.base
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.0.http
    }

    /// For requests whose body is long.
    pub(crate) fn uploads(&self) -> &reqwest::Client {
        &self.0.uploads
    }

    pub(crate) fn credentials(&self) -> &Credentials {
        &self.0.credentials
    }

    pub(crate) fn reach(&self) -> Reach {
        self.0.reach
    }

    pub(crate) fn is_berth(&self) -> bool {
        self.0.is_berth
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    /// A request to `/v2/PATH`.
    pub(crate) fn call(
        &self,
        method: Method,
        path: &str,
        scope: Scope,
        what: impl Into<String>,
    ) -> Result<Call, ClientError> {
        self.call_to(method, &format!("/v2/{path}"), scope, what)
    }

    /// A request to any path.
    pub(crate) fn call_to(
        &self,
        method: Method,
        path: &str,
        scope: Scope,
        what: impl Into<String>,
    ) -> Result<Call, ClientError> {
        let what = what.into();
        let url =
            self.base().join(path).map_err(|e| self.protocol(&what, format!("{path:?} is no path: {e}")))?;
        Ok(Call { method, url, scope, headers: HeaderMap::new(), body: None, what })
    }

    /// Sends a request, repeating it while the registry cannot be reached; any status of 2xx is success.
    pub(crate) async fn send(&self, call: &Call) -> Result<Response, ClientError> {
        self.repeat(|| self.send_once(call)).await
    }

    /// Like [`Client::send`], and reads the body, at most `bound` bytes.
    pub(crate) async fn fetch(&self, call: &Call, bound: u64) -> Result<(HeaderMap, Bytes), ClientError> {
        self.repeat(|| async {
            let answer = self.send_once(call).await?;
            let headers = answer.headers().clone();
            Ok((headers, read_bounded(answer, bound, self.host(), &call.what).await?))
        })
        .await
    }

    /// Repeats what fails for a moment, with growing pauses; a registry that asks for a pause is given it.
    pub(crate) async fn repeat<T, F>(&self, attempt: impl FnMut() -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(5))
            .with_max_times(self.0.retries)
            .with_jitter()
            .build();
        attempt
            .retry(pauses)
            .when(ClientError::is_transient)
            .adjust(|error, pause| match (error, pause) {
                (ClientError::Throttled { after: Some(after), .. }, Some(pause)) => Some(pause.max(*after)),
                (_, pause) => pause,
            })
            .await
    }

    async fn send_once(&self, call: &Call) -> Result<Response, ClientError> {
        let answer = self
            .authorized(&call.scope, &call.what, || {
                let request =
                    self.http().request(call.method.clone(), call.url.clone()).headers(call.headers.clone());
                Some(match &call.body {
                    Some(body) => request.body(body.clone()),
                    None => request,
                })
            })
            .await?;
        self.check(answer, &call.what).await
    }

    /// Turns every status but 2xx into an error.
    pub(crate) async fn check(&self, answer: Response, what: &str) -> Result<Response, ClientError> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let (host, what) = (self.host().to_owned(), what.to_owned());
        let after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        if status.is_redirection() {
            return Err(self.protocol(&what, format!("it redirects elsewhere ({status})")));
        }
        let message = error_message(answer, &host).await;
        Err(match status {
            StatusCode::NOT_FOUND => ClientError::NotFound { host, what },
            StatusCode::UNAUTHORIZED => ClientError::Unauthorized { host, what, hint: message },
            StatusCode::FORBIDDEN => ClientError::Denied { host, what, message },
            StatusCode::TOO_MANY_REQUESTS => ClientError::Throttled {
                host,
                what,
                // No registry makes us wait for longer than a person would.
                after: after.map(|seconds: u64| Duration::from_secs(seconds.min(60))),
            },
            status if status.is_server_error() => {
                ClientError::Unreachable { host, cause: format!("it answers {status} for {what}: {message}") }
            }
            status => ClientError::Refused { host, what, status: status.as_u16(), message },
        })
    }

    /// The URL of a `Location` header, and whether it is ours to authenticate to.
    pub(crate) fn location(&self, answer: &Response, what: &str) -> Result<(Url, bool), ClientError> {
        let value = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let value = value.ok_or_else(|| self.protocol(what, "the header Location is missing"))?;
        let url = answer
            .url()
            .join(value)
            .map_err(|e| self.protocol(what, format!("the Location {value:?} is no URL: {e}")))?;
        let ours = url.origin() == self.base().origin();
        if !ours && self.reach() == Reach::HostOnly {
            return Err(self.protocol(what, "its Location is on another host"));
        }
        if url.scheme() != "https" && self.base().scheme() == "https" {
            return Err(self.protocol(what, "its Location is plain http"));
        }
        Ok((url, ours))
    }

    pub(crate) fn protocol(&self, what: &str, cause: impl Into<String>) -> ClientError {
        ClientError::Protocol { host: self.host().to_owned(), what: what.to_owned(), cause: cause.into() }
    }
}

/// Reads a body that may have at most `bound` bytes; reads nothing when its announced length is more.
pub(crate) async fn read_bounded(
    mut answer: Response,
    bound: u64,
    host: &str,
    what: &str,
) -> Result<Bytes, ClientError> {
    let too_large =
        || ClientError::TooLarge { host: host.to_owned(), what: what.to_owned(), bound, unit: "bytes" };
    if answer.content_length().is_some_and(|length| length > bound) {
        return Err(too_large());
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(|e| ClientError::transport(host, e))? {
        if (body.len() + chunk.len()) as u64 > bound {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

#[derive(Deserialize)]
struct ErrorBody {
    errors: Vec<ErrorItem>,
}

#[derive(Deserialize)]
struct ErrorItem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// The registry's own words, shortened (distribution-spec, "Error Codes").
async fn error_message(answer: Response, host: &str) -> String {
    let Ok(body) = read_bounded(answer, MAX_ERROR, host, "an error").await else { return String::new() };
    let text = match serde_json::from_slice::<ErrorBody>(&body) {
        Ok(ErrorBody { errors }) => {
            errors.iter().map(|e| format!("{} {}", e.code, e.message)).collect::<Vec<_>>().join(", ")
        }
        Err(_) => String::from_utf8_lossy(&body).into_owned(),
    };
    text.chars().filter(|c| !c.is_control()).take(300).collect::<String>().trim().to_owned()
}
