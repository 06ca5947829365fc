//! An HTTP client whose sockets are in the cluster's network, on a thread of this process. The real clients retry
//! what fails and say nothing; this one does not, so that a test sees every answer.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use berth_e2e::cluster::Network;
use berth_e2e::fixtures::{Endpoint, Failure, Team, USER};
use reqwest::{Certificate, Client, Method, RequestBuilder, StatusCode};

/// A registry, and how to reach it from this process.
#[derive(Clone)]
pub(crate) struct Site {
    host: String,
    address: SocketAddr,
    password: String,
    ca: Arc<Certificate>,
    network: Network,
}

/// How a client keeps its connections.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connections {
    /// A new one for each request, so that each may meet another replica.
    Fresh,
    /// Kept open and used again, as clients do.
    Kept,
}

impl Site {
    /// A Registry of a team.
    pub(crate) fn of(team: &Team<'_>, endpoint: &Endpoint) -> Result<Self, Failure> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let service = team.get(&format!("service/{}", endpoint.name))?;
        let address: IpAddr = service["spec"]["clusterIP"].as_str().unwrap_or_default().parse()?;
        let published = team.get(&format!("configmap/{}-ca", endpoint.name))?;
        let ca = Certificate::from_pem(published["data"]["ca.crt"].as_str().unwrap_or_default().as_bytes())?;
        let network = team.cluster().network()?;
        let (host, password) = (endpoint.host.clone(), endpoint.password.clone());
        Ok(Self { host, address: (address, 443).into(), password, ca: Arc::new(ca), network })
    }

    /// A client of the registry; its sockets belong to the network of the thread that uses it.
    pub(crate) fn caller(&self, connections: Connections) -> Result<Caller, Failure> {
        let kept = if connections == Connections::Kept { 4 } else { 0 };
        let client = Client::builder()
            .tls_certs_only([Certificate::clone(&self.ca)])
            .resolve(&self.host, self.address)
            .pool_max_idle_per_host(kept)
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(30))
            .build()?;
        Ok(Caller { client, base: format!("https://{}", self.host), password: self.password.clone() })
    }

    /// Runs something on a thread inside the cluster's network, with an event loop.
    pub(crate) fn inside<T, F>(&self, work: impl FnOnce() -> F + Send) -> Result<T, Failure>
    where
        T: Send,
        F: Future<Output = Result<T, Failure>>,
    {
        self.network.run(work)?
    }

    /// The status of a `GET` with these credentials, asked once.
    pub(crate) fn status(&self, path: &str, who: &Who) -> Result<StatusCode, Failure> {
        self.inside(async || {
            let caller = self.caller(Connections::Fresh)?;
            let request = caller.client.get(format!("{}{path}", caller.base));
            Ok(who.sign(request).send().await?.status())
        })
    }
}

/// Who asks.
pub(crate) enum Who {
    /// Nobody.
    Anonymous,
    /// The user [`USER`] with this password.
    User(String),
    /// The bearer of a token.
    Token(String),
}

impl Who {
    fn sign(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::Anonymous => request,
            Self::User(password) => request.basic_auth(USER, Some(password)),
            Self::Token(token) => request.bearer_auth(token),
        }
    }
}

/// A client of one registry.
#[derive(Clone)]
pub(crate) struct Caller {
    client: Client,
    base: String,
    password: String,
}

impl Caller {
    /// A request as the registry's user; `target` is a path, or a URL that the registry gave.
    pub(crate) fn request(&self, method: Method, target: &str) -> RequestBuilder {
        let url = if target.starts_with('/') { format!("{}{target}", self.base) } else { target.to_owned() };
        self.client.request(method, url).basic_auth(USER, Some(&self.password))
    }
}
