//! Sends spans to the collector: OTLP over HTTP in protobuf, with the client that is here anyhow. One task, one attempt a
//! batch: what a collector does not take is lost, and counted.

use std::{path::PathBuf, sync::Arc, time::Duration};

use berth_registry_core::config::TraceSink;
use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::InstrumentationScope,
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message as _;
use tokio::{
    sync::{Notify, mpsc},
    time::timeout,
};

use super::Attributes;
use crate::{
    metrics::{Metrics, SpanOutcome},
    outbound::{Outbound, OutboundError},
};

/// For a batch, and for all that is left when the process ends.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
/// Spans of one call.
const BATCH: usize = 2048;
/// What ends so soon after a call goes with the next one.
const PAUSE: Duration = Duration::from_secs(1);
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");

pub(super) struct Exporter {
    url: String,
    outbound: Outbound,
    headers_file: Option<PathBuf>,
    metrics: Arc<Metrics>,
    resource: Resource,
    failing: bool,
}

/// Why spans were not taken.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("cannot read traces.headersFile {}: {source}", path.display())]
    Headers { path: PathBuf, source: std::io::Error },
    #[error("line {line} of traces.headersFile {} is no header: write `name: value`", path.display())]
    Malformed { path: PathBuf, line: usize },
    #[error("the collector does not take traces: {0}")]
    Refused(#[from] reqwest::Error),
}

impl Exporter {
    pub(super) async fn new(sink: TraceSink, metrics: Arc<Metrics>) -> Result<Self, OutboundError> {
        let mut about = Attributes::default()
            .text("service.name", "berth-registry")
            .text("service.version", env!("CARGO_PKG_VERSION"));
        // In Kubernetes the name of the Pod.
        if let Ok(host) = std::env::var("HOSTNAME") {
            about = about.text("service.instance.id", host);
        }
        Ok(Self {
            url: format!("{}/v1/traces", sink.endpoint.trim_end_matches('/')),
            outbound: Outbound::new(sink.ca_file, TIMEOUT).await?,
            headers_file: sink.headers_file,
            metrics,
            resource: Resource { attributes: about.0, ..Resource::default() },
            failing: false,
        })
    }

    /// Sends until told to stop, and then what is left.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Span>, stop: Arc<Notify>) {
        loop {
            let mut spans = Vec::new();
            tokio::select! {
                biased;
                received = queue.recv_many(&mut spans, BATCH) => {
                    if received == 0 {
                        return;
                    }
                }
                () = stop.notified() => {
                    queue.close();
                    continue;
                }
            }
            let full = spans.len() == BATCH;
            self.send(spans).await;
            if !full && !queue.is_closed() && timeout(PAUSE, stop.notified()).await.is_ok() {
                queue.close();
            }
        }
    }

    async fn send(&mut self, spans: Vec<Span>) {
        let count = spans.len();
        match self.post(spans).await {
            Ok(rejected) => {
                self.metrics.spans(SpanOutcome::Sent, count.saturating_sub(rejected));
                self.metrics.spans(SpanOutcome::Failed, rejected.min(count));
                self.failing = false;
            }
            Err(error) => {
                self.metrics.spans(SpanOutcome::Failed, count);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(%error, url = self.url, "traces are lost until this is mended");
                }
            }
        }
    }

    /// How many of the spans the collector did not take.
    async fn post(&self, spans: Vec<Span>) -> Result<usize, ExportError> {
        let scope = InstrumentationScope { name: env!("CARGO_PKG_NAME").to_owned(), ..Default::default() };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
        let resource = Some(self.resource.clone());
        let body = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }],
        };
        let response = self
            .outbound
            .client()
            .await
            .post(&self.url)
            .headers(self.headers().await?)
            .header(CONTENT_TYPE, PROTOBUF)
            .body(body.encode_to_vec())
            .send()
            .await?
            .error_for_status()?;
        let answer = ExportTraceServiceResponse::decode(response.bytes().await?).unwrap_or_default();
        let rejected = answer.partial_success.map_or(0, |partial| partial.rejected_spans);
        Ok(usize::try_from(rejected).unwrap_or_default())
    }

    /// Read anew each time, so that a key can be changed.
    async fn headers(&self) -> Result<HeaderMap, ExportError> {
        let Some(path) = &self.headers_file else { return Ok(HeaderMap::new()) };
        let text = tokio::fs::read_to_string(path)
            .await
            .map_err(|source| ExportError::Headers { path: path.clone(), source })?;
        parse(&text).map_err(|line| ExportError::Malformed { path: path.clone(), line })
    }
}

/// A header a line; else the number of the first line that is none.
fn parse(text: &str) -> Result<HeaderMap, usize> {
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let mut value = HeaderValue::try_from(value.trim()).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::try_from(name.trim()).ok()?, value))
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(index, line)| header(line).ok_or(index + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_lines() {
        let headers = parse("authorization: Bearer a:b\n\nx-scope-orgid: team-a\n").unwrap();
        assert_eq!(headers["authorization"], "Bearer a:b");
        assert_eq!(headers["x-scope-orgid"], "team-a");
        assert!(headers["authorization"].is_sensitive());
        assert_eq!(parse("a: b\nnonsense"), Err(2));
        assert_eq!(parse("no good: b"), Err(1));
    }
}
