//! Every CEL rule: what it lets pass, and what it says when it refuses (R-OPR-1, R-OPR-5, R-OPR-6).
//! The same rules meet a real API server in the cluster tests.

#![allow(clippy::unwrap_used)]

use berth_crds::{CustomResourceExt, ImagePolicy, Registry, ReplicationPolicy};
use kube::core::cel::Validator;
use rstest::rstest;
use serde_json::{Value, json};

/// The messages of the rules that refuse `spec`.
fn refusals<K: CustomResourceExt>(name: &str, spec: &Value, old: Option<&Value>) -> Vec<String> {
    let definition = K::crd();
    let schema = definition.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
    let schema = serde_json::to_value(schema).unwrap();
    let object = |spec: &Value| json!({"metadata": {"name": name}, "spec": spec});
    let old = old.map(object);
    match Validator::new().validate(&schema, &object(spec), old.as_ref()) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.into_iter().map(|error| error.message).collect(),
    }
}

#[track_caller]
fn expect<K: CustomResourceExt>(spec: &Value, old: Option<&Value>, refusal: &str) {
    let refusals = refusals::<K>("sample", spec, old);
    if refusal.is_empty() {
        assert!(refusals.is_empty(), "{spec} is refused: {refusals:?}");
    } else {
        assert!(refusals.iter().any(|message| message.contains(refusal)), "{spec}: {refusals:?}");
    }
}

const OK: &str = "";

#[rstest]
#[case("a", true)]
#[case("registry-2", true)]
#[case("2-registry", false)]
#[case("team.registry", false)]
#[case("a234567890123456789012345678901234567890", true)]
#[case("a2345678901234567890123456789012345678901", false)]
fn names(#[case] name: &str, #[case] valid: bool) {
    let refusals = refusals::<Registry>(name, &json!({"storage": {"memory": {}}}), None);
    assert_eq!(refusals.is_empty(), valid, "{name}: {refusals:?}");
}

#[rstest]
#[case(json!({"memory": {}}), OK)]
#[case(json!({"s3": {"bucket": "abc"}}), OK)]
#[case(json!({"gcs": {"bucket": "abc"}}), OK)]
#[case(json!({"azure": {"account": "abc", "container": "abc"}}), OK)]
#[case(json!({"gcs": {"bucket": "abc"}, "azure": {"account": "abc", "container": "abc"}}), "exactly one of s3, gcs, azure, volume and memory")]
#[case(json!({"s3": {"bucket": "abc"}, "gcs": {"bucket": "abc"}}), "exactly one of s3, gcs, azure, volume and memory")]
#[case(json!({"volume": {"size": "1Gi"}}), OK)]
#[case(json!({"volume": {"size": "1Gi", "storageClassName": "fast"}}), OK)]
#[case(json!({"volume": {"claimName": "data"}}), OK)]
#[case(json!({}), "exactly one of s3, gcs, azure, volume and memory")]
#[case(json!({"memory": {}, "s3": {"bucket": "abc"}}), "exactly one of s3, gcs, azure, volume and memory")]
#[case(json!({"volume": {}}), "exactly one of size and claimName")]
#[case(json!({"volume": {"size": "1Gi", "claimName": "data"}}), "exactly one of size and claimName")]
#[case(json!({"volume": {"claimName": "data", "storageClassName": "fast"}}), "storageClassName belongs to size")]
fn storage_members(#[case] storage: Value, #[case] refusal: &str) {
    expect::<Registry>(&json!({"storage": storage}), None, refusal);
}

#[rstest]
#[case(json!({"s3": {"bucket": "abc"}}), json!({"s3": {"bucket": "other"}}), OK)]
#[case(json!({"s3": {"bucket": "abc"}}), json!({"memory": {}}), "kind of storage cannot be changed")]
#[case(json!({"s3": {"bucket": "abc"}}), json!({"gcs": {"bucket": "abc"}}), "kind of storage cannot be changed")]
#[case(json!({"gcs": {"bucket": "abc"}}), json!({"gcs": {"bucket": "abc", "credentials": {"secretName": "a"}}}), OK)]
#[case(json!({"gcs": {"bucket": "abc"}}), json!({"azure": {"account": "abc", "container": "abc"}}), "kind of storage cannot be changed")]
#[case(json!({"azure": {"account": "abc", "container": "abc"}}), json!({"azure": {"account": "abc", "container": "abc", "credentials": {"secretName": "a"}}}), OK)]
#[case(json!({"azure": {"account": "abc", "container": "abc"}}), json!({"memory": {}}), "kind of storage cannot be changed")]
#[case(json!({"memory": {}}), json!({"volume": {"size": "1Gi"}}), "kind of storage cannot be changed")]
#[case(json!({"volume": {"size": "1Gi"}}), json!({"volume": {"size": "2Gi"}}), OK)]
#[case(json!({"volume": {"size": "2Gi"}}), json!({"volume": {"size": "1Gi"}}), "can grow, not shrink")]
#[case(json!({"volume": {"size": "1Gi"}}), json!({"volume": {"claimName": "a"}}), "cannot be exchanged")]
#[case(json!({"volume": {"claimName": "a"}}), json!({"volume": {"claimName": "b"}}), "cannot be exchanged")]
#[case(json!({"volume": {"size": "1Gi"}}), json!({"volume": {"size": "1Gi", "storageClassName": "a"}}), "cannot be exchanged")]
fn storage_changes(#[case] old: Value, #[case] new: Value, #[case] refusal: &str) {
    expect::<Registry>(&json!({"storage": new}), Some(&json!({"storage": old})), refusal);
}

#[rstest]
#[case(json!({"replicas": 2, "storage": {"s3": {"bucket": "abc"}}}), OK)]
#[case(json!({"replicas": 2, "storage": {"gcs": {"bucket": "abc"}}}), OK)]
#[case(json!({"replicas": 2, "storage": {"azure": {"account": "abc", "container": "abc"}}}), OK)]
#[case(json!({"replicas": 1, "storage": {"memory": {}}}), OK)]
#[case(json!({"replicas": 0, "storage": {"volume": {"size": "1Gi"}}}), OK)]
#[case(json!({"replicas": 2, "storage": {"memory": {}}}), "more than one replica needs storage.s3")]
#[case(json!({"replicas": 2, "storage": {"volume": {"claimName": "a"}}}), "more than one replica needs storage.s3")]
fn replicas(#[case] spec: Value, #[case] refusal: &str) {
    expect::<Registry>(&spec, None, refusal);
}

#[rstest]
#[case(json!({"priority": 1, "tagPatterns": ["v*"], "keepLast": 10}), OK)]
#[case(json!({"priority": 1, "tagPatterns": ["v*"], "tagStatus": "Tagged", "keepLast": 10}), OK)]
#[case(json!({"priority": 1, "tagStatus": "Untagged", "olderThan": "14d"}), OK)]
#[case(json!({"priority": 1, "tagStatus": "Any"}), "exactly one of keepLast and olderThan")]
#[case(json!({"priority": 1, "tagStatus": "Any", "keepLast": 1, "olderThan": "1d"}), "exactly one of keepLast and olderThan")]
#[case(json!({"priority": 1, "keepLast": 1}), "says which images it means")]
#[case(json!({"priority": 1, "tagPatterns": ["v*"], "tagStatus": "Untagged", "keepLast": 1}), "only with tagStatus Tagged")]
fn lifecycle_rules(#[case] rule: Value, #[case] refusal: &str) {
    let spec = json!({"storage": {"memory": {}}, "lifecycle": {"schedule": "0 3 * * *", "rules": [rule]}});
    expect::<Registry>(&spec, None, refusal);
}

#[rstest]
#[case(json!({"undeleteWindow": "14d", "scrubSchedule": "0 4 * * 0"}), OK)]
#[case(json!({"schedule": "0 3 * * *"}), "schedule and rules go together")]
#[case(json!({"rules": [{"priority": 1, "tagStatus": "Any", "keepLast": 1}]}), "schedule and rules go together")]
fn lifecycle_schedules(#[case] lifecycle: Value, #[case] refusal: &str) {
    expect::<Registry>(&json!({"storage": {"memory": {}}, "lifecycle": lifecycle}), None, refusal);
}

#[rstest]
#[case(json!({"s3": {"bucket": "abc"}}), OK)]
#[case(json!({"gcs": {"bucket": "abc"}}), OK)]
#[case(json!({"azure": {"account": "abc", "container": "abc"}}), OK)]
#[case(json!({"memory": {}}), "redirects needs storage.s3")]
fn redirects_lead_to_a_bucket(#[case] storage: Value, #[case] refusal: &str) {
    let spec = json!({"storage": storage, "redirects": {"networks": ["10.0.0.0/8"]}});
    expect::<Registry>(&spec, None, refusal);
}

#[rstest]
#[case(json!({"users": {"secretName": "users"}, "pullOnlyUsers": ["node"], "enforceImagePolicies": true}), OK)]
#[case(json!({"anonymous": "Pull", "enforceImagePolicies": true}), OK)]
#[case(json!({"pullOnlyUsers": ["node"]}), "pullOnlyUsers names some of the users")]
fn who_may_only_pull_is_a_user(#[case] access: Value, #[case] refusal: &str) {
    expect::<Registry>(&json!({"storage": {"memory": {}}, "access": access}), None, refusal);
}

#[rstest]
#[case(json!({"labels": {"azure.workload.identity/use": "true"}}), OK)]
#[case(json!({"labels": {"app.kubernetes.io/name": "mine"}}), "are Berth's own")]
#[case(json!({"labels": {"berth.dev/registry": "mine"}}), "are Berth's own")]
#[case(json!({"serviceAccountAnnotations": {"iam.gke.io/gcp-service-account": "a@b"}}), OK)]
fn labels_of_pods(#[case] pod: Value, #[case] refusal: &str) {
    expect::<Registry>(&json!({"storage": {"memory": {}}, "pod": pod}), None, refusal);
}

#[rstest]
#[case(json!({"source": {"registry": "a"}, "destination": {"registry": "b"}}), OK)]
#[case(json!({"source": {"registry": "a"}, "destination": {"url": "https://b", "credentials": {"secretName": "s"}}}), OK)]
#[case(json!({"source": {}, "destination": {"registry": "b"}}), "exactly one of registry and url")]
#[case(json!({"source": {"registry": "a", "url": "https://a"}, "destination": {"registry": "b"}}), "exactly one of registry and url")]
#[case(json!({"source": {"registry": "a", "ca": {"secretName": "s"}}, "destination": {"registry": "b"}}), "credentials and ca belong to url")]
#[case(json!({"source": {"registry": "a", "credentials": {"secretName": "s"}}, "destination": {"registry": "b"}}), "credentials and ca belong to url")]
#[case(json!({"source": {"registry": "a"}, "destination": {"registry": "a"}}), "same Registry")]
#[case(json!({"source": {"registry": "a"}, "destination": {"registry": "a"}, "rewrite": {"prefix": "m/"}}), OK)]
#[case(json!({"source": {"url": "https://a"}, "destination": {"url": "https://a"}}), "same URL")]
#[case(json!({"source": {"registry": "a"}, "destination": {"registry": "b"}, "trigger": {"onPush": true}}), OK)]
#[case(json!({"source": {"url": "https://a"}, "destination": {"registry": "b"}, "trigger": {"interval": "1h"}}), OK)]
#[case(json!({"source": {"url": "https://a"}, "destination": {"registry": "b"}, "trigger": {"onPush": true}}), "onPush needs source.registry")]
fn replication(#[case] spec: Value, #[case] refusal: &str) {
    expect::<ReplicationPolicy>(&spec, None, refusal);
}

fn policy(signature: &Value) -> Value {
    json!({"mode": "Enforce", "images": ["**"], "require": [{"signature": signature}]})
}

#[rstest]
#[case(json!({"authorities": [{"name": "a", "key": {"secretName": "s"}}]}), OK)]
#[case(json!({"threshold": 1, "authorities": [{"name": "a", "key": {"pem": "p"}}]}), OK)]
#[case(json!({"threshold": 2, "authorities": [{"name": "a", "key": {"pem": "p"}}]}), "greater than the number of authorities")]
#[case(json!({"authorities": [{"name": "a", "key": {}}]}), "exactly one of pem and secretName")]
#[case(json!({"authorities": [{"name": "a", "key": {"pem": "p", "secretName": "s"}}]}), "exactly one of pem and secretName")]
fn signatures(#[case] signature: Value, #[case] refusal: &str) {
    expect::<ImagePolicy>(&policy(&signature), None, refusal);
}

#[rstest]
#[case(json!({"images": ["**"]}), "only a policy with unmatched: Deny may ask for nothing")]
#[case(json!({"images": ["**"], "unmatched": "Allow"}), "only a policy with unmatched: Deny may ask for nothing")]
#[case(json!({"images": ["r.io/**"], "unmatched": "Deny"}), OK)]
#[case(json!({"images": ["**"], "require": [{"digest": {}}]}), OK)]
#[case(json!({"images": ["**"], "require": [{"digest": {}, "signature": {"authorities": [{"name": "a", "key": {"pem": "p"}}]}}]}), "exactly one member")]
#[case(json!({"images": ["**"], "require": [{"attestation": {"predicateType": "t", "authorities": [{"name": "a", "key": {"pem": "p"}}]}}]}), OK)]
#[case(json!({"images": ["**"], "require": [{"attestation": {"predicateType": "t", "threshold": 2, "authorities": [{"name": "a", "key": {"pem": "p"}}]}}]}), "greater than the number of authorities")]
fn what_a_policy_asks_for(#[case] mut spec: Value, #[case] refusal: &str) {
    spec["mode"] = json!("Enforce");
    expect::<ImagePolicy>(&spec, None, refusal);
}

#[rstest]
#[case(json!({"keyless": {"issuer": "i", "subject": "s", "trustRoot": {"secretName": "r"}}}), OK)]
#[case(json!({"keyless": {"issuerRegex": "i", "subjectRegex": "s", "trustRoot": {"secretName": "r"}}}), OK)]
#[case(json!({"keyless": {"subject": "s", "trustRoot": {"secretName": "r"}}}), "exactly one of issuer and issuerRegex")]
#[case(json!({"keyless": {"issuer": "i", "issuerRegex": "i", "subject": "s", "trustRoot": {"secretName": "r"}}}), "exactly one of issuer and issuerRegex")]
#[case(json!({"keyless": {"issuer": "i", "trustRoot": {"secretName": "r"}}}), "exactly one of subject and subjectRegex")]
#[case(json!({"keyless": {"issuer": "i", "subject": "s", "subjectRegex": "s", "trustRoot": {"secretName": "r"}}}), "exactly one of subject and subjectRegex")]
#[case(json!({"certificate": {"authorities": {"secretName": "c"}, "subject": "s"}}), OK)]
#[case(json!({"certificate": {"authorities": {"secretName": "c"}}}), "exactly one of subject and subjectRegex")]
#[case(json!({"certificate": {"authorities": {}, "subject": "s"}}), "certificates take exactly one of pem and secretName")]
#[case(json!({"notation": {"trustStore": {"secretName": "c"}, "identities": ["*"]}}), OK)]
#[case(json!({"notation": {"trustStore": {"secretName": "c"}, "identities": ["*"], "timestampAuthorities": {"pem": "p", "secretName": "c"}}}), "certificates take exactly one of pem and secretName")]
#[case(json!({}), "exactly one of key, keyless, certificate and notation")]
#[case(json!({"key": {"pem": "p"}, "notation": {"trustStore": {"secretName": "c"}, "identities": ["*"]}}), "exactly one of key, keyless, certificate and notation")]
fn authorities(#[case] mut authority: Value, #[case] refusal: &str) {
    authority["name"] = json!("a");
    expect::<ImagePolicy>(&policy(&json!({"authorities": [authority]})), None, refusal);
    let attestation = json!({"attestation": {"predicateType": "t", "authorities": [authority]}});
    expect::<ImagePolicy>(
        &json!({"mode": "Warn", "images": ["**"], "require": [attestation]}),
        None,
        refusal,
    );
}

#[test]
fn an_empty_requirement_is_refused() {
    expect::<ImagePolicy>(
        &json!({"mode": "Warn", "images": ["**"], "require": [{}]}),
        None,
        "exactly one member",
    );
}

#[rstest]
#[case(json!({"key": "env", "operator": "In", "values": ["prod"]}), OK)]
#[case(json!({"key": "env", "operator": "Exists"}), OK)]
#[case(json!({"key": "env", "operator": "In"}), "In and NotIn take values")]
#[case(json!({"key": "env", "operator": "DoesNotExist", "values": ["prod"]}), "In and NotIn take values")]
fn selectors(#[case] expression: Value, #[case] refusal: &str) {
    let spec = policy(&json!({"authorities": [{"name": "a", "key": {"secretName": "s"}}]}));
    for field in ["namespaces", "objects"] {
        let mut spec = spec.clone();
        spec[field] = json!({"matchExpressions": [expression]});
        expect::<ImagePolicy>(&spec, None, refusal);
    }
}
