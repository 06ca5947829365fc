//! The second gate in `berth.yaml` (R-OPR-6): which policies are in it, in which form, and what becomes of those that are
//! out of order.

use berth_registry_core::config::{Gate, GatePolicy};

use super::*;
use crate::{
    image_policy::{Material, PUBLIC_KEY},
    registry::gate::Bound,
};

const KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEVBiFo/TiNcGHDnMC5qcTrn2s8zZ0
cJQ2C9XkKAyPvZXIivQxaTPRXQAodApL2oI/Vo+bK979KcWrzEn/f0B/bg==
-----END PUBLIC KEY-----
";

fn spec(images: &str, more: &Value) -> Value {
    let authorities = json!([{"name": "release", "key": {"secretName": "cosign"}}]);
    let mut spec = json!({
        "mode": "Enforce", "images": [images], "require": [{"signature": {"authorities": authorities}}],
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

fn bound(name: &str, spec: Value, secret: Material) -> Bound {
    Bound {
        name: name.to_owned(),
        spec: Ok(serde_json::from_value(spec).unwrap()),
        secrets: [("cosign".to_owned(), secret)].into(),
    }
}

fn key() -> Material {
    Material::Found([(PUBLIC_KEY.to_owned(), KEY.to_owned())].into())
}

fn gated() -> Value {
    json!({"storage": {"memory": {}}, "access": {"anonymous": "Pull", "enforceImagePolicies": true}})
}

fn gate(policies: Vec<Bound>) -> Gate {
    valid(&registry(gated()), &World { image_policies: policies, ..world() }).unwrap().gate.unwrap()
}

#[test]
fn policies_are_written_into_the_configuration() {
    let exceptions = json!([{
        "images": ["registry.team-a.svc.cluster.local/legacy/**"], "reason": "moves in autumn", "owner": "team-a",
        "expires": "2026-07-01T00:00:00Z",
    }]);
    let unreadable = Bound {
        name: "team-a/z".to_owned(),
        spec: Err("unknown field `requires`".to_owned()),
        secrets: [].into(),
    };
    let policies = vec![
        bound("berth-system/signed", spec("*.svc.cluster.local/**", &json!({})), key()),
        bound("team-a/excepted", spec("**", &json!({"exceptions": exceptions, "unmatched": "Deny"})), key()),
        bound(
            "team-a/no-secret",
            spec("registry.team-a.svc.cluster.local/**", &json!({})),
            Material::NotFound,
        ),
        unreadable,
    ];
    let mut spec = gated();
    spec["access"]["users"] = json!({"secretName": "users"});
    spec["access"]["pullOnlyUsers"] = json!(["node"]);
    let mut world = World { image_policies: policies, ..world() };
    let users = ByteString(b"# all\nci:$2y$05$x\nnode:$2y$05$y\n".to_vec());
    world.secrets.insert("users".to_owned(), [("htpasswd".to_owned(), users)].into());
    let registry = registry(spec);
    let mut source = json!({"source": {"registry": "registry"}, "destination": {"url": "https://r.io"}});
    source["schedule"] = "0 * * * *".into();
    let replication = json!({"metadata": {"name": "mirror", "namespace": "team-a"}, "spec": source});
    world.policies = vec![serde_json::from_value(with_type(replication)).unwrap()];
    let valid = valid(&registry, &world).unwrap();
    let config = config::server_config(&valid, &installation(), &config::Mounts::new(&valid));
    insta::assert_snapshot!("gate_berth_yaml", serde_yaml::to_string(&config).unwrap());
    // A change of policies needs no new servers.
    assert_eq!(config.clone().fixed().gate, None);
}

fn with_type(mut object: Value) -> Value {
    object["apiVersion"] = "berth.dev/v1alpha1".into();
    object["kind"] = "ReplicationPolicy".into();
    object
}

#[test]
fn without_a_word_there_is_no_gate() {
    let policies = vec![bound("team-a/signed", spec("**", &json!({})), key())];
    let world = World { image_policies: policies, ..world() };
    let valid = valid(&registry(json!({"storage": {"memory": {}}})), &world).unwrap();
    assert_eq!((valid.gate, valid.pull_only_users), (None, Vec::new()));
}

/// What a registry cannot know, or what refuses nothing, is left out.
#[rstest]
#[case::warns("**", json!({"mode": "Warn"}), false)]
#[case::records("**", json!({"mode": "Audit"}), false)]
#[case::sorts("**", json!({"objects": {"matchLabels": {"app": "web"}}}), false)]
#[case::elsewhere("docker.io/**", json!({}), false)]
#[case::other_registry("other.team-a.svc.cluster.local/**", json!({}), false)]
#[case::a_list("docker.io/**", json!({"unmatched": "Deny"}), true)]
#[case::here("registry.team-a.svc.cluster.local/app", json!({}), true)]
fn which_policies(#[case] images: &str, #[case] more: Value, #[case] told: bool) {
    let policies = gate(vec![bound("team-a/p", spec(images, &more), key())]).policies;
    assert_eq!(policies.len(), usize::from(told), "{policies:?}");
}

/// Fail closed: what does not fit is not dropped.
#[test]
fn too_much_refuses() {
    let large = |name: &str| {
        let conditions: Vec<_> = (0..16).map(|_| format!("predicate.a == '{}'", "a".repeat(2000))).collect();
        let authorities = json!([{"name": "release", "key": {"secretName": "cosign"}}]);
        let attestation =
            json!({"predicateType": "https://a", "authorities": authorities, "conditions": conditions});
        let require: Vec<_> = (0..6).map(|_| json!({"attestation": attestation})).collect();
        bound(name, spec("**", &json!({"require": require})), key())
    };
    let gate =
        gate(vec![large("a/1"), large("a/2"), large("a/3"), bound("a/4", spec("**", &json!({})), key())]);
    let refuses: Vec<_> = gate
        .policies
        .iter()
        .map(|GatePolicy { name, refuses, .. }| {
            let cause = refuses.as_ref().map(|out| out.cause.as_str()).unwrap_or_default();
            (name.as_str(), cause.contains("larger than 512 KiB"))
        })
        .collect();
    assert_eq!(refuses, [("a/1", false), ("a/2", false), ("a/3", true), ("a/4", false)]);
}

#[rstest]
#[case::misspelt(json!({"users": {"secretName": "users"}, "pullOnlyUsers": ["nodes"]}), "team-a", "access.pullOnlyUsers")]
#[case::operator(json!({"enforceImagePolicies": true}), "berth-system", "access.enforceImagePolicies")]
#[case::system(json!({"enforceImagePolicies": true}), "kube-system", "access.enforceImagePolicies")]
fn what_could_not_work_is_refused(#[case] access: Value, #[case] namespace: &str, #[case] field: &str) {
    let mut registry = registry(json!({"storage": {"memory": {}}, "access": access}));
    registry.metadata.namespace = Some(namespace.to_owned());
    let error = valid(&registry, &world()).unwrap_err().to_string();
    assert!(error.contains(field), "{error}");
}
