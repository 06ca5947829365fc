//! What every controller does with an object that is stored and does not parse: it stays as it is, and its status says
//! so. The conditions in it cannot be read through the type either, so they are read and written without it.

use berth_operator_core::conditions::State;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{
    Api, Resource,
    api::{Patch, PatchParams},
    core::{ApiResource, DeserializeGuard, DynamicObject, error_boundary::InvalidObject},
    runtime::events::EventType,
};
use serde_json::json;

use crate::{Context, events, field_managers};

/// As much of a parser's words as fits into a condition beside the cure.
const MAX_CAUSE: usize = 300;

/// What is wrong with the object, in bounded length.
pub(crate) fn cause(invalid: &InvalidObject) -> String {
    invalid.error.chars().take(MAX_CAUSE).collect()
}

/// Writes the conditions of `state`, unless they say so already, and an event when they did not.
pub(crate) async fn write<K>(
    context: &Context,
    invalid: &InvalidObject,
    state: &State,
) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = ()>,
{
    let meta = &invalid.metadata;
    let (Some(namespace), Some(name)) = (&meta.namespace, &meta.name) else { return Ok(()) };
    let resource = ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), namespace, &resource);
    let Some(object) = api.get_opt(name).await? else { return Ok(()) };
    let before = object.data.pointer("/status/conditions").cloned().unwrap_or_default();
    let before: Vec<Condition> = serde_json::from_value(before).unwrap_or_default();
    let conditions = state.conditions(meta.generation, &before, &Time(Timestamp::now()));
    if conditions == before {
        return Ok(());
    }
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": name, "namespace": namespace},
        "status": {"observedGeneration": meta.generation, "conditions": conditions},
    });
    let parameters = PatchParams::apply(field_managers::STATUS).force();
    api.patch_status(name, &parameters, &Patch::Apply(body)).await?;
    let subject = DeserializeGuard::<K>(Err(invalid.clone()));
    events::publish(context, &subject, EventType::Warning, state.reason(), state.message()).await;
    Ok(())
}
