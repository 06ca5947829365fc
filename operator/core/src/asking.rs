//! Which registries a policy may have asked about an image. The webhook asks them; the kubectl plugin foretells what the
//! webhook would do.

use std::net::IpAddr;

use berth_registry_core::{ImageReference, Pattern};

use crate::registry::of_host;

/// Why a policy may not have a registry asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAsked {
    /// Evidence comes from Registries of this cluster, unless a policy says otherwise.
    #[error(
        "{0} is no Registry of this cluster: registries elsewhere are asked only if the policy names their host in full, \
         for example {0}/**"
    )]
    NotOurs(String),
    /// A tenant's policy must not make the operator call another tenant's registry.
    #[error(
        "{host} belongs to the namespace {owner}: a policy of the namespace {policy} may ask the Registries of its own \
         namespace only; a policy in the operator's namespace may ask all"
    )]
    OtherNamespace {
        /// As the image names it.
        host: String,
        /// Namespace of the Registry.
        owner: String,
        /// Namespace of the policy.
        policy: String,
    },
}

impl NotAsked {
    /// Stable name.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotOurs(_) => "NotARegistry",
            Self::OtherNamespace { .. } => "OtherNamespace",
        }
    }
}

/// Name and namespace of the Registry at `host` that a policy of the namespace `policy` may have asked, where the operator is
/// in `operator`. Whether there is such a Registry is another question.
pub fn registry<'a>(operator: &str, policy: &str, host: &'a str) -> Result<(&'a str, &'a str), NotAsked> {
    let (name, owner) = of_host(host).ok_or_else(|| NotAsked::NotOurs(host.to_owned()))?;
    if policy == owner || policy == operator {
        return Ok((name, owner));
    }
    let (host, owner, policy) = (host.to_owned(), owner.to_owned(), policy.to_owned());
    Err(NotAsked::OtherNamespace { host, owner, policy })
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

    #[rstest]
    #[case::own("team-a", "registry.team-a.svc.cluster.local", None)]
    #[case::the_operators("berth-system", "registry.team-a.svc.cluster.local", None)]
    #[case::anothers("team-b", "registry.team-a.svc.cluster.local", Some("OtherNamespace"))]
    #[case::elsewhere("berth-system", "ghcr.io", Some("NotARegistry"))]
    fn a_tenant_has_only_its_own_registries_asked(
        #[case] policy: &str,
        #[case] host: &str,
        #[case] refused: Option<&str>,
    ) {
        let found = registry("berth-system", policy, host);
        assert_eq!(found.as_ref().err().map(NotAsked::reason), refused);
        assert!(refused.is_some() || found == Ok(("registry", "team-a")));
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
