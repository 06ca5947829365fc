//! Where a registry is and how it is trusted: everything that a client is told before its first request.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use berth_registry_core::{NO_REDIRECT, config::Remote};
use reqwest::{
    Url,
    header::{HeaderMap, HeaderName, HeaderValue},
    redirect,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::{credentials::Credentials, error::ClientError, public::PublicOnly};

/// How far a client may be led by what a registry answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// To redirects and token servers elsewhere, as public registries need it. Credentials stay with their host.
    #[default]
    Anywhere,
    /// To no other host. For registries that somebody else runs inside our network.
    HostOnly,
    /// As [`Reach::Anywhere`], but only to hosts with names and public addresses, from the first request on. For
    /// registries that somebody else names.
    Public,
}

/// One registry. Fill in what differs: `Endpoint { ca_pem, ..Endpoint::new("https://registry.example.com") }`.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// `https://host[:port]`; `http://` is plain and must be written to be used.
    pub url: String,
    /// Who we are there.
    pub credentials: Credentials,
    /// PEM certificates that the server's chain may end in.
    pub ca_pem: Vec<u8>,
    /// Whether the system's certificates are trusted as well.
    pub public_roots: bool,
    /// Connect here instead of asking DNS; the certificate is still checked for the URL's host.
    /// Its port counts unless the URL has one.
    pub address: Option<SocketAddr>,
    /// How far answers may lead.
    pub reach: Reach,
    /// Whether it is a Berth registry, which has the evidence for an image in one answer.
    pub is_berth: bool,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest silence while an answer or a body is awaited. Uploads are given more: see [`UPLOAD_SILENCE`].
    pub idle_timeout: Duration,
    /// How often a request is repeated when the registry cannot be reached.
    pub retries: usize,
}

/// Longest time in which an upload may not move, the registry's work after its last byte included.
pub const UPLOAD_SILENCE: Duration = Duration::from_mins(5);

impl Endpoint {
    /// A registry without credentials, trusted by public certificates.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            credentials: Credentials::Anonymous,
            ca_pem: Vec::new(),
            public_roots: true,
            address: None,
            reach: Reach::default(),
            is_berth: false,
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(30),
            retries: 3,
        }
    }

    /// A registry as the worker's configuration file describes it; reads the CA file, not the credentials.
    pub async fn from_remote(remote: &Remote) -> Result<Self, ClientError> {
        let invalid = |cause: String| ClientError::Endpoint { url: remote.url.clone(), cause };
        let credentials = match (&remote.token_file, &remote.basic_dir) {
            (Some(_), Some(_)) => {
                return Err(invalid("set tokenFile or basicDir, not both".to_owned()));
            }
            (Some(file), None) => Credentials::TokenFile(file.clone()),
            (None, Some(directory)) => Credentials::BasicDirectory(directory.clone()),
            (None, None) => Credentials::Anonymous,
        };
        let ca_pem = match &remote.ca_file {
            None => Vec::new(),
            Some(file) => tokio::fs::read(file)
                .await
                .map_err(|e| invalid(format!("the CA file {} cannot be read: {e}", file.display())))?,
        };
        Ok(Self { credentials, ca_pem, ..Self::new(remote.url.clone()) })
    }

    /// The URL that paths are joined to, and `host[:port]` for messages.
    pub(crate) fn base(&self) -> Result<(Url, String), ClientError> {
        let url = Url::parse(&self.url).map_err(|e| self.invalid(e.to_string()))?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(self.invalid("write https://host or http://host".to_owned()));
        }
        if url.path() != "/"
            || url.query().is_some()
            || !url.username().is_empty()
            || url.password().is_some()
        {
            return Err(self.invalid("it holds more than a scheme, a host and a port".to_owned()));
        }
        let host = url.host_str().ok_or_else(|| self.invalid("it names no host".to_owned()))?;
        if self.reach == Reach::Public && url.domain().is_none() {
            return Err(self.invalid("it names an address: only hosts with names are called".to_owned()));
        }
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Ok((url, host))
    }

    /// The HTTP client for all but uploads, and the one for uploads: reqwest counts the time of sending as silence.
    /// Each has its own TLS settings: nothing global, one provider.
    pub(crate) fn http(&self, base: &Url) -> Result<(reqwest::Client, reqwest::Client), ClientError> {
        let build = |builder: reqwest::ClientBuilder| {
            builder.build().map_err(|e| self.invalid(crate::error::chain(&e)))
        };
        Ok((build(self.builder(base)?.read_timeout(self.idle_timeout))?, build(self.builder(base)?)?))
    }

    fn builder(&self, base: &Url) -> Result<reqwest::ClientBuilder, ClientError> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls()?)
            .no_proxy()
            .user_agent(concat!("berth/", env!("CARGO_PKG_VERSION")))
            .redirect(self.redirects())
            .connect_timeout(self.connect_timeout);
        if self.reach == Reach::Public {
            builder = builder.dns_resolver(Arc::new(PublicOnly));
        }
        if self.reach == Reach::HostOnly {
            // A Berth registry then sends the bytes of blobs itself, also where it redirects others to its store.
            let header = (HeaderName::from_static(NO_REDIRECT), HeaderValue::from_static("1"));
            builder = builder.default_headers(HeaderMap::from_iter([header]));
        }
        if let (Some(address), Some(host)) = (self.address, base.host_str()) {
            builder = builder.resolve(host, address);
        }
        Ok(builder)
    }

    fn tls(&self) -> Result<ClientConfig, ClientError> {
        let mut roots = RootCertStore::empty();
        if self.public_roots {
            // A machine without certificates can still reach registries that `ca_pem` vouches for.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        for certificate in CertificateDer::pem_slice_iter(&self.ca_pem) {
            let certificate = certificate.map_err(|e| self.invalid(format!("its CA is no PEM: {e}")))?;
            roots
                .add(certificate)
                .map_err(|e| self.invalid(format!("its CA certificate is invalid: {e}")))?;
        }
        let config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|e| self.invalid(e.to_string()))?
                .with_root_certificates(roots)
                .with_no_client_auth();
        Ok(config)
    }

    fn redirects(&self) -> redirect::Policy {
        let only_names = self.reach == Reach::Public;
        match self.reach {
            Reach::HostOnly => redirect::Policy::none(),
            // reqwest drops the credentials when the host or port changes; a step down to plain HTTP is refused.
            Reach::Anywhere | Reach::Public => redirect::Policy::custom(move |attempt| {
                let previous = attempt.previous();
                let downgrade = attempt.url().scheme() != "https"
                    && previous.last().is_some_and(|url| url.scheme() == "https");
                if only_names && attempt.url().domain().is_none() {
                    attempt.error("it redirects to an address without a name")
                } else if downgrade {
                    attempt.error("it redirects from https to plain http")
                } else if previous.len() > 5 {
                    attempt.error("it redirects more than five times")
                } else {
                    attempt.follow()
                }
            }),
        }
    }

    fn invalid(&self, cause: String) -> ClientError {
        ClientError::Endpoint { url: self.url.clone(), cause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("https://r.io", "r.io")]
    #[case("https://r.io:5000/", "r.io:5000")]
    #[case("http://127.0.0.1:5000", "127.0.0.1:5000")]
    fn hosts(#[case] url: &str, #[case] host: &str) {
        assert_eq!(Endpoint::new(url).base().unwrap().1, host);
    }

    #[rstest]
    #[case("r.io")]
    #[case("ftp://r.io")]
    #[case("https://r.io/path")]
    #[case("https://user:password@r.io")]
    #[case("")]
    fn refuses(#[case] url: &str) {
        assert!(matches!(Endpoint::new(url).base(), Err(ClientError::Endpoint { .. })));
    }

    /// However an address is written, a host without a name is not called with `Reach::Public`.
    #[rstest]
    #[case("https://127.0.0.1")]
    #[case("https://10.0.0.1:5000")]
    #[case("https://0x7f.1")]
    #[case("https://2130706433")]
    #[case("https://[::1]")]
    #[case("https://[fd00:ec2::254]")]
    fn addresses_are_not_public(#[case] url: &str) {
        let endpoint = Endpoint { reach: Reach::Public, ..Endpoint::new(url) };
        assert!(matches!(endpoint.base(), Err(ClientError::Endpoint { .. })), "{:?}", endpoint.base());
    }

    #[test]
    fn a_bad_ca_is_told_before_the_first_request() {
        let endpoint = Endpoint {
            ca_pem: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec(),
            ..Endpoint::new("https://r.io")
        };
        assert_eq!(endpoint.tls().err().map(|e| e.reason()), Some("InvalidEndpoint"));
    }
}
