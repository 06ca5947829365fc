//! Docker's `config.json`, from which the user's own credentials come: logins that it holds itself, read as those of pull
//! secrets are, and the names of helpers that keep others (`credential_helper`).

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use berth_operator_core::pulling::{Login, Logins, covers};
use berth_registry_core::ImageReference;
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::credential_helper::{self, HelperError, LIMIT};

/// The file, as far as it is understood.
#[derive(Default)]
pub(crate) struct DockerConfig {
    logins: Logins,
    helpers: Helpers,
    /// What helpers said, by server: they may ask the user, once.
    told: Mutex<BTreeMap<String, Result<Option<Login>, HelperError>>>,
}

/// Which helper keeps what.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Helpers {
    /// Of the registries that have no own.
    creds_store: Option<String>,
    /// By registry.
    cred_helpers: BTreeMap<String, String>,
}

/// Why the file is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DockerConfigError {
    /// It is there and cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// It is not what Docker writes. What it says is not repeated.
    #[error("{} is no Docker configuration: line {line}, column {column}", path.display())]
    Malformed { path: PathBuf, line: usize, column: usize },
}

/// Passwords are not shown.
impl fmt::Debug for DockerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DockerConfig").finish_non_exhaustive()
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
            Ok(bytes) => Self::parse(path, &bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(DockerConfigError::Unreadable { path: path.to_owned(), source }),
        }
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, DockerConfigError> {
        let malformed = |error: serde_json::Error| {
            let (line, column) = (error.line(), error.column());
            DockerConfigError::Malformed { path: path.to_owned(), line, column }
        };
        Ok(Self {
            logins: Logins::parse(bytes).map_err(malformed)?,
            helpers: serde_json::from_slice(bytes).map_err(malformed)?,
            told: Mutex::default(),
        })
    }

    /// User and password for an image: of the helper for its host, if that has them, else of the file.
    pub(crate) async fn login(&self, image: &ImageReference) -> Result<Option<Login>, HelperError> {
        if let Some(helper) = self.helpers.of(image) {
            let server = server(&image.host);
            let mut told = self.told.lock().await;
            let kept = if let Some(kept) = told.get(server) {
                kept.clone()
            } else {
                let kept = credential_helper::get(helper, server, LIMIT).await;
                told.insert(server.to_owned(), kept.clone());
                kept
            };
            if let Some(login) = kept? {
                return Ok(Some(login));
            }
        }
        Ok(self.logins.login(image))
    }
}

impl Helpers {
    /// The helper for an image. Which registries one for all of them knows, only that one can say.
    fn of(&self, image: &ImageReference) -> Option<&str> {
        let own = self.cred_helpers.iter().filter_map(|(key, helper)| Some((covers(key, image)?, helper)));
        let own = own.max_by_key(|(length, _)| *length).map(|(_, helper)| helper);
        own.or(self.creds_store.as_ref()).map(String::as_str).filter(|helper| !helper.is_empty())
    }
}

/// What Docker calls a host when it speaks to helpers.
fn server(host: &str) -> &str {
    if host == "docker.io" { "https://index.docker.io/v1/" } else { host }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case("gcr.io/acme/app", Some("gcloud"))]
    #[case("r.io/app", Some("desktop"))]
    #[case("gcr.io:5000/app", Some("desktop"))]
    #[case("plain.io/app", None)]
    fn each_host_has_one_helper(#[case] image: &str, #[case] expected: Option<&str>) {
        let config = json!({
            "auths": {"r.io": {}}, "credsStore": "desktop",
            "credHelpers": {"gcr.io": "gcloud", "plain.io": ""},
        });
        let config = DockerConfig::parse(Path::new("config.json"), config.to_string().as_bytes()).unwrap();
        assert_eq!(config.helpers.of(&image.parse().unwrap()), expected);
    }

    #[rstest]
    #[case::no_json(r#"{"auths": {"r.io": {"auth": secret}}}"#)]
    #[case::other_type(r#"{"auths": {"r.io": "secret"}}"#)]
    #[case::helpers(r#"{"credHelpers": ["secret"]}"#)]
    fn what_cannot_be_read_is_not_repeated(#[case] config: &str) {
        let error = DockerConfig::parse(Path::new("config.json"), config.as_bytes()).unwrap_err().to_string();
        assert!(!error.contains("secret") && error.contains("line 1"), "{error}");
    }
}
