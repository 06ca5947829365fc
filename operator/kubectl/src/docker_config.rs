//! Docker's `config.json`, and the Secrets of Kubernetes with the same content: user and password by host. The host must
//! be the image's exactly; credential helpers are programs of others and are not run.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use berth_client::Credentials;
use serde::Deserialize;

/// The file, as far as it is understood.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DockerConfig {
    auths: BTreeMap<String, Entry>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
}

/// Why a file with credentials is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DockerConfigError {
    /// It is there and cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// It is not what Docker writes.
    #[error("{origin} is no Docker configuration: {cause}")]
    Malformed { origin: String, cause: String },
}

/// Passwords are not shown.
impl fmt::Debug for DockerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.auths.keys()).finish()
    }
}

impl DockerConfig {
    /// The user's own: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`; empty if there is none.
    pub(crate) fn of_user() -> Result<Self, DockerConfigError> {
        let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
        let folder = folder.or_else(|| std::env::home_dir().map(|home| home.join(".docker")));
        folder.map_or_else(|| Ok(Self::default()), |folder| Self::read(&folder.join("config.json")))
    }

    fn read(path: &Path) -> Result<Self, DockerConfigError> {
        match std::fs::read(path) {
            Ok(bytes) => Self::parse(&path.display().to_string(), &bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(DockerConfigError::Unreadable { path: path.to_owned(), source }),
        }
    }

    /// Reads the bytes that `origin` holds. The message never repeats what it could not read.
    pub(crate) fn parse(origin: &str, bytes: &[u8]) -> Result<Self, DockerConfigError> {
        let malformed = |cause: String| DockerConfigError::Malformed { origin: origin.to_owned(), cause };
        serde_json::from_slice(bytes)
            .map_err(|error| malformed(format!("line {}, column {}", error.line(), error.column())))
    }

    /// User and password for a host, as an image names it.
    pub(crate) fn credentials(&self, host: &str) -> Option<Credentials> {
        self.auths
            .iter()
            .find(|(key, _)| host_of(key) == Some(host))
            .and_then(|(_, entry)| entry.credentials())
    }

    /// The helper that keeps the credentials for a host, if one does.
    pub(crate) fn helper(&self, host: &str) -> Option<&str> {
        let helper = self.cred_helpers.iter().find(|(key, _)| host_of(key) == Some(host));
        let stored = self.auths.keys().any(|key| host_of(key) == Some(host));
        helper.map(|(_, helper)| helper.as_str()).or(self.creds_store.as_deref().filter(|_| stored))
    }
}

impl Entry {
    fn credentials(&self) -> Option<Credentials> {
        let basic = |username: &str, password: &str| {
            let (username, password) = (username.to_owned(), password.to_owned());
            (!username.is_empty()).then_some(Credentials::Basic { username, password })
        };
        if !self.username.is_empty() {
            return basic(&self.username, &self.password);
        }
        let decoded = BASE64_STANDARD.decode(self.auth.trim()).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        let (username, password) = text.split_once(':')?;
        basic(username, password.trim_end_matches('\0'))
    }
}

/// The host that an entry is for. Entries for a part of a host (`registry.io/team`) are not Docker's and are not used.
fn host_of(key: &str) -> Option<&str> {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    match (host, path) {
        ("index.docker.io" | "registry-1.docker.io", _) => Some("docker.io"),
        (host, "" | "v1" | "v1/" | "v2" | "v2/") => Some(host.strip_suffix(":443").unwrap_or(host)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn config(value: &Value) -> DockerConfig {
        DockerConfig::parse("config.json", value.to_string().as_bytes()).unwrap()
    }

    fn shown(credentials: Option<Credentials>) -> Option<(String, String)> {
        match credentials {
            Some(Credentials::Basic { username, password }) => Some((username, password)),
            _ => None,
        }
    }

    /// Credentials go to the host that they were given for, and to no other.
    #[rstest]
    #[case("r.io", "r.io", true)]
    #[case("https://r.io", "r.io", true)]
    #[case("https://r.io/v2/", "r.io", true)]
    #[case("r.io:443", "r.io", true)]
    #[case("r.io:5000", "r.io:5000", true)]
    #[case("r.io", "r.io:5000", false)]
    #[case("r.io:5000", "r.io", false)]
    #[case("r.io", "evil.r.io", false)]
    #[case("r.io", "r.io.evil", false)]
    #[case("r.io/team", "r.io", false)]
    #[case("*.io", "r.io", false)]
    #[case("https://index.docker.io/v1/", "docker.io", true)]
    fn hosts(#[case] key: &str, #[case] host: &str, #[case] found: bool) {
        let config = config(&json!({"auths": {key: {"auth": BASE64_STANDARD.encode("ci:a:b")}}}));
        let expected = found.then(|| ("ci".to_owned(), "a:b".to_owned()));
        assert_eq!(shown(config.credentials(host)), expected);
    }

    #[rstest]
    #[case::plain(json!({"username": "ci", "password": "p"}), true)]
    #[case::empty(json!({}), false)]
    #[case::no_colon(json!({"auth": BASE64_STANDARD.encode("ci")}), false)]
    #[case::no_base64(json!({"auth": "%"}), false)]
    fn entries(#[case] entry: Value, #[case] found: bool) {
        assert_eq!(shown(config(&json!({"auths": {"r.io": entry}})).credentials("r.io")).is_some(), found);
    }

    #[test]
    fn helpers_are_named_and_not_run() {
        let config = config(&json!({
            "auths": {"r.io": {}}, "credsStore": "desktop", "credHelpers": {"gcr.io": "gcloud"},
        }));
        assert_eq!((config.helper("r.io"), config.helper("gcr.io")), (Some("desktop"), Some("gcloud")));
        assert_eq!(config.helper("q.io"), None);
    }

    #[test]
    fn what_cannot_be_read_is_not_repeated() {
        let error =
            DockerConfig::parse("config.json", br#"{"auths": {"r.io": {"auth": secret}}}"#).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
