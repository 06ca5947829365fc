//! A store that fails where it is told to: a proxy between a server and its S3 server. What a process goes through when
//! it is killed among its store calls is shown on the binary as shipped; nothing in it knows of faults.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::CONTENT_LENGTH;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use reqwest::Client;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::http::client_builder;

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process dies; the call never reaches the store.
    KillBefore,
    /// The store does it; the process dies before it hears of it.
    KillAfter,
    /// It does not reach the store: the connection breaks.
    Refuse,
    /// The store does it, but the connection breaks instead of an answer.
    Lose,
    /// It is done a while later.
    Delay,
}

/// A process that dies at once.
pub(crate) type Victim = u32;

#[derive(Default)]
struct Plan {
    calls: usize,
    writes: usize,
    fault: Option<(usize, Fault, Victim)>,
    struck: bool,
    refuses: Option<Refusal>,
}

/// Why the store takes no writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The credentials allow none.
    ReadOnly,
    /// It has room for records, and for nothing that is larger.
    Full,
}

impl Refusal {
    /// The answer to what would change the store, if it is refused.
    fn of(self, request: &Request<Incoming>) -> Option<Response<Full<Bytes>>> {
        let length =
            request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let (status, code) = match self {
            Self::ReadOnly => (StatusCode::FORBIDDEN, "AccessDenied"),
            Self::Full if length.is_some_and(|length: usize| length > 64 << 10) => {
                (StatusCode::BAD_REQUEST, "XMinioAdminBucketQuotaExceeded")
            }
            Self::Full => return None,
        };
        let mut response = Response::new(Full::from(format!("<Error><Code>{code}</Code></Error>")));
        *response.status_mut() = status;
        Some(response)
    }
}

/// A running proxy.
pub(crate) struct Faulty {
    pub(crate) port: u16,
    plan: Arc<Mutex<Plan>>,
    listener: JoinHandle<()>,
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

fn lock(plan: &Mutex<Plan>) -> std::sync::MutexGuard<'_, Plan> {
    plan.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Faulty {
    /// Stands before the store at this port.
    pub(crate) async fn before(store: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let plan = Arc::new(Mutex::new(Plan::default()));
        let client = client_builder().http1_only().build().expect("a client can be built");
        let listener = tokio::spawn({
            let plan = Arc::clone(&plan);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (client, plan) = (client.clone(), Arc::clone(&plan));
                    let service =
                        service_fn(move |request| call(request, client.clone(), store, Arc::clone(&plan)));
                    tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
                }
            }
        });
        Self { port, plan, listener }
    }

    /// From now on counts anew, and the n-th call (from 0) meets the fault.
    pub(crate) fn strike(&self, n: usize, fault: Fault, victim: Victim) {
        *lock(&self.plan) = Plan { fault: Some((n, fault, victim)), ..Plan::default() };
    }

    /// From now on refuses what would change the store, or does not any more.
    pub(crate) fn refuse(&self, refuses: Option<Refusal>) {
        lock(&self.plan).refuses = refuses;
    }

    /// How many calls wanted to change the store.
    pub(crate) fn writes(&self) -> usize {
        lock(&self.plan).writes
    }

    /// Whether the fault has happened.
    pub(crate) fn struck(&self) -> bool {
        lock(&self.plan).struck
    }
}

async fn call(
    request: Request<Incoming>,
    client: Client,
    store: u16,
    plan: Arc<Mutex<Plan>>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let fault = {
        let mut plan = lock(&plan);
        let n = plan.calls;
        plan.calls += 1;
        if matches!(*request.method(), Method::PUT | Method::POST | Method::DELETE) {
            plan.writes += 1;
            if let Some(refused) = plan.refuses.and_then(|refusal| refusal.of(&request)) {
                return Ok(refused);
            }
        }
        let fault = plan.fault.filter(|(at, ..)| *at == n);
        plan.struck |= fault.is_some();
        fault
    };
    let broken = || std::io::Error::other("as told");
    match fault {
        None | Some((_, Fault::KillAfter | Fault::Lose, _)) => {}
        Some((_, Fault::Delay, _)) => tokio::time::sleep(Duration::from_millis(300)).await,
        Some((_, Fault::Refuse, _)) => return Err(broken()),
        Some((_, Fault::KillBefore, victim)) => {
            kill(victim);
            return Err(broken());
        }
    }
    let answer = forward(request, &client, store).await.map_err(std::io::Error::other)?;
    match fault {
        Some((_, Fault::KillAfter, victim)) => {
            kill(victim);
            Err(broken())
        }
        Some((_, Fault::Lose, _)) => Err(broken()),
        _ => Ok(answer),
    }
}

fn kill(victim: Victim) {
    let id =
        i32::try_from(victim).ok().and_then(rustix::process::Pid::from_raw).expect("a process has an id");
    // It may be gone already, by the same fault on another connection.
    let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
}

/// The same request to the real store: its headers are signed and stay as they are.
async fn forward(
    request: Request<Incoming>,
    client: &Client,
    store: u16,
) -> Result<Response<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let call = client.request(head.method, format!("http://127.0.0.1:{store}{path}")).headers(head.headers);
    let answer = call.body(body).send().await?;
    let mut response = Response::builder().status(answer.status());
    if let Some(headers) = response.headers_mut() {
        headers.clone_from(answer.headers());
        headers.remove("transfer-encoding");
    }
    Ok(response.body(Full::new(answer.bytes().await?))?)
}
