//! Events for people: one when the state of an object changes, none while it stays.

use kube::{
    Resource,
    runtime::events::{Event, EventType},
};

use crate::Context;

/// Publishes an event about `object`. An event that cannot be written stops nothing.
pub async fn publish<K: Resource<DynamicType = ()>>(
    context: &Context,
    object: &K,
    type_: EventType,
    reason: &str,
    note: &str,
) {
    let event = Event {
        type_,
        reason: reason.to_owned(),
        note: Some(note.chars().take(1000).collect()),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    if let Err(error) = context.recorder.publish(&event, &object.object_ref(&())).await {
        tracing::debug!(%error, reason, "an event could not be written");
    }
}
