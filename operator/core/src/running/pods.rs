//! The Pods of a cluster, kept small: what Pods made alike have in common is kept once, of each Pod its name and its
//! digests. Filled from a list or from a watch.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use berth_crds::ResourceExt as _;
use k8s_openapi::api::core::v1::Pod;

use crate::running::{Digests, Template, workload::read};

/// Running Pods, by what they have in common.
#[derive(Clone, Debug, Default)]
pub struct Pods {
    groups: BTreeMap<Arc<Template>, BTreeMap<String, Digests>>,
    /// By namespace and name.
    index: HashMap<(String, String), Arc<Template>>,
}

impl Pods {
    /// Takes a Pod as it is now. Says whether anything is different.
    pub fn apply(&mut self, pod: &Pod) -> Result<bool, serde_json::Error> {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let Some((template, digests)) = read(pod)? else { return Ok(self.remove(&namespace, &name)) };
        let key = (namespace, name.clone());
        if self.index.get(&key).is_some_and(|before| **before != template) {
            self.remove(&key.0, &name);
        }
        let template = match self.groups.get_key_value(&template) {
            Some((shared, _)) => shared.clone(),
            None => Arc::new(template),
        };
        let pods = self.groups.entry(template.clone()).or_default();
        let is_different = pods.get(&name) != Some(&digests);
        pods.insert(name, digests);
        self.index.insert(key, template);
        Ok(is_different)
    }

    /// A Pod is gone. Says whether it was there.
    pub fn remove(&mut self, namespace: &str, name: &str) -> bool {
        let Some(template) = self.index.remove(&(namespace.to_owned(), name.to_owned())) else {
            return false;
        };
        if let Some(pods) = self.groups.get_mut(&template) {
            pods.remove(name);
            if pods.is_empty() {
                self.groups.remove(&template);
            }
        }
        true
    }

    /// What Pods have in common, and the digests of each by its name. Sorted by workload.
    pub fn groups(&self) -> impl Iterator<Item = (&Arc<Template>, &BTreeMap<String, Digests>)> {
        self.groups.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn pod(name: &str, image: &str, label: &str, phase: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": name, "namespace": "team-a", "labels": {"pod-template-hash": "5d4f", "l": label},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f", "uid": "u", "controller": true}],
            },
            "spec": {"containers": [{"name": "web", "image": image}]},
            "status": {"phase": phase},
        }))
        .unwrap()
    }

    fn names(pods: &Pods) -> Vec<Vec<&str>> {
        pods.groups().map(|(_, pods)| pods.keys().map(String::as_str).collect()).collect()
    }

    #[test]
    fn pods_that_were_made_alike_are_kept_together() {
        let mut pods = Pods::default();
        assert!(pods.apply(&pod("a", "r.io/web:1", "x", "Running")).unwrap());
        assert!(pods.apply(&pod("b", "r.io/web:1", "x", "Running")).unwrap());
        assert!(!pods.apply(&pod("b", "r.io/web:1", "x", "Running")).unwrap(), "the same again");
        assert_eq!(names(&pods), [["a", "b"]]);
        assert!(pods.apply(&pod("b", "r.io/web:1", "y", "Running")).unwrap());
        assert_eq!(names(&pods), [["a"], ["b"]]);
        assert!(pods.apply(&pod("a", "r.io/web:1", "x", "Succeeded")).unwrap());
        assert!(pods.remove("team-a", "b") && !pods.remove("team-a", "b"));
        assert!(names(&pods).is_empty() && pods.index.is_empty());
    }

    proptest! {
        /// Whatever happens in whatever order, the groups hold the Pods as they were seen last.
        #[test]
        fn the_last_look_counts(steps in prop::collection::vec((0..4_u8, 0..3_u8, 0..2_u8, any::<bool>()), 0..24)) {
            let (mut pods, mut expected) = (Pods::default(), BTreeMap::new());
            for (name, image, label, gone) in steps {
                let (name, image) = (format!("p{name}"), format!("r.io/web:{image}"));
                if gone {
                    pods.remove("team-a", &name);
                    expected.remove(&name);
                } else {
                    pods.apply(&pod(&name, &image, &label.to_string(), "Running")).unwrap();
                    expected.insert(name, (image, label.to_string()));
                }
            }
            let found: BTreeMap<_, _> = pods
                .groups()
                .flat_map(|(template, pods)| {
                    let of = (template.uses[0].image.clone(), template.labels["l"].clone());
                    pods.keys().map(move |name| (name.clone(), of.clone()))
                })
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
