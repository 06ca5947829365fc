//! The server's and the worker's configuration files. One definition: the operator renders what the registry parses.
//! Unknown keys are refused, so that a misspelt setting never passes silently.

use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{age::Age, pattern::Pattern, policy::Policy, size::Size};

/// `berth.yaml`: everything that `berth-registry serve` can be told. Flags and `BERTH_…` variables override it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Address to listen on, `host:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// `memory:`, `file:///path`, `s3://bucket/prefix`, `gs://bucket/prefix` or `az://account/container/prefix`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// PEM file with the certificates that the bucket's service is to be trusted by, beside the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_ca_file: Option<PathBuf>,
    /// PEM files of the server's certificate chain and key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
    /// Serve without TLS. Exactly one of `tls` and `plainHttp` is set.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub plain_http: bool,
    /// Users: an htpasswd file with bcrypt hashes. Each user may do everything, but for those of `pullOnlyUsers`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub htpasswd: Option<PathBuf>,
    /// Names of users who may only pull, such as the one that nodes log in as.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pull_only_users: Vec<String>,
    /// What a caller without credentials may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<Anonymous>,
    /// Kubernetes `ServiceAccounts` that may call, proven by `TokenReview`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_accounts: Option<ServiceAccounts>,
    /// Which images are refused to those who may only pull; none are if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// What `POST /berth/v1/prune` applies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lifecycle: Vec<LifecycleRule>,
    /// For how long what was deleted can be brought back, and its bytes can still be read by who began before;
    /// 7d if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undelete_window: Option<Age>,
    /// For how long a blob stays that no manifest has named, and an upload that nobody goes on with; 24h if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_lease: Option<Age>,
    /// What uploads may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uploads: Option<Uploads>,
    /// Where pushes are reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<EventSink>,
    /// Tags that never move once they exist. Only a lifecycle rule takes them away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub immutable_tags: Vec<Pattern>,
    /// Accept manifests of which some content was never pushed here, such as the images of an index for other platforms.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sparse_manifests: bool,
    /// Whether clients are sent to the bucket itself for the bytes of blobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirects: Option<Redirects>,
    /// Requests that take longer than this, without the time that their client takes, are logged with where it went;
    /// none are if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_requests: Option<Age>,
    /// Where requests are told as traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traces: Option<TraceSink>,
    /// How long a terminating server goes on serving after it has become unready; 5s if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_delay: Option<Age>,
}

impl ServerConfig {
    /// The part that applies only to a new process; a running one follows the rest.
    #[must_use]
    pub fn fixed(self) -> Self {
        Self {
            anonymous: None,
            pull_only_users: Vec::new(),
            service_accounts: None,
            gate: None,
            lifecycle: Vec::new(),
            undelete_window: None,
            upload_lease: None,
            immutable_tags: Vec::new(),
            sparse_manifests: false,
            redirects: None,
            slow_requests: None,
            ..self
        }
    }

    /// The keys of what differs and applies only to a new process.
    #[must_use]
    pub fn needs_restart(&self, changed: &Self) -> Vec<String> {
        let [old, new] = [self, changed].map(|config| match serde_json::to_value(config.clone().fixed()) {
            Ok(Value::Object(keys)) => keys,
            // Only a path that is no text cannot be written, and none such can have been read.
            _ => Map::new(),
        });
        let mut keys: Vec<_> =
            old.keys().chain(new.keys()).filter(|key| old.get(*key) != new.get(*key)).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.into_iter().cloned().collect()
    }
}

/// What uploads may take of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Uploads {
    /// Memory for parts of blobs on their way to the store, all uploads together; 64Mi if unset. The process needs about
    /// 32Mi beside it, and up to half a MiB for each connection that pushes over HTTP/2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// Requests that bring bytes of blobs at once; further ones are answered with 429. 1024 if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_once: Option<u16>,
}

/// A certificate chain and its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsFiles {
    /// PEM certificate chain, leaf first.
    pub cert: PathBuf,
    /// PEM private key.
    pub key: PathBuf,
}

/// What a caller without credentials may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Anonymous {
    /// Nothing.
    #[default]
    None,
    /// Pull.
    Read,
    /// Pull, push and delete. For a laptop.
    Write,
}

/// The `ServiceAccounts` that may call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceAccounts {
    /// The audience that a token must be bound to: the registry's own endpoint.
    pub audience: String,
    /// Who may do what. A `ServiceAccount` that is not listed may do nothing.
    pub allow: Vec<ServiceAccountGrant>,
}

/// One grant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceAccountGrant {
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

/// What an identity may do. Each role stands for itself; `Push` includes `Pull`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Read every repository.
    Pull,
    /// `Pull`, and ask for usage. For the operator.
    Inspect,
    /// Read and write every repository.
    Push,
    /// Start the maintenance jobs (prune, gc, scrub) and ask what they know (usage, explain); nothing else.
    Maintain,
}

/// Which images are refused to those who may only pull. Who may push sees them all, or nobody could sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gate {
    /// The host by which policies name this registry: their patterns are compared with `host/repository`.
    pub host: String,
    /// Who is refused nothing all the same, as `serviceAccounts` names it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exempt: Vec<String>,
    /// An image must satisfy each one that speaks about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<GatePolicy>,
}

/// One policy of the gate: exactly one of `policy` and `refuses`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatePolicy {
    /// For messages: `NAMESPACE/NAME` of the `ImagePolicy`.
    pub name: String,
    /// What its images must show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// It is out of order, and refuses all that it governs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refuses: Option<OutOfOrder>,
}

/// A policy that cannot judge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OutOfOrder {
    /// Globs over `host/repository` of what it governs.
    pub images: Vec<Pattern>,
    /// Why it cannot.
    pub cause: String,
}

/// One lifecycle rule. An image is judged by the first rule, by priority, that selects it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LifecycleRule {
    /// Lowest first; unique within a registry.
    pub priority: u32,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Repositories that it speaks about; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<Pattern>,
    /// An image must have a tag for each of these; empty means no such demand. Only with `Tagged`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tag_patterns: Vec<Pattern>,
    /// Which images it speaks about; `Tagged` if unset and tag patterns are given, else `Any`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag_status: Option<TagStatus>,
    /// Keep so many of the newest images, remove the others. Exactly one of `keepLast` and `olderThan` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_last: Option<u32>,
    /// Remove images pushed longer ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_than: Option<Age>,
}

/// Which images a rule speaks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TagStatus {
    /// Those with at least one tag.
    Tagged,
    /// Those without a tag.
    Untagged,
    /// All.
    Any,
}

/// Where pushes are reported, as `CloudEvents` over HTTPS; best effort.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventSink {
    /// URL that takes a POST.
    pub url: String,
    /// `host:port` of which every address gets each event, as the host of `url`: a headless Service. Without it, or
    /// without addresses, `url` alone is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<String>,
    /// PEM file with the certificates that the URL's host is trusted by.
    pub ca_file: PathBuf,
    /// File with the bearer token; read anew for each call.
    pub token_file: PathBuf,
    /// The `source` of the events: `NAMESPACE/NAME` of the Registry.
    pub source: String,
}

/// Where traces go: an OpenTelemetry collector, by OTLP over HTTP (protobuf); best effort.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TraceSink {
    /// `https://host:4318` or `http://…`; spans are posted to `/v1/traces` below it.
    pub endpoint: String,
    /// Of a million requests whose clients do not say whether to trace them, so many are traced; all if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling_rate_per_million: Option<u32>,
    /// File with headers to send along, such as a token: a line `name: value` each; read anew for each call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers_file: Option<PathBuf>,
    /// PEM file with the certificates that the endpoint is trusted by; the system's if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

/// Whether a blob GET is answered with a presigned URL of the store instead of the bytes. Memory and directories have
/// no URLs; they go on sending bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Redirects {
    /// Off, or on for the clients of `networks`.
    pub mode: RedirectMode,
    /// Networks of clients that reach the store; empty means all. A client behind a proxy has the proxy's address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<IpNet>,
    /// How long a URL is good for; 10m if unset, at most 7d and no longer than deleted content can come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Age>,
}

/// A switch that says what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RedirectMode {
    /// The registry sends the bytes itself.
    Off,
    /// The client fetches them from the store.
    On,
}

/// What `berth-registry replicate` is told: one pass from one registry to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReplicateConfig {
    /// Where images are read.
    pub source: Remote,
    /// Where they are written.
    pub destination: Remote,
    /// Which ones: an image is copied if any selection matches; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub select: Vec<Selection>,
    /// Put before each repository name at the destination, for example `mirror/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
}

/// A registry as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Remote {
    /// `https://host[:port]`; `http://` only where it is meant.
    pub url: String,
    /// PEM file with the certificates to trust beside the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// File with a bearer token. At most one of `tokenFile` and `basicDir` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Directory with the files `username` and `password`, as a basic-auth Secret is mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_dir: Option<PathBuf>,
}

/// Repositories and tags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selection {
    /// Any of these; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<Pattern>,
    /// Any of these; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Pattern>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every key of the file.
    fn whole() -> ServerConfig {
        let path = || Some(PathBuf::from("/a"));
        ServerConfig {
            listen: Some("0.0.0.0:1".to_owned()),
            store: Some("memory:".to_owned()),
            store_ca_file: path(),
            tls: Some(TlsFiles { cert: "/a".into(), key: "/b".into() }),
            plain_http: true,
            htpasswd: path(),
            pull_only_users: vec!["a".to_owned()],
            anonymous: Some(Anonymous::Read),
            service_accounts: Some(ServiceAccounts { audience: "a".to_owned(), allow: Vec::new() }),
            gate: Some(Gate { host: "a".to_owned(), exempt: Vec::new(), policies: Vec::new() }),
            lifecycle: vec![LifecycleRule {
                priority: 1,
                description: None,
                repositories: Vec::new(),
                tag_patterns: Vec::new(),
                tag_status: None,
                keep_last: Some(1),
                older_than: None,
            }],
            undelete_window: Some(Age::from_secs(1)),
            upload_lease: Some(Age::from_secs(1)),
            uploads: Some(Uploads { memory: None, at_once: Some(1) }),
            events: Some(EventSink {
                url: "https://a".to_owned(),
                replicas: Some("a:1".to_owned()),
                ca_file: "/a".into(),
                token_file: "/b".into(),
                source: "a/b".to_owned(),
            }),
            immutable_tags: "v*".parse().into_iter().collect(),
            sparse_manifests: true,
            redirects: Some(Redirects { mode: RedirectMode::On, networks: Vec::new(), lifetime: None }),
            slow_requests: Some(Age::from_secs(1)),
            traces: Some(TraceSink {
                endpoint: "http://a".to_owned(),
                sampling_rate_per_million: None,
                headers_file: None,
                ca_file: None,
            }),
            drain_delay: Some(Age::from_secs(1)),
        }
    }

    /// R-OPR-1, R-OPS-2: the operator replaces servers for no other keys than those which a server cannot follow.
    #[test]
    fn every_key_is_followed_or_needs_a_restart() {
        let whole = serde_json::to_value(whole()).unwrap();
        let needs_restart: Vec<&String> = whole
            .as_object()
            .unwrap()
            .iter()
            .filter_map(|(key, value)| {
                let only: Map<_, _> = [(key.clone(), value.clone())].into_iter().collect();
                let only: ServerConfig = serde_json::from_value(only.into()).unwrap();
                let keys = ServerConfig::default().needs_restart(&only);
                assert!(keys.is_empty() || keys == [key.as_str()], "{key}: {keys:?}");
                assert_eq!(keys, only.needs_restart(&ServerConfig::default()), "{key}");
                assert_eq!(keys.is_empty(), only.fixed() == ServerConfig::default(), "{key}");
                (!keys.is_empty()).then_some(key)
            })
            .collect();
        let fixed = [
            "drainDelay",
            "events",
            "htpasswd",
            "listen",
            "plainHttp",
            "store",
            "storeCaFile",
            "tls",
            "traces",
            "uploads",
        ];
        assert_eq!(needs_restart, fixed);
    }

    #[test]
    fn what_differs_is_named_by_its_key() {
        let tls = |key: &str| ServerConfig {
            tls: Some(TlsFiles { cert: "/a".into(), key: key.into() }),
            drain_delay: Some(Age::from_secs(1)),
            ..whole()
        };
        assert_eq!(tls("/b").needs_restart(&tls("/c")), ["tls"]);
        assert!(tls("/b").needs_restart(&tls("/b")).is_empty());
    }
}
