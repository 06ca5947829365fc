//! The webhook's certificate on each replica: follows its Secret and is swapped under running connections.

use std::sync::{Arc, RwLock};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt as _, watcher},
};
use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::sync::watch;

use super::{CertificateError, WEBHOOK_SECRET, pem::text};

/// Hands rustls the certificate of the moment. Before the first one, handshakes fail and callers try again.
#[derive(Debug, Default)]
pub struct ServingCertificate(RwLock<Option<Arc<CertifiedKey>>>);

impl ServingCertificate {
    /// Serves from now on with what the Secret holds.
    pub fn set(&self, secret: &Secret) -> Result<(), CertificateError> {
        let bad = |key| CertificateError::Secret { secret: WEBHOOK_SECRET.to_owned(), key };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(text(secret, "tls.crt")?.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| bad("tls.crt"))?;
        let key =
            PrivateKeyDer::from_pem_slice(text(secret, "tls.key")?.as_bytes()).map_err(|_| bad("tls.key"))?;
        let provider =
            CryptoProvider::get_default().ok_or_else(|| rustls::Error::General("no TLS provider".into()))?;
        let certified = CertifiedKey::from_der(chain, key, provider)?;
        *self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Arc::new(certified));
        Ok(())
    }

    /// Whether there is a certificate to serve with.
    pub fn is_set(&self) -> bool {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).is_some()
    }
}

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

/// Follows the Secret until it is dropped. `ready` turns true with the first certificate.
pub async fn follow(
    client: &Client,
    namespace: &str,
    certificate: &ServingCertificate,
    ready: watch::Sender<bool>,
) {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let mut events = std::pin::pin!(watcher::watch_object(secrets, WEBHOOK_SECRET).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(Some(secret)) => match certificate.set(&secret) {
                Ok(()) => {
                    tracing::info!(secret = WEBHOOK_SECRET, "serves with the certificate");
                    ready.send_replace(true);
                }
                Err(error) => tracing::warn!(%error, "the webhook's certificate cannot be used"),
            },
            // Deleted: the leader makes it anew; the last one is served until then.
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the watch of the webhook's certificate is taken up again"),
        }
    }
}
