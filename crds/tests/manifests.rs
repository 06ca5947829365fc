//! The generated definitions are checked in, complete and bounded.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use berth_crds::{SCHEMA, SCHEMA_ANNOTATION, definitions};
use serde_json::Value;

/// Regenerate with `BERTH_UPDATE=1 cargo test -p berth-crds`.
#[test]
fn checked_in_manifests_are_those_of_the_types() {
    for definition in definitions() {
        let name = definition.metadata.name.clone().unwrap();
        let file = format!("{}.yaml", name.split('.').next().unwrap());
        let yaml = format!(
            "# Generated from crds/src; change the types and run: BERTH_UPDATE=1 cargo test -p berth-crds\n{}",
            serde_yaml::to_string(&definition).unwrap()
        );
        // For kubectl, and for helm.
        for folder in ["manifests", "../charts/berth-crds/templates"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(&file);
            if std::env::var_os("BERTH_UPDATE").is_some() {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, &yaml).unwrap();
            }
            let stored = fs::read_to_string(&path).unwrap_or_default();
            assert!(stored == yaml, "{folder}/{file} is stale: run BERTH_UPDATE=1 cargo test -p berth-crds");
        }
        let annotations = definition.metadata.annotations.unwrap_or_default();
        assert_eq!(annotations.get(SCHEMA_ANNOTATION).map(String::as_str), Some(SCHEMA));
    }
}

/// Argo CD shows an object out of sync for ever when the API server fills in defaults.
#[test]
fn nothing_is_defaulted() {
    walk_all(&mut |path, schema| assert!(schema.get("default").is_none(), "{path} has a default"));
}

/// CEL's cost is estimated from bounds, and nobody shall fill etcd with one object.
#[test]
fn everything_is_bounded() {
    walk_all(&mut |path, schema| {
        let has = |key: &str| schema.get(key).is_some();
        let known = has("properties");
        match schema.get("type").and_then(Value::as_str) {
            Some("array") => assert!(has("maxItems"), "{path} has no maxItems"),
            Some("string") => assert!(
                has("maxLength") || has("enum") || has("format") || top_level(path),
                "{path} has no maxLength"
            ),
            Some("object") if !known && has("additionalProperties") => {
                assert!(has("maxProperties"), "{path} has no maxProperties");
            }
            _ => {}
        }
    });
}

#[test]
fn everything_is_described() {
    walk_all(&mut |path, schema| {
        let is_field = !path.ends_with("[]")
            && !path.ends_with("{}")
            && !path.contains(".conditions")
            && !top_level(path);
        assert!(!is_field || schema.get("description").is_some(), "{path} has no description");
    });
}

fn top_level(path: &str) -> bool {
    path.matches('.').count() <= 1
}

fn walk_all(check: &mut dyn FnMut(&str, &Value)) {
    for definition in definitions() {
        let kind = definition.spec.names.kind.clone();
        for version in &definition.spec.versions {
            let schema = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
            walk(&kind, &serde_json::to_value(schema).unwrap(), check);
        }
    }
}

fn walk(path: &str, schema: &Value, check: &mut dyn FnMut(&str, &Value)) {
    check(path, schema);
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        walk(&format!("{path}.{name}"), property, check);
    }
    if let Some(items) = schema.get("items") {
        walk(&format!("{path}[]"), items, check);
    }
    if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
        walk(&format!("{path}{{}}"), values, check);
    }
}
