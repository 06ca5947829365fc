//! HTTPS to where the registry calls by itself: the Kubernetes API server (`auth::token_review`), the operator (`events`)
//! and a collector (`traces`). Trust comes from a mounted file only, and follows it when it is replaced; without a file
//! it is the system's.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use reqwest::{Certificate, Client, redirect::Policy};

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The certificates cannot be read.
    #[error("cannot read the certificates in {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds no certificates.
    #[error("the certificates in {} cannot be used: {source}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: reqwest::Error,
    },
    /// There are no certificates of the system.
    #[error("cannot use the system's certificates: {0}")]
    System(reqwest::Error),
}

/// A client that trusts the certificates in one file, or the system's.
pub struct Outbound {
    ca_file: Option<PathBuf>,
    timeout: Duration,
    /// A host, and where to find it.
    at: Option<(String, SocketAddr)>,
    current: Mutex<(Vec<u8>, Client)>,
}

impl Outbound {
    /// Reads the certificates for the first time.
    pub async fn new(ca_file: impl Into<Option<PathBuf>>, timeout: Duration) -> Result<Self, OutboundError> {
        Self::at(ca_file, timeout, None).await
    }

    /// The same, but a given host is at a given address, whatever its name resolves to.
    pub async fn at(
        ca_file: impl Into<Option<PathBuf>>,
        timeout: Duration,
        at: Option<(String, SocketAddr)>,
    ) -> Result<Self, OutboundError> {
        let ca_file = ca_file.into();
        let pem = read(ca_file.as_deref()).await?;
        let client = build(ca_file.as_deref(), &pem, timeout, at.as_ref())?;
        Ok(Self { ca_file, timeout, at, current: Mutex::new((pem, client)) })
    }

    /// The client for one call. If the file is broken meanwhile, the old trust stays in force.
    pub async fn client(&self) -> Client {
        let renewed = read(self.ca_file.as_deref()).await;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match renewed.and_then(|pem| {
            let changed = pem != current.0;
            changed
                .then(|| Ok((build(self.ca_file.as_deref(), &pem, self.timeout, self.at.as_ref())?, pem)))
                .transpose()
        }) {
            Ok(Some((client, pem))) => *current = (pem, client),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the certificates read before stay in force"),
        }
        current.1.clone()
    }
}

async fn read(path: Option<&Path>) -> Result<Vec<u8>, OutboundError> {
    let Some(path) = path else { return Ok(Vec::new()) };
    tokio::fs::read(path).await.map_err(|source| OutboundError::Unreadable { path: path.to_owned(), source })
}

fn build(
    path: Option<&Path>,
    pem: &[u8],
    timeout: Duration,
    at: Option<&(String, SocketAddr)>,
) -> Result<Client, OutboundError> {
    let mut builder = Client::builder().no_proxy().redirect(Policy::none()).timeout(timeout);
    if let Some((host, address)) = at {
        builder = builder.resolve(host, *address);
    }
    let Some(path) = path else { return builder.build().map_err(OutboundError::System) };
    let build = || builder.tls_certs_only(Certificate::from_pem_bundle(pem)?).build();
    build().map_err(|source| OutboundError::Unusable { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn trust_follows_the_file() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.crt");
        let pem = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap().cert.pem();
        assert!(Outbound::new(path.clone(), Duration::from_secs(1)).await.is_err());
        std::fs::write(&path, pem("old")).unwrap();
        let outbound = Outbound::new(path.clone(), Duration::from_secs(1)).await.unwrap();
        let trusted = || outbound.current.lock().unwrap().0.clone();
        let old = trusted();
        std::fs::remove_file(&path).unwrap();
        outbound.client().await;
        assert_eq!(trusted(), old);
        let new = pem("new");
        std::fs::write(&path, &new).unwrap();
        outbound.client().await;
        assert_eq!(trusted(), new.into_bytes());
    }
}
