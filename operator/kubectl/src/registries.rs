//! The registry of an image, reached from where the command runs: how it is trusted, and who we are there. Credentials go
//! to the one host that they are for.

use std::{collections::BTreeSet, path::PathBuf};

use berth_client::{Client, ClientError, Credentials, Endpoint};
use berth_operator_core::pulling::Login;
use berth_registry_core::{ImageReference, reference::server};
use clap::Args;

use crate::docker_config::{DockerConfig, DockerConfigError};

/// How registries are asked.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Access {
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "plain_http",
        help = "PEM file with the certificates to trust instead of the system's, and of what a Registry publishes"
    )]
    pub(crate) ca: Option<PathBuf>,
    /// Ask registries without TLS, which the operator never does.
    #[arg(long)]
    pub(crate) plain_http: bool,
    /// A user of the registry; without it, Docker's config.json and the credential helpers that it names are asked.
    #[arg(long, requires = "password_file")]
    pub(crate) user: Option<String>,
    /// File with the user's password.
    #[arg(long, value_name = "FILE", requires = "user")]
    pub(crate) password_file: Option<PathBuf>,
}

/// Why registries cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccessError {
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// A password must not reach a second host.
    #[error("--user is for one registry, and the images are at several: {0}; run the command for each")]
    SeveralHosts(String),
    /// Nor any host that a Pod names.
    #[error(
        "--user is for one registry, and Pods name images of any: give --image, or leave it to pull secrets and Docker's \
         config.json"
    )]
    AnyHost,
    #[error(transparent)]
    DockerConfig(#[from] DockerConfigError),
}

/// Registries as the command line says.
#[derive(Debug)]
pub(crate) struct Registries {
    ca_pem: Option<Vec<u8>>,
    plain_http: bool,
    user: Option<Credentials>,
    docker: DockerConfig,
}

impl Registries {
    /// Reads the files that `access` names, for images at these hosts.
    pub(crate) fn new(access: &Access, hosts: &BTreeSet<&str>) -> Result<Self, AccessError> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|source| AccessError::Unreadable { path: path.clone(), source })
        };
        let user = match (&access.user, &access.password_file) {
            (Some(_), Some(_)) if hosts.len() > 1 => {
                let hosts: Vec<_> = hosts.iter().copied().collect();
                return Err(AccessError::SeveralHosts(hosts.join(", ")));
            }
            (Some(username), Some(file)) => {
                let password =
                    String::from_utf8_lossy(&read(file)?).trim_end_matches(['\r', '\n']).to_owned();
                Some(Credentials::Basic { username: username.clone(), password })
            }
            _ => None,
        };
        let docker = if user.is_some() { DockerConfig::default() } else { DockerConfig::of_user()? };
        let ca_pem = access.ca.as_ref().map(read).transpose()?;
        Ok(Self { ca_pem, plain_http: access.plain_http, user, docker })
    }

    /// The same for images that nobody knows yet.
    pub(crate) fn of_cluster(access: &Access) -> Result<Self, AccessError> {
        if access.user.is_some() { Err(AccessError::AnyHost) } else { Self::new(access, &BTreeSet::new()) }
    }

    /// The certificates that the command line says to trust.
    pub(crate) fn ca_pem(&self) -> Option<&[u8]> {
        self.ca_pem.as_deref()
    }

    /// Whether the command line has registries asked in a way in which the operator asks none: then all of them are.
    pub(crate) fn asks_any(&self) -> bool {
        self.plain_http || self.ca_pem.is_some()
    }

    /// Who we are to the registry of an image, if the command line, Docker's file or a credential helper says it.
    pub(crate) async fn credentials(
        &self,
        image: &ImageReference,
    ) -> Result<Option<Credentials>, ClientError> {
        if let Some(user) = &self.user {
            return Ok(Some(user.clone()));
        }
        let unreadable = |cause: String| ClientError::Credentials { host: image.host.clone(), cause };
        let login = self.docker.login(image).await.map_err(|error| unreadable(error.to_string()))?;
        Ok(login.map(basic))
    }

    /// A client of the registry of an image; `first` comes before all other credentials.
    pub(crate) async fn client(
        &self,
        image: &ImageReference,
        first: Option<Credentials>,
    ) -> Result<Client, ClientError> {
        let credentials = match first {
            Some(first) => Some(first),
            None => self.credentials(image).await?,
        };
        let scheme = if self.plain_http { "http" } else { "https" };
        Client::new(Endpoint {
            credentials: credentials.unwrap_or_default(),
            ca_pem: self.ca_pem.clone().unwrap_or_default(),
            public_roots: self.ca_pem.is_none(),
            retries: 1,
            ..Endpoint::new(format!("{scheme}://{}", server(&image.host)))
        })
    }
}

/// As a client takes it.
pub(crate) fn basic(login: Login) -> Credentials {
    let Login { username, password } = login;
    Credentials::Basic { username, password }
}
