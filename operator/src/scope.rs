//! The namespaces in which the operator has rights on workloads and Secrets.

use std::collections::BTreeSet;

use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Client, Resource};

/// Where the operator may make and change things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In the whole cluster.
    All,
    /// In these namespaces.
    Namespaces(BTreeSet<String>),
}

impl Scope {
    /// Reads the setting: no namespaces at all mean the whole cluster.
    pub fn new(namespaces: &[String]) -> Self {
        let names: BTreeSet<_> =
            namespaces.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        if names.is_empty() { Self::All } else { Self::Namespaces(names) }
    }

    /// Whether `namespace` is one of them.
    pub fn contains(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Namespaces(names) => names.contains(namespace),
        }
    }

    /// The APIs through which objects of a kind in this scope are watched: one for the cluster, or one a namespace.
    pub fn apis<K>(&self, client: &Client) -> Vec<Api<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match self {
            Self::All => vec![Api::all(client.clone())],
            Self::Namespaces(names) => {
                names.iter().map(|name| Api::namespaced(client.clone(), name)).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_setting_means_the_cluster() {
        assert_eq!(Scope::new(&[]), Scope::All);
        assert_eq!(Scope::new(&[String::new()]), Scope::All);
        let scope = Scope::new(&["a".into(), " b".into()]);
        assert!(scope.contains("a") && scope.contains("b") && !scope.contains("c"));
    }
}
