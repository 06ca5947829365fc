//! Registries as somebody outside the cluster reaches them: those of the cluster by their name if it resolves, else through
//! a port-forward to one of their Pods; all others directly. Who we are: the pull secrets of the Pods that name the image,
//! where they may be read, else whom the command line, Docker's config.json or a credential helper says.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use berth_client::{Client, ClientError, Credentials, Endpoint, Reach};
use berth_operator_core::{
    objects::REGISTRY_LABEL,
    pulling::{Login, Logins, MAX_SECRETS, Pulling},
    registry::{PORT, ca_config_map, host, of_host},
};
use berth_registry_core::ImageReference;
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use kube::{Api, ResourceExt as _, api::ListParams};
use tokio::{
    net::{TcpListener, lookup_host},
    sync::{Mutex, OnceCell},
};

use crate::{
    cluster::{Cluster, ClusterError, Flags, asking, said},
    registries::{Registries, basic},
};

/// One that could be read.
type PullSecret = Option<Arc<Logins>>;

/// All registries, each with its way.
pub(crate) struct ClusterRegistries {
    /// Connected to when the first image needs it.
    cluster: OnceCell<Cluster>,
    flags: Flags,
    pub(crate) outside: Registries,
    /// Where the Registries of the cluster are reached, by host; found once.
    ways: Mutex<BTreeMap<String, Option<SocketAddr>>>,
    /// What pull secrets hold, by namespace and name.
    secrets: Mutex<BTreeMap<(String, String), PullSecret>>,
}

/// Why there is no way to a Registry of the cluster.
#[derive(Debug, thiserror::Error)]
enum NoWay {
    #[error("its name does not resolve here, and {0}")]
    Cluster(#[from] ClusterError),
    #[error("its name does not resolve here, and it has no running Pod to forward to")]
    NoPod,
    #[error(
        "its name does not resolve here, and no port of the Pod {pod} can be forwarded, which takes the right to get and \
         create pods/portforward in the namespace {namespace}: {cause}"
    )]
    Forward { pod: String, namespace: String, cause: String },
    #[error("its name does not resolve here, and no port can be opened to forward it: {0}")]
    Listen(#[from] std::io::Error),
    #[error("what its certificate is to be trusted by is not known: {0}; give --ca")]
    Authority(ClusterError),
}

impl ClusterRegistries {
    /// `outside` says what the command line and Docker's file say.
    pub(crate) fn new(cluster: Cluster, outside: Registries) -> Self {
        Self { cluster: OnceCell::from(cluster), ..Self::on_demand(Flags::default(), outside) }
    }

    /// The same for a cluster that may not be needed.
    pub(crate) fn on_demand(flags: Flags, outside: Registries) -> Self {
        let (ways, secrets) = (Mutex::default(), Mutex::default());
        Self { cluster: OnceCell::new(), flags, outside, ways, secrets }
    }

    /// A client of the registry of `image`; in the name of Pods, if some pull it.
    pub(crate) async fn client(
        &self,
        image: &ImageReference,
        pulling: Option<&Pulling>,
    ) -> Result<Client, ClientError> {
        let pulled = match pulling {
            Some(pulling) => self.pull_login(image, pulling).await.map(basic),
            None => None,
        };
        let Some((name, namespace)) = of_host(&image.host) else {
            return self.outside.client(image, pulled).await;
        };
        let unreachable =
            |error: NoWay| ClientError::Unreachable { host: image.host.clone(), cause: error.to_string() };
        let address = self.way(name, namespace).await.map_err(unreachable)?;
        let authority = self.authority(name, namespace).await.map_err(unreachable)?;
        let credentials: Option<Credentials> = match pulled {
            Some(pulled) => Some(pulled),
            None => self.outside.credentials(image).await?,
        };
        Client::new(Endpoint {
            credentials: credentials.unwrap_or_default(),
            public_roots: authority.is_none(),
            ca_pem: authority.unwrap_or_default(),
            address,
            reach: Reach::HostOnly,
            retries: 1,
            ..Endpoint::new(format!("https://{}", image.host))
        })
    }

    async fn cluster(&self) -> Result<&Cluster, ClusterError> {
        self.cluster.get_or_try_init(|| Cluster::connect(&self.flags)).await
    }

    /// What a Registry is trusted by: what the command line says, else what it publishes.
    async fn authority(&self, name: &str, namespace: &str) -> Result<Option<Vec<u8>>, NoWay> {
        if let Some(given) = self.outside.ca_pem() {
            return Ok(Some(given.to_vec()));
        }
        let cluster = self.cluster().await.map_err(NoWay::Authority)?;
        let published = cluster.config_value(namespace, &ca_config_map(name), "ca.crt").await;
        Ok(published.map_err(NoWay::Authority)?.map(String::into_bytes))
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
        let api = Api::<Pod>::namespaced(self.cluster().await?.client.clone(), namespace);
        let parameters = ListParams::default()
            .labels(&format!("{REGISTRY_LABEL}={name},app.kubernetes.io/component=server"));
        let what = format!("the Pods of the namespace {namespace} cannot be listed");
        let pods = api.list(&parameters).await.map_err(asking(what))?;
        let runs = |pod: &&Pod| {
            let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
            conditions.into_iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True")
        };
        let pod = pods.items.iter().find(runs).ok_or(NoWay::NoPod)?.name_any();
        let port = u16::try_from(PORT).unwrap_or_default();
        // Once for nothing: why a connection cannot be forwarded could not be said later.
        if let Err(error) = api.portforward(&pod, &[port]).await {
            let (namespace, cause) = (namespace.to_owned(), said(&error));
            return Err(NoWay::Forward { pod, namespace, cause });
        }
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let (api, pod) = (api.clone(), pod.clone());
                tokio::spawn(async move {
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

    /// Of the pull secrets of Pods and of their `ServiceAccount`, the first login that is for the image.
    async fn pull_login(&self, image: &ImageReference, pulling: &Pulling) -> Option<Login> {
        let cluster = self.cluster().await.ok()?;
        let Pulling { namespace, service_account, secrets } = pulling;
        let mut names = secrets.clone();
        if names.is_empty() {
            // A Pod that names none was given those of its account, when it was made; it may have more by now.
            let api = Api::<ServiceAccount>::namespaced(cluster.client.clone(), namespace);
            let account = api.get_opt(service_account).await.ok().flatten();
            let references = account.and_then(|account| account.image_pull_secrets).unwrap_or_default();
            names = references.into_iter().map(|secret| secret.name).collect();
        }
        for name in names.iter().filter(|name| !name.is_empty()).take(MAX_SECRETS) {
            let logins = self.logins(cluster, namespace, name).await;
            if let Some(login) = logins.and_then(|logins| logins.login(image)) {
                return Some(login);
            }
        }
        None
    }

    async fn logins(&self, cluster: &Cluster, namespace: &str, name: &str) -> PullSecret {
        let key = (namespace.to_owned(), name.to_owned());
        let mut secrets = self.secrets.lock().await;
        if let Some(read) = secrets.get(&key) {
            return read.clone();
        }
        let api = Api::<Secret>::namespaced(cluster.client.clone(), namespace);
        let logins = match api.get_opt(name).await {
            Ok(None) => None,
            Ok(Some(secret)) => {
                let logins = Logins::of(&secret);
                if logins.is_none() {
                    eprintln!("note: no kubelet takes the Secret {namespace}/{name} for a pull secret");
                }
                logins.map(Arc::new)
            }
            Err(error) => {
                eprintln!(
                    "note: the pull secret {name} of the namespace {namespace} cannot be read: {}",
                    said(&error)
                );
                None
            }
        };
        secrets.insert(key, logins.clone());
        logins
    }
}
