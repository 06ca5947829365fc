//! HTTP clients of the stores: whom they trust, and how long silence may last.

use std::time::Duration;

use object_store::{
    ClientConfigKey, ClientOptions, Error,
    client::{HttpClient, HttpConnector},
};

use super::{StoreError, StoreOptions};

/// Longer silence of the store counts as no answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Makes HTTP clients that trust these certificates and have no limit on the whole of a transfer: a blob takes as long
/// as its reader.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    store: &'static str,
    certificates: Vec<reqwest::Certificate>,
}

impl Connector {
    pub(super) fn new(store: &'static str, options: &StoreOptions) -> Result<Self, StoreError> {
        Ok(Self { store, certificates: certificates(options)? })
    }

    pub(super) fn client(&self, allow_http: bool) -> Result<reqwest::Client, reqwest::Error> {
        reqwest::Client::builder()
            .user_agent("berth-registry")
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .http1_only()
            .https_only(!allow_http)
            .tls_certs_only(self.certificates.iter().cloned())
            .build()
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allow_http = options.get_config_value(&ClientConfigKey::AllowHttp).as_deref() == Some("true");
        let client = self
            .client(allow_http)
            .map_err(|source| Error::Generic { store: self.store, source: Box::new(source) })?;
        Ok(HttpClient::new(client))
    }
}

/// The system's certificates, and those of the file. A system without any can still reach a store that the file vouches
/// for, or one without TLS.
fn certificates(options: &StoreOptions) -> Result<Vec<reqwest::Certificate>, StoreError> {
    let system = rustls_native_certs::load_native_certs().certs;
    let system: Vec<_> = system.iter().filter_map(|der| reqwest::Certificate::from_der(der).ok()).collect();
    let Some(path) = &options.ca_file else { return Ok(system) };
    let shown = path.display();
    let pem = std::fs::read(path)
        .map_err(|e| StoreError::Invalid(format!("CA file {shown} of the store cannot be read: {e}")))?;
    let certificates = reqwest::Certificate::from_pem_bundle(&pem)
        .map_err(|e| StoreError::Invalid(format!("CA file {shown} of the store is no PEM bundle: {e}")))?;
    if certificates.is_empty() {
        return Err(StoreError::Invalid(format!("CA file {shown} of the store holds no certificate")));
    }
    Ok(system.into_iter().chain(certificates).collect())
}
