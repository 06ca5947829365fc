//! How much one configuration can hold. etcd takes no object of more than 1.5 MiB, and a configuration that is too large
//! would be refused as a whole, so whatever does not fit is left out by name. Asked by `build`.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter::once,
};

use k8s_openapi::api::admissionregistration::v1::{ValidatingWebhook, ValidatingWebhookConfiguration};
use serde::Serialize;

use super::NAMESPACE_NAME;

/// Bytes of what is stored. The rest is for what the API server adds, and for what is in force beyond it.
pub(super) const ROOM: usize = 1024 * 1024;

/// Bytes of an entry beside its selectors: rules, conditions, who owns which field, and a bundle of three certificates,
/// as many as there are while an authority is followed by the next. So a new authority pushes nobody out.
const ENTRY: usize = 4 * 1024;

/// The namespaces and entries that there is room for in so many bytes. What `live` has in force stays, whatever that
/// takes: the API server has room for it, and nothing that is enforced is ever given up for something new.
pub(super) fn taken(
    room: usize,
    namespaces: &BTreeMap<String, bool>,
    alone: &BTreeMap<String, ValidatingWebhook>,
    live: Option<&ValidatingWebhookConfiguration>,
) -> BTreeSet<String> {
    let in_force = in_force(live);
    // Quotation marks and a comma.
    let listed = namespaces.keys().map(|namespace| (namespace, namespace.len() + 3));
    let entries = alone.iter().map(|(name, webhook)| {
        let selectors = json_length(&webhook.namespace_selector) + json_length(&webhook.object_selector);
        (name, ENTRY + selectors)
    });
    let (staying, coming): (Vec<_>, Vec<_>) =
        listed.chain(entries).partition(|(place, _)| in_force.contains(place.as_str()));
    let mut room = room.saturating_sub(staying.iter().map(|(_, size)| size).sum());
    let fitting = coming.into_iter().filter(|(_, size)| match room.checked_sub(*size) {
        Some(rest) => {
            room = rest;
            true
        }
        None => false,
    });
    staying.into_iter().chain(fitting).map(|(place, _)| place.clone()).collect()
}

/// Names of entries, and of the namespaces that they list.
fn in_force(live: Option<&ValidatingWebhookConfiguration>) -> BTreeSet<&str> {
    let webhooks = live.and_then(|live| live.webhooks.as_deref()).unwrap_or_default().iter();
    let places = webhooks.flat_map(|webhook| {
        let selector = webhook.namespace_selector.as_ref();
        let requirements = selector.and_then(|selector| selector.match_expressions.as_deref());
        let listing = requirements
            .unwrap_or_default()
            .iter()
            .filter(|requirement| requirement.key == NAMESPACE_NAME && requirement.operator == "In");
        let namespaces = listing.flat_map(|requirement| requirement.values.iter().flatten());
        namespaces.chain(once(&webhook.name)).map(String::as_str)
    });
    places.collect()
}

fn json_length(value: &impl Serialize) -> usize {
    serde_json::to_string(value).map_or(0, |json| json.len())
}
