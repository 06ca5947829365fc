//! What the API server refuses, and with which words: each rule of the three kinds on a real API server.

use berth_e2e::ensure;
use berth_e2e::fixtures::{Outcome, Team, story};
use serde_json::{Value, json};

/// Kind, spec, and the two things that the refusal names: the field, and the reason.
type Case = (&'static str, Value, &'static str, &'static str);

/// R-OPR-1, R-OPR-5, R-OPR-6: nonsense is refused when it is applied, with the field and the reason.
#[test]
fn nonsense_is_refused_with_field_and_reason() -> Outcome {
    story(|story| {
        let team = story.team("invalid")?;
        for (kind, spec, field, reason) in registries().into_iter().chain(replications()).chain(policies()) {
            let manifest = json!({
                "apiVersion": "berth.dev/v1alpha1",
                "kind": kind,
                "metadata": {"name": "nonsense"},
                "spec": spec,
            });
            let words = team.refused(&manifest)?;
            ensure!(
                words.contains(field) && words.contains(reason),
                "{spec}: no {field:?} or {reason:?} in: {words}"
            );
        }
        for name in ["2-registry", "team.registry", "a2345678901234567890123456789012345678901"] {
            let words = team.refused(&json!({
                "apiVersion": "berth.dev/v1alpha1",
                "kind": "Registry",
                "metadata": {"name": name},
                "spec": {"storage": {"memory": {}}},
            }))?;
            ensure!(words.contains("metadata.name must be a DNS label"), "{name}: {words}");
        }
        Ok(())
    })
}

/// R-OPR-1, R-STO-1: what would lose content is refused when it is changed.
#[test]
fn storage_cannot_be_exchanged() -> Outcome {
    story(|story| {
        let team = story.team("samples")?;
        let volume = |size: &str| json!({"volume": {"size": size}});
        let kinds = [
            ("memory", json!({"memory": {}})),
            ("bucket", json!({"s3": {"bucket": "abc"}})),
            ("volume", volume("2Gi")),
            ("claim", json!({"volume": {"claimName": "a"}})),
        ];
        for (name, storage) in &kinds {
            team.apply(&json!({
                "apiVersion": "berth.dev/v1alpha1",
                "kind": "Registry",
                "metadata": {"name": name},
                // Paused: only the object matters here.
                "spec": {"storage": storage, "paused": true},
            }))?;
        }
        changes(&team, "bucket", &json!({"s3": {"bucket": "other"}}), None)?;
        changes(&team, "volume", &volume("3Gi"), None)?;
        changes(&team, "bucket", &json!({"memory": {}}), Some("kind of storage cannot be changed"))?;
        changes(&team, "memory", &volume("1Gi"), Some("kind of storage cannot be changed"))?;
        changes(&team, "volume", &volume("1Gi"), Some("can grow, not shrink"))?;
        changes(&team, "volume", &json!({"volume": {"claimName": "a"}}), Some("cannot be exchanged"))?;
        changes(&team, "claim", &json!({"volume": {"claimName": "b"}}), Some("cannot be exchanged"))?;
        let class = json!({"volume": {"size": "2Gi", "storageClassName": "fast"}});
        changes(&team, "volume", &class, Some("cannot be exchanged"))
    })
}

fn changes(team: &Team<'_>, name: &str, storage: &Value, refusal: Option<&str>) -> Outcome {
    let patch = json!([{"op": "replace", "path": "/spec/storage", "value": storage}]).to_string();
    let done =
        team.kubectl(&["patch", "registry", name, "--dry-run=server", "--type=json", "--patch", &patch]);
    match (done, refusal) {
        (Ok(_), None) => Ok(()),
        (Err(error), Some(reason)) => {
            let words = error.stderr();
            ensure!(words.contains("spec.storage") && words.contains(reason), "{name} to {storage}: {words}");
            Ok(())
        }
        (Ok(_), Some(reason)) => Err(berth_e2e::fixtures::Failure::new(format!(
            "{name} to {storage} should have been refused: {reason}"
        ))),
        (Err(error), None) => Err(error.into()),
    }
}

fn registries() -> Vec<Case> {
    let storage = |storage: Value, field, reason| ("Registry", json!({"storage": storage}), field, reason);
    let rule = |rule: Value, reason| {
        let lifecycle = json!({"schedule": "0 3 * * *", "rules": [rule]});
        let spec = json!({"storage": {"memory": {}}, "lifecycle": lifecycle});
        ("Registry", spec, "spec.lifecycle.rules[0]", reason)
    };
    vec![
        ("Registry", json!({}), "spec.storage", "Required"),
        storage(json!({}), "spec.storage", "exactly one of s3, gcs, azure, volume and memory"),
        storage(
            json!({"memory": {}, "s3": {"bucket": "abc"}}),
            "spec.storage",
            "exactly one of s3, gcs, azure, volume and memory",
        ),
        storage(json!({"volume": {}}), "spec.storage.volume", "exactly one of size and claimName"),
        storage(
            json!({"volume": {"size": "1Gi", "claimName": "data"}}),
            "spec.storage.volume",
            "exactly one of size and claimName",
        ),
        storage(
            json!({"volume": {"claimName": "data", "storageClassName": "fast"}}),
            "spec.storage.volume",
            "storageClassName belongs to size",
        ),
        storage(json!({"volume": {"size": "much"}}), "spec.storage.volume.size", "should match"),
        storage(json!({"s3": {"bucket": "Upper"}}), "spec.storage.s3.bucket", "should match"),
        storage(
            json!({"s3": {"bucket": "abc", "endpoint": "s3.example"}}),
            "spec.storage.s3.endpoint",
            "should match",
        ),
        (
            "Registry",
            json!({"replicas": 2, "storage": {"memory": {}}}),
            "spec",
            "more than one replica needs storage.s3",
        ),
        ("Registry", json!({"replicas": 99, "storage": {"s3": {"bucket": "abc"}}}), "spec.replicas", "32"),
        (
            "Registry",
            json!({"storage": {"memory": {}}, "access": {"anonymous": "Push"}}),
            "spec.access.anonymous",
            "supported values",
        ),
        (
            "Registry",
            json!({"storage": {"memory": {}}, "lifecycle": {"schedule": "every day", "rules": [{"priority": 1, "tagStatus": "Any", "keepLast": 1}]}}),
            "spec.lifecycle.schedule",
            "should match",
        ),
        rule(json!({"priority": 1, "tagStatus": "Any"}), "exactly one of keepLast and olderThan"),
        rule(
            json!({"priority": 1, "tagStatus": "Any", "keepLast": 1, "olderThan": "1d"}),
            "exactly one of keepLast and olderThan",
        ),
        rule(json!({"priority": 1, "keepLast": 1}), "says which images it means"),
        rule(
            json!({"priority": 1, "tagPatterns": ["v*"], "tagStatus": "Untagged", "keepLast": 1}),
            "only with tagStatus Tagged",
        ),
        rule(json!({"priority": 1, "tagStatus": "Any", "olderThan": "a week"}), "should match"),
        ("Registry", json!({"storage": {"memory": {}}, "replica": 1}), "replica", "not declared in schema"),
    ]
}

fn replications() -> Vec<Case> {
    let of = |spec: Value, field, reason| ("ReplicationPolicy", spec, field, reason);
    let one_of = "exactly one of registry and url";
    let belong = "credentials and ca belong to url";
    let secret = json!({"secretName": "s"});
    let b = json!({"registry": "b"});
    vec![
        of(json!({"source": {}, "destination": b}), "spec.source", one_of),
        of(json!({"source": {"registry": "a", "url": "https://a"}, "destination": b}), "spec.source", one_of),
        of(json!({"source": {"registry": "a", "ca": secret}, "destination": b}), "spec.source", belong),
        of(
            json!({"source": {"registry": "a"}, "destination": {"registry": "b", "credentials": secret}}),
            "spec.destination",
            belong,
        ),
        of(json!({"source": {"registry": "a"}, "destination": {"registry": "a"}}), "spec", "same Registry"),
        of(json!({"source": {"url": "https://a"}, "destination": {"url": "https://a"}}), "spec", "same URL"),
        of(
            json!({"source": {"url": "https://a"}, "destination": b, "trigger": {"onPush": true}}),
            "spec",
            "onPush needs source.registry",
        ),
        of(
            json!({"source": {"registry": "a"}, "destination": b, "trigger": {"interval": "soon"}}),
            "spec.trigger.interval",
            "should match",
        ),
        of(
            json!({"source": {"registry": "a"}, "destination": b, "rewrite": {"prefix": "mirror"}}),
            "spec.rewrite.prefix",
            "should match",
        ),
    ]
}

fn policies() -> Vec<Case> {
    let of = |mode: &str, images: Value, require: Value, field, reason| {
        ("ImagePolicy", json!({"mode": mode, "images": images, "require": require}), field, reason)
    };
    let all = || json!(["**"]);
    let signature = |signature: Value| json!([{"signature": signature}]);
    let key = |key: Value| signature(json!({"authorities": [{"name": "a", "key": key}]}));
    let good = || key(json!({"secretName": "s"}));
    let pem = "-----BEGIN PUBLIC KEY-----\n";
    let with = |name: &str, value: Value, field, reason| {
        let mut spec = json!({"mode": "Warn", "images": all(), "require": good()});
        spec[name] = value;
        ("ImagePolicy", spec, field, reason)
    };
    let selector = |expression: Value| {
        let spec = json!({
            "mode": "Warn", "images": all(), "require": good(),
            "namespaces": {"matchExpressions": [expression]},
        });
        ("ImagePolicy", spec, "spec.namespaces.matchExpressions[0]", "In and NotIn take values")
    };
    vec![
        of("Maybe", all(), good(), "spec.mode", "supported values"),
        with(
            "require",
            signature(json!({"authorities": [{"name": "a"}]})),
            "authorities[0]",
            "exactly one of key, keyless",
        ),
        with(
            "require",
            signature(
                json!({"authorities": [{"name": "a", "keyless": {"subject": "s", "trustRoot": {"secretName": "r"}}}]}),
            ),
            "authorities[0].keyless",
            "exactly one of issuer and issuerRegex",
        ),
        with(
            "require",
            signature(
                json!({"authorities": [{"name": "a", "notation": {"trustStore": {"secretName": "c"}, "identities": []}}]}),
            ),
            "authorities[0].notation.identities",
            "at least 1",
        ),
        with("unmatched", json!("Warn"), "spec.unmatched", "supported values"),
        with(
            "require",
            json!([{"digest": {}, "signature": good()[0]["signature"]}]),
            "spec.require[0]",
            "exactly one member",
        ),
        with(
            "require",
            json!([{"attestation": {"authorities": []}}]),
            "spec.require[0].attestation",
            "Required",
        ),
        with(
            "exceptions",
            json!([{"images": ["r.io/**"], "reason": "r", "owner": "o"}]),
            "spec.exceptions[0].expires",
            "Required",
        ),
        with(
            "exceptions",
            json!([{"images": ["r.io/**"], "reason": "r", "owner": "o", "expires": "tomorrow"}]),
            "spec.exceptions[0].expires",
            "date-time",
        ),
        with("uncheckable", json!("Allow"), "spec.uncheckable", "supported values"),
        with("unchecked", json!("Warn"), "unchecked", "not declared in schema"),
        with("objects", json!({"matchLabels": {"app": "a b"}}), "spec.objects.matchLabels", "should match"),
        with(
            "objects",
            json!({"matchExpressions": [{"key": "a b", "operator": "Exists"}]}),
            "spec.objects.matchExpressions[0].key",
            "should match",
        ),
        of("Warn", json!([]), good(), "spec.images", "at least 1"),
        of("Warn", all(), json!([]), "spec.require", "at least 1"),
        (
            "ImagePolicy",
            json!({"mode": "Warn", "images": all()}),
            "spec",
            "unmatched: Deny may ask for nothing",
        ),
        of("Warn", all(), json!([{}]), "spec.require[0]", "exactly one member"),
        of(
            "Warn",
            all(),
            signature(json!({"threshold": 2, "authorities": [{"name": "a", "key": {"secretName": "s"}}]})),
            "spec.require[0].signature",
            "greater than the number of authorities",
        ),
        of(
            "Warn",
            all(),
            key(json!({})),
            "spec.require[0].signature.authorities[0].key",
            "exactly one of pem and secretName",
        ),
        of(
            "Warn",
            all(),
            key(json!({"pem": pem, "secretName": "s"})),
            "spec.require[0].signature.authorities[0].key",
            "exactly one of pem and secretName",
        ),
        of(
            "Warn",
            all(),
            key(json!({"pem": "rsa"})),
            "spec.require[0].signature.authorities[0].key.pem",
            "should match",
        ),
        selector(json!({"key": "env", "operator": "In"})),
        selector(json!({"key": "env", "operator": "DoesNotExist", "values": ["prod"]})),
    ]
}
