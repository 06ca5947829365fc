//! Requests are told to a collector as traces, by OTLP over HTTP (R-OPS-2). The collector is a double that decodes what
//! it is sent.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Router, response::IntoResponse};
use berth_registry_core::digest::hex;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span, span::SpanKind};
use prost::Message as _;
use reqwest::Method;
use tempfile::TempDir;

use crate::Test;
use crate::support::content::Manifest;
use crate::support::http::{Failure, Target, ensure};
use crate::support::process::{eventually, free_port};
use crate::support::server::{Options, Server};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// Takes traces from whoever knows the key.
#[derive(Clone, Default)]
struct Collector {
    taken: Arc<Mutex<Vec<ResourceSpans>>>,
    url: String,
}

impl Collector {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let url = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
        let collector = Self { url, ..Self::default() };
        let router = Router::new().route("/v1/traces", post(take)).with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        collector
    }

    fn taken(&self) -> Vec<ResourceSpans> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn spans(&self) -> Vec<Span> {
        let scopes = self.taken().into_iter().flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }

    async fn has(&self, name: &str) -> Span {
        eventually(&format!("a span {name} arrives"), || async {
            self.spans().iter().any(|span| span.name == name)
        })
        .await;
        self.spans().into_iter().find(|span| span.name == name).expect("it has arrived")
    }
}

async fn take(State(collector): State<Collector>, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|there| there == value);
    if !is("authorization", "Bearer key") || !is("content-type", "application/x-protobuf") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let request = ExportTraceServiceRequest::decode(body).expect("OTLP in protobuf");
    collector.taken.lock().unwrap_or_else(PoisonError::into_inner).extend(request.resource_spans);
    ExportTraceServiceResponse::default().encode_to_vec().into_response()
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    let attribute = span.attributes.iter().find(|attribute| attribute.key == key)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{key} is {other:?}"),
    }
}

/// A server that says of `traces` what is given, and the folder of its files.
async fn traced(traces: &str) -> (Server, TempDir) {
    let files = TempDir::new().expect("a directory can be made");
    let (config, headers) = (files.path().join("berth.yaml"), files.path().join("headers"));
    std::fs::write(&headers, "Authorization: Bearer key\n").expect("a file can be written");
    let yaml = format!("traces: {{headersFile: '{}', {traces}}}\n", headers.display());
    std::fs::write(&config, yaml).expect("a file can be written");
    (Options::open("memory:").flag("--config", &config).start().await, files)
}

async fn counted(target: &Target, outcome: &str) -> Result<u64, Failure> {
    let text = String::from_utf8_lossy(&target.get("/metrics").await?.body).into_owned();
    let series = format!("berth_trace_spans_total{{outcome=\"{outcome}\"}} ");
    Ok(text.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok()).unwrap_or_default())
}

/// R-OPS-2: a request that its client traces has a span below the client's, and one below that for each call of the
/// store; what nobody traces is not told.
#[tokio::test]
async fn a_request_is_told_with_its_calls_of_the_store() -> Test {
    let collector = Collector::start().await;
    let (server, _files) =
        traced(&format!("endpoint: '{}/', samplingRatePerMillion: 0", collector.url)).await;
    let (repo, image) = (server.target().fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    repo.put_manifest(&image, "v2")
        .header("traceparent", &format!("00-{TRACE}-{PARENT}-01"))
        .header("tracestate", "other=1")
        .send()
        .await?
        .status(&[201])?;
    repo.has_manifest(&image, "v2").await?;

    let request = collector.has("PUT manifest").await;
    let spans = collector.spans();
    ensure!(spans.iter().all(|span| hex(&span.trace_id) == TRACE), "what nobody traces is told");
    ensure!(hex(&request.parent_span_id) == PARENT, "the client's span is not above the request's");
    ensure!(request.trace_state == "other=1" && request.kind == SpanKind::Server as i32, "{request:?}");
    for (key, value) in [
        ("http.request.method", "PUT"),
        ("http.route", "manifest"),
        ("http.response.status_code", "201"),
        ("berth.repository", &repo.name),
    ] {
        ensure!(attribute(&request, key).as_deref() == Some(value), "{key} is not {value}: {request:?}");
    }
    let calls: Vec<_> = spans.iter().filter(|span| span.parent_span_id == request.span_id).collect();
    ensure!(
        attribute(&request, "berth.store_calls") == Some(calls.len().to_string()),
        "calls are missing: {spans:?}"
    );
    let tag = calls.iter().find(|span| {
        attribute(span, "berth.store.key")
            .is_some_and(|key| span.name == "store put" && key.ends_with("!t/v2"))
    });
    let tag = tag.ok_or_else(|| Failure(format!("the tag's call is missing: {spans:?}")))?;
    ensure!(
        tag.start_time_unix_nano >= request.start_time_unix_nano
            && tag.end_time_unix_nano <= request.end_time_unix_nano,
        "the call is not within the request"
    );
    let about = collector.taken().remove(0).resource.unwrap_or_default().attributes;
    ensure!(about.iter().any(|attribute| attribute.key == "service.name"), "who tells this? {about:?}");
    Ok(())
}

/// R-OPS-2: without a word everything is traced but what machines ask every few seconds; what waits when the server
/// stops is sent before it ends.
#[tokio::test]
async fn the_last_traces_are_sent() -> Test {
    let collector = Collector::start().await;
    let (mut server, _files) = traced(&format!("endpoint: '{}'", collector.url)).await;
    let target = server.target();
    target.get("/v2/").await?.status(&[200])?;
    collector.has("GET base").await;
    target.get("/v2/_catalog").await?.status(&[200])?;
    server.process.terminate();
    ensure!(server.process.wait().await.success(), "the server fails");
    ensure!(collector.spans().iter().any(|span| span.name == "GET catalog"), "the last trace is lost");
    ensure!(!collector.spans().iter().any(|span| span.name.contains("readyz")), "a probe is told");
    Ok(())
}

/// R-OPS-2: a collector that is away, or refuses, costs its spans only; they are counted, and the log says so once.
#[tokio::test]
async fn a_collector_that_is_away_costs_its_spans_only() -> Test {
    let (mut server, _files) = traced(&format!("endpoint: 'http://127.0.0.1:{}'", free_port())).await;
    let target = server.target();
    let (repo, image) = (target.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    target.call(Method::GET, "/v2/").send().await?.status(&[200])?;
    eventually("lost spans are counted", || async {
        counted(&target, "failed").await.is_ok_and(|failed| failed > 0)
    })
    .await;
    ensure!(counted(&target, "sent").await? == 0, "spans were sent to nobody");
    let said = server.process.wait_for_line(|line| line.contains("traces are lost").then_some(())).await;
    ensure!(said.is_some(), "the log does not say so");
    repo.has_manifest(&image, "v1").await
}
