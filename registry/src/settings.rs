//! What the server is told, made certain: flags over `BERTH_…` variables (clap merges these two) over the file
//! `berth.yaml`. What is contradictory, missing or misspelt is refused before anything starts. Pure but for the file.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use berth_registry_core::{
    Age, Pattern, Size,
    config::{
        self, Anonymous, EventSink, LifecycleRule, RedirectMode, ServerConfig, ServiceAccounts, TlsFiles,
        TraceSink,
    },
};
use http::Uri;
use serde::de::DeserializeOwned;

use crate::{
    gate::{Gate, InvalidGate},
    limits,
    redirects::Redirects,
    reload::Unreadable,
    store::URLS,
    traces::MILLION,
};

const DEFAULT_LISTEN: &str = "0.0.0.0:5000";
const STORES: [&str; 5] = ["memory:", "file:///", "s3://", "gs://", "az://"];
/// No cloud signs for longer.
const LONGEST_REDIRECT: Age = Age::from_secs(7 * 86_400);
const DEFAULT_REDIRECT: Age = Age::from_secs(600);
const DEFAULT_DRAIN_DELAY: Age = Age::from_secs(5);
const DEFAULT_UNDELETE_WINDOW: Age = Age::from_secs(7 * 86_400);
const DEFAULT_UPLOAD_LEASE: Age = Age::from_secs(86_400);

const LEAST_UPLOAD_MEMORY: usize = 16 << 20;

/// Valid settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `host:port`.
    pub listen: String,
    /// The store's URL.
    pub store: String,
    /// Certificates that the store is trusted by.
    pub store_ca_file: Option<PathBuf>,
    /// TLS, or `None` for plain HTTP.
    pub tls: Option<TlsFiles>,
    /// The users file.
    pub htpasswd: Option<PathBuf>,
    /// Users who may only pull.
    pub pull_only_users: Vec<String>,
    /// What a caller without credentials may do.
    pub anonymous: Anonymous,
    /// What those who may only pull are refused.
    pub gate: Option<Gate>,
    /// `ServiceAccounts` that may call.
    pub service_accounts: Option<ServiceAccounts>,
    /// What the prune job applies.
    pub lifecycle: Vec<LifecycleRule>,
    /// For how long what was deleted can be brought back.
    pub undelete_window: Duration,
    /// For how long what no manifest names may stay.
    pub upload_lease: Duration,
    /// Where changes are told.
    pub events: Option<EventSink>,
    /// Tags that never move.
    pub immutable_tags: Vec<Pattern>,
    /// Accept manifests with content that was never pushed.
    pub sparse_manifests: bool,
    /// What a request may take before it is logged.
    pub slow_requests: Option<Duration>,
    /// Memory for parts of uploads, in bytes.
    pub upload_memory: usize,
    /// Requests that bring bytes of blobs at once.
    pub max_uploads: usize,
    /// Who fetches blobs from the store itself.
    pub redirects: Option<Redirects>,
    /// Where traces go.
    pub traces: Option<TraceSink>,
    /// How long to go on serving after readiness said `Draining`.
    pub drain_delay: Duration,
}

/// Why the settings are refused.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no YAML of the expected form; the message names the key and the line.
    #[error("the configuration {} is not valid: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What and where.
        source: serde_yaml::Error,
    },
    /// No store.
    #[error("say where content is kept with --store: {}", URLS)]
    NoStore,
    /// A store of a kind that does not exist.
    #[error("store {store:?} is not understood: write {}", URLS)]
    UnknownStore {
        /// As written.
        store: String,
    },
    /// TLS and plain HTTP.
    #[error(
        "TLS files and plain HTTP contradict each other: set --tls-cert and --tls-key, or --plain-http, not both"
    )]
    TlsAndPlain,
    /// Neither TLS nor plain HTTP.
    #[error("set --tls-cert and --tls-key, or --plain-http if something else terminates TLS")]
    NoTransport,
    /// A certificate without its key, or a key without its certificate.
    #[error("--tls-cert and --tls-key belong together: set both")]
    HalfTls,
    /// URLs that no store would sign.
    #[error("redirects.lifetime is {0}: it must be from 1s to 7d, which is the most that stores sign for")]
    RedirectLifetime(Age),
    /// URLs that outlive what they point to.
    #[error(
        "redirects.lifetime is {lifetime}, but deleted content goes after undeleteWindow, {window}: a client could be \
         sent to bytes that are gone; set the lifetime to {window} or less"
    )]
    RedirectsOutliveContent {
        /// Of a URL.
        lifetime: Age,
        /// Of deleted content.
        window: Age,
    },
    /// Two rules of one priority.
    #[error("lifecycle rules must have different priorities: {0} is there twice")]
    SamePriority(u32),
    /// Less than two parts of an upload to S3.
    #[error("uploads.memory {0} is too little: write 16Mi or more")]
    UploadMemory(Size),
    /// Nobody may push.
    #[error("uploads.atOnce must be at least 1: to keep pushes out, give roles that may only pull")]
    NoUploads,
    /// A collector that cannot be called.
    #[error(
        "traces.endpoint is no URL of a collector: write https://host:4318, or http:// within a network, and what is \
         secret into traces.headersFile"
    )]
    TracesEndpoint,
    /// More than all.
    #[error("traces.samplingRatePerMillion is {0}: it must be from 0 to 1000000")]
    SamplingRate(u32),
    /// Policies that nobody could judge by.
    #[error(transparent)]
    Gate(#[from] InvalidGate),
    /// A rule that removes nothing or everything.
    #[error("lifecycle rule {0} must have exactly one of keepLast and olderThan")]
    RuleAction(u32),
}

/// What flags and variables say; they win over the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--listen`.
    pub listen: Option<String>,
    /// `--store`.
    pub store: Option<String>,
    /// `--tls-cert`.
    pub tls_cert: Option<PathBuf>,
    /// `--tls-key`.
    pub tls_key: Option<PathBuf>,
    /// `--plain-http`.
    pub plain_http: bool,
    /// `--htpasswd`.
    pub htpasswd: Option<PathBuf>,
    /// `--anonymous`.
    pub anonymous: Option<Anonymous>,
    /// `--immutable-tags`.
    pub immutable_tags: Vec<Pattern>,
    /// `--sparse-manifests`.
    pub sparse_manifests: bool,
}

fn in_memory(size: Size) -> usize {
    usize::try_from(size.bytes()).unwrap_or(usize::MAX)
}

/// Reads a configuration file.
pub fn read_file<T: DeserializeOwned>(path: &Path) -> Result<T, SettingsError> {
    let content =
        std::fs::read(path).map_err(|source| SettingsError::Unreadable { path: path.to_owned(), source })?;
    parse(path, &content)
}

/// Reads the content of a configuration file; `path` is for messages.
pub fn parse<T: DeserializeOwned>(path: &Path, content: &[u8]) -> Result<T, SettingsError> {
    serde_yaml::from_slice(content)
        .map_err(|source| SettingsError::Malformed { path: path.to_owned(), source })
}

impl From<Unreadable> for SettingsError {
    fn from(Unreadable { path, source }: Unreadable) -> Self {
        Self::Unreadable { path, source }
    }
}

impl Settings {
    /// Merges and checks.
    pub fn new(overrides: Overrides, file: ServerConfig) -> Result<Self, SettingsError> {
        let (cert, key) = file.tls.map_or((None, None), |tls| (Some(tls.cert), Some(tls.key)));
        let plain = overrides.plain_http || file.plain_http;
        let tls = match (overrides.tls_cert.or(cert), overrides.tls_key.or(key)) {
            (Some(_), Some(_)) if plain => return Err(SettingsError::TlsAndPlain),
            (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
            (None, None) if plain => None,
            (None, None) => return Err(SettingsError::NoTransport),
            _ => return Err(SettingsError::HalfTls),
        };
        check_rules(&file.lifecycle)?;
        check_traces(file.traces.as_ref())?;
        let uploads = file.uploads.unwrap_or_default();
        if let Some(memory) = uploads.memory.filter(|memory| in_memory(*memory) < LEAST_UPLOAD_MEMORY) {
            return Err(SettingsError::UploadMemory(memory));
        }
        if uploads.at_once == Some(0) {
            return Err(SettingsError::NoUploads);
        }
        let store = overrides.store.or(file.store).ok_or(SettingsError::NoStore)?;
        if !STORES.iter().any(|kind| store.starts_with(kind)) {
            return Err(SettingsError::UnknownStore { store });
        }
        let undelete_window = file.undelete_window.unwrap_or(DEFAULT_UNDELETE_WINDOW);
        Ok(Self {
            redirects: redirects(file.redirects, undelete_window)?,
            listen: overrides.listen.or(file.listen).unwrap_or_else(|| DEFAULT_LISTEN.to_owned()),
            store,
            store_ca_file: file.store_ca_file,
            tls,
            htpasswd: overrides.htpasswd.or(file.htpasswd),
            anonymous: overrides.anonymous.or(file.anonymous).unwrap_or_default(),
            pull_only_users: file.pull_only_users,
            gate: file.gate.map(Gate::new).transpose()?,
            service_accounts: file.service_accounts,
            lifecycle: file.lifecycle,
            upload_memory: uploads.memory.map_or(limits::UPLOAD_MEMORY, in_memory),
            max_uploads: uploads.at_once.map_or(limits::MAX_UPLOADS, usize::from),
            undelete_window: undelete_window.as_duration(),
            upload_lease: file.upload_lease.unwrap_or(DEFAULT_UPLOAD_LEASE).as_duration(),
            events: file.events,
            immutable_tags: if overrides.immutable_tags.is_empty() {
                file.immutable_tags
            } else {
                overrides.immutable_tags
            },
            sparse_manifests: overrides.sparse_manifests || file.sparse_manifests,
            slow_requests: file.slow_requests.map(Age::as_duration),
            traces: file.traces,
            drain_delay: file.drain_delay.unwrap_or(DEFAULT_DRAIN_DELAY).as_duration(),
        })
    }
}

fn redirects(
    config: Option<config::Redirects>,
    undelete_window: Age,
) -> Result<Option<Redirects>, SettingsError> {
    let Some(config) = config.filter(|config| config.mode == RedirectMode::On) else { return Ok(None) };
    let lifetime = config.lifetime.unwrap_or(DEFAULT_REDIRECT.min(undelete_window));
    if lifetime.as_secs() == 0 || lifetime > LONGEST_REDIRECT {
        return Err(SettingsError::RedirectLifetime(lifetime));
    }
    if lifetime > undelete_window {
        return Err(SettingsError::RedirectsOutliveContent { lifetime, window: undelete_window });
    }
    Ok(Some(Redirects { networks: config.networks, lifetime: lifetime.as_duration() }))
}

fn check_traces(sink: Option<&TraceSink>) -> Result<(), SettingsError> {
    let Some(sink) = sink else { return Ok(()) };
    let endpoint: Option<Uri> = sink.endpoint.parse().ok();
    // What is secret belongs into the file of headers: the endpoint is logged.
    let is_url = endpoint.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
    });
    match sink.sampling_rate_per_million {
        _ if !is_url => Err(SettingsError::TracesEndpoint),
        Some(rate) if rate > MILLION => Err(SettingsError::SamplingRate(rate)),
        _ => Ok(()),
    }
}

fn check_rules(rules: &[LifecycleRule]) -> Result<(), SettingsError> {
    let mut priorities: Vec<u32> = rules.iter().map(|rule| rule.priority).collect();
    priorities.sort_unstable();
    if let Some(pair) = priorities.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(SettingsError::SamePriority(pair[0]));
    }
    match rules.iter().find(|rule| rule.keep_last.is_some() == rule.older_than.is_some()) {
        Some(rule) => Err(SettingsError::RuleAction(rule.priority)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn yaml(text: &str) -> Result<ServerConfig, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("berth.yaml");
        std::fs::write(&path, text).unwrap();
        read_file(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_win_over_the_file() {
        let file =
            yaml("store: 'memory:'\nplainHttp: true\nlisten: 1.2.3.4:5\nanonymous: read\ndrainDelay: 7s\n")
                .unwrap();
        let overrides = Overrides {
            listen: Some("127.0.0.1:0".to_owned()),
            anonymous: Some(Anonymous::Write),
            ..Overrides::default()
        };
        let settings = Settings::new(overrides, file.clone()).unwrap();
        assert_eq!((settings.listen.as_str(), settings.anonymous), ("127.0.0.1:0", Anonymous::Write));
        assert_eq!((settings.store.as_str(), settings.drain_delay), ("memory:", Duration::from_secs(7)));
        let settings = Settings::new(Overrides::default(), file).unwrap();
        assert_eq!((settings.listen.as_str(), settings.anonymous), ("1.2.3.4:5", Anonymous::Read));
    }

    #[test]
    fn without_a_word_nothing_is_open() {
        let settings =
            Settings::new(Overrides::default(), yaml("{store: 'memory:', plainHttp: true}").unwrap())
                .unwrap();
        assert_eq!(settings.anonymous, Anonymous::None);
        assert_eq!(settings.listen, DEFAULT_LISTEN);
    }

    #[rstest]
    #[case("plainHttp: true", "--store")]
    #[case("{store: 'ftp://a', plainHttp: true}", "ftp://a")]
    #[case("store: 'memory:'", "--plain-http")]
    #[case("{store: 'memory:', plainHttp: true, uploads: {memory: 8Mi}}", "16Mi or more")]
    #[case("{store: 'memory:', plainHttp: true, uploads: {atOnce: 0}}", "at least 1")]
    #[case("{store: 'memory:', plainHttp: true, tls: {cert: a, key: b}}", "contradict")]
    #[case(
        "{store: 'memory:', plainHttp: true, lifecycle: [{priority: 1, keepLast: 1}, {priority: 1, keepLast: 2}]}",
        "1 is there twice"
    )]
    #[case("{store: 'memory:', plainHttp: true, lifecycle: [{priority: 3}]}", "rule 3")]
    #[case(
        "{store: 'memory:', plainHttp: true, lifecycle: [{priority: 3, keepLast: 1, olderThan: 1d}]}",
        "rule 3"
    )]
    #[case(
        "{store: 'memory:', plainHttp: true, redirects: {mode: On, lifetime: 2h}, undeleteWindow: 1h}",
        "set the lifetime to 1h or less"
    )]
    #[case("{store: 'memory:', plainHttp: true, redirects: {mode: On, lifetime: 8d}}", "from 1s to 7d")]
    #[case("{store: 'memory:', plainHttp: true, redirects: {mode: On, lifetime: 0s}}", "from 1s to 7d")]
    #[case("{store: 'memory:', plainHttp: true, traces: {endpoint: 'collector:4317'}}", "write https://")]
    #[case("{store: 'memory:', plainHttp: true, traces: {endpoint: 'https://a:b@c'}}", "headersFile")]
    #[case(
        "{store: 'memory:', plainHttp: true, traces: {endpoint: 'http://a', samplingRatePerMillion: 1000001}}",
        "from 0 to 1000000"
    )]
    fn refuses(#[case] text: &str, #[case] says: &str) {
        let error = Settings::new(Overrides::default(), yaml(text).unwrap()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }

    #[test]
    fn patterns_of_immutable_tags_come_from_the_flag_or_the_file() {
        let file = yaml("{store: 'memory:', plainHttp: true, immutableTags: ['v*'], sparseManifests: true}")
            .unwrap();
        let settings = Settings::new(Overrides::default(), file.clone()).unwrap();
        assert_eq!((settings.immutable_tags, settings.sparse_manifests), (file.immutable_tags.clone(), true));
        let overrides = Overrides { immutable_tags: vec!["r-*".parse().unwrap()], ..Overrides::default() };
        let settings = Settings::new(overrides.clone(), file).unwrap();
        assert_eq!(settings.immutable_tags, overrides.immutable_tags);
    }

    #[test]
    fn half_of_tls_is_refused() {
        let overrides = Overrides {
            tls_cert: Some("a".into()),
            store: Some("memory:".to_owned()),
            ..Overrides::default()
        };
        assert!(matches!(Settings::new(overrides, ServerConfig::default()), Err(SettingsError::HalfTls)));
    }

    #[rstest]
    #[case("store: 'memory:'\nplainHtp: true\n", "plainHtp", "line 2")]
    #[case("listen: a\nstore: b: c\n", "not valid", "line 2")]
    #[case("listen: a\ndrainDelay: soon", "\"soon\" is no span of time", "")]
    #[case("plainHttp: true\ntls:\n  cert: a\n  kye: b", "kye", "line 4")]
    #[case("redirects: {mode: on}", "unknown variant `on`", "line 1")]
    #[case("redirects:\n  mode: On\n  networks: [10.0.0.0/33]", "networks[0]", "line 3")]
    #[case("lifecycle:\n  - priority: 1\n    olderThan: 5x", "lifecycle[0]: \"5x\" is no span", "line 2")]
    fn misspelt_keys_are_named_with_their_line(#[case] text: &str, #[case] what: &str, #[case] line: &str) {
        let error = yaml(text).unwrap_err();
        assert!(error.contains(what) && error.contains(line), "{error}");
    }
}
