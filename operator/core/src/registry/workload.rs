//! The servers of a Registry: the Deployment, and the claim that a volume needs.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            EnvVar, HTTPGetAction, PersistentVolumeClaim, PersistentVolumeClaimSpec, Probe,
            ResourceRequirements, Toleration, TopologySpreadConstraint, VolumeResourceRequirements,
        },
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::{
    Installation, PORT, PORT_NAME,
    config::Mounts,
    data_claim,
    validate::{Storage, ValidRegistry},
};
use crate::{
    objects::{self, Owner},
    pod::{PodParts, restricted},
};

/// Annotation of a server's Pod: a hash of all that a running server does not pick up by itself.
pub const CONFIG_HASH: &str = "berth.dev/config";

/// Annotation of a running server's Pod: the configuration that it was told to fetch.
pub const CONFIGURATION: &str = "berth.dev/configuration";

/// Tells servers from jobs.
const COMPONENT: &str = "app.kubernetes.io/component";

/// Labels of a Pod of one component.
pub fn component_labels(owner: &Owner, component: &str) -> BTreeMap<String, String> {
    let mut all = owner.labels();
    all.insert(COMPONENT.to_owned(), component.to_owned());
    all
}

/// Selects the servers' Pods. It can never change once the Deployment exists.
pub fn server_selector(owner: &Owner) -> BTreeMap<String, String> {
    objects::labels(&[
        ("app.kubernetes.io/name", owner.application),
        ("app.kubernetes.io/instance", &owner.name),
        (COMPONENT, "server"),
    ])
}

/// The Deployment. Servers on an object store replace each other without a gap; a volume is handed over.
pub fn deployment(
    registry: &ValidRegistry,
    installation: &Installation,
    mounts: Mounts,
    config_hash: &str,
) -> Deployment {
    let owner = &registry.owner;
    let strategy = match registry.storage {
        Storage::Bucket(_) => DeploymentStrategy {
            type_: Some("RollingUpdate".to_owned()),
            rolling_update: Some(RollingUpdateDeployment {
                max_unavailable: Some(IntOrString::Int(0)),
                max_surge: Some(IntOrString::Int(1)),
            }),
        },
        Storage::Volume { .. } | Storage::Memory => {
            DeploymentStrategy { type_: Some("Recreate".to_owned()), rolling_update: None }
        }
    };
    let mut labels = registry.pod.labels.clone();
    labels.extend(component_labels(owner, "server"));
    let selector = LabelSelector { match_labels: Some(server_selector(owner)), match_expressions: None };
    let pod = restricted(PodParts {
        labels,
        annotations: objects::labels(&[(CONFIG_HASH, config_hash)]),
        service_account: owner.name.clone(),
        // For TokenReviews.
        api_token: true,
        pull_secrets: installation.pull_secrets.clone(),
        container: PORT_NAME,
        image: installation.image.clone(),
        args: vec!["serve".to_owned(), "--config".to_owned(), mounts.config_file()],
        env: environment(&registry.storage),
        ports: vec![(PORT_NAME, PORT)],
        mounts: mounts.into_vec(),
        liveness: Some(probe("/healthz", 10, 6)),
        readiness: Some(probe("/readyz", 2, 2)),
        resources: resources(registry),
        node_selector: registry.pod.node_selector.clone(),
        tolerations: tolerations(registry),
        spread: vec![TopologySpreadConstraint {
            max_skew: 1,
            topology_key: "kubernetes.io/hostname".to_owned(),
            when_unsatisfiable: "ScheduleAnyway".to_owned(),
            label_selector: Some(selector.clone()),
            ..TopologySpreadConstraint::default()
        }],
        restart: "Always",
        // The drain delay, and time for a large layer to end.
        grace_seconds: 60,
    });
    Deployment {
        metadata: owner.child(owner.name.clone()),
        spec: Some(DeploymentSpec {
            replicas: Some(registry.replicas),
            selector,
            strategy: Some(strategy),
            template: pod,
            revision_history_limit: Some(3),
            progress_deadline_seconds: Some(300),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn environment(storage: &Storage) -> Vec<EnvVar> {
    match storage {
        Storage::Bucket(bucket) => bucket.environment.clone(),
        Storage::Volume { .. } | Storage::Memory => Vec::new(),
    }
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(PORT_NAME.to_owned()),
            scheme: Some("HTTPS".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        failure_threshold: Some(failures),
        timeout_seconds: Some(5),
        ..Probe::default()
    }
}

fn resources(registry: &ValidRegistry) -> Option<ResourceRequirements> {
    let given = registry.pod.resources.as_ref()?;
    let quantities = |given: &BTreeMap<String, String>| {
        let list: BTreeMap<_, _> =
            given.iter().map(|(name, value)| (name.clone(), Quantity(value.clone()))).collect();
        (!list.is_empty()).then_some(list)
    };
    Some(ResourceRequirements {
        requests: quantities(&given.requests),
        limits: quantities(&given.limits),
        claims: None,
    })
}

/// Taints that the Pods of a Registry tolerate.
pub fn tolerations(registry: &ValidRegistry) -> Vec<Toleration> {
    let given = registry.pod.tolerations.iter().cloned();
    let toleration = |given: berth_crds::registry::Toleration| Toleration {
        key: given.key,
        operator: given.operator,
        value: given.value,
        effect: given.effect,
        toleration_seconds: given.toleration_seconds,
    };
    given.map(toleration).collect()
}

/// The claim of a volume that is to be made. It has no owner: content outlives the Registry, and a Registry of the same
/// name finds it again.
pub fn claim(registry: &ValidRegistry) -> Option<PersistentVolumeClaim> {
    let Storage::Volume { make: Some((size, class)), .. } = &registry.storage else { return None };
    Some(PersistentVolumeClaim {
        metadata: registry.owner.survivor(data_claim(&registry.owner.name)),
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: class.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), Quantity(size.clone()))].into()),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    })
}
