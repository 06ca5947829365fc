//! Registries as somebody outside the cluster reaches them: those of the cluster by their name if it resolves, else through
//! a port-forward to one of their Pods; all others directly. Who we are: the pull secrets of the Pods that name the image,
//! where they may be read, else Docker's config.json.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use berth_client::{Client, ClientError, Credentials, Endpoint, Reach};
use berth_operator_core::{
    objects::REGISTRY_LABEL,
    pulling::Pulling,
    registry::{PORT, ca_config_map, host, of_host},
};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::{Api, ResourceExt as _, api::ListParams};
use tokio::{
    net::{TcpListener, lookup_host},
    sync::Mutex,
};

use crate::{cluster::Cluster, docker_config::DockerConfig, registries::Registries};

/// As a Secret of this type names its one key.
const DOCKER_CONFIG: &str = ".dockerconfigjson";

/// One that could be read.
type PullSecret = Option<Arc<DockerConfig>>;

/// All registries, each with its way.
pub(crate) struct ClusterRegistries {
    cluster: Cluster,
    outside: Registries,
    /// Where the Registries of the cluster are reached, by host; found once.
    ways: Mutex<BTreeMap<String, Option<SocketAddr>>>,
    /// Pull secrets that were read, by namespace and name.
    secrets: Mutex<BTreeMap<(String, String), PullSecret>>,
}

/// Why there is no way to a Registry of the cluster.
#[derive(Debug, thiserror::Error)]
enum NoWay {
    #[error("its name does not resolve here, and its Pods cannot be listed: {0}")]
    List(kube::Error),
    #[error("its name does not resolve here, and it has no running Pod to forward to")]
    NoPod,
    #[error("its name does not resolve here, and no port can be opened to forward it: {0}")]
    Listen(std::io::Error),
}

impl ClusterRegistries {
    /// `outside` says what the command line and Docker's file say.
    pub(crate) fn new(cluster: Cluster, outside: Registries) -> Self {
        Self { cluster, outside, ways: Mutex::default(), secrets: Mutex::default() }
    }

    /// A client of the registry at `host`, in the name of Pods that pull from it.
    pub(crate) async fn client(&self, image_host: &str, pulling: &Pulling) -> Result<Client, ClientError> {
        let credentials = self.credentials(image_host, pulling).await;
        let Some((name, namespace)) = of_host(image_host) else {
            return self.outside.client_with(image_host, credentials);
        };
        let unreachable =
            |error: NoWay| ClientError::Unreachable { host: image_host.to_owned(), cause: error.to_string() };
        let address = self.way(name, namespace).await.map_err(unreachable)?;
        let authority = match self.outside.ca_pem() {
            Some(given) => Some(given.to_vec()),
            None => self
                .cluster
                .config_value(namespace, &ca_config_map(name), "ca.crt")
                .await
                .map(String::into_bytes),
        };
        Client::new(Endpoint {
            credentials: credentials.or_else(|| self.outside.credentials(image_host)).unwrap_or_default(),
            public_roots: authority.is_none(),
            ca_pem: authority.unwrap_or_default(),
            address,
            reach: Reach::HostOnly,
            retries: 1,
            ..Endpoint::new(format!("https://{image_host}"))
        })
    }

    /// Where a Registry is reached; none: where its name says.
    async fn way(&self, name: &str, namespace: &str) -> Result<Option<SocketAddr>, NoWay> {
        let host = host(namespace, name);
        let mut ways = self.ways.lock().await;
        if let Some(way) = ways.get(&host) {
            return Ok(*way);
        }
        let resolves = lookup_host((host.as_str(), 443)).await.is_ok_and(|mut found| found.next().is_some());
        let way = if resolves { None } else { Some(self.forward(name, namespace).await?) };
        ways.insert(host, way);
        Ok(way)
    }

    /// Opens a port of this machine that leads to one of the Registry's Pods, as long as the command runs.
    async fn forward(&self, name: &str, namespace: &str) -> Result<SocketAddr, NoWay> {
        let api = Api::<Pod>::namespaced(self.cluster.client.clone(), namespace);
        let parameters = ListParams::default()
            .labels(&format!("{REGISTRY_LABEL}={name},app.kubernetes.io/component=server"));
        let pods = api.list(&parameters).await.map_err(NoWay::List)?;
        let runs = |pod: &&Pod| {
            let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
            conditions.into_iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True")
        };
        let pod = pods.items.iter().find(runs).ok_or(NoWay::NoPod)?.name_any();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(NoWay::Listen)?;
        let address = listener.local_addr().map_err(NoWay::Listen)?;
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let (api, pod) = (api.clone(), pod.clone());
                tokio::spawn(async move {
                    let port = u16::try_from(PORT).unwrap_or_default();
                    // A connection that cannot be forwarded is closed, which the client reports.
                    let Ok(mut forwarder) = api.portforward(&pod, &[port]).await else { return };
                    if let Some(mut stream) = forwarder.take_stream(port) {
                        let _ = tokio::io::copy_bidirectional(&mut connection, &mut stream).await;
                    }
                });
            }
        });
        Ok(address)
    }

    /// Of the pull secrets of Pods and of their ServiceAccount, the first that is for the host.
    async fn credentials(&self, image_host: &str, pulling: &Pulling) -> Option<Credentials> {
        let namespace = &pulling.namespace;
        let accounts = Api::<ServiceAccount>::namespaced(self.cluster.client.clone(), namespace);
        let mut names = pulling.secrets.clone();
        if names.is_empty() {
            // A Pod that names none was given those of its account, when it was made; it may have more by now.
            let account = accounts.get_opt(&pulling.service_account).await.ok().flatten();
            names = account
                .and_then(|account| account.image_pull_secrets)
                .into_iter()
                .flatten()
                .map(|secret| secret.name)
                .collect();
        }
        for name in names {
            if let Some(found) = self.pull_secret(namespace, &name).await
                && let Some(credentials) = found.credentials(image_host)
            {
                return Some(credentials);
            }
        }
        None
    }

    async fn pull_secret(&self, namespace: &str, name: &str) -> PullSecret {
        let key = (namespace.to_owned(), name.to_owned());
        let mut secrets = self.secrets.lock().await;
        if let Some(read) = secrets.get(&key) {
            return read.clone();
        }
        let read = match self.cluster.secret(namespace, name).await {
            Ok(Some(mut data)) => data.remove(DOCKER_CONFIG),
            Ok(None) => None,
            Err(error) => {
                eprintln!("note: the pull secret {namespace}/{name} cannot be read: {error}");
                None
            }
        };
        let read = read.and_then(|bytes| {
            match DockerConfig::parse(&format!("the Secret {namespace}/{name}"), &bytes) {
                Ok(config) => Some(Arc::new(config)),
                Err(error) => {
                    eprintln!("note: {error}");
                    None
                }
            }
        });
        secrets.insert(key, read.clone());
        read
    }
}
