//! The calls of the store by operation: how many, how they ended, how long they took. The outcome of the last write says
//! whether the store takes any.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};

use super::Documented;
use crate::store::StoreError;

/// What a store is asked to do.
#[derive(Clone, Copy, Debug)]
pub enum StoreOperation {
    /// Read an object.
    Get,
    /// Ask about an object.
    Head,
    /// Write an object.
    Put,
    /// Remove an object.
    Delete,
    /// List keys.
    List,
    /// Begin, join or drop an object in parts.
    Multipart,
    /// Write a part.
    Part,
}

const OPERATIONS: [&str; 7] = ["get", "head", "put", "delete", "list", "multipart", "part"];

impl StoreOperation {
    /// One word.
    pub fn name(self) -> &'static str {
        OPERATIONS[self as usize]
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    backend: &'static str,
    operation: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    backend: &'static str,
    operation: &'static str,
}

/// The series of all stores.
pub(super) struct StoreSeries {
    requests: Family<RequestLabels, Counter>,
    durations: Family<DurationLabels, Histogram>,
    recalled: Counter,
    writable: Gauge,
}

impl Default for StoreSeries {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| {
                Histogram::new([
                    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0,
                ])
            }),
            recalled: Counter::default(),
            writable: Gauge::default(),
        }
    }
}

impl StoreSeries {
    pub(super) fn register(&self, registry: &mut Documented) {
        registry.register(
            "store_requests",
            "Calls of the store by `backend`, `operation` and `result`: ok, or why not; ObjectNotFound, ObjectChanged and ObjectUnchanged are answers, the others failures",
            self.requests.clone(),
        );
        registry.register(
            "store_request_duration_seconds",
            "Time of a call by `backend` and `operation`, of a streamed body until it begins",
            self.durations.clone(),
        );
        registry.register(
            "store_recalled_objects",
            "Objects that the store knew without a call",
            self.recalled.clone(),
        );
        registry.register(
            "store_writable",
            "0 if the store refused the last write, else 1; while it does, readiness tries one",
            self.writable.clone(),
        );
    }

    pub(super) fn of(&self, backend: &'static str) -> StoreCalls {
        let operations = OPERATIONS.map(|operation| Operation {
            ok: self.requests.get_or_create_owned(&RequestLabels { backend, operation, result: "ok" }),
            duration: self.durations.get_or_create_owned(&DurationLabels { backend, operation }),
        });
        self.writable.set(1);
        StoreCalls(Arc::new(Calls {
            backend,
            operations,
            requests: self.requests.clone(),
            recalled: self.recalled.clone(),
            writable: self.writable.clone(),
            refused: ArcSwapOption::empty(),
        }))
    }
}

/// Counts the calls of one store.
#[derive(Clone)]
pub struct StoreCalls(Arc<Calls>);

struct Calls {
    backend: &'static str,
    operations: [Operation; OPERATIONS.len()],
    requests: Family<RequestLabels, Counter>,
    recalled: Counter,
    writable: Gauge,
    /// How the last write failed, if it did.
    refused: ArcSwapOption<StoreError>,
}

struct Operation {
    ok: Counter,
    duration: Histogram,
}

impl fmt::Debug for StoreCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StoreCalls").field(&self.0.backend).finish()
    }
}

impl StoreCalls {
    /// A call was answered, or failed.
    pub fn ended(&self, operation: StoreOperation, took: Duration, error: Option<&StoreError>) {
        let series = &self.0.operations[operation as usize];
        series.duration.observe(took.as_secs_f64());
        if matches!(operation, StoreOperation::Put | StoreOperation::Multipart | StoreOperation::Part) {
            self.wrote(error);
        }
        match error {
            None => series.ok.inc(),
            Some(error) => {
                let (backend, operation, result) = (self.0.backend, operation.name(), error.reason());
                self.0.requests.get_or_create(&RequestLabels { backend, operation, result }).inc()
            }
        };
    }

    fn wrote(&self, error: Option<&StoreError>) {
        let (refused, writable) = (&self.0.refused, &self.0.writable);
        match error.filter(|error| !error.is_answer()) {
            Some(error) => {
                let before = refused.swap(Some(Arc::new(error.clone())));
                if before.is_none() {
                    tracing::error!(reason = error.reason(), %error, "the store takes no writes; pulls go on");
                    writable.set(0);
                }
            }
            None if refused.load().is_some() => {
                tracing::info!("the store takes writes again");
                refused.store(None);
                writable.set(1);
            }
            None => {}
        }
    }

    /// Why the store refused the last write, if it did.
    pub fn refused(&self) -> Option<Arc<StoreError>> {
        self.0.refused.load_full()
    }

    /// The store knew an object.
    pub fn recalled(&self) {
        self.0.recalled.inc();
    }
}
