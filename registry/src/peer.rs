//! One client connection as its requests see it: who is at the other end, and since when nothing was asked. `server`
//! ends an idle connection, `http` tells when a request begins and ends.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::Version;
use tokio::time::{Instant, sleep};

/// The other end of a connection.
#[derive(Debug)]
pub struct Peer {
    ip: IpAddr,
    address: String,
    opened: Instant,
    requests: AtomicUsize,
    /// Milliseconds from `opened` to the end of the last request.
    quiet_since: AtomicU64,
    /// HTTP/2 has pings of its own and must not be cut without a word.
    is_http2: AtomicBool,
}

/// A request that is being answered.
#[derive(Debug)]
pub struct InUse(Arc<Peer>);

impl Peer {
    /// A connection that was just accepted.
    pub fn new(remote: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            ip: remote.ip(),
            address: remote.to_string(),
            opened: Instant::now(),
            requests: AtomicUsize::new(0),
            quiet_since: AtomicU64::new(0),
            is_http2: AtomicBool::new(false),
        })
    }

    /// Where the connection comes from.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// `address:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The head of a request was read. The connection is in use until the answer, or the guard, is gone.
    pub fn request(self: &Arc<Self>, version: Version) -> InUse {
        self.requests.fetch_add(1, Ordering::AcqRel);
        self.is_http2.store(version >= Version::HTTP_2, Ordering::Relaxed);
        InUse(self.clone())
    }

    /// Waits until no request has been there for so long, on HTTP/1. One timer, set again only when it has fired: a
    /// request pays for no timer of its own.
    pub async fn idle(&self, limit: Duration) {
        let mut wait = limit;
        loop {
            sleep(wait).await;
            let since = Duration::from_millis(self.quiet_since.load(Ordering::Acquire));
            let in_use = self.requests.load(Ordering::Acquire) > 0 || self.is_http2.load(Ordering::Relaxed);
            let quiet = if in_use { Duration::ZERO } else { self.opened.elapsed().saturating_sub(since) };
            if quiet >= limit {
                return;
            }
            wait = limit.saturating_sub(quiet);
        }
    }
}

impl std::ops::Deref for InUse {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        &self.0
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let now = u64::try_from(self.0.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.quiet_since.store(now, Ordering::Release);
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_a_while_after_its_last_request() {
        const LIMIT: Duration = Duration::from_mins(2);
        let peer = Peer::new(([127, 0, 0, 1], 1).into());
        let began = Instant::now();
        let request = peer.request(Version::HTTP_11);
        let idle = tokio::spawn({
            let peer = peer.clone();
            async move { peer.idle(LIMIT).await }
        });
        sleep(LIMIT * 3 / 2).await;
        drop(request);
        idle.await.unwrap();
        // At most so much later as timers have a resolution.
        assert_eq!(began.elapsed().as_secs(), (LIMIT * 5 / 2).as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn http2_is_never_idle() {
        let peer = Peer::new(([127, 0, 0, 1], 1).into());
        drop(peer.request(Version::HTTP_2));
        let idle = tokio::time::timeout(Duration::from_hours(1), peer.idle(Duration::from_secs(1)));
        assert!(idle.await.is_err());
    }
}
