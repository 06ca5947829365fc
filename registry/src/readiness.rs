//! Whether this process can serve, and if not, why (`GET /readyz`, the Registry's condition `Ready`). The store may be
//! missing when the process starts: it is opened again and again until it is there. One that refuses writes still serves
//! pulls, on all replicas alike: that is said, and is no reason to send clients away.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use serde::Serialize;
use tokio::sync::Mutex;

use crate::{
    engine::{Engine, EngineError, EngineOptions},
    events::Events,
    metrics::{Metrics, StoreCalls},
    store::{self, ObservedStore, StoreError, StoreOptions},
};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Anyone may ask for readiness; the store is asked no more often than this.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// The kubelet gives both together no longer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(3);

/// What a process that is ready can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ready {
    /// Everything.
    Whole,
    /// Pulls: the store takes no writes, for this reason.
    ReadOnly(NotReady),
}

/// Why requests, or some of them, cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotReady {
    /// A stable word: `Starting`, `Draining`, or the reason of the store's error.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl From<&EngineError> for NotReady {
    fn from(error: &EngineError) -> Self {
        Self { reason: error.reason(), message: error.to_string() }
    }
}

impl From<&StoreError> for NotReady {
    fn from(error: &StoreError) -> Self {
        let cure = match error {
            StoreError::CredentialsRefused(_) => "let the credentials write and remove objects",
            StoreError::BucketNotFound(_) | StoreError::Unreachable(_) => "it is tried again and again",
            _ => "see whether it is full; after an error of the disk, restart the server",
        };
        let message = format!("pulls are served, but the store refuses writes ({cure}): {error}");
        Self { reason: error.reason(), message }
    }
}

/// A store that was opened.
#[derive(Clone)]
struct Opened {
    engine: Engine,
    calls: StoreCalls,
}

/// Shared by the opener, the probes and every request.
pub struct Readiness {
    store: RwLock<Result<Opened, NotReady>>,
    draining: AtomicBool,
    last_check: Mutex<LastCheck>,
    options: ArcSwap<EngineOptions>,
    metrics: Arc<Metrics>,
    events: Events,
}

#[derive(Default)]
struct LastCheck {
    result: Option<(Instant, Result<Ready, NotReady>)>,
    /// Whether the operator was told that the store refuses writes.
    told: bool,
}

impl Readiness {
    /// Not ready yet; the engine will have these options.
    pub fn new(options: EngineOptions, metrics: Arc<Metrics>, events: Events) -> Self {
        let starting = NotReady { reason: "Starting", message: "the store is being opened".to_owned() };
        Self {
            store: RwLock::new(Err(starting)),
            draining: AtomicBool::new(false),
            last_check: Mutex::default(),
            options: ArcSwap::from_pointee(options),
            metrics,
            events,
        }
    }

    /// Opens the store, however long it takes.
    pub async fn open(&self, url: &str, store: &StoreOptions) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.open_once(url, store).await {
                Ok(opened) => {
                    tracing::info!("store is ready");
                    self.metrics.store_ready(true);
                    self.set(Ok(opened.clone()));
                    // They may have changed while it opened.
                    opened.engine.configure(self.options.load_full());
                    return;
                }
                Err(error) => {
                    let not_ready = NotReady::from(&error);
                    if self.engine().err().as_ref() != Some(&not_ready) {
                        tracing::error!(reason = not_ready.reason, %error, "store is not ready, trying again");
                    }
                    self.set(Err(not_ready));
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn open_once(&self, url: &str, options: &StoreOptions) -> Result<Opened, EngineError> {
        let calls = self.metrics.store_calls(store::backend(url));
        let (url, options) = (url.to_owned(), options.clone());
        // Opening a directory or reading certificates touches the disk.
        let store = tokio::task::spawn_blocking(move || store::from_url(&url, &options))
            .await
            .map_err(|error| StoreError::Other(error.to_string()))??;
        let store = Arc::new(ObservedStore::new(store, calls.clone()));
        let engine = Engine::open(store, EngineOptions::clone(&self.options.load())).await?;
        Ok(Opened { engine, calls })
    }

    /// Changes the options of the engine, also of one that is still to be opened.
    pub fn configure(&self, options: EngineOptions) {
        let options = Arc::new(options);
        self.options.store(options.clone());
        if let Ok(engine) = self.engine() {
            engine.configure(options);
        }
    }

    fn set(&self, state: Result<Opened, NotReady>) {
        *self.store.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// The engine, once the store has been opened.
    pub fn engine(&self) -> Result<Engine, NotReady> {
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        store.as_ref().map(|opened| opened.engine.clone()).map_err(NotReady::clone)
    }

    /// Asks the store whether it can be used now. Whether it takes writes is known from those that clients make; only when
    /// it refused one, another one is tried.
    pub async fn check(&self) -> Result<Ready, NotReady> {
        if self.is_draining() {
            return Err(NotReady { reason: "Draining", message: "the process is about to end".to_owned() });
        }
        let Opened { engine, calls } = self.store.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        let mut last = self.last_check.lock().await;
        if let Some((at, result)) = last.result.as_ref()
            && at.elapsed() < CHECK_INTERVAL
        {
            return result.clone();
        }
        let write = async {
            if calls.refused().is_some() {
                // How it ended is among the outcomes of writes.
                let _ = tokio::time::timeout(WRITE_TIMEOUT, engine.try_write()).await;
            }
        };
        let (checked, ()) = tokio::join!(tokio::time::timeout(CHECK_TIMEOUT, engine.check()), write);
        let result = match checked {
            Ok(Ok(())) => Ok(calls.refused().map_or(Ready::Whole, |error| Ready::ReadOnly((&*error).into()))),
            Ok(Err(error)) => Err(NotReady::from(&error)),
            Err(_) => Err(NotReady {
                reason: "StoreUnreachable",
                message: format!("the store has not answered within {} seconds", CHECK_TIMEOUT.as_secs()),
            }),
        };
        self.metrics.store_ready(result.is_ok());
        if let Ok(ready) = &result {
            // A write that was refused once may have met a hiccup; this one was tried again.
            let refuses = *ready != Ready::Whole;
            if refuses != last.told {
                self.events.store_changed();
                last.told = refuses;
            }
        }
        last.result = Some((Instant::now(), result.clone()));
        result
    }

    /// From now on load balancers are told to go elsewhere.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the process is about to end.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}
