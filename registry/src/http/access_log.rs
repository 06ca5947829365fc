//! One log line and one set of metrics a request, written when its last byte was sent or its connection broke.

use std::{
    fmt,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, LazyLock, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use aws_lc_rs::rand;
use axum::{body::Body, response::Response};
use berth_registry_core::RepositoryName;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header::CONTENT_LENGTH};
use http_body::{Body as HttpBody, Frame, SizeHint};
use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::{
    App,
    route::{InvalidRoute, Route},
};
use crate::{
    auth::Caller, configuration::Live, metrics::RequestLabels, peer::InUse, tally::Tally, traces::Attributes,
};

/// A request that is being answered. Dropping it writes the line.
pub(super) struct Exchange {
    app: Arc<App>,
    /// The whole request is judged by one configuration.
    live: Arc<Live>,
    id: RequestId,
    method: &'static str,
    route: Result<Route, InvalidRoute>,
    caller: OnceLock<Caller>,
    peer: InUse,
    began: Instant,
    /// When the answer was ready to be sent.
    answered: Option<Instant>,
    tally: Arc<Tally>,
    status: StatusCode,
    sent: u64,
    expected: Option<u64>,
    complete: bool,
}

/// Names a request in the answer and in the log: unique in a process, and by a random beginning between processes.
#[derive(Clone, Copy)]
struct RequestId(u64);

/// A line of the access log.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: fmt::Arguments<'a>,
    level: &'static str,
    message: &'static str,
    id: RequestId,
    method: &'static str,
    route: &'static str,
    repository: &'a str,
    status: u16,
    bytes: u64,
    received: u64,
    ms: u64,
    user: &'a str,
    remote: &'a str,
    complete: bool,
    target: &'static str,
}

impl RequestId {
    fn next() -> Self {
        static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| {
            let mut first = [0; 8];
            // Without randomness ids of two processes may be equal, which is no more than confusing.
            let _ = rand::fill(&mut first);
            AtomicU64::new(u64::from_be_bytes(first))
        });
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Exchange {
    pub(super) fn begin(
        app: Arc<App>,
        method: &Method,
        headers: &HeaderMap,
        route: Result<Route, InvalidRoute>,
        peer: InUse,
    ) -> Self {
        app.metrics.began();
        let traces = app.traces.as_ref().filter(|_| !route.as_ref().is_ok_and(Route::is_probe));
        let trace = traces.and_then(|traces| traces.begin(headers));
        Self {
            live: app.live.load_full(),
            app,
            id: RequestId::next(),
            method: method_label(method),
            route,
            caller: OnceLock::new(),
            peer,
            began: Instant::now(),
            answered: None,
            tally: Arc::new(Tally::new(trace)),
            // What a client sees that hung up before there was an answer is nothing; 499 is how logs call it.
            status: StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            sent: 0,
            expected: None,
            complete: false,
        }
    }

    pub(super) fn id(&self) -> HeaderValue {
        HeaderValue::try_from(self.id.to_string()).unwrap_or(HeaderValue::from_static(""))
    }

    pub(super) fn app(&self) -> &App {
        &self.app
    }

    pub(super) fn live(&self) -> &Live {
        &self.live
    }

    pub(super) fn peer(&self) -> IpAddr {
        self.peer.ip()
    }

    pub(super) fn route(&self) -> Result<&Route, &InvalidRoute> {
        self.route.as_ref()
    }

    pub(super) fn set_caller(&self, caller: Caller) -> &Caller {
        self.caller.get_or_init(|| caller)
    }

    pub(super) fn count_received<B>(&self, body: B) -> Body
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        if body.is_end_stream() {
            return Body::empty();
        }
        Body::new(Received { body: Body::new(body), tally: self.tally.clone(), waits: None })
    }

    pub(super) fn tally(&self) -> Arc<Tally> {
        self.tally.clone()
    }

    pub(super) fn finish(mut self, response: Response) -> Response<Sent> {
        self.answered = Some(Instant::now());
        self.status = response.status();
        self.complete = response.body().is_end_stream();
        self.expected =
            response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        response.map(|body| Sent { body, exchange: self })
    }
}

impl Exchange {
    /// Says of a slow request where the time went. What its client took is no slowness of ours.
    fn tell_if_slow(&self, route: &'static str, took: Duration) {
        let sending = self.answered.map_or(Duration::ZERO, |answered| answered.elapsed());
        let ours = took.saturating_sub(sending).saturating_sub(self.tally.client());
        if self.live.slow_requests.is_none_or(|limit| ours < limit) {
            return;
        }
        self.app.metrics.slow();
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(
            id = %self.id,
            method = self.method,
            route,
            repository = self.repository(),
            status = self.status.as_u16(),
            ms = ms(took),
            ours_ms = ms(ours),
            store_calls = self.tally.store_calls.load(Ordering::Relaxed),
            store_ms = ms(self.tally.store()),
            memory_ms = ms(self.tally.memory()),
            receiving_ms = ms(self.tally.client()),
            sending_ms = ms(sending),
            "slow request"
        );
    }

    /// Ends the span of a request that is traced, with OpenTelemetry's names where there are such.
    fn end_trace(&self, route: &'static str, took: Duration) {
        let Some(trace) = &self.tally.trace else { return };
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut attributes = Attributes::default()
            .text("http.request.method", self.method)
            .text("http.route", route)
            .number("http.response.status_code", self.status.as_u16().into())
            .number("http.request.body.size", self.tally.received.load(Ordering::Relaxed))
            .number("http.response.body.size", self.sent)
            .text("berth.request_id", self.id.to_string())
            .text("berth.repository", self.repository())
            .number("berth.store_calls", self.tally.store_calls.load(Ordering::Relaxed))
            .number("berth.store_ms", ms(self.tally.store()))
            .number("berth.memory_ms", ms(self.tally.memory()))
            .number("berth.receiving_ms", ms(self.tally.client()));
        let failed = self.status.is_server_error();
        if failed {
            attributes = attributes.text("error.type", self.status.as_str());
        }
        trace.end(format!("{} {route}", self.method), took, attributes, failed);
    }

    fn repository(&self) -> &str {
        self.route.as_ref().ok().and_then(Route::repository).map_or("", RepositoryName::as_str)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let (took, received) = (self.began.elapsed(), self.tally.received.load(Ordering::Relaxed));
        let route = self.route.as_ref().map_or("none", Route::label);
        let labels = RequestLabels { route, method: self.method, status: self.status.as_u16().into() };
        self.app.metrics.ended(&labels, took, received, self.sent);
        self.tell_if_slow(route, took);
        self.end_trace(route, took);
        // Probes come every few seconds and say nothing.
        let (level, enabled) = if self.route.as_ref().is_ok_and(Route::is_probe) {
            ("DEBUG", tracing::enabled!(tracing::Level::DEBUG))
        } else {
            ("INFO", tracing::enabled!(tracing::Level::INFO))
        };
        if !enabled {
            return;
        }
        let user = self.caller.get().and_then(|caller| caller.name.as_deref());
        self.app.log.access(&Line {
            timestamp: format_args!("{:.6}", Timestamp::now()),
            level,
            message: "request",
            id: self.id,
            method: self.method,
            route,
            repository: self.repository(),
            status: self.status.as_u16(),
            bytes: self.sent,
            received,
            ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            user: user.unwrap_or_default(),
            remote: self.peer.address(),
            complete: self.complete,
            target: module_path!(),
        });
    }
}

fn method_label(method: &Method) -> &'static str {
    ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"]
        .into_iter()
        .find(|name| method == name)
        .unwrap_or("other")
}

struct Received {
    body: Body,
    tally: Arc<Tally>,
    /// Since when the client lets us wait.
    waits: Option<Instant>,
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            self.waits.get_or_insert_with(Instant::now);
            return Poll::Pending;
        };
        if let Some(since) = self.waits.take() {
            self.tally.waited_for_client(since.elapsed());
        }
        if let Some(Ok(frame)) = &frame {
            self.tally.received.fetch_add(length(frame), Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The answer on its way.
pub struct Sent {
    body: Body,
    exchange: Exchange,
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                self.exchange.sent += length(frame);
                // A body that knows its end, or has given all of its announced length, is not polled again.
                self.exchange.complete =
                    self.body.is_end_stream() || self.exchange.expected == Some(self.exchange.sent);
            }
            Some(Err(error)) => tracing::warn!(id = %self.exchange.id, %error, "the answer broke off"),
            None => self.exchange.complete = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn length(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| data.len() as u64)
}
