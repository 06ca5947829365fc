//! From a host to its registry: whether a policy may have it asked, and a client that does so in the right name.
//! `looks` fetches evidence through these clients; what they remember is connections and tokens.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use berth_client::{Client, ClientError, Credentials, Endpoint, Reach};
use berth_operator_core::{
    admission::{Finding, ReviewError},
    asking::{self, NotAsked, is_named},
    pulling::Pulling,
};
use berth_registry_core::{ImageReference, Pattern};
use futures::{FutureExt, future::BoxFuture};
use kube::runtime::reflector::ObjectRef;
use tokio::sync::watch;

use crate::{
    certs::Bundle,
    stores::Stores,
    webhook::{looks::Source, outside::Outside, tokens::Tokens},
};

/// Why no registry can be asked about an image.
#[derive(Debug, thiserror::Error)]
pub enum NoRegistry {
    /// The policy may not have it asked.
    #[error(transparent)]
    NotAsked(#[from] NotAsked),
    /// The Pod's pull secrets cannot be read.
    #[error("the pull secrets in the namespace {namespace} cannot be read: {cause}")]
    PullSecrets {
        /// Of the Pod.
        namespace: String,
        /// What the API server said.
        cause: String,
    },
    /// There is nothing yet to trust the Registry by.
    #[error("Berth's certificate authority is not there yet")]
    NoAuthority,
    /// The client could not be made.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl NoRegistry {
    /// Stable name.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotAsked(error) => error.reason(),
            Self::NoAuthority => "NoAuthority",
            Self::PullSecrets { .. } => "PullSecretsUnreadable",
            Self::Client(error) => error.reason(),
        }
    }

    /// Whether the host is none of this cluster's Registries.
    pub fn is_elsewhere(&self) -> bool {
        matches!(self, Self::NotAsked(NotAsked::NotOurs(_)))
    }

    /// Whether there may be one a moment later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NotAsked(_) => false,
            Self::NoAuthority | Self::PullSecrets { .. } => true,
            Self::Client(error) => error.is_transient(),
        }
    }
}

/// Finds the registry behind a host.
pub trait Directory: Send + Sync {
    /// Whether a policy of `namespace` may have the registry at `host` asked. Every review begins with this question.
    fn permits(&self, namespace: &str, host: &str) -> Result<(), NoRegistry>;

    /// A client of the registry at `host`.
    fn client(&self, host: &str) -> Result<Client, NoRegistry>;

    /// A client of the registry of `image`, which is none of this cluster, with what some Pod pulls with.
    fn outside<'a>(
        &'a self,
        pulling: &'a Pulling,
        image: &'a ImageReference,
    ) -> BoxFuture<'a, Result<Client, NoRegistry>>;

    /// The registry did not accept our credentials: they are not to be used again.
    fn refused(&self, host: &str) {
        let _ = host;
    }
}

impl dyn Directory {
    /// On whose account the registry of an image is asked for a policy of `namespace` that speaks about `patterns`; the
    /// error is a finding: that it may not be asked. `pulling` says with what the image is pulled.
    pub fn source(
        &self,
        namespace: &str,
        patterns: &[Pattern],
        image: &ImageReference,
        pulling: impl FnOnce() -> Result<Pulling, ReviewError>,
    ) -> Result<Source, Finding> {
        match self.permits(namespace, &image.host) {
            Ok(()) => Ok(Source::own()),
            Err(error) if error.is_elsewhere() && is_named(patterns, image) => match pulling() {
                Ok(pulling) => Ok(Source::pod(pulling)),
                Err(error) => Err(Finding::uncheckable(error.reason(), &error, false)),
            },
            Err(error) => Err(Finding::uncheckable(error.reason(), &error, error.is_transient())),
        }
    }

    /// Whether what a registry shows may ever be asked for by a policy of `namespace`: outside, too, so that one look serves
    /// all that may.
    pub fn may_concern(&self, namespace: &str, image: &ImageReference) -> bool {
        self.permits(namespace, &image.host).err().is_none_or(|error| error.is_elsewhere())
    }
}

/// The Registries of this cluster, called in the operator's own name.
pub struct Registries {
    stores: Stores,
    bundle: watch::Receiver<Option<Bundle>>,
    tokens: Tokens,
    operator_namespace: String,
    outside: Outside,
    clients: Mutex<HashMap<String, (Bundle, Client)>>,
}

impl Registries {
    /// All Registries that `stores` knows.
    pub fn new(
        stores: Stores,
        bundle: watch::Receiver<Option<Bundle>>,
        tokens: Tokens,
        operator_namespace: &str,
        outside: Outside,
    ) -> Self {
        let (operator_namespace, clients) = (operator_namespace.to_owned(), Mutex::default());
        Self { stores, bundle, tokens, operator_namespace, outside, clients }
    }
}

impl Directory for Registries {
    fn permits(&self, namespace: &str, host: &str) -> Result<(), NoRegistry> {
        let (name, owner) = asking::registry(&self.operator_namespace, namespace, host)?;
        let registry = self.stores.registries.get(&ObjectRef::new(name).within(owner));
        if registry.is_some_and(|registry| registry.0.is_ok()) {
            Ok(())
        } else {
            Err(NotAsked::NotOurs(host.to_owned()).into())
        }
    }

    fn client(&self, host: &str) -> Result<Client, NoRegistry> {
        let bundle = self.bundle.borrow().clone().ok_or(NoRegistry::NoAuthority)?;
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = clients.get(host).filter(|(trusted, _)| *trusted == bundle) {
            return Ok(client.clone());
        }
        let url = format!("https://{host}");
        let client = Client::new(Endpoint {
            credentials: Credentials::TokenFrom(self.tokens.source(&url)),
            ca_pem: bundle.as_pem().as_bytes().to_vec(),
            public_roots: false,
            reach: Reach::HostOnly,
            is_berth: true,
            connect_timeout: Duration::from_secs(3),
            retries: 1,
            ..Endpoint::new(url)
        })?;
        clients.insert(host.to_owned(), (bundle, client.clone()));
        Ok(client)
    }

    fn outside<'a>(
        &'a self,
        pulling: &'a Pulling,
        image: &'a ImageReference,
    ) -> BoxFuture<'a, Result<Client, NoRegistry>> {
        self.outside.client(pulling, image).boxed()
    }

    fn refused(&self, host: &str) {
        self.tokens.forget(&format!("https://{host}"));
    }
}
