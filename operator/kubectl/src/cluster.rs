//! The cluster of the kubeconfig, with kubectl's flags, and what the commands read of it. Everything is read with the
//! rights of whoever runs the command.

mod registries;

use std::{collections::BTreeMap, path::PathBuf};

use berth_operator_core::webhook_configuration;
use clap::Args;
use k8s_openapi::api::{
    admissionregistration::v1::ValidatingWebhookConfiguration,
    core::v1::{ConfigMap, Secret},
};
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};

pub(crate) use registries::ClusterRegistries;

/// Where the operator is if nothing says otherwise.
pub(crate) const OPERATOR_NAMESPACE: &str = "berth-system";

/// Which cluster, as kubectl names it.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Flags {
    /// Path to the kubeconfig file.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig to use.
    #[arg(long, global = true)]
    pub(crate) context: Option<String>,
    /// Namespace of what does not say where it is.
    #[arg(short, long, global = true)]
    pub(crate) namespace: Option<String>,
    #[arg(
        long,
        global = true,
        value_name = "NAMESPACE",
        help = "Namespace of the operator, whose policies bind all; found out where the webhook configuration may be read, else \
                berth-system"
    )]
    pub(crate) operator_namespace: Option<String>,
}

/// Why the cluster does not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    #[error("no cluster: {0}; name a kubeconfig with --kubeconfig or KUBECONFIG")]
    Kubeconfig(#[from] KubeconfigError),
    #[error("{what}: {}", said(source))]
    Api { what: String, source: Box<kube::Error> },
}

/// A cluster, asked in the user's name.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) client: Client,
    /// Of what does not say where it is.
    pub(crate) namespace: String,
    operator_namespace: Option<String>,
}

/// Names the question in an error of the API server.
pub(crate) fn asking(what: impl Into<String>) -> impl FnOnce(kube::Error) -> ClusterError {
    move |source| ClusterError::Api { what: what.into(), source: Box::new(source) }
}

/// An error in the words of the API server, where it has some; a missing right is named in them.
pub(crate) fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        error => error.to_string(),
    }
}

impl Cluster {
    /// The cluster that the flags, `KUBECONFIG` or `~/.kube/config` name.
    pub(crate) async fn connect(flags: &Flags) -> Result<Self, ClusterError> {
        let options = KubeConfigOptions { context: flags.context.clone(), ..KubeConfigOptions::default() };
        let config = match &flags.kubeconfig {
            Some(path) => Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await?,
            None => Config::from_kubeconfig(&options).await?,
        };
        let namespace = flags.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(asking("no client for the cluster"))?;
        Ok(Self { client, namespace, operator_namespace: flags.operator_namespace.clone() })
    }

    /// The namespace of the operator: the command line or the webhook configuration says it, if that may be read.
    pub(crate) async fn operator_namespace(&self) -> String {
        if let Some(given) = &self.operator_namespace {
            return given.clone();
        }
        let api = Api::<ValidatingWebhookConfiguration>::all(self.client.clone());
        let configuration = api.get_opt(webhook_configuration::NAME).await.ok().flatten();
        let webhooks = configuration.and_then(|configuration| configuration.webhooks).unwrap_or_default();
        let service = webhooks.into_iter().find_map(|webhook| webhook.client_config.service);
        service.map_or_else(|| OPERATOR_NAMESPACE.to_owned(), |service| service.namespace)
    }

    /// The data of a Secret; none if it is not there.
    pub(crate) async fn secret(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<BTreeMap<String, Vec<u8>>>, kube::Error> {
        let secret = Api::<Secret>::namespaced(self.client.clone(), namespace).get_opt(name).await?;
        let data = |secret: Secret| {
            secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect()
        };
        Ok(secret.map(data))
    }

    /// A value of a `ConfigMap`; none if it is not there.
    pub(crate) async fn config_value(
        &self,
        namespace: &str,
        name: &str,
        key: &str,
    ) -> Result<Option<String>, ClusterError> {
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), namespace);
        let what = format!("the ConfigMap {name} of the namespace {namespace} cannot be read");
        let read = api.get_opt(name).await.map_err(asking(what))?;
        Ok(read.and_then(|map| map.data?.remove(key)))
    }
}
