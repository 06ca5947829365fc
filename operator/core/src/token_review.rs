//! The cluster role with which the servers of Registries ask whom a token belongs to, and its one binding.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::objects::{MANAGED_BY, labels};

/// Name of the `ClusterRole`.
pub const ROLE: &str = "berth-token-review";
/// Name of the `ClusterRoleBinding`.
pub const BINDING: &str = "berth-registries";

fn meta(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(labels(&[MANAGED_BY, ("app.kubernetes.io/part-of", "berth")])),
        ..ObjectMeta::default()
    }
}

/// The role: nothing but asking.
pub fn role() -> ClusterRole {
    let list = |word: &str| vec![word.to_owned()];
    ClusterRole {
        metadata: meta(ROLE),
        rules: Some(vec![PolicyRule {
            api_groups: Some(list("authentication.k8s.io")),
            resources: Some(list("tokenreviews")),
            verbs: list("create"),
            ..PolicyRule::default()
        }]),
        ..ClusterRole::default()
    }
}

/// The binding for these `ServiceAccounts`, by namespace and name.
pub fn binding(accounts: BTreeSet<(String, String)>) -> ClusterRoleBinding {
    let subjects: Vec<_> = accounts
        .into_iter()
        .map(|(namespace, name)| Subject {
            kind: "ServiceAccount".to_owned(),
            name,
            namespace: Some(namespace),
            api_group: None,
        })
        .collect();
    ClusterRoleBinding {
        metadata: meta(BINDING),
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
            kind: "ClusterRole".to_owned(),
            name: ROLE.to_owned(),
        },
        // The API server drops an empty list, which would then differ for ever.
        subjects: (!subjects.is_empty()).then_some(subjects),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_and_binding() {
        let account = |name: &str| ("team-a".to_owned(), name.to_owned());
        insta::assert_yaml_snapshot!((role(), binding([account("b"), account("a")].into())));
        assert_eq!(binding(BTreeSet::new()).subjects, None, "an empty list would differ for ever");
    }
}
