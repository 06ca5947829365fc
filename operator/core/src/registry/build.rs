//! All objects that a Registry becomes, in the order in which they are applied: storage, configuration, workload.

use std::collections::BTreeMap;

use berth_registry_core::Digest;
use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::Deployment,
        batch::v1::CronJob,
        core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
};

use super::{
    Installation, ca_config_map,
    config::{self, Mounts},
    config_secret, jobs, network, tls_secret,
    validate::{Storage, ValidRegistry},
    workload,
};
use crate::objects;

/// The certificate of a Registry, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate chain.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// What clients are to trust.
    pub bundle: String,
}

/// The desired children of a Registry.
#[derive(Clone, Debug, PartialEq)]
pub struct Children {
    /// Made once, never removed.
    pub claims: Vec<PersistentVolumeClaim>,
    /// Of the servers and of the jobs.
    pub service_accounts: Vec<ServiceAccount>,
    /// Configuration and certificate.
    pub secrets: Vec<Secret>,
    /// What clients are to trust.
    pub config_maps: Vec<ConfigMap>,
    /// Port 443.
    pub services: Vec<Service>,
    /// What may come in.
    pub network_policies: Vec<NetworkPolicy>,
    /// How many servers may leave at once.
    pub disruption_budgets: Vec<PodDisruptionBudget>,
    /// The servers.
    pub deployments: Vec<Deployment>,
    /// The jobs.
    pub cron_jobs: Vec<CronJob>,
    /// SHA-256 of the configuration, in hex, as servers name the one that they run.
    pub configuration: String,
}

/// Builds them.
pub fn build(
    registry: &ValidRegistry,
    installation: &Installation,
    tls: &Tls,
) -> Result<Children, serde_yaml::Error> {
    let owner = &registry.owner;
    let mounts = Mounts::new(registry);
    let config = config::server_config(registry, installation, &mounts);
    let yaml = serde_yaml::to_string(&config)?;
    let store_secrets = match &registry.storage {
        Storage::Bucket(bucket) => bucket.secrets.as_str(),
        Storage::Volume { .. } | Storage::Memory => "",
    };
    // What a server picks up while it runs is no reason to replace it. Clouds give a Pod its identity when it begins.
    let identity = &registry.pod.service_account_annotations;
    let config_hash = objects::hash(&(config.fixed(), store_secrets, identity));
    let mut account = owner.child(owner.name.clone());
    account.annotations = (!identity.is_empty()).then(|| identity.clone());
    let server_account = ServiceAccount {
        metadata: account,
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    };
    let maintenance = (!registry.schedules.is_empty()).then(|| jobs::service_account(owner));
    let certificate = [("tls.crt", &tls.certificate), ("tls.key", &tls.key), ("ca.crt", &tls.bundle)];
    let configuration = Digest::sha256(yaml.as_bytes()).hex().to_owned();
    Ok(Children {
        claims: workload::claim(registry).into_iter().collect(),
        service_accounts: std::iter::once(server_account).chain(maintenance).collect(),
        secrets: vec![
            secret(registry, config_secret(&owner.name), "Opaque", &[(config::FILE, &yaml)]),
            secret(registry, tls_secret(&owner.name), "kubernetes.io/tls", &certificate),
        ],
        config_maps: vec![ConfigMap {
            metadata: owner.child(ca_config_map(&owner.name)),
            data: Some([("ca.crt".to_owned(), tls.bundle.clone())].into()),
            ..ConfigMap::default()
        }],
        services: vec![network::service(registry)],
        network_policies: vec![network::network_policy(registry)],
        disruption_budgets: network::disruption_budget(registry).into_iter().collect(),
        deployments: vec![workload::deployment(registry, installation, mounts, &config_hash)],
        cron_jobs: registry
            .schedules
            .iter()
            .map(|schedule| jobs::cron_job(registry, schedule, installation))
            .collect(),
        configuration,
    })
}

fn secret(registry: &ValidRegistry, name: String, type_: &str, data: &[(&str, &String)]) -> Secret {
    let data: BTreeMap<_, _> =
        data.iter().map(|(key, text)| ((*key).to_owned(), ByteString(text.as_bytes().to_vec()))).collect();
    Secret {
        metadata: registry.owner.child(name),
        type_: Some(type_.to_owned()),
        data: Some(data),
        ..Secret::default()
    }
}
