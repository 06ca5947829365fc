//! Connections: accept, TLS, HTTP/1.1 and HTTP/2, and a stop that no client notices. Requests go to `http::handle`.

use std::{convert::Infallible, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto::Builder,
        graceful::{GracefulShutdown, Watcher},
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    http::{self, App},
    limits,
    peer::Peer,
    stall::Stall,
};

/// Serves until `stop` is done. Then readiness says `Draining`; for `drain_delay` everything goes on, so that load
/// balancers notice; then nothing is accepted any more and what is in flight is finished.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    app: Arc<App>,
    stop: impl Future<Output = ()>,
    drain_delay: Duration,
) {
    let (connections, builder) = (GracefulShutdown::new(), Arc::new(builder()));
    let places = Arc::new(Semaphore::new(limits::MAX_CONNECTIONS));
    let stop = async {
        stop.await;
        tracing::info!(delay_s = drain_delay.as_secs(), "draining");
        app.readiness.drain();
        tokio::time::sleep(drain_delay).await;
    };
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, remote, place)) => {
                let connection = Connection {
                    remote,
                    app: app.clone(),
                    builder: builder.clone(),
                    watcher: connections.watcher(),
                };
                let tls = tls.clone();
                tokio::spawn(async move {
                    connection.run(stream, tls).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                // Out of file descriptors, most likely: without a pause this would be a busy loop.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    tracing::info!(connections = connections.count(), "finishing what is in flight");
    connections.shutdown().await;
}

/// The next connection, once there is a place for it. Until then it waits in the system's queue.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, remote) = listener.accept().await?;
    Ok((stream, remote, place))
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        // `Peer::idle` sees to it, without a timer a request.
        .header_read_timeout(None)
        // `limits::MAX_HEADERS` is the default; given, it would cost an allocation a request.
        .max_buf_size(limits::MAX_HEAD as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20))
        .max_header_list_size(limits::MAX_HEAD)
        .max_concurrent_streams(limits::MAX_STREAMS)
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW);
    builder
}

struct Connection {
    remote: SocketAddr,
    app: Arc<App>,
    builder: Arc<Builder<TokioExecutor>>,
    watcher: Watcher,
}

impl Connection {
    async fn run(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        let remote = self.remote;
        if let Err(error) = self.accepted(stream, tls).await {
            tracing::debug!(%remote, %error, "connection ended");
        }
    }

    async fn accepted(self, stream: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<()> {
        // Answers are written whole; waiting for more would only delay them.
        stream.set_nodelay(true)?;
        let stream = Stall::new(stream, limits::WRITE_STALLED);
        match tls {
            Some(tls) => {
                let stream = timeout(limits::HANDSHAKE, tls.accept(stream)).await??;
                self.serve(stream).await
            }
            None => self.serve(stream).await,
        }
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> io::Result<()> {
        let Self { remote, app, builder, watcher } = self;
        let peer = Peer::new(remote);
        let service = service_fn(|request| {
            let (app, peer) = (app.clone(), peer.request(request.version()));
            async move { Ok::<_, Infallible>(http::handle(app, request, peer).await) }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        tokio::select! {
            biased;
            ended = watcher.watch(connection) => ended.map_err(io::Error::other),
            () = peer.idle(limits::HEAD) => Ok(()),
        }
    }
}
