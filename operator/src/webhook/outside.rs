//! Registries outside of the cluster: called with what the Pod itself pulls with, and nothing else. Its pull secrets are read
//! in its own namespace, where the operator may; the credentials in them go to the very host that they are for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use berth_client::{Client, Credentials, Endpoint, Reach};
use berth_operator_core::pulling::{Login, Logins, MAX_SECRETS, Pulling};
use berth_registry_core::{Digest, ImageReference, reference::server};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::Api;

use crate::{Scope, webhook::directory::NoRegistry};

/// Pull secrets are read again after this time.
const MAX_AGE: Duration = Duration::from_secs(30);

/// Pods whose secrets, and registries whose connections, are kept.
const MAX_KEPT: usize = 256;

/// When they were read, and what all pull secrets of some Pod hold.
type Read = (Instant, Arc<Vec<Logins>>);

/// Makes clients in the name of Pods.
pub struct Outside {
    client: kube::Client,
    scope: Arc<Scope>,
    secrets: Mutex<HashMap<Pulling, Read>>,
    /// By host and login.
    clients: Mutex<HashMap<Digest, Client>>,
}

impl Outside {
    /// Reads Secrets through `client` where `scope` allows it.
    pub fn new(client: kube::Client, scope: Arc<Scope>) -> Self {
        Self { client, scope, secrets: Mutex::default(), clients: Mutex::default() }
    }

    /// A client of the registry of `image`.
    pub async fn client(&self, pulling: &Pulling, image: &ImageReference) -> Result<Client, NoRegistry> {
        let login = self.login(pulling, image).await?;
        let host = &image.host;
        let text = match &login {
            Some(Login { username, password }) => format!("{host}\0{username}\0{password}"),
            None => host.clone(),
        };
        let key = Digest::sha256(text.as_bytes());
        let mut clients = lock(&self.clients);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let credentials = match login {
            Some(Login { username, password }) => Credentials::Basic { username, password },
            None => Credentials::Anonymous,
        };
        let client = Client::new(Endpoint {
            credentials,
            reach: Reach::Public,
            connect_timeout: Duration::from_secs(3),
            retries: 1,
            ..Endpoint::new(format!("https://{}", server(host)))
        })?;
        if clients.len() >= MAX_KEPT {
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }

    /// What the Pod's pull secrets hold for the image, the first of them that holds something.
    pub async fn login(
        &self,
        pulling: &Pulling,
        image: &ImageReference,
    ) -> Result<Option<Login>, NoRegistry> {
        // Without the right to read them the registry is asked as anybody may ask it.
        if !self.scope.contains(&pulling.namespace) {
            return Ok(None);
        }
        Ok(self.logins(pulling).await?.iter().find_map(|logins| logins.login(image)))
    }

    async fn logins(&self, pulling: &Pulling) -> Result<Arc<Vec<Logins>>, NoRegistry> {
        if let Some((read, logins)) = lock(&self.secrets).get(pulling)
            && read.elapsed() < MAX_AGE
        {
            return Ok(logins.clone());
        }
        let unreadable = |error: kube::Error| NoRegistry::PullSecrets {
            namespace: pulling.namespace.clone(),
            cause: error.to_string(),
        };
        let mut names = pulling.secrets.clone();
        if names.is_empty() {
            // As the API server does for a Pod that names none.
            let api = Api::<ServiceAccount>::namespaced(self.client.clone(), &pulling.namespace);
            let found = api.get_opt(&pulling.service_account).await.map_err(unreadable)?;
            let references = found.and_then(|found| found.image_pull_secrets).unwrap_or_default();
            names =
                references.into_iter().map(|secret| secret.name).filter(|name| !name.is_empty()).collect();
        }
        let api = Api::<Secret>::namespaced(self.client.clone(), &pulling.namespace);
        let mut logins = Vec::new();
        for name in names.iter().take(MAX_SECRETS) {
            // A kubelet goes on without a Secret that is not there, too.
            logins.extend(api.get_opt(name).await.map_err(unreadable)?.as_ref().and_then(Logins::of));
        }
        let logins = Arc::new(logins);
        let mut kept = lock(&self.secrets);
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(pulling.clone(), (Instant::now(), logins.clone()));
        Ok(logins)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
