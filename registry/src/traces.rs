//! Traces for an OpenTelemetry collector: a span for each request that is sampled, below it one for each call of the
//! store. `tally` carries them with the request, `traces::export` sends them. Without `traces` in the configuration there
//! is none of this; a request that is not sampled costs a look at one header.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use aws_lc_rs::rand;
use berth_registry_core::config::TraceSink;
use http::HeaderMap;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::{Span, SpanFlags, Status, span::SpanKind, status::StatusCode},
};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
};

use self::{context::Parent, export::Exporter};
use crate::{
    metrics::{Metrics, SpanOutcome},
    outbound::OutboundError,
};

mod context;
mod export;

/// Spans that wait to be sent. What comes while so many wait is dropped: a request waits for no collector.
const QUEUE: usize = 8192;
/// Calls of the store that a trace tells one by one. A job that makes more is only counted.
const MAX_CALLS: usize = 128;
/// Requests that a sampling rate speaks about.
pub const MILLION: u32 = 1_000_000;
const SAMPLED: u32 = 1;

/// Begins traces and takes what they tell.
pub struct Traces {
    /// Of a million requests, so many.
    rate: u32,
    queue: mpsc::Sender<Span>,
    metrics: Arc<Metrics>,
    stop: Arc<Notify>,
    exporter: Mutex<Option<JoinHandle<()>>>,
}

/// One request that is traced. What it has told is sent when it and all its work are over.
pub struct Trace {
    traces: Arc<Traces>,
    id: [u8; 16],
    parent: Option<Parent>,
    /// Id of the request's span; each further one has the next id.
    first: u64,
    began: SystemTime,
    spans: Mutex<Vec<Span>>,
}

/// What a span says beside its times.
#[derive(Default)]
pub struct Attributes(Vec<KeyValue>);

impl Attributes {
    /// With a word.
    #[must_use]
    pub fn text(self, key: &str, value: impl Into<String>) -> Self {
        self.with(key, Value::StringValue(value.into()))
    }

    /// With a number.
    #[must_use]
    pub fn number(self, key: &str, value: u64) -> Self {
        self.with(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)))
    }

    fn with(mut self, key: &str, value: Value) -> Self {
        let value = Some(AnyValue { value: Some(value) });
        self.0.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
        self
    }
}

impl Traces {
    /// Begins to send. A collector that is not there costs its spans and nothing else.
    pub async fn start(sink: TraceSink, metrics: Arc<Metrics>) -> Result<Arc<Self>, OutboundError> {
        let rate = sink.sampling_rate_per_million.unwrap_or(MILLION);
        let (queue, spans) = mpsc::channel(QUEUE);
        let stop = Arc::new(Notify::new());
        let exporter = Exporter::new(sink, metrics.clone()).await?;
        let exporter = tokio::spawn(exporter.run(spans, stop.clone()));
        Ok(Arc::new(Self { rate, queue, metrics, stop, exporter: Mutex::new(Some(exporter)) }))
    }

    /// The trace of a request that begins: if its client traces it (W3C Trace Context), or by chance if the client says
    /// nothing about it.
    pub fn begin(self: &Arc<Self>, headers: &HeaderMap) -> Option<Box<Trace>> {
        let parent = Parent::of(headers);
        if parent.as_ref().map_or(self.rate == 0, |parent| !parent.sampled) {
            return None;
        }
        let mut random = [0; 24];
        rand::fill(&mut random).ok()?;
        let (mut trace_id, mut span_id) = ([0; 16], [0; 8]);
        trace_id.copy_from_slice(&random[..16]);
        span_id.copy_from_slice(&random[16..]);
        match &parent {
            Some(parent) => trace_id = parent.trace_id,
            None if u32::from_be_bytes([random[12], random[13], random[14], random[15]]) % MILLION
                >= self.rate =>
            {
                return None;
            }
            None => {}
        }
        Some(Box::new(Trace {
            traces: self.clone(),
            id: trace_id,
            parent,
            // Zero means none.
            first: u64::from_be_bytes(span_id).max(1),
            began: SystemTime::now(),
            spans: Mutex::default(),
        }))
    }

    /// Sends what waits, and no more.
    pub async fn stop(&self) {
        self.stop.notify_one();
        let exporter = self.exporter.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(exporter) = exporter
            && tokio::time::timeout(export::TIMEOUT, exporter).await.is_err()
        {
            tracing::warn!("the last traces are lost: the collector does not take them");
        }
    }
}

impl Trace {
    /// The request is over. A `failed` one is marked as an error of the server.
    pub fn end(&self, name: String, took: Duration, attributes: Attributes, failed: bool) {
        let span = self.span(0, name, SpanKind::Server, self.began, took, attributes);
        let status = failed.then(|| Status { code: StatusCode::Error.into(), message: String::new() });
        self.spans().push(Span { status, ..span });
    }

    /// The store has answered a call that this work needed, or failed.
    pub fn store_call(&self, operation: &str, key: &str, took: Duration, error: Option<&'static str>) {
        let mut spans = self.spans();
        let calls = spans.len();
        if calls >= MAX_CALLS {
            return;
        }
        let mut attributes = Attributes::default().text("berth.store.key", key);
        if let Some(error) = error {
            attributes = attributes.text("error.type", error);
        }
        let began = SystemTime::now().checked_sub(took).unwrap_or(self.began);
        let name = format!("store {operation}");
        spans.push(self.span(calls as u64 + 1, name, SpanKind::Client, began, took, attributes));
    }

    fn spans(&self) -> std::sync::MutexGuard<'_, Vec<Span>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `number`: 0 for the request itself.
    fn span(
        &self,
        number: u64,
        name: String,
        kind: SpanKind,
        began: SystemTime,
        took: Duration,
        attributes: Attributes,
    ) -> Span {
        let id = |number: u64| self.first.wrapping_add(number).to_be_bytes().to_vec();
        let remote = self.parent.as_ref().filter(|_| number == 0);
        let above = if number == 0 { remote.map(|parent| parent.span_id.to_vec()) } else { Some(id(0)) };
        let is_remote = if remote.is_some() { SpanFlags::ContextIsRemoteMask as u32 } else { 0 };
        let start = nanoseconds(began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
        Span {
            trace_id: self.id.to_vec(),
            span_id: id(number),
            trace_state: self.parent.as_ref().map_or_else(String::new, |parent| parent.state.clone()),
            parent_span_id: above.unwrap_or_default(),
            flags: SAMPLED | SpanFlags::ContextHasIsRemoteMask as u32 | is_remote,
            name,
            kind: kind.into(),
            start_time_unix_nano: start,
            end_time_unix_nano: start.saturating_add(nanoseconds(took)),
            attributes: attributes.0,
            ..Span::default()
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let spans = std::mem::take(self.spans.get_mut().unwrap_or_else(PoisonError::into_inner));
        // A trace is sent whole or not at all.
        match self.traces.queue.try_reserve_many(spans.len()) {
            Ok(places) => places.zip(spans).for_each(|(place, span)| place.send(span)),
            Err(_) => self.traces.metrics.spans(SpanOutcome::Dropped, spans.len()),
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";

    /// Traces that nobody sends.
    fn traces(rate: u32, places: usize) -> (Arc<Traces>, mpsc::Receiver<Span>) {
        let (queue, spans) = mpsc::channel(places);
        let traces =
            Traces { rate, queue, metrics: Arc::default(), stop: Arc::default(), exporter: Mutex::default() };
        (Arc::new(traces), spans)
    }

    fn headers(flags: &str) -> HeaderMap {
        [(http::HeaderName::from_static("traceparent"), format!("{PARENT}-{flags}").parse().unwrap())]
            .into_iter()
            .collect()
    }

    /// R-OPS-2: the client decides, else chance.
    #[test]
    fn who_is_traced() {
        let (never, _queue) = traces(0, 1);
        let (always, _queue) = traces(MILLION, 1);
        let (half, _queue) = traces(MILLION / 2, 1);
        assert!(never.begin(&HeaderMap::new()).is_none() && never.begin(&headers("01")).is_some());
        assert!(always.begin(&HeaderMap::new()).is_some() && always.begin(&headers("00")).is_none());
        let sampled = (0..1000).filter(|_| half.begin(&HeaderMap::new()).is_some()).count();
        assert!((300..700).contains(&sampled), "{sampled} of 1000");
    }

    /// R-OPS-2: calls are below the request, which is below the client's span.
    #[test]
    fn spans_have_their_places() {
        let (traces, mut queue) = traces(0, 8);
        let trace = traces.begin(&headers("01")).unwrap();
        trace.store_call("get", "b/x", Duration::from_millis(2), Some("ObjectNotFound"));
        trace.end("GET blob".to_owned(), Duration::from_millis(5), Attributes::default(), true);
        drop(trace);
        let (call, request) = (queue.try_recv().unwrap(), queue.try_recv().unwrap());
        assert_eq!((call.name.as_str(), request.name.as_str()), ("store get", "GET blob"));
        assert_eq!(call.parent_span_id, request.span_id);
        assert_eq!(request.parent_span_id, [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
        assert_eq!(call.trace_id, request.trace_id);
        assert!(
            call.span_id != request.span_id && request.flags & SpanFlags::ContextIsRemoteMask as u32 != 0
        );
        assert_eq!(request.end_time_unix_nano - request.start_time_unix_nano, 5_000_000);
        assert_eq!(request.status.map(|status| status.code), Some(StatusCode::Error.into()));
    }

    /// R-OPS-2: who finds no room is dropped whole, and counted; nobody waits.
    #[test]
    fn the_queue_is_bounded() {
        let (traces, mut queue) = traces(MILLION, 3);
        for _ in 0..2 {
            let trace = traces.begin(&HeaderMap::new()).unwrap();
            trace.store_call("get", "b/x", Duration::ZERO, None);
            trace.end("GET blob".to_owned(), Duration::ZERO, Attributes::default(), false);
        }
        assert!(queue.try_recv().is_ok() && queue.try_recv().is_ok() && queue.try_recv().is_err());
        let text = traces.metrics.text();
        assert!(text.contains("berth_trace_spans_total{outcome=\"dropped\"} 2"), "{text}");
    }

    #[test]
    fn a_long_job_tells_its_first_calls() {
        let (traces, mut queue) = traces(MILLION, QUEUE);
        let trace = traces.begin(&HeaderMap::new()).unwrap();
        (0..1000).for_each(|_| trace.store_call("get", "b/x", Duration::ZERO, None));
        trace.end("POST gc".to_owned(), Duration::ZERO, Attributes::default(), false);
        drop(trace);
        assert_eq!(std::iter::from_fn(|| queue.try_recv().ok()).count(), MAX_CALLS + 1);
    }
}
