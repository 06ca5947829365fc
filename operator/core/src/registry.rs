//! A Registry, from its spec to the objects that it becomes and back to its status: `validate` turns spec and world into
//! a type that cannot be wrong, `build` turns that into desired objects, `status` says what came of it. All pure.

pub mod bucket;
pub mod build;
pub mod config;
pub mod error;
pub mod gate;
pub mod inquiry;
pub mod jobs;
pub mod network;
pub mod status;
pub mod validate;
pub mod workload;

#[cfg(test)]
mod tests;

pub use build::{Children, Tls, build};
pub use error::RegistryError;
pub use validate::{ValidRegistry, World, validate};

/// The operator's side of every Registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// The operator's namespace.
    pub namespace: String,
    /// The operator's `ServiceAccount` in it.
    pub service_account: String,
    /// The image of servers and jobs.
    pub image: String,
    /// Pull secrets that Pods name.
    pub pull_secrets: Vec<String>,
}

/// The port on which servers listen.
pub const PORT: i32 = 5000;

/// The name of that port.
pub const PORT_NAME: &str = "registry";

/// How the names of Services of this cluster end; they are under no public authority.
pub const CLUSTER_DOMAIN: &str = ".svc.cluster.local";

/// The host under which a Registry is reached inside the cluster.
pub fn host(namespace: &str, name: &str) -> String {
    format!("{name}.{namespace}{CLUSTER_DOMAIN}")
}

/// Name and namespace of the Registry that would have this [`host`]. Both are DNS labels, so they hold no dot.
pub fn of_host(host: &str) -> Option<(&str, &str)> {
    let (name, namespace) = host.strip_suffix(CLUSTER_DOMAIN)?.split_once('.')?;
    (!name.is_empty() && !namespace.is_empty() && !namespace.contains('.')).then_some((name, namespace))
}

/// The URL under which a Registry is reached inside the cluster, which is also the audience of tokens for it.
pub fn endpoint(namespace: &str, name: &str) -> String {
    format!("https://{}", host(namespace, name))
}

/// Name of the Secret with `berth.yaml`.
pub fn config_secret(name: &str) -> String {
    format!("{name}-config")
}

/// Name of the Secret with the certificate.
pub fn tls_secret(name: &str) -> String {
    format!("{name}-tls")
}

/// Name of the `ConfigMap` with the certificates that clients trust, key `ca.crt`.
pub fn ca_config_map(name: &str) -> String {
    format!("{name}-ca")
}

/// Name of the claim that is made for `storage.volume.size`.
pub fn data_claim(name: &str) -> String {
    format!("{name}-data")
}

/// Name of the `CronJob` of a task.
pub fn job(name: &str, task: jobs::Task) -> String {
    format!("{name}-{}", task.command())
}

/// Name of the `ServiceAccount` with which the jobs call the servers.
pub fn maintenance_account(name: &str) -> String {
    format!("{name}-maintenance")
}

/// Name of the `ServiceAccount` with which a `ReplicationPolicy` calls Registries of its namespace.
pub fn replication_account(policy: &str) -> String {
    format!("replication-{policy}")
}
