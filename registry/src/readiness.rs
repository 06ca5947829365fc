//! Whether this process can serve, and if not, why (`GET /readyz`, the Registry's condition `Ready`). The store may be
//! missing when the process starts: it is opened again and again until it is there.

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
    metrics::Metrics,
    store::{self, ObservedStore, StoreError, StoreOptions},
};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Anyone may ask for readiness; the store is asked no more often than this.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Why requests cannot be served.
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

/// Shared by the opener, the probes and every request.
pub struct Readiness {
    store: RwLock<Result<Engine, NotReady>>,
    draining: AtomicBool,
    last_check: Mutex<Option<(Instant, Result<(), NotReady>)>>,
    options: ArcSwap<EngineOptions>,
    metrics: Arc<Metrics>,
}

impl Readiness {
    /// Not ready yet; the engine will have these options.
    pub fn new(options: EngineOptions, metrics: Arc<Metrics>) -> Self {
        let starting = NotReady { reason: "Starting", message: "the store is being opened".to_owned() };
        Self {
            store: RwLock::new(Err(starting)),
            draining: AtomicBool::new(false),
            last_check: Mutex::default(),
            options: ArcSwap::from_pointee(options),
            metrics,
        }
    }

    /// Opens the store, however long it takes.
    pub async fn open(&self, url: &str, store: &StoreOptions) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.open_once(url, store).await {
                Ok(engine) => {
                    tracing::info!("store is ready");
                    self.metrics.store_ready(true);
                    self.set(Ok(engine.clone()));
                    // They may have changed while it opened.
                    engine.configure(self.options.load_full());
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

    async fn open_once(&self, url: &str, options: &StoreOptions) -> Result<Engine, EngineError> {
        let calls = self.metrics.store_calls(store::backend(url));
        let (url, options) = (url.to_owned(), options.clone());
        // Opening a directory or reading certificates touches the disk.
        let store = tokio::task::spawn_blocking(move || store::from_url(&url, &options))
            .await
            .map_err(|error| StoreError::Other(error.to_string()))??;
        let store = Arc::new(ObservedStore::new(store, calls));
        Engine::open(store, EngineOptions::clone(&self.options.load())).await
    }

    /// Changes the options of the engine, also of one that is still to be opened.
    pub fn configure(&self, options: EngineOptions) {
        let options = Arc::new(options);
        self.options.store(options.clone());
        if let Ok(engine) = self.engine() {
            engine.configure(options);
        }
    }

    fn set(&self, state: Result<Engine, NotReady>) {
        *self.store.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// The engine, once the store has been opened.
    pub fn engine(&self) -> Result<Engine, NotReady> {
        self.store.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the store whether it can be used now.
    pub async fn check(&self) -> Result<(), NotReady> {
        if self.is_draining() {
            return Err(NotReady { reason: "Draining", message: "the process is about to end".to_owned() });
        }
        let engine = self.engine()?;
        let mut last = self.last_check.lock().await;
        if let Some((at, result)) = last.as_ref()
            && at.elapsed() < CHECK_INTERVAL
        {
            return result.clone();
        }
        let result = match tokio::time::timeout(CHECK_TIMEOUT, engine.check()).await {
            Ok(result) => result.map_err(|error| NotReady::from(&error)),
            Err(_) => Err(NotReady {
                reason: "StoreUnreachable",
                message: format!("the store has not answered within {} seconds", CHECK_TIMEOUT.as_secs()),
            }),
        };
        self.metrics.store_ready(result.is_ok());
        *last = Some((Instant::now(), result.clone()));
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
