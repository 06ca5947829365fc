//! The client of the tests: a `Target` is one registry, a `Call` one request to it, a `Reply` the
//! whole answer. Expectations are methods of `Reply`; each returns a `Failure` that names the
//! request, what was expected and what came.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Url};
use serde_json::Value;

/// Why a case did not hold, as one line for a person.
#[derive(Debug, Clone)]
pub(crate) struct Failure(pub(crate) String);

/// What a case returns.
pub(crate) type Outcome = Result<(), Failure>;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// Returns a `Failure` with the given message unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::support::http::Failure(format!($($message)+)));
        }
    };
}
pub(crate) use ensure;

/// One registry under test, and who asks it.
#[derive(Clone)]
pub(crate) struct Target {
    base: Url,
    client: Client,
    login: Option<(String, String)>,
}

impl Target {
    /// A registry at `base`, for example `http://127.0.0.1:5000`.
    pub(crate) fn new(base: &str) -> Self {
        let client = client_builder().build().expect("a plain HTTP client can be built");
        Self::with_client(base, client)
    }

    /// The same with a client of one's own, for tests of TLS.
    pub(crate) fn with_client(base: &str, client: Client) -> Self {
        let base = Url::parse(base).unwrap_or_else(|e| panic!("{base} is not the URL of a registry: {e}"));
        Self { base, client, login: None }
    }

    /// The same registry, asked as this user.
    pub(crate) fn login(&self, user: &str, password: &str) -> Self {
        Self { login: Some((user.into(), password.into())), ..self.clone() }
    }

    /// The same registry, asked by nobody.
    pub(crate) fn anonymous(&self) -> Self {
        Self { login: None, ..self.clone() }
    }

    /// Whether requests carry credentials.
    pub(crate) fn is_logged_in(&self) -> bool {
        self.login.is_some()
    }

    /// `HOST:PORT` of a plain-text registry, for tests that write bytes to a socket themselves.
    pub(crate) fn plain_address(&self) -> Option<String> {
        let host = self.base.host_str().filter(|_| self.base.scheme() == "http")?;
        Some(format!("{host}:{}", self.base.port_or_known_default()?))
    }

    /// The registry's own address.
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// The value of the `Authorization` header, for raw requests.
    pub(crate) fn authorization(&self) -> Option<String> {
        use base64::Engine;
        let (user, password) = self.login.as_ref()?;
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        Some(format!("Basic {encoded}"))
    }

    /// A request for a path below the registry, query included.
    pub(crate) fn call(&self, method: Method, path: &str) -> Call {
        self.call_url(method, self.base.join(path).unwrap_or_else(|e| panic!("{path} is not a path: {e}")))
    }

    /// A request for a URL that the registry named itself.
    pub(crate) fn call_url(&self, method: Method, url: Url) -> Call {
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let line = format!("{method} {}{query}", url.path());
        let mut request = self.client.request(method, url);
        if let Some((user, password)) = &self.login {
            request = request.basic_auth(user, Some(password));
        }
        Call { line, request }
    }

    /// GET of a path, at once.
    pub(crate) async fn get(&self, path: &str) -> Result<Reply, Failure> {
        self.call(Method::GET, path).send().await
    }
}

/// The settings that every client of the tests has.
pub(crate) fn client_builder() -> reqwest::ClientBuilder {
    // A second installation is refused and harmless: the first test of the process did it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Client::builder().no_proxy().timeout(Duration::from_mins(2))
}

/// One request that has not been sent.
pub(crate) struct Call {
    line: String,
    request: reqwest::RequestBuilder,
}

impl Call {
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).unwrap_or_else(|e| panic!("{name}: {value:?}: {e}"));
        self.line = format!("{} [{name}: {}]", self.line, value.to_str().unwrap_or("?"));
        self.request = self.request.header(HeaderName::from_static(name), value);
        self
    }

    /// A body of known length.
    pub(crate) fn body(mut self, bytes: impl Into<Bytes>) -> Self {
        self.request = self.request.body(bytes.into());
        self
    }

    /// A body of unknown length: sent in pieces with `Transfer-Encoding: chunked`.
    pub(crate) fn streamed(mut self, pieces: Vec<Bytes>) -> Self {
        let pieces = futures::stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>));
        self.request = self.request.body(reqwest::Body::wrap_stream(pieces));
        self
    }

    /// Sends the request and reads the whole answer.
    pub(crate) async fn send(self) -> Result<Reply, Failure> {
        let line = self.line;
        let broken = |e: reqwest::Error| Failure(format!("{line}: no whole answer: {}", chain(&e)));
        let response = self.request.send().await.map_err(broken)?;
        let (status, headers, url) =
            (response.status().as_u16(), response.headers().clone(), response.url().clone());
        let tls = response.extensions().get::<reqwest::tls::TlsInfo>();
        let certificate = tls.and_then(|tls| tls.peer_certificate()).map(<[u8]>::to_vec);
        let body = response.bytes().await.map_err(broken)?;
        Ok(Reply { line, status, headers, body, url, certificate })
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// A whole answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    line: String,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    url: Url,
    /// The certificate that the server showed (DER), when the client asks for it.
    pub(crate) certificate: Option<Vec<u8>>,
}

impl Reply {
    /// One of these status codes.
    pub(crate) fn status(&self, expected: &[u16]) -> Result<&Self, Failure> {
        ensure!(
            expected.contains(&self.status),
            "{}: expected status {expected:?}, got {} {}",
            self.line,
            self.status,
            self.excerpt()
        );
        Ok(self)
    }

    /// A header that must be there.
    pub(crate) fn value(&self, name: &str) -> Result<&str, Failure> {
        let value = self.headers.get(name).and_then(|v| v.to_str().ok());
        value.ok_or_else(|| Failure(format!("{}: {} without header {name}", self.line, self.status)))
    }

    /// A header with exactly this value.
    pub(crate) fn header(&self, name: &str, expected: impl fmt::Display) -> Result<&Self, Failure> {
        let (value, expected) = (self.value(name)?, expected.to_string());
        ensure!(value == expected, "{}: expected {name}: {expected}, got {value:?}", self.line);
        Ok(self)
    }

    /// A header that must not be there.
    pub(crate) fn without(&self, name: &str) -> Result<&Self, Failure> {
        ensure!(!self.headers.contains_key(name), "{}: unexpected header {name}", self.line);
        Ok(self)
    }

    /// Exactly this body.
    pub(crate) fn bytes(&self, expected: &[u8]) -> Result<&Self, Failure> {
        ensure!(
            self.body == expected,
            "{}: expected a body of {} bytes, got {} bytes that differ from byte {:?} on",
            self.line,
            expected.len(),
            self.body.len(),
            self.body.iter().zip(expected).position(|(a, b)| a != b)
        );
        Ok(self)
    }

    /// Exactly this body where the status is one of these.
    pub(crate) fn bytes_if(&self, statuses: &[u16], expected: &[u8]) -> Result<&Self, Failure> {
        if statuses.contains(&self.status) { self.bytes(expected) } else { Ok(self) }
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Result<Value, Failure> {
        serde_json::from_slice(&self.body)
            .map_err(|e| Failure(format!("{}: body is not JSON ({e}): {}", self.line, self.excerpt())))
    }

    /// A refusal in the specification's shape: one of these status codes, `application/json`, and
    /// `errors` whose first `code` is one of these. No codes given: any that the specification lists.
    pub(crate) fn refused(&self, statuses: &[u16], codes: &[&str]) -> Result<&Self, Failure> {
        self.status(statuses)?;
        let kind = self.value("content-type")?;
        ensure!(kind.starts_with("application/json"), "{}: error body has type {kind:?}", self.line);
        let body = self.json()?;
        let errors = body["errors"].as_array().filter(|errors| !errors.is_empty());
        let errors = errors.ok_or_else(|| {
            Failure(format!("{}: error body without `errors`: {}", self.line, self.excerpt()))
        })?;
        let allowed = if codes.is_empty() { ERROR_CODES } else { codes };
        for (i, error) in errors.iter().enumerate() {
            let code = error["code"].as_str().unwrap_or_default();
            ensure!(ERROR_CODES.contains(&code), "{}: code {code:?} is not in the specification", self.line);
            ensure!(i > 0 || allowed.contains(&code), "{}: expected {allowed:?}, got {code}", self.line);
            let message = &error["message"];
            ensure!(message.is_null() || message.is_string(), "{}: message is {message}", self.line);
        }
        Ok(self)
    }

    /// The `Location`, resolved against the request.
    pub(crate) fn location(&self) -> Result<Url, Failure> {
        let value = self.value("location")?;
        self.url.join(value).map_err(|e| Failure(format!("{}: Location {value:?}: {e}", self.line)))
    }

    /// The URL of a `Link` to the next page, if there is one (RFC 8288).
    pub(crate) fn next_page(&self) -> Result<Option<Url>, Failure> {
        let Some(link) = self.headers.get("link").and_then(|v| v.to_str().ok()) else { return Ok(None) };
        let target = link
            .strip_prefix('<')
            .and_then(|rest| rest.split_once('>'))
            .filter(|(_, relation)| relation.contains("rel=\"next\"") || relation.contains("rel=next"));
        let (target, _) =
            target.ok_or_else(|| Failure(format!("{}: Link is no rel=\"next\": {link:?}", self.line)))?;
        self.url.join(target).map(Some).map_err(|e| Failure(format!("{}: Link {link:?}: {e}", self.line)))
    }

    /// A failure that begins with the request.
    pub(crate) fn failure(&self, why: impl fmt::Display) -> Failure {
        Failure(format!("{}: {why}", self.line))
    }

    fn excerpt(&self) -> String {
        String::from_utf8_lossy(&self.body).chars().take(300).collect()
    }
}

/// The codes of the specification's section "Error Codes".
const ERROR_CODES: &[&str] = &[
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "UNAUTHORIZED",
    "DENIED",
    "UNSUPPORTED",
    "TOOMANYREQUESTS",
];
