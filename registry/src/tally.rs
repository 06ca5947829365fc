//! What a request has cost until now: added up where costs arise, in `store` and `engine`, and read by the access log
//! when a request was slow. It goes with the request, also into tasks that outlive it.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::Either;

use crate::traces::Trace;

tokio::task_local! {
    static CURRENT: Arc<Tally>;
}

/// The costs of one request. Calls that run at once count one by one, so times may add up to more than the request took.
#[derive(Default)]
pub struct Tally {
    /// Calls of the store.
    pub store_calls: AtomicU64,
    store: Time,
    memory: Time,
    client: Time,
    /// Bytes of the request's body.
    pub received: AtomicU64,
    /// Where each call is told, if the request is traced.
    pub trace: Option<Box<Trace>>,
}

/// A sum of times, in microseconds.
#[derive(Debug, Default)]
struct Time(AtomicU64);

impl Time {
    fn add(&self, time: Duration) {
        self.0.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn sum(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}

impl Tally {
    /// Of a request that begins.
    pub fn new(trace: Option<Box<Trace>>) -> Self {
        Self { trace, ..Self::default() }
    }

    /// Runs work that this request pays for.
    pub fn charge<F: Future>(self: Arc<Self>, work: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, work)
    }

    /// The client let us wait for its body.
    pub fn waited_for_client(&self, time: Duration) {
        self.client.add(time);
    }

    /// All calls of the store together.
    pub fn store(&self) -> Duration {
        self.store.sum()
    }

    /// Waiting for the memory of uploads.
    pub fn memory(&self) -> Duration {
        self.memory.sum()
    }

    /// Waiting for the request's body.
    pub fn client(&self) -> Duration {
        self.client.sum()
    }
}

/// Work for a task of its own that the current request pays for.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    match CURRENT.try_with(Arc::clone) {
        Ok(tally) => Either::Left(tally.charge(work)),
        Err(_) => Either::Right(work),
    }
}

/// The current request, if there is one, called the store.
pub fn store_call(operation: &str, key: &str, took: Duration, error: Option<&'static str>) {
    let _ = CURRENT.try_with(|tally| {
        tally.store_calls.fetch_add(1, Ordering::Relaxed);
        tally.store.add(took);
        if let Some(trace) = &tally.trace {
            trace.store_call(operation, key, took, error);
        }
    });
}

/// The current request, if there is one, waits for memory here.
pub async fn waits_for_memory<F: Future>(wait: F) -> F::Output {
    let began = Instant::now();
    let output = wait.await;
    let _ = CURRENT.try_with(|tally| tally.memory.add(began.elapsed()));
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn costs_go_with_the_request_into_other_tasks() {
        let tally = Arc::new(Tally::default());
        let work = async {
            store_call("get", "b/x", Duration::from_millis(2), None);
            tokio::spawn(carried(async { store_call("get", "b/x", Duration::from_millis(3), None) }))
                .await
                .unwrap();
            tokio::spawn(async { store_call("get", "b/x", Duration::from_millis(5), None) }).await.unwrap();
        };
        tally.clone().charge(work).await;
        store_call("get", "b/x", Duration::from_millis(7), None);
        let calls = tally.store_calls.load(Ordering::Relaxed);
        assert_eq!((calls, tally.store()), (2, Duration::from_millis(5)));
    }
}
