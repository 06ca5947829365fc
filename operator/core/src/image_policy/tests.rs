//! Tables of policies: every field has a case in which it is refused.

mod authorities;
mod fields;
mod rollback;

use rstest::rstest;
use serde_json::{Value, json};

use super::*;

const RELEASE: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEVBiFo/TiNcGHDnMC5qcTrn2s8zZ0
cJQ2C9XkKAyPvZXIivQxaTPRXQAodApL2oI/Vo+bK979KcWrzEn/f0B/bg==
-----END PUBLIC KEY-----
";

const CI: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAELiNtMA4ya7W+nSN6odoewe3kMm5H
DFv9MJwc5AdiPNk/UfVcNAyzY5xJ2AVSAzBPGUG2tHKJRWUq5iwGWbZKCA==
-----END PUBLIC KEY-----
";

fn pem(name: &str, pem: &str) -> Value {
    json!({"name": name, "key": {"pem": pem}})
}

fn secret(name: &str, secret: &str) -> Value {
    json!({"name": name, "key": {"secretName": secret}})
}

fn policy_with(authorities: &Value, threshold: Option<i32>) -> Value {
    let mut signature = json!({"authorities": authorities});
    if let Some(threshold) = threshold {
        signature["threshold"] = threshold.into();
    }
    json!({"mode": "Enforce", "images": ["r.io/**"], "require": [{"signature": signature}]})
}

fn rules(spec: Value, secrets: &[(&str, Material)]) -> Rules {
    let secrets = secrets.iter().map(|(name, secret)| ((*name).to_owned(), secret.clone())).collect();
    Rules::new(&serde_json::from_value(spec).unwrap(), &secrets)
}

fn found(value: &str) -> Material {
    Material::Found([(PUBLIC_KEY.to_owned(), value.to_owned())].into())
}

#[rstest]
#[case::one(json!([pem("release", RELEASE)]), None)]
#[case::two(json!([pem("release", RELEASE), pem("ci", CI)]), Some(2))]
#[case::from_a_secret(json!([secret("release", "cosign")]), Some(1))]
fn good_policies(#[case] authorities: Value, #[case] threshold: Option<i32>) {
    let rules = rules(policy_with(&authorities, threshold), &[("cosign", found(RELEASE))]);
    assert_eq!(rules.mode, Mode::Enforce);
    assert_eq!(rules.policy.unwrap().anchors().ids().count(), authorities.as_array().unwrap().len());
}

/// A key or a Secret that is not as it must be: a stable reason, and the path of the field (R-OPR-6).
#[rstest]
#[case::no_pem(json!([pem("a", "release key")]), None, "KeyInvalid", "spec.require[0].signature.authorities[0].key.pem")]
#[case::private(json!([pem("a", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")]), None, "KeyInvalid", "spec.require[0].signature.authorities[0].key.pem")]
#[case::second(json!([pem("a", RELEASE), pem("b", "")]), None, "KeyInvalid", "spec.require[0].signature.authorities[1].key.pem")]
#[case::both(json!([{"name": "a", "key": {"pem": RELEASE, "secretName": "cosign"}}]), None, "SpecInvalid", "spec.require[0].signature.authorities[0].key")]
#[case::neither(json!([{"name": "a", "key": {}}]), None, "SpecInvalid", "spec.require[0].signature.authorities[0].key")]
#[case::nobody(json!([]), None, "SpecInvalid", "spec.require[0].signature")]
#[case::zero(json!([pem("a", RELEASE)]), Some(0), "SpecInvalid", "spec.require[0].signature")]
#[case::negative(json!([pem("a", RELEASE)]), Some(-1), "SpecInvalid", "spec.require[0].signature")]
#[case::too_many(json!([pem("a", RELEASE)]), Some(2), "SpecInvalid", "spec.require[0].signature")]
#[case::one_key_twice(json!([pem("a", RELEASE), pem("b", RELEASE)]), Some(2), "SpecInvalid", "spec.require[0].signature")]
#[case::one_name_twice(json!([pem("a", RELEASE), pem("a", CI)]), None, "SpecInvalid", "spec.require[0].signature")]
#[case::secret_missing(json!([secret("a", "gone")]), None, "SecretNotFound", "spec.require[0].signature.authorities[0].key.secretName")]
#[case::secret_unknown(json!([secret("a", "other")]), None, "SecretNotFound", "spec.require[0].signature.authorities[0].key.secretName")]
#[case::secret_without_key(json!([secret("a", "empty")]), None, "KeyInvalid", "spec.require[0].signature.authorities[0].key.secretName")]
#[case::secret_with_nonsense(json!([secret("a", "nonsense")]), None, "KeyInvalid", "spec.require[0].signature.authorities[0].key.secretName")]
#[case::secret_elsewhere(json!([secret("a", "elsewhere")]), None, "NamespaceNotManaged", "spec.require[0].signature.authorities[0].key.secretName")]
#[case::secret_unreadable(json!([secret("a", "unreadable")]), None, "SecretUnreadable", "spec.require[0].signature.authorities[0].key.secretName")]
fn bad_policies(
    #[case] authorities: Value,
    #[case] threshold: Option<i32>,
    #[case] reason: &str,
    #[case] path: &str,
) {
    let secrets = [
        ("gone", Material::NotFound),
        ("empty", Material::Found(BTreeMap::new())),
        ("nonsense", found("\u{fffd}")),
        ("elsewhere", Material::NotManaged),
        ("unreadable", Material::Unreadable("timed out".to_owned())),
    ];
    let rules = rules(policy_with(&authorities, threshold), &secrets);
    let error = rules.policy.unwrap_err();
    assert_eq!(error.reason(), reason);
    assert!(error.to_string().starts_with(&format!("{path}: ")), "{error}");
    // It goes on governing what it says it governs.
    assert_eq!(rules.images, ["r.io/**".parse().unwrap()]);
}

#[rstest]
#[case::nothing(json!([]))]
#[case::empty(json!([{}]))]
fn a_policy_that_requires_nothing_is_refused(#[case] require: Value) {
    let spec = json!({"mode": "Warn", "images": ["r.io/**"], "require": require});
    let rules = rules(spec, &[]);
    assert_eq!((rules.mode, rules.policy.unwrap_err().reason()), (Mode::Warn, "SpecInvalid"));
}

#[rstest]
#[case("**", Some("**"))]
#[case("r.team-a.svc.cluster.local/**", Some("r.team-a.svc.cluster.local/**"))]
#[case("R.Example.com:443/App", None)]
#[case("R.Example.com:443/app", Some("r.example.com/app"))]
#[case("h:5000/a/*", Some("h:5000/a/*"))]
#[case("H:443/a/*", Some("h:443/a/*"))]
#[case("localhost/a", Some("localhost/a"))]
#[case("*/a", Some("*/a"))]
#[case("**/app", Some("**/app"))]
#[case("*.example.com/**", Some("*.example.com/**"))]
#[case("alpine", None)]
#[case("library/alpine", None)]
#[case("*", None)]
#[case("r.io", None)]
#[case("r.io/", None)]
#[case("r.io/app:v1", None)]
#[case("r.io/app@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", None)]
#[case("r.io/***", None)]
#[case("", None)]
fn patterns_that_could_match(#[case] text: &str, #[case] normal: Option<&str>) {
    let mut spec = policy_with(&json!([pem("a", RELEASE)]), None);
    spec["images"] = json!(["r.io/x", text]);
    let rules = rules(spec, &[]);
    if let Some(normal) = normal {
        rules.policy.unwrap();
        assert_eq!(rules.images[1].as_str(), normal);
    } else {
        let error = rules.policy.unwrap_err();
        assert_eq!(error.reason(), "SpecInvalid");
        assert!(error.to_string().starts_with("spec.images[1]: "), "{error}");
        // Its scope is in doubt, so it governs everything.
        assert!(rules.images[0].matches("docker.io/library/alpine"));
    }
}

#[test]
fn no_pattern_at_all_is_refused() {
    let mut spec = policy_with(&json!([pem("a", RELEASE)]), None);
    spec["images"] = json!([]);
    assert_eq!(rules(spec, &[]).policy.unwrap_err().reason(), "SpecInvalid");
}

#[rstest]
#[case("Enforce", Mode::Enforce)]
#[case("Warn", Mode::Warn)]
#[case("Audit", Mode::Audit)]
fn modes(#[case] written: &str, #[case] mode: Mode) {
    let mut spec = policy_with(&json!([pem("a", RELEASE)]), None);
    spec["mode"] = written.into();
    assert_eq!(rules(spec, &[]).mode, mode);
}

#[rstest]
#[case(Value::Null, Uncheckable::Deny)]
#[case("Deny".into(), Uncheckable::Deny)]
#[case("Warn".into(), Uncheckable::Warn)]
fn uncheckable(#[case] written: Value, #[case] expected: Uncheckable) {
    let mut spec = policy_with(&json!([pem("a", RELEASE)]), None);
    spec["uncheckable"] = written;
    assert_eq!(rules(spec, &[]).uncheckable, expected);
}

/// Kubernetes would refuse the whole webhook configuration for one of these (R-OPR-6).
#[rstest]
#[case(json!({"matchLabels": {"app": "web"}}), None)]
#[case(json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]}), None)]
#[case(json!({"matchLabels": {"a b": "web"}}), Some("matchLabels"))]
#[case(json!({"matchLabels": {"app": "w b"}}), Some("matchLabels"))]
#[case(json!({"matchExpressions": [{"key": "-", "operator": "Exists"}]}), Some("matchExpressions[0]"))]
#[case(json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "b c"]}]}), Some("matchExpressions[0]"))]
#[case(json!({"matchExpressions": [{"key": "app", "operator": "NotIn"}]}), Some("matchExpressions[0]"))]
#[case(json!({"matchExpressions": [{"key": "app", "operator": "Exists", "values": ["a"]}]}), Some("matchExpressions[0]"))]
fn selectors(#[case] selector: Value, #[case] wrong: Option<&str>) {
    for field in ["namespaces", "objects"] {
        let mut spec = policy_with(&json!([pem("a", RELEASE)]), None);
        spec[field] = selector.clone();
        match (rules(spec, &[]).policy, wrong) {
            (Ok(_), None) => {}
            (Err(error), Some(part)) => {
                assert_eq!(error.reason(), "SpecInvalid");
                assert!(error.to_string().starts_with(&format!("spec.{field}.{part}: ")), "{error}");
            }
            (policy, wrong) => panic!("{selector}: {policy:?}, not {wrong:?}"),
        }
    }
}

/// A policy that is half understood must not be applied (CVE-2025-29778): wherever the field stands.
#[rstest]
#[case("/", "require_all")]
#[case("/objects", "match")]
#[case("/objects/matchExpressions/0", "value")]
#[case("/require/0", "signatures")]
#[case("/require/0/signature", "minimum")]
#[case("/require/0/signature/authorities/0", "until")]
#[case("/require/0/signature/authorities/0/key", "rekor")]
fn unknown_fields_are_refused(#[case] at: &str, #[case] field: &str) {
    let mut spec = policy_with(&json!([pem("a", RELEASE)]), None);
    spec["objects"] = json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]});
    serde_json::from_value::<ImagePolicySpec>(spec.clone()).unwrap();
    spec.pointer_mut(at.trim_end_matches('/')).unwrap()[field] = json!({});
    let error = serde_json::from_value::<ImagePolicySpec>(spec).unwrap_err().to_string();
    assert!(error.contains(&format!("unknown field `{field}`")), "{error}");
}

#[test]
fn every_secret_is_asked_for_once() {
    let authorities = json!([secret("a", "x"), pem("b", RELEASE), secret("c", "y"), secret("d", "x")]);
    let spec: ImagePolicySpec = serde_json::from_value(policy_with(&authorities, None)).unwrap();
    assert_eq!(super::secrets(&spec), ["x", "y"].into());
}
