//! With what a Pod pulls its images: the pull secrets that it and its `ServiceAccount` name, and which of their
//! credentials are for an image. The webhook and the kubectl plugin read the Secrets, each where it may; here is decided
//! what of them goes to whom.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use berth_registry_core::ImageReference;
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;

/// The most Secrets that one Pod and its `ServiceAccount` may name.
pub const MAX_SECRETS: usize = 16;

/// The type of Secrets with logins, and the one key in them.
const TYPE: &str = "kubernetes.io/dockerconfigjson";
const KEY: &str = ".dockerconfigjson";

/// Whose pull secrets count for a Pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pulling {
    /// Of the Pod; Secrets are in it, too.
    pub namespace: String,
    /// Its `ServiceAccount`.
    pub service_account: String,
    /// Secrets that the Pod itself names, in its order.
    pub secrets: Vec<String>,
}

/// User and password for one registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// User.
    pub username: String,
    /// Password.
    pub password: String,
}

/// Reads a Pod, or the template in whatever makes Pods.
pub fn pulling(namespace: &str, object: &str) -> Result<Pulling, serde_json::Error> {
    let mut spec = serde_json::from_str::<Object>(object)?.spec.unwrap_or_default();
    while let Some(inner) = spec.template.take().or_else(|| spec.job_template.take()) {
        spec = inner.spec.unwrap_or_default();
    }
    let secrets = spec.image_pull_secrets.unwrap_or_default();
    let secrets = secrets.into_iter().filter_map(|secret| secret.name).filter(|name| !name.is_empty());
    Ok(Pulling {
        namespace: namespace.to_owned(),
        service_account: spec.service_account_name.unwrap_or_else(|| "default".to_owned()),
        secrets: secrets.take(MAX_SECRETS).collect(),
    })
}

#[derive(Deserialize)]
struct Object {
    spec: Option<Spec>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    image_pull_secrets: Option<Vec<Named>>,
    service_account_name: Option<String>,
    template: Option<Box<Object>>,
    job_template: Option<Box<Object>>,
}

#[derive(Deserialize)]
struct Named {
    name: Option<String>,
}

/// Logins by registry: what a pull secret holds, and Docker's `config.json`.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct Logins {
    auths: BTreeMap<String, Entry>,
}

#[derive(Clone, Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Logins {
    /// What a Secret holds; none if it is no pull secret or cannot be read: a kubelet goes on without it, too.
    pub fn of(secret: &Secret) -> Option<Self> {
        let data = secret.data.as_ref().filter(|_| secret.type_.as_deref() == Some(TYPE))?;
        Self::parse(&data.get(KEY)?.0).ok()
    }

    /// Reads Docker's format. The error may repeat what it could not read.
    pub fn parse(config: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(config)
    }

    /// The login for an image. Only an entry for this very host counts: no pattern, no parent domain, no other port
    /// (CVE-2025-27403). Of several, the one whose path is longest.
    pub fn login(&self, image: &ImageReference) -> Option<Login> {
        let entries = self.auths.iter().filter_map(|(key, entry)| Some((covers(key, image)?, entry)));
        let (_, entry) = entries.max_by_key(|(length, _)| *length)?;
        let given = entry.username.as_deref().zip(entry.password.as_deref());
        if let Some((username, password)) = given.filter(|(username, _)| !username.is_empty()) {
            return Some(Login { username: username.to_owned(), password: password.to_owned() });
        }
        let text = String::from_utf8(BASE64_STANDARD.decode(entry.auth.as_deref()?).ok()?).ok()?;
        let (username, password) = text.split_once(':').filter(|(username, _)| !username.is_empty())?;
        Some(Login { username: username.to_owned(), password: password.to_owned() })
    }
}

/// How many bytes of the repository an entry of Docker's format speaks for, if it is for the image at all.
pub fn covers(key: &str, image: &ImageReference) -> Option<usize> {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    // An image reference knows how hosts are written: case, Docker's names, the usual port.
    let named: ImageReference = format!("{host}/x").parse().ok()?;
    if named.host != image.host || !(host.contains(['.', ':']) || host == "localhost") {
        return None;
    }
    let path = match path.trim_end_matches('/') {
        "v1" | "v2" => "",
        path => path,
    };
    let repository = image.repository.as_str();
    let within = path.is_empty()
        || repository.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    within.then_some(path.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    #[rstest]
    #[case::pod(|spec: Value| json!({"spec": spec}))]
    #[case::deployment(|spec: Value| json!({"spec": {"template": {"spec": spec}}}))]
    #[case::cron_job(|spec: Value| json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": spec}}}}}))]
    fn a_pods_secrets_are_found_wherever_its_template_is(#[case] object: fn(Value) -> Value) {
        let spec =
            json!({"imagePullSecrets": [{"name": "a"}, {}, {"name": "b"}], "serviceAccountName": "builder"});
        let found = pulling("team-a", &object(spec).to_string()).unwrap();
        let secrets = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(found, Pulling { namespace: "team-a".into(), service_account: "builder".into(), secrets });
        let plain = pulling("team-a", &object(json!({})).to_string()).unwrap();
        assert_eq!((plain.service_account.as_str(), plain.secrets.len()), ("default", 0));
    }

    fn password(auths: &Value, image: &str) -> Option<String> {
        let config = json!({"auths": auths}).to_string();
        Logins::parse(config.as_bytes()).unwrap().login(&image.parse().unwrap()).map(|login| login.password)
    }

    /// CVE-2025-27403: whose name merely looks like the host's gets nothing.
    #[rstest]
    #[case("ghcr.io", true)]
    #[case("https://ghcr.io", true)]
    #[case("https://ghcr.io/v2/", true)]
    #[case("GHCR.io:443", true)]
    #[case("ghcr.io/acme", true)]
    #[case("ghcr.io/acme/app", true)]
    #[case("ghcr.io/acm", false)]
    #[case("ghcr.io/other", false)]
    #[case("ghcr.io:5000", false)]
    #[case("io", false)]
    #[case("*.io", false)]
    #[case("*", false)]
    #[case("", false)]
    #[case("evil.ghcr.io", false)]
    #[case("ghcr.io.evil.com", false)]
    #[case("evil.com/ghcr.io", false)]
    fn credentials_are_for_one_host(#[case] key: &str, #[case] expected: bool) {
        let auths = json!({key: {"username": "u", "password": "p"}});
        assert_eq!(password(&auths, "ghcr.io/acme/app:v1").is_some(), expected);
    }

    #[test]
    fn the_longest_path_wins_and_docker_has_several_names() {
        let auths = json!({
            "ghcr.io": {"username": "u", "password": "host"},
            "ghcr.io/acme": {"auth": BASE64_STANDARD.encode("u:path:with:colons")},
            "https://index.docker.io/v1/": {"username": "u", "password": "docker"},
        });
        assert_eq!(password(&auths, "ghcr.io/acme/app").as_deref(), Some("path:with:colons"));
        assert_eq!(password(&auths, "ghcr.io/other").as_deref(), Some("host"));
        assert_eq!(password(&auths, "alpine").as_deref(), Some("docker"));
    }

    #[rstest]
    #[case::empty("")]
    #[case::nothing("{}")]
    #[case::no_base64(r#"{"auths": {"ghcr.io": {"auth": "no base64"}}}"#)]
    #[case::nobody(r#"{"auths": {"ghcr.io": {"auth": "OnB3"}}}"#)]
    #[case::token(r#"{"auths": {"ghcr.io": {"identitytoken": "x"}}}"#)]
    fn what_cannot_be_read_is_none(#[case] config: &str) {
        assert!(secret(TYPE, KEY, config).and_then(|logins| logins.login(&image())).is_none());
    }

    #[rstest]
    #[case::pull_secret(TYPE, KEY, true)]
    #[case::opaque("Opaque", KEY, false)]
    #[case::older_format("kubernetes.io/dockercfg", ".dockercfg", false)]
    #[case::other_key(TYPE, "config.json", false)]
    fn secrets_are_told_by_their_type(#[case] kind: &str, #[case] key: &str, #[case] expected: bool) {
        let logins = secret(kind, key, r#"{"auths": {"ghcr.io": {"username": "u", "password": "p"}}}"#);
        assert_eq!(logins.and_then(|logins| logins.login(&image())).is_some(), expected);
    }

    fn secret(kind: &str, key: &str, config: &str) -> Option<Logins> {
        let data = json!({key: BASE64_STANDARD.encode(config)});
        Logins::of(&serde_json::from_value(json!({"type": kind, "data": data})).unwrap())
    }

    fn image() -> ImageReference {
        "ghcr.io/acme/app".parse().unwrap()
    }
}
