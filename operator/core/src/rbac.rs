//! What the operator may do: the one table from which the chart's roles are generated (`charts/berth/files/rbac.yaml`,
//! compared by a test). Nothing is a star, nothing may escalate or bind, and every object that is one of a kind is named.

use k8s_openapi::api::rbac::v1::PolicyRule;
use serde::Serialize;

use crate::{token_review, webhook_configuration};

const READ: &[&str] = &["get", "list", "watch"];
/// Of children. `patch` alone does not create: server-side apply asks for both.
const OWN: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];
/// The definitions of Berth's kinds.
const DEFINITIONS: [&str; 3] =
    ["registries.berth.dev", "replicationpolicies.berth.dev", "imagepolicies.berth.dev"];

/// The rules, by where they are bound.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rules {
    /// In the whole cluster: Berth's own kinds, and objects that exist once.
    pub cluster: Vec<PolicyRule>,
    /// In each namespace where the operator works: what a Registry and a `ReplicationPolicy` become.
    pub tenant: Vec<PolicyRule>,
    /// In the operator's own namespace.
    pub own: Vec<PolicyRule>,
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(words(&[group])),
        resources: Some(words(resources)),
        verbs: words(verbs),
        ..PolicyRule::default()
    }
}

fn named(group: &str, resources: &[&str], verbs: &[&str], names: &[&str]) -> PolicyRule {
    PolicyRule { resource_names: Some(words(names)), ..rule(group, resources, verbs) }
}

/// The table.
pub fn rules() -> Rules {
    let rbac = "rbac.authorization.k8s.io";
    Rules {
        cluster: vec![
            rule("berth.dev", &["registries", "replicationpolicies", "imagepolicies"], READ),
            rule(
                "berth.dev",
                &["registries/status", "replicationpolicies/status", "imagepolicies/status"],
                &["patch"],
            ),
            // Lets children block the deletion of their owner, where the API server asks for it.
            rule("berth.dev", &["registries/finalizers", "replicationpolicies/finalizers"], &["update"]),
            named("apiextensions.k8s.io", &["customresourcedefinitions"], &["get"], &DEFINITIONS),
            named(
                "admissionregistration.k8s.io",
                &["validatingwebhookconfigurations"],
                OWN,
                &[webhook_configuration::NAME],
            ),
            named(rbac, &["clusterroles"], OWN, &[token_review::ROLE]),
            named(rbac, &["clusterrolebindings"], OWN, &[token_review::BINDING]),
            // Asked by the webhook server, and given on to the servers of Registries.
            rule("authentication.k8s.io", &["tokenreviews"], &["create"]),
            rule("events.k8s.io", &["events"], &["create", "patch"]),
            // A policy in the operator's namespace binds Pods in any namespace, by its labels: whether it holds for what
            // runs there can only be told by whoever sees both. The webhook is shown the same when Pods are made.
            rule("", &["namespaces", "pods"], &["list", "watch"]),
            // One a namespace, where some policy binds something, and only if the cluster has the definition.
            rule("wgpolicyk8s.io", &["policyreports"], OWN),
        ],
        tenant: vec![
            rule(
                "",
                &["configmaps", "persistentvolumeclaims", "secrets", "serviceaccounts", "services"],
                OWN,
            ),
            rule("", &["pods"], READ),
            // An annotation makes the kubelet bring a changed configuration at once instead of within a minute or two.
            rule("", &["pods"], &["patch"]),
            rule("apps", &["deployments"], OWN),
            rule("batch", &["cronjobs", "jobs"], OWN),
            rule("networking.k8s.io", &["networkpolicies"], OWN),
            rule("policy", &["poddisruptionbudgets"], OWN),
        ],
        own: vec![
            rule("coordination.k8s.io", &["leases"], &["get", "list", "watch", "create", "patch", "update"]),
            rule("", &["secrets"], OWN),
            // To read evidence from Registries as itself.
            named("", &["serviceaccounts/token"], &["create"], &["berth-operator"]),
            // Before the installation ends, the operator is stopped.
            named("apps", &["deployments/scale"], &["patch"], &["berth-operator"]),
            rule("", &["pods"], READ),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Regenerate with `BERTH_UPDATE=1 cargo test -p berth-operator-core`.
    #[test]
    fn the_chart_grants_what_the_table_says() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/berth/files/rbac.yaml");
        let yaml = format!(
            "# Generated from operator/core/src/rbac.rs; run: BERTH_UPDATE=1 cargo test -p berth-operator-core\n{}",
            serde_yaml::to_string(&rules()).unwrap()
        );
        if std::env::var_os("BERTH_UPDATE").is_some() {
            std::fs::write(&path, &yaml).unwrap();
        }
        let stored = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(stored == yaml, "the roles are stale: run BERTH_UPDATE=1 cargo test -p berth-operator-core");
    }

    #[test]
    fn no_stars_and_no_way_up() {
        let Rules { cluster, tenant, own } = rules();
        for rule in cluster.iter().chain(&tenant).chain(&own) {
            let all = [Some(rule.verbs.clone()), rule.resources.clone(), rule.api_groups.clone()];
            for word in all.iter().flatten().flatten() {
                assert!(!["*", "escalate", "bind", "impersonate"].contains(&word.as_str()), "{rule:?}");
            }
        }
        assert!(
            cluster.iter().all(|rule| rule.resources.iter().flatten().all(|resource| resource != "secrets"))
        );
    }
}
