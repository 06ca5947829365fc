//! One log line and one set of metrics a request, written when its last byte was sent or its connection broke.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Instant,
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header::CONTENT_LENGTH};
use http_body::{Body as HttpBody, Frame, SizeHint};
use ulid::Ulid;

use super::route::Route;
use crate::{
    auth::Caller,
    metrics::{Metrics, RequestLabels},
};

/// A request that is being answered. Dropping it writes the line.
pub(super) struct Exchange {
    metrics: Arc<Metrics>,
    id: String,
    method: &'static str,
    route: &'static str,
    repository: String,
    user: String,
    remote: SocketAddr,
    began: Instant,
    status: StatusCode,
    received: Arc<AtomicU64>,
    sent: u64,
    expected: Option<u64>,
    complete: bool,
}

impl Exchange {
    pub(super) fn begin(
        metrics: &Arc<Metrics>,
        method: &Method,
        route: Option<&Route>,
        remote: SocketAddr,
    ) -> Self {
        metrics.began();
        Self {
            metrics: metrics.clone(),
            id: Ulid::generate().to_string(),
            method: method_label(method),
            route: route.map_or("none", Route::label),
            repository: route.and_then(Route::repository).map_or(String::new(), ToString::to_string),
            user: String::new(),
            remote,
            began: Instant::now(),
            // What a client sees that hung up before there was an answer is nothing; 499 is how logs call it.
            status: StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            received: Arc::default(),
            sent: 0,
            expected: None,
            complete: false,
        }
    }

    pub(super) fn id(&self) -> HeaderValue {
        HeaderValue::from_str(&self.id).unwrap_or(HeaderValue::from_static(""))
    }

    pub(super) fn caller(&mut self, caller: &Caller) {
        self.user = caller.name.clone().unwrap_or_default();
    }

    pub(super) fn count_received<B>(&self, body: B) -> Body
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        Body::new(Received { body: Body::new(body), count: self.received.clone() })
    }

    pub(super) fn finish(mut self, response: Response) -> Response {
        self.status = response.status();
        self.complete = response.body().is_end_stream();
        self.expected =
            response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        response.map(|body| Body::new(Sent { body, exchange: self }))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let (took, received) = (self.began.elapsed(), self.received.load(Ordering::Relaxed));
        let labels =
            RequestLabels { route: self.route, method: self.method, status: self.status.as_u16().into() };
        self.metrics.ended(&labels, took, received, self.sent);
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    id = self.id,
                    method = self.method,
                    route = self.route,
                    repository = self.repository,
                    status = self.status.as_u16(),
                    bytes = self.sent,
                    received,
                    ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                    user = self.user,
                    remote = %self.remote,
                    complete = self.complete,
                    "request"
                )
            };
        }
        // Probes come every few seconds and say nothing.
        match self.route {
            "healthz" | "readyz" | "metrics" => line!(debug),
            _ => line!(info),
        }
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
    count: Arc<AtomicU64>,
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            self.count.fetch_add(length(frame), Ordering::Relaxed);
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

struct Sent {
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
            Some(Err(error)) => tracing::warn!(id = self.exchange.id, %error, "the answer broke off"),
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
