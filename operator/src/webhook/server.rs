//! The HTTPS server under the webhook: a certificate that can be exchanged while connections are open, limits on what
//! a stranger can hold open, and an end that loses no review. What is answered is decided by the router that it is given.

use std::{io, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, Version, header::CONNECTION},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use futures::FutureExt;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
    service::TowerToHyperService,
};
use rustls::{ServerConfig, server::ResolvesServerCert};
use tokio::{
    io::AsyncBufReadExt,
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// A stranger must finish the handshake within this time.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// A connection may rest for so long. API servers speak HTTP/1.1 to webhooks and keep connections for 90 s: it must be
/// they who close one, because a review that is on its way meanwhile is lost, and nobody repeats a POST.
const IDLE: Duration = Duration::from_mins(2);

/// Connections at once. API servers keep a handful, registries open one for an event.
const MAX_CONNECTIONS: usize = 1024;

/// Requests in flight get so long to end, once no new ones are taken.
const LAST_REQUESTS: Duration = Duration::from_secs(10);

/// Serves until `stop` is cancelled and `drain` has passed, in which the endpoints are withdrawn. Meanwhile every answer
/// over HTTP/1.1 asks the client to connect elsewhere; after it, HTTP/2 clients are told to, and the requests in flight
/// end.
pub async fn serve(
    listener: TcpListener,
    certificate: Arc<dyn ResolvesServerCert>,
    router: Router,
    stop: CancellationToken,
    drain: Duration,
) -> io::Result<()> {
    let server = Server {
        acceptor: TlsAcceptor::from(Arc::new(tls(certificate)?)),
        router: router.layer(from_fn_with_state(stop.clone(), part_when_ending)),
        graceful: GracefulShutdown::new(),
        drained: CancellationToken::new(),
    };
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut drained = std::pin::pin!(async {
        stop.cancelled().await;
        sleep(drain).await;
    });
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &connections) => accepted,
            () = &mut drained => break,
        };
        match accepted {
            Ok((stream, permit)) => server.spawn(stream, permit),
            Err(error) => {
                // Out of file descriptors, or the client is gone already: neither is a reason to stop serving.
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
    // The kernel has shaken hands with these already: whoever sent them a review would lose it.
    while let Some(Ok((stream, permit))) = accept(&listener, &connections).now_or_never() {
        server.spawn(stream, permit);
    }
    drop(listener);
    server.drained.cancel();
    if timeout(LAST_REQUESTS, server.graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still in flight when the time to end them was over");
    }
    Ok(())
}

/// What each connection needs.
struct Server {
    acceptor: TlsAcceptor,
    router: Router,
    graceful: GracefulShutdown,
    drained: CancellationToken,
}

impl Server {
    fn spawn(&self, stream: TcpStream, permit: OwnedSemaphorePermit) {
        let (acceptor, router, drained) = (self.acceptor.clone(), self.router.clone(), self.drained.clone());
        let watcher = self.graceful.watcher();
        tokio::spawn(async move {
            let _permit = permit;
            serve_connection(stream, acceptor, router, drained, watcher).await;
        });
    }
}

async fn serve_connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    router: Router,
    drained: CancellationToken,
    watcher: Watcher,
) {
    let opened = Instant::now();
    let Ok(Ok(mut stream)) = timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
    // Clients open connections that they then do not need. These must not hold up the end.
    let unneeded = async {
        drained.cancelled().await;
        sleep_until(opened + HANDSHAKE).await;
    };
    tokio::select! {
        biased;
        first = timeout(IDLE, stream.fill_buf()) => {
            if !matches!(first, Ok(Ok([_, ..]))) {
                return;
            }
        }
        () = unneeded => return,
    }
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(20));
    // To find it out from the first bytes would lose them, were the end to come in between.
    let builder = if http2 { builder.http2_only() } else { builder.http1_only() };
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // An error here is a client that went away.
    let _ = watcher.watch(connection.into_owned()).await;
}

/// From the first sign of the end on, an HTTP/1.1 client is told with its answer to use another connection: by the time
/// that this one is closed, nothing is on its way to us any more. HTTP/2 has a message of its own for that.
async fn part_when_ending(State(stop): State<CancellationToken>, request: Request, next: Next) -> Response {
    let http1 = request.version() < Version::HTTP_2;
    let mut response = next.run(request).await;
    if http1 && stop.is_cancelled() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = connections.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

fn tls(certificate: Arc<dyn ResolvesServerCert>) -> io::Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
