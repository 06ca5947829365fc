//! What a warm pull of a manifest costs beside the connection, counted in allocations: a budget that does not depend on
//! the machine. Raise it only for a reason.

#![allow(clippy::expect_used, clippy::panic, reason = "all of this crate is test code")]

use std::sync::Arc;

use allocation_counter::measure;
use arc_swap::ArcSwap;
use berth_registry::{
    auth::Authenticator,
    configuration::Live,
    engine::EngineOptions,
    events::Events,
    http::{App, handle},
    jobs::Jobs,
    log::Log,
    metrics::Metrics,
    peer::Peer,
    readiness::Readiness,
    store::StoreOptions,
};
use berth_registry_core::{Digest, config::Anonymous, manifest::OCI_MANIFEST};
use http::{Request, StatusCode};
use http_body_util::Full;
use tokio::runtime::Runtime;

/// Bytes of a request's future, which is moved a few times before it runs.
const FUTURE: usize = 3072;

struct Server {
    app: Arc<App>,
    peer: Arc<Peer>,
    runtime: Runtime,
}

impl Server {
    fn answers(&self, method: &str, path: &str, body: String) -> StatusCode {
        let request = Request::builder().method(method).uri(path).header("content-type", OCI_MANIFEST);
        let request = request.body(Full::from(body)).expect("a request");
        let in_use = self.peer.request(request.version());
        self.runtime.block_on(handle(self.app.clone(), request, in_use)).status()
    }

    /// Allocations of a warm answer, without what now and then lets the log's buffer grow.
    fn allocations(&self, path: &str) -> u64 {
        assert_eq!(self.answers("GET", path, String::new()), StatusCode::OK);
        (0..5).map(|_| self.counted(path)).min().unwrap_or_default()
    }

    fn counted(&self, path: &str) -> u64 {
        let request = Request::get(path).body(Full::<bytes::Bytes>::default()).expect("a request");
        let in_use = self.peer.request(request.version());
        let size = size_of_val(&handle(
            self.app.clone(),
            Request::new(String::new()),
            self.peer.request(request.version()),
        ));
        assert!(size <= FUTURE, "the future of a request has {size} bytes, {FUTURE} are allowed");
        let counted = measure(|| {
            let answer = self.runtime.block_on(handle(self.app.clone(), request, in_use));
            assert_eq!(answer.status(), StatusCode::OK);
        });
        counted.count_total
    }
}

#[test]
fn a_warm_manifest() {
    let content = tempfile::tempdir().expect("a directory");
    let (log, _writer) = Log::start(std::io::sink()).expect("a thread");
    log.take_tracing();
    let (metrics, events) = (Arc::new(Metrics::default()), Events::default());
    let live = Arc::new(ArcSwap::from_pointee(Live {
        auth: Authenticator { anonymous: Anonymous::Write, ..Authenticator::default() },
        ..Live::default()
    }));
    let app = App {
        readiness: Readiness::new(EngineOptions::default(), metrics.clone(), events.clone()),
        traces: None,
        jobs: Jobs::new(live.clone(), events.clone(), &metrics),
        live,
        events,
        metrics,
        log,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let store = format!("file://{}", content.path().display());
    runtime.block_on(app.readiness.open(&store, &StoreOptions::default()));
    let server = Server { app: Arc::new(app), peer: Peer::new(([127, 0, 0, 1], 1).into()), runtime };

    let config = Digest::sha256(b"{}");
    let path = format!("/v2/team/app/blobs/uploads/?digest={config}");
    assert_eq!(server.answers("POST", &path, "{}".to_owned()), StatusCode::CREATED);
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"a/b","digest":"{config}","size":2}},"layers":[]}}"#
    );
    let digest = Digest::sha256(manifest.as_bytes());
    assert_eq!(server.answers("PUT", "/v2/team/app/manifests/v1", manifest), StatusCode::CREATED);

    for (path, budget) in
        [("/v2/team/app/manifests/v1".to_owned(), 20), (format!("/v2/team/app/manifests/{digest}"), 16)]
    {
        let counted = server.allocations(&path);
        println!("{path}: {counted} allocations, budget {budget}");
        assert!(counted <= budget, "{path} costs {counted} allocations, {budget} are allowed");
    }
}
