//! The command line. The chart sets each option by its environment variable.

use std::net::SocketAddr;

use clap::{Args, Parser, Subcommand};

/// The operator of Berth.
#[derive(Debug, Parser)]
#[command(name = "berth-operator", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controllers (on the leader) and the admission webhook.
    Run(Settings),
    /// Stop the operator and remove what would hinder the cluster once it is gone: its webhook configuration and roles.
    Uninstall {
        /// The operator's own namespace.
        #[arg(long, env = "BERTH_NAMESPACE", default_value = "berth-system")]
        namespace: String,
    },
}

/// How the operator runs.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// The operator's own namespace; an `ImagePolicy` here binds the cluster.
    #[arg(long, env = "BERTH_NAMESPACE", default_value = "berth-system")]
    pub namespace: String,
    /// Namespaces to work in, separated by commas; all if empty.
    #[arg(long, env = "BERTH_NAMESPACES", value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// Name of this replica in the lease and in events.
    #[arg(long, env = "BERTH_POD_NAME", default_value = "berth-operator")]
    pub pod_name: String,
    /// The operator's own `ServiceAccount`, which may pull from every Registry.
    #[arg(long, env = "BERTH_SERVICE_ACCOUNT", default_value = "berth-operator")]
    pub service_account: String,
    /// The image of the registry's servers and jobs.
    #[arg(long, env = "BERTH_REGISTRY_IMAGE", default_value = "localhost/berth-registry:0.1.0")]
    pub registry_image: String,
    /// Pull secrets that the pods of a Registry name, separated by commas. They must exist in its namespace.
    #[arg(long, env = "BERTH_IMAGE_PULL_SECRETS", value_delimiter = ',')]
    pub image_pull_secrets: Vec<String>,
    /// Where `/healthz`, `/readyz` and `/metrics` listen.
    #[arg(long, env = "BERTH_METRICS_LISTEN", default_value = "0.0.0.0:8080")]
    pub metrics_listen: SocketAddr,
    /// Where the admission webhook and the events of registries are received.
    #[arg(long, env = "BERTH_WEBHOOK_LISTEN", default_value = "0.0.0.0:8443")]
    pub webhook_listen: SocketAddr,
}
