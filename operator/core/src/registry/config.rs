//! `berth.yaml`: what the servers of a Registry are told, in the types that they parse it with.

use berth_registry_core::{
    config::{EventSink, ServerConfig, ServiceAccounts, TlsFiles, TraceSink},
    event::EVENTS_AUDIENCE,
};

use super::{
    Installation, PORT, ca_config_map, config_secret, endpoint, host, tls_secret,
    validate::{Storage, ValidRegistry},
};
use crate::{
    certificate,
    pod::{Mount, TOKEN_FILE},
    webhook_configuration::{REPLICAS, REPLICAS_PORT, SERVICE},
};

/// The key of the configuration in its Secret, and the name of the file.
pub const FILE: &str = "berth.yaml";

/// Where a volume is mounted.
const DATA: &str = "/var/lib/berth";

/// The folders of a server's container.
pub struct Mounts {
    config: Mount,
    tls: Mount,
    ca: Mount,
    events: Mount,
    users: Option<Mount>,
    store_ca: Option<Mount>,
    store_key: Option<Mount>,
    data: Option<Mount>,
    traces: Option<Mount>,
    traces_ca: Option<Mount>,
}

impl Mounts {
    /// Those that this Registry needs.
    pub fn new(registry: &ValidRegistry) -> Self {
        let name = &registry.owner.name;
        let (store_ca, store_key, data) = match &registry.storage {
            Storage::Bucket(bucket) => (bucket.ca(), bucket.key_file(), None),
            Storage::Volume { claim, .. } => (None, None, Some(Mount::claim("data", claim, DATA))),
            Storage::Memory => (None, None, None),
        };
        let users = registry.users.as_ref();
        let traces = registry.traces.as_ref();
        let headers = traces.and_then(|traces| traces.headers.as_ref());
        let collector_ca = traces.and_then(|traces| traces.ca.as_ref());
        Self {
            config: Mount::secret("config", &config_secret(name), "/etc/berth/config", &[FILE]),
            tls: Mount::secret("tls", &tls_secret(name), "/etc/berth/tls", &["tls.crt", "tls.key"]),
            ca: Mount::config_map("ca", &ca_config_map(name), "/etc/berth/ca", &["ca.crt"]),
            events: Mount::token("events-token", EVENTS_AUDIENCE, "/etc/berth/events"),
            users: users.map(|secret| Mount::secret("users", secret, "/etc/berth/users", &["htpasswd"])),
            store_ca,
            store_key,
            data,
            traces: headers.map(|secret| {
                Mount::secret("traces", &secret.secret_name, "/etc/berth/traces", &["headers"])
            }),
            traces_ca: collector_ca
                .map(|ca| Mount::secret("traces-ca", &ca.secret_name, "/etc/berth/traces-ca", &["ca.crt"])),
        }
    }

    /// The path of the configuration file.
    pub fn config_file(&self) -> String {
        self.config.file(FILE).display().to_string()
    }

    /// All of them.
    pub fn into_vec(self) -> Vec<Mount> {
        let mut all = vec![self.config, self.tls, self.ca, self.events];
        all.extend(self.users);
        all.extend(self.store_ca);
        all.extend(self.store_key);
        all.extend(self.data);
        all.extend(self.traces);
        all.extend(self.traces_ca);
        all
    }
}

/// The configuration.
pub fn server_config(registry: &ValidRegistry, installation: &Installation, mounts: &Mounts) -> ServerConfig {
    let (namespace, name) = (&registry.owner.namespace, &registry.owner.name);
    // The longest name that the webhook's certificate is for.
    let sinks = certificate::service_names(&installation.namespace, SERVICE);
    let sink = sinks.iter().max_by_key(|name| name.len()).map_or("", String::as_str);
    ServerConfig {
        listen: Some(format!("0.0.0.0:{PORT}")),
        store: Some(store(&registry.storage)),
        store_ca_file: mounts.store_ca.as_ref().map(|mount| mount.file("ca.crt")),
        tls: Some(TlsFiles { cert: mounts.tls.file("tls.crt"), key: mounts.tls.file("tls.key") }),
        htpasswd: mounts.users.as_ref().map(|mount| mount.file("htpasswd")),
        pull_only_users: registry.pull_only_users.clone(),
        anonymous: Some(registry.anonymous),
        service_accounts: Some(ServiceAccounts {
            audience: endpoint(namespace, name),
            allow: registry.grants.clone(),
        }),
        gate: registry.gate.clone(),
        lifecycle: registry.rules.clone(),
        undelete_window: registry.undelete_window,
        immutable_tags: registry.immutable_tags.clone(),
        redirects: registry.redirects.clone(),
        traces: registry.traces.as_ref().map(|traces| TraceSink {
            endpoint: traces.endpoint.clone(),
            // The schema lets no other numbers in.
            sampling_rate_per_million: traces.sampling_rate_per_million.and_then(|rate| rate.try_into().ok()),
            headers_file: mounts.traces.as_ref().map(|mount| mount.file("headers")),
            ca_file: mounts.traces_ca.as_ref().map(|mount| mount.file("ca.crt")),
        }),
        events: Some(EventSink {
            url: format!("https://{sink}/events"),
            // Each replica of the webhook remembers, so each has to hear what changed.
            replicas: Some(format!("{}:{REPLICAS_PORT}", host(&installation.namespace, REPLICAS))),
            ca_file: mounts.ca.file("ca.crt"),
            token_file: mounts.events.file(TOKEN_FILE),
            source: format!("{namespace}/{name}"),
        }),
        ..ServerConfig::default()
    }
}

fn store(storage: &Storage) -> String {
    match storage {
        Storage::Bucket(bucket) => bucket.url.clone(),
        Storage::Volume { .. } => format!("file://{DATA}"),
        Storage::Memory => "memory:".to_owned(),
    }
}
