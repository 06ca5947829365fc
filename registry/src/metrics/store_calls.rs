//! The calls of the store by operation: how many, how they ended, how long they took.

use std::{fmt, sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
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
    }

    pub(super) fn of(&self, backend: &'static str) -> StoreCalls {
        let operations = OPERATIONS.map(|operation| Operation {
            ok: self.requests.get_or_create_owned(&RequestLabels { backend, operation, result: "ok" }),
            duration: self.durations.get_or_create_owned(&DurationLabels { backend, operation }),
        });
        let (requests, recalled) = (self.requests.clone(), self.recalled.clone());
        StoreCalls(Arc::new(Calls { backend, operations, requests, recalled }))
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
        match error {
            None => series.ok.inc(),
            Some(error) => {
                let (backend, operation, result) = (self.0.backend, operation.name(), error.reason());
                self.0.requests.get_or_create(&RequestLabels { backend, operation, result }).inc()
            }
        };
    }

    /// The store knew an object.
    pub fn recalled(&self) {
        self.0.recalled.inc();
    }
}
