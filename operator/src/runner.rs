//! Runs one controller: bounded concurrency, back-off per object, metrics and log lines in one place.

use std::{collections::HashMap, fmt::Debug, future::Future, hash::Hash, sync::Arc, time::Duration};

use futures::StreamExt as _;
use kube::{
    Resource,
    core::DeserializeGuard,
    runtime::{
        Config, Controller,
        controller::{Action, Error},
        reflector::{Lookup, ObjectRef},
    },
};
use serde::de::DeserializeOwned;

use crate::{
    Context,
    metrics::{Controller as ControllerLabel, Reconciliation},
};

/// So many objects are reconciled at once, per controller.
const CONCURRENCY: u16 = 4;
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_mins(2);

/// What a failed reconciliation must be able to say.
pub trait Reason: std::error::Error + Send + Sync + 'static {
    /// A stable `PascalCase` word.
    fn reason(&self) -> &'static str;
}

/// Runs `controller` with `reconcile` until it is dropped. A failed object is tried again after one second, then two,
/// up to two minutes; a success forgets its failures.
pub async fn run<K, F, E>(
    name: &'static str,
    context: Context,
    controller: Controller<DeserializeGuard<K>>,
    reconcile: impl Fn(Arc<DeserializeGuard<K>>, Context) -> F + Send + Sync + 'static,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Hash + Eq,
    F: Future<Output = Result<Action, E>> + Send + 'static,
    E: Reason,
{
    let failures: Arc<Failures<K>> = Arc::default();
    let (on_success, on_failure) = (failures.clone(), failures);
    let reconcile = Arc::new(reconcile);
    controller
        .with_config(Config::default().concurrency(CONCURRENCY))
        .run(
            move |object: Arc<DeserializeGuard<K>>, context: Arc<Context>| {
                let (reconcile, failures) = (reconcile.clone(), on_success.clone());
                async move {
                    let began = std::time::Instant::now();
                    let key = ObjectRef::from_obj(&*object);
                    let result = reconcile(object, (*context).clone()).await;
                    observe(name, &context, began, result.as_ref().err());
                    if result.is_ok() {
                        failures.forget(&key);
                    }
                    result
                }
            },
            move |object, error, _| {
                let key = ObjectRef::from_obj(&*object);
                let retry = on_failure.next(key.clone());
                tracing::warn!(
                    controller = name,
                    object = %key,
                    reason = error.reason(),
                    %error,
                    retry_seconds = retry.as_secs(),
                    "reconciliation failed"
                );
                Action::requeue(retry)
            },
            Arc::new(context),
        )
        .for_each(|result| {
            match result {
                // A failure was told above; an object may be deleted between its event and its turn.
                Ok(_) | Err(Error::ReconcilerFailed(..) | Error::ObjectNotFound(_)) => {}
                Err(error) => {
                    tracing::warn!(controller = name, %error, "a watch failed and is taken up again");
                }
            }
            futures::future::ready(())
        })
        .await;
}

fn observe<E: Reason>(name: &'static str, context: &Context, began: std::time::Instant, error: Option<&E>) {
    let outcome = error.map_or("ok", Reason::reason);
    let labels = Reconciliation { controller: name.to_owned(), outcome: outcome.to_owned() };
    context.metrics.reconciliations.get_or_create(&labels).inc();
    let label = ControllerLabel { controller: name.to_owned() };
    context.metrics.durations.get_or_create(&label).observe(began.elapsed().as_secs_f64());
}

/// How often in a row each object failed.
struct Failures<K: Resource<DynamicType = ()>>(
    std::sync::Mutex<HashMap<ObjectRef<DeserializeGuard<K>>, u32>>,
);

impl<K: Resource<DynamicType = ()>> Default for Failures<K> {
    fn default() -> Self {
        Self(std::sync::Mutex::default())
    }
}

impl<K: Resource<DynamicType = ()>> Failures<K>
where
    DeserializeGuard<K>: Lookup<DynamicType = ()>,
{
    fn next(&self, key: ObjectRef<DeserializeGuard<K>>) -> Duration {
        let mut failures = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let count = failures.entry(key).or_default();
        let retry = back_off(*count);
        *count += 1;
        retry
    }

    fn forget(&self, key: &ObjectRef<DeserializeGuard<K>>) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(key);
    }
}

fn back_off(failures: u32) -> Duration {
    FIRST_RETRY.saturating_mul(2_u32.saturating_pow(failures)).min(LAST_RETRY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_double_up_to_two_minutes() {
        let seconds: Vec<_> = (0..9).map(|failures| back_off(failures).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 120, 120]);
        assert_eq!(back_off(u32::MAX), LAST_RETRY);
    }
}
