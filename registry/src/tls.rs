//! TLS of the server: rustls with aws-lc-rs, TLS 1.2 and later, HTTP/2 and HTTP/1.1. A renewed certificate is served
//! from the next handshake on, connections that stand are not touched.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use berth_registry_core::config::TlsFiles;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{
    metrics::Metrics,
    reload::{Files, Unreadable},
};

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{0}: give readable PEM files with --tls-cert and --tls-key")]
    Unreadable(#[from] Unreadable),
    /// The files do not hold a certificate and its key.
    #[error("the certificate {} and its key {} cannot be used: {source}", files.cert.display(), files.key.display())]
    Unusable {
        /// Where they are.
        files: TlsFiles,
        /// Why not.
        source: PairError,
    },
    /// The versions that are asked for do not exist.
    #[error("TLS cannot be set up: {0}")]
    Versions(#[from] rustls::Error),
}

/// Why a certificate and a key are no pair.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// A file is no PEM of the kind that it should be.
    #[error("the {0} is not readable PEM: {1}")]
    Pem(&'static str, rustls::pki_types::pem::Error),
    /// The certificate file holds no certificate.
    #[error("the certificate file holds no certificate")]
    Empty,
    /// Key and certificate do not belong together, or are of an unknown kind.
    #[error(transparent)]
    Mismatch(#[from] rustls::Error),
}

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// Reads certificate and key, follows their changes, and builds the server's side of TLS.
pub async fn server_config(files: &TlsFiles, metrics: Arc<Metrics>) -> Result<Arc<ServerConfig>, TlsError> {
    let paths = files.clone();
    let (mut files, contents) = Files::read(vec![paths.cert.clone(), paths.key.clone()]).await?;
    let unusable = move |source| TlsError::Unusable { files: paths.clone(), source };
    let first = certified_key(&contents).map_err(&unusable)?;
    metrics.certificate_expires(expiry(&first));
    let current = Arc::new(Current(RwLock::new(Arc::new(first))));
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(current.clone());
    // A resumed session shows no certificate: a client that resumes would go on with one that was replaced. A whole
    // handshake costs one signature.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let weak = Arc::downgrade(&current);
    tokio::spawn(async move {
        loop {
            let contents = files.changed().await;
            let Some(current) = weak.upgrade() else { return };
            match certified_key(&contents).map_err(&unusable) {
                Ok(renewed) => {
                    metrics.certificate_expires(expiry(&renewed));
                    *current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(renewed);
                    tracing::info!("certificate renewed");
                }
                Err(error) => {
                    tracing::error!(%error, "the renewed certificate is not served, the old one is");
                }
            }
        }
    });
    Ok(Arc::new(config))
}

fn certified_key(contents: &[Vec<u8>]) -> Result<CertifiedKey, PairError> {
    let [cert, key] = contents else { return Err(PairError::Empty) };
    let chain = CertificateDer::pem_slice_iter(cert)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| PairError::Pem("certificate", error))?;
    if chain.is_empty() {
        return Err(PairError::Empty);
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| PairError::Pem("key", error))?;
    Ok(CertifiedKey::from_der(chain, key, &default_provider())?)
}

/// When the leaf expires, since 1970.
fn expiry(key: &CertifiedKey) -> Duration {
    let leaf = key.cert.first().and_then(|leaf| X509Certificate::from_der(leaf).ok());
    let seconds = leaf.map_or(0, |(_, leaf)| leaf.validity().not_after.timestamp());
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str) -> (String, String) {
        let generated = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        (generated.cert.pem(), generated.signing_key.serialize_pem())
    }

    #[test]
    fn a_pair_must_belong_together() {
        let ((cert, key), (_, other)) = (pair("a"), pair("b"));
        let load = |cert: &str, key: &str| certified_key(&[cert.into(), key.into()]);
        assert!(expiry(&load(&cert, &key).unwrap()) > Duration::ZERO);
        assert!(matches!(load(&cert, &other), Err(PairError::Mismatch(_))));
        assert!(matches!(load("", &key), Err(PairError::Empty)));
        assert!(matches!(load(&cert, ""), Err(PairError::Pem("key", _))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewed_certificate_is_served_and_a_broken_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let files = TlsFiles { cert: directory.path().join("c"), key: directory.path().join("k") };
        let write = |(cert, key): &(String, String)| {
            std::fs::write(&files.key, key).unwrap();
            std::fs::write(&files.cert, cert).unwrap();
        };
        let (old, new) = (pair("old"), pair("new"));
        write(&old);
        let metrics = Arc::new(Metrics::default());
        let config = server_config(&files, metrics).await.unwrap();
        let served = |config: &ServerConfig| format!("{:?}", config.cert_resolver);
        let before = served(&config);
        write(&(old.0.clone(), new.1.clone()));
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(served(&config), before);
        write(&new);
        let changed = async {
            while served(&config) == before {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), changed).await.unwrap();
    }
}
