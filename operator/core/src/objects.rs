//! What all children of Berth's objects have in common: labels, the owner, and the test whether a live object is
//! already as it shall be. `apply` in the operator rests on that test to write nothing twice.

use std::collections::BTreeMap;

use berth_crds::{Registry, ReplicationPolicy, Resource};
use berth_registry_core::Digest;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Serialize;
use serde_json::Value;

/// Marks all children of a Registry; the value is its name.
pub const REGISTRY_LABEL: &str = "berth.dev/registry";

/// Marks all children of a `ReplicationPolicy`; the value is its name.
pub const REPLICATION_LABEL: &str = "berth.dev/replication-policy";

/// Everything that Berth makes carries `app.kubernetes.io/managed-by=berth`.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "berth");

/// Annotation of a child: the hash of what was applied. A field that is no longer wanted shows only here.
pub const APPLIED_HASH: &str = "berth.dev/applied";

/// Whose children something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `apiVersion` of the owner.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace, and that of its children.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The label that its children carry.
    pub label: &'static str,
    /// `app.kubernetes.io/name` of its children.
    pub application: &'static str,
}

impl Owner {
    /// The owner that a Registry is; `None` if the API server has not named it yet.
    pub fn registry(registry: &Registry) -> Option<Self> {
        Self::of(registry, REGISTRY_LABEL, "berth-registry")
    }

    /// The owner that a `ReplicationPolicy` is; `None` if the API server has not named it yet.
    pub fn replication_policy(policy: &ReplicationPolicy) -> Option<Self> {
        Self::of(policy, REPLICATION_LABEL, "berth-replication")
    }

    fn of<K: Resource<DynamicType = ()>>(
        object: &K,
        label: &'static str,
        application: &'static str,
    ) -> Option<Self> {
        let meta = object.meta();
        Some(Self {
            api_version: K::api_version(&()).into_owned(),
            kind: K::kind(&()).into_owned(),
            namespace: meta.namespace.clone()?,
            name: meta.name.clone()?,
            uid: meta.uid.clone()?,
            label,
            application,
        })
    }

    /// Selects the children.
    pub fn selector(&self) -> String {
        format!("{},{}={}", selector(), self.label, self.name)
    }

    /// Labels of each child.
    pub fn labels(&self) -> BTreeMap<String, String> {
        labels(&[
            ("app.kubernetes.io/name", self.application),
            ("app.kubernetes.io/instance", &self.name),
            MANAGED_BY,
            (self.label, &self.name),
        ])
    }

    /// Metadata of the child `name`, which goes when the owner goes.
    pub fn child(&self, name: String) -> ObjectMeta {
        ObjectMeta {
            owner_references: Some(vec![OwnerReference {
                api_version: self.api_version.clone(),
                kind: self.kind.clone(),
                name: self.name.clone(),
                uid: self.uid.clone(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..self.survivor(name)
        }
    }

    /// Metadata of an object that stays when the owner goes.
    pub fn survivor(&self, name: String) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.labels()),
            ..ObjectMeta::default()
        }
    }
}

/// Selects everything that Berth made.
pub fn selector() -> String {
    format!("{}={}", MANAGED_BY.0, MANAGED_BY.1)
}

/// A map of labels.
pub fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Whether an owner's uid stands in the owner references.
pub fn is_owned_by(meta: &ObjectMeta, uid: &str) -> bool {
    meta.owner_references.iter().flatten().any(|owner| owner.uid == uid)
}

/// The first 16 hex digits of the SHA-256 of an object's JSON, whose maps are sorted.
pub fn hash(object: &impl Serialize) -> String {
    let value = serde_json::to_value(object).unwrap_or_default();
    Digest::sha256(value.to_string().as_bytes()).hex().chars().take(16).collect()
}

/// Notes on a desired object what it is, so that [`is_as_desired`] can tell later.
pub fn sealed<K: Resource + Serialize + Clone>(desired: &K) -> K {
    let mut sealed = desired.clone();
    let hash = hash(desired);
    sealed.meta_mut().annotations.get_or_insert_default().insert(APPLIED_HASH.to_owned(), hash);
    sealed
}

/// Whether a live object was last applied from `desired`, whatever became of it since.
pub fn was_applied<K: Resource + Serialize>(live: &K, desired: &K) -> bool {
    let applied = live.meta().annotations.as_ref().and_then(|annotations| annotations.get(APPLIED_HASH));
    applied == Some(&hash(desired))
}

/// Whether a live object was last applied from `desired` and nobody has changed a field of it since.
pub fn is_as_desired<K: Resource + Serialize>(live: &K, desired: &K) -> bool {
    if !was_applied(live, desired) {
        return false;
    }
    match (serde_json::to_value(live), serde_json::to_value(desired)) {
        (Ok(live), Ok(desired)) => covers(&live, &desired),
        _ => false,
    }
}

/// Whether all of `desired` is in `live`, which may have more: what the API server fills in and what others own.
fn covers(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (_, Value::Null) => true,
        (Value::Object(live), Value::Object(desired)) => desired
            .iter()
            .all(|(key, value)| value.is_null() || live.get(key).is_some_and(|live| covers(live, value))),
        (Value::Array(live), Value::Array(desired)) => {
            live.len() == desired.len()
                && live.iter().zip(desired).all(|(live, desired)| covers(live, desired))
        }
        (live, desired) => live == desired,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case(json!({"a": 1, "b": 2}), json!({"a": 1}), true)]
    #[case(json!({"a": 1}), json!({"a": 2}), false)]
    #[case(json!({}), json!({"a": 1}), false)]
    #[case(json!({}), json!({"a": null}), true)]
    #[case(json!({"l": [{"a": 1, "filled": 1}]}), json!({"l": [{"a": 1}]}), true)]
    #[case(json!({"l": [1, 2]}), json!({"l": [1]}), false)]
    #[case(json!({"l": [2, 1]}), json!({"l": [1, 2]}), false)]
    fn what_the_server_fills_in_is_no_difference(
        #[case] live: Value,
        #[case] desired: Value,
        #[case] expected: bool,
    ) {
        assert_eq!(covers(&live, &desired), expected);
    }

    #[test]
    fn a_field_that_is_no_longer_wanted_is_a_difference() {
        let with = |keys: &[(&str, &str)]| ConfigMap { data: Some(labels(keys)), ..ConfigMap::default() };
        let live = sealed(&with(&[("a", "1"), ("b", "2")]));
        assert!(is_as_desired(&live, &with(&[("a", "1"), ("b", "2")])));
        assert!(!is_as_desired(&live, &with(&[("a", "1")])));
    }
}
