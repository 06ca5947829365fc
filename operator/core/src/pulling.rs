//! With what a Pod pulls its images: the pull secrets that it and its `ServiceAccount` name, and which of their
//! credentials are for an image. `webhook` reads the Secrets where it may; here is decided what of them goes to whom.

use std::{collections::BTreeMap, net::IpAddr};

use base64::{Engine, prelude::BASE64_STANDARD};
use berth_registry_core::{ImageReference, Pattern};
use serde::Deserialize;

/// The most Secrets that one Pod and its `ServiceAccount` may name.
pub const MAX_SECRETS: usize = 16;

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

#[derive(Deserialize)]
struct Config {
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

/// The login that a pull secret holds for an image; `config` is the value of `.dockerconfigjson`. Only an entry for this
/// very host counts: no pattern, no parent domain, no other port (CVE-2025-27403). Of several, the one whose path is longest.
/// `None` also for what cannot be read: a kubelet goes on without it, too.
pub fn login(config: &[u8], image: &ImageReference) -> Option<Login> {
    let config: Config = serde_json::from_slice(config).ok()?;
    let entries = config.auths.into_iter().filter_map(|(key, entry)| Some((covers(&key, image)?, entry)));
    let (_, entry) = entries.max_by_key(|(length, _)| *length)?;
    let given = entry.username.zip(entry.password).filter(|(username, _)| !username.is_empty());
    let (username, password) = given.or_else(|| {
        let text = String::from_utf8(BASE64_STANDARD.decode(entry.auth?).ok()?).ok()?;
        text.split_once(':').map(|(username, password)| (username.to_owned(), password.to_owned()))
    })?;
    Some(Login { username, password })
}

/// How many bytes of the repository an entry speaks for, if it is for the image at all.
fn covers(key: &str, image: &ImageReference) -> Option<usize> {
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

/// Whether a policy with these patterns names the host of an image in full, and the host can be one of the public
/// network: nobody has a foreign host called by a pattern that merely happens to match it.
pub fn is_named(patterns: &[Pattern], image: &ImageReference) -> bool {
    let host = image.host.rsplit_once(':').map_or(image.host.as_str(), |(host, _)| host);
    let inside = ["localhost", ".local", ".svc", ".internal"].iter().any(|end| host.ends_with(end));
    let name = image.name();
    let names = |pattern: &Pattern| {
        let host = pattern.as_str().split_once('/').map(|(host, _)| host);
        host == Some(image.host.as_str()) && pattern.matches(&name)
    };
    !inside && host.contains('.') && host.parse::<IpAddr>().is_err() && patterns.iter().any(names)
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
        login(config.as_bytes(), &image.parse().unwrap()).map(|login| login.password)
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
    #[case(b"")]
    #[case(b"{}")]
    #[case(br#"{"auths": {"ghcr.io": {"auth": "no base64"}}}"#)]
    #[case(br#"{"auths": {"ghcr.io": {"identitytoken": "x"}}}"#)]
    fn what_cannot_be_read_is_none(#[case] config: &[u8]) {
        assert!(login(config, &"ghcr.io/acme/app".parse().unwrap()).is_none());
    }

    /// A foreign host is called only where a policy names it in full.
    #[rstest]
    #[case("ghcr.io/acme/**", "ghcr.io/acme/app", true)]
    #[case("ghcr.io:8443/**", "ghcr.io:8443/app", true)]
    #[case("docker.io/library/*", "alpine", true)]
    #[case("ghcr.io/other/**", "ghcr.io/acme/app", false)]
    #[case("**", "ghcr.io/acme/app", false)]
    #[case("*.io/**", "ghcr.io/acme/app", false)]
    #[case("*/acme/*", "ghcr.io/acme/app", false)]
    #[case("registry.gone.svc.cluster.local/**", "registry.gone.svc.cluster.local/app", false)]
    #[case("api.kube-system.svc/**", "api.kube-system.svc/app", false)]
    #[case("metadata.google.internal/**", "metadata.google.internal/app", false)]
    #[case("localhost:5000/**", "localhost:5000/app", false)]
    #[case("10.0.0.1/**", "10.0.0.1/app", false)]
    #[case("169.254.169.254:80/**", "169.254.169.254:80/app", false)]
    #[case("[::1]:5000/**", "[::1]:5000/app", false)]
    fn hosts_are_named_in_full(#[case] pattern: &str, #[case] image: &str, #[case] expected: bool) {
        assert_eq!(is_named(&[pattern.parse().unwrap()], &image.parse().unwrap()), expected);
    }
}
