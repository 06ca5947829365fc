//! An authority for one test: signs certificates for localhost, and makes the clients that trust only it.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::http::{Target, client_builder};
use super::process::eventually;
use super::server::{Options, Server};

/// An authority of one's own.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, PEM.
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut parameters = CertificateParams::new([]).expect("no names are valid names");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        let pem = parameters.self_signed(&key).expect("an authority can sign itself").pem();
        Self { issuer: Issuer::new(parameters, key), pem }
    }

    /// A certificate for localhost and its key, as PEM; the certificate also as DER.
    pub(crate) fn leaf(&self) -> (String, String, Vec<u8>) {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let parameters = CertificateParams::new(names).expect("the names are valid");
        let key = KeyPair::generate().expect("a key can be made");
        let leaf = parameters.signed_by(&key, &self.issuer).expect("the authority can sign");
        (leaf.pem(), key.serialize_pem(), leaf.der().to_vec())
    }

    /// A client that trusts nobody else.
    pub(crate) fn client(&self) -> reqwest::ClientBuilder {
        let authority =
            reqwest::Certificate::from_pem(self.pem.as_bytes()).expect("the PEM is a certificate");
        client_builder().tls_certs_only([authority])
    }

    /// A server, asked over TLS with a new connection for each request.
    pub(crate) fn target(&self, server: &Server) -> Target {
        let client = self.client().tls_info(true).pool_max_idle_per_host(0);
        let client = client.build().expect("a TLS client can be built");
        Target::with_client(&format!("https://{}", server.address), client)
    }

    /// Starts a server and waits until it is ready, as [`Options::start`] does without TLS.
    pub(crate) async fn start(&self, options: &Options) -> (Server, Target) {
        let server = options.start_unready().await;
        let target = self.target(&server);
        eventually("the server becomes ready", || async {
            target.get("/readyz").await.is_ok_and(|reply| reply.status == 200)
        })
        .await;
        (server, target)
    }
}

/// Writes a certificate and its key as a Secret of Kubernetes names them.
pub(crate) fn write(directory: &Path, certificate: &str, key: &str) {
    std::fs::write(directory.join("tls.crt"), certificate).expect("a file can be written");
    std::fs::write(directory.join("tls.key"), key).expect("a file can be written");
}
