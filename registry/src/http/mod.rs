//! The HTTP surface: from a request to an endpoint family and back (distribution-spec 1.1). `server` hands requests in;
//! each family calls the engine. One request is: parse the path, find out who calls, check the right, answer, log.

mod access_log;
mod base;
mod blobs;
mod catalog;
mod error;
mod etag;
mod evidence;
mod failure;
mod gate;
mod health;
mod management;
mod manifests;
mod query;
mod range;
mod referrers;
mod route;
mod tags;
mod uploads;
mod usage;

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use berth_registry_core::RepositoryName;
use futures::{StreamExt as _, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version, header};

pub use self::access_log::Sent;
use self::{access_log::Exchange, error::ApiError, gate::Guard, query::Query, route::Route};
use crate::{
    auth::{Action, Caller},
    configuration::Shared,
    engine::{ByteStream, Engine},
    events::Events,
    jobs::Jobs,
    limits,
    log::Log,
    metrics::Metrics,
    peer::InUse,
    readiness::Readiness,
    traces::Traces,
};

const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const DOCKER_UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
/// Sent by our own clients that must not be led to another host.
const NO_REDIRECT: HeaderName = HeaderName::from_static(berth_registry_core::NO_REDIRECT);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What every request shares.
pub struct App {
    /// The engine, or why there is none.
    pub readiness: Readiness,
    /// What the configuration says now.
    pub live: Shared,
    /// For Prometheus.
    pub metrics: Arc<Metrics>,
    /// Tells the operator what changed.
    pub events: Events,
    /// What requests do, told to a collector.
    pub traces: Option<Arc<Traces>>,
    /// What the management API can start.
    pub jobs: Jobs,
    /// Where a line a request goes.
    pub log: Log,
}

/// A request whose caller may make it.
struct Call {
    engine: Engine,
    caller: Caller,
    events: Events,
    method: Method,
    headers: HeaderMap,
    query: Query,
    /// Blobs may be fetched from the store itself, by a URL that is good for so long.
    redirect: Option<Duration>,
    /// What stands between the caller and a manifest.
    guard: Option<Guard>,
    body: Body,
}

impl Call {
    /// A header, if it is there and readable.
    fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as the engine takes it.
    fn into_stream(self) -> ByteStream {
        patient(self.body)
    }
}

/// A body that must not pause for too long.
fn patient(body: Body) -> ByteStream {
    stream::unfold(Some(body.into_data_stream()), async |body| {
        let mut body = body?;
        match tokio::time::timeout(limits::BODY_STALLED, body.next()).await {
            Ok(None) => None,
            Ok(Some(Ok(chunk))) => Some((Ok(chunk), Some(body))),
            Ok(Some(Err(error))) => Some((Err(std::io::Error::other(error)), None)),
            Err(_) => {
                let silent = format!("no byte came for {} s", limits::BODY_STALLED.as_secs());
                Some((Err(std::io::Error::new(std::io::ErrorKind::TimedOut, silent)), None))
            }
        }
    })
    .boxed()
}

/// Answers one request; never fails.
pub async fn handle<B>(app: Arc<App>, request: Request<B>, peer: InUse) -> Response<Sent>
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    let (version, is_head) = (request.version(), request.method() == Method::HEAD);
    let route = Route::parse(request.uri().path());
    let exchange = Exchange::begin(app, request.method(), request.headers(), route, peer);
    let request = request.map(|body| exchange.count_received(body));
    let mut response =
        exchange.tally().charge(answer(&exchange, request)).await.unwrap_or_else(IntoResponse::into_response);
    let headers = response.headers_mut();
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    headers.insert(REQUEST_ID, exchange.id());
    if exchange.app().readiness.is_draining() && version < Version::HTTP_2 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if is_head {
        response = without_body(response);
    }
    exchange.finish(response)
}

/// Keeps the headers that a GET would have, `Content-Length` among them.
fn without_body(response: Response) -> Response {
    use http_body::Body as _;
    let (mut head, body) = response.into_parts();
    if let (Some(size), false) = (body.size_hint().exact(), head.headers.contains_key(header::CONTENT_LENGTH))
    {
        head.headers.insert(header::CONTENT_LENGTH, size.into());
    }
    Response::from_parts(head, Body::empty())
}

async fn answer(exchange: &Exchange, request: Request<Body>) -> Result<Response, ApiError> {
    let (app, live, route) = (exchange.app(), exchange.live(), exchange.route());
    if let Ok(route @ (Route::Live | Route::Ready | Route::Metrics)) = route {
        return Box::pin(health::answer(app, live, route, request.method())).await;
    }
    let (head, body) = request.into_parts();
    let caller = live.auth.authenticate(&head.headers).await.inspect_err(|error| {
        if *error == crate::auth::AuthError::Refused {
            app.metrics.login_refused();
        }
    })?;
    let caller = exchange.set_caller(caller);
    authorize(caller, route.map_or(Action::Ping, |route| needed(route, &head.method)))?;
    let route = route.map_err(|error| ApiError::invalid_route(error, &head.method))?;
    if *route == Route::Base {
        return base::answer(&live.auth, &head.method);
    }
    let engine = app.readiness.engine().map_err(|not_ready| {
        ApiError::unavailable("the registry cannot use its store yet")
            .detail(format!("{}: {}", not_ready.reason, not_ready.message))
    })?;
    let call = Call {
        engine,
        caller: caller.clone(),
        events: app.events.clone(),
        query: Query::parse(head.uri.query())?,
        redirect: live
            .redirects
            .as_ref()
            .filter(|redirects| !head.headers.contains_key(NO_REDIRECT) && redirects.concern(exchange.peer()))
            .map(|redirects| redirects.lifetime),
        guard: Guard::before(caller, live, app),
        method: head.method,
        headers: head.headers,
        body,
    };
    // The future of a request is moved a few times before it runs: all but the shortest are boxed to keep it small.
    match route {
        Route::Catalog => Box::pin(catalog::answer(call)).await,
        Route::Tags(name) => Box::pin(tags::answer(call, name)).await,
        Route::Manifest(name, reference) => manifests::answer(call, name, reference).await,
        Route::Blob(name, digest) => Box::pin(blobs::answer(call, name, digest)).await,
        Route::Uploads(name) => Box::pin(uploads::begin(call, name)).await,
        Route::Upload(name, id) => Box::pin(uploads::answer(call, name, id.clone())).await,
        Route::Referrers(name, digest) => Box::pin(referrers::answer(call, name, digest)).await,
        Route::Prune => Box::pin(management::job(call, &app.jobs.prune)).await,
        Route::Gc => Box::pin(management::job(call, &app.jobs.gc)).await,
        Route::Scrub => Box::pin(management::job(call, &app.jobs.scrub)).await,
        Route::Usage => Box::pin(usage::answer(call, &app.metrics)).await,
        Route::Undelete => Box::pin(management::undelete(call)).await,
        Route::Evidence => Box::pin(evidence::answer(call)).await,
        Route::Explain => Box::pin(management::explain(call, &app.jobs.prune.work().rules())).await,
        Route::Base | Route::Live | Route::Ready | Route::Metrics => {
            Err(ApiError::method_not_allowed("GET, HEAD"))
        }
    }
}

/// What a request wants to do; a method that the endpoint does not have is answered with 405 to whoever may read.
fn needed(route: &Route, method: &Method) -> Action {
    match (route, method.as_str()) {
        (Route::Base, _) => Action::Ping,
        (Route::Usage, _) => Action::Inspect,
        (Route::Prune | Route::Gc | Route::Scrub | Route::Explain, _) => Action::Maintain,
        (Route::Uploads(_) | Route::Upload(..) | Route::Undelete, _) | (_, "PUT" | "POST" | "PATCH") => {
            Action::Push
        }
        (_, "DELETE") => Action::Delete,
        _ => Action::Pull,
    }
}

fn authorize(caller: &Caller, action: Action) -> Result<(), ApiError> {
    match &caller.name {
        _ if caller.grant.allows(action) => Ok(()),
        None => Err(ApiError::unauthorized("this needs credentials")),
        Some(name) => Err(ApiError::denied(format!("{name} may not do this"))
            .detail("ask the owner of the Registry for a role that suffices")),
    }
}

/// The path of content, for `Location`.
fn location(name: &RepositoryName, rest: &str) -> Result<HeaderValue, ApiError> {
    value(format!("/v2/{name}/{rest}"))
}

/// A header value from text that was made here or was parsed.
fn value(text: impl std::fmt::Display) -> Result<HeaderValue, ApiError> {
    HeaderValue::try_from(text.to_string()).map_err(|_| {
        ApiError::new(
            http::StatusCode::INTERNAL_SERVER_ERROR,
            "UNKNOWN",
            "a header value holds control characters",
        )
    })
}

#[cfg(test)]
mod tests {
    use berth_registry_core::config::Role;
    use rstest::rstest;

    use super::*;
    use crate::auth::Grant;

    #[tokio::test(start_paused = true)]
    async fn a_silent_body_ends_with_a_clear_answer() {
        let silent = stream::iter([Ok::<_, std::io::Error>("begun")]).chain(stream::pending());
        let mut body = patient(Body::from_stream(silent));
        assert_eq!(body.next().await.unwrap().unwrap(), "begun");
        let error = crate::engine::EngineError::Body(body.next().await.unwrap().unwrap_err());
        assert!(error.to_string().contains("no byte came for 60 s"), "{error}");
        assert!(body.next().await.is_none());
        let answer = ApiError::from(error).into_response();
        assert_eq!(answer.status(), http::StatusCode::REQUEST_TIMEOUT);
    }

    /// What each caller is answered before the engine is asked: R-AUTH-2, R-AUTH-3.
    #[rstest]
    #[case("GET", "/v2/", [401, 200, 200, 200, 200, 200])]
    #[case("GET", "/v2/_catalog", [401, 200, 200, 200, 403, 200])]
    #[case("GET", "/v2/a/tags/list", [401, 200, 200, 200, 403, 200])]
    #[case("HEAD", "/v2/a/manifests/x", [401, 200, 200, 200, 403, 200])]
    #[case("PUT", "/v2/a/manifests/x", [401, 403, 403, 200, 403, 200])]
    #[case("DELETE", "/v2/a/manifests/x", [401, 403, 403, 403, 403, 200])]
    #[case("POST", "/v2/a/blobs/uploads/", [401, 403, 403, 200, 403, 200])]
    #[case("GET", "/v2/a/blobs/uploads/id", [401, 403, 403, 200, 403, 200])]
    #[case("DELETE", "/v2/a/blobs/uploads/id", [401, 403, 403, 200, 403, 200])]
    #[case("POST", "/berth/v1/prune", [401, 403, 403, 403, 200, 200])]
    #[case("POST", "/berth/v1/gc", [401, 403, 403, 403, 200, 200])]
    #[case("POST", "/berth/v1/scrub", [401, 403, 403, 403, 200, 200])]
    #[case("GET", "/berth/v1/usage", [401, 403, 200, 403, 200, 200])]
    #[case("GET", "/berth/v1/explain", [401, 403, 403, 403, 200, 200])]
    #[case("GET", "/berth/v1/evidence", [401, 200, 200, 200, 403, 200])]
    #[case("POST", "/berth/v1/undelete", [401, 403, 403, 200, 403, 200])]
    fn rights(#[case] method: Method, #[case] path: &str, #[case] expected: [u16; 6]) {
        let caller = |grant| match grant {
            Grant::Nothing => Caller { name: None, grant },
            grant => Caller { name: Some("somebody".to_owned()), grant },
        };
        let grants = [
            Grant::Nothing,
            Grant::Role(Role::Pull),
            Grant::Role(Role::Inspect),
            Grant::Role(Role::Push),
            Grant::Role(Role::Maintain),
            Grant::Everything,
        ];
        let route = Route::parse(path).unwrap();
        let answered = grants.map(|grant| match authorize(&caller(grant), needed(&route, &method)) {
            Ok(()) => 200,
            Err(error) => error.into_response().status().as_u16(),
        });
        assert_eq!(answered, expected, "{method} {path}");
    }
}
