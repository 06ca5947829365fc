//! From an `ImagePolicy`, as it is stored, to rules that can be applied to a review. Whatever is wrong with a policy, it
//! has rules: it then governs at least what it says it governs, and lets nothing pass.

mod material;
mod words;

use std::{collections::BTreeMap, fmt::Display};

use berth_crds::{
    ImagePolicySpec, Operator, Selector,
    image_policy::{self as written, Authority, Signature},
};
use berth_registry_core::{Pattern, pattern::InvalidPattern};
use berth_trust::{By, Policy, PublicKey, Quorum, Unmatched};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::{
    admission::{Mode, Uncheckable},
    labels,
};

pub use material::{Material, PUBLIC_KEY, secrets};
pub use words::summary;

/// Why a policy cannot judge. The message begins with the path of a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    /// The object does not have the shape of an `ImagePolicy`.
    #[error(
        "the object cannot be read: {0}; correct it with kubectl edit, or, if the field is newer than this operator, \
         upgrade the chart berth"
    )]
    Unreadable(String),
    /// A field makes no sense.
    #[error("{path}: {cause}")]
    Spec {
        /// For example `spec.images[0]`.
        path: String,
        /// What is wrong and what to write.
        cause: String,
    },
    /// A public key cannot be used.
    #[error("{path}: {cause}")]
    Key {
        /// For example `spec.require[0].signature.authorities[1].key.pem`.
        path: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A Secret is not there.
    #[error("{path}: the Secret {secret} does not exist in the policy's namespace")]
    SecretNotFound {
        /// The field that names it.
        path: String,
        /// Its name.
        secret: String,
    },
    /// A Secret of a namespace that the operator does not work in.
    #[error(
        "{path}: the operator may not read Secrets here: add the namespace to the chart's value `namespaces`, or write \
         the key into the policy as `pem`"
    )]
    NamespaceNotManaged {
        /// The field that names it.
        path: String,
    },
    /// A Secret could not be asked for.
    #[error("{path}: the Secret {secret} could not be read: {cause}")]
    SecretUnreadable {
        /// The field that names it.
        path: String,
        /// Its name.
        secret: String,
        /// What the API server said.
        cause: String,
    },
}

impl InvalidPolicy {
    /// Stable name for conditions.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable(_) | Self::Spec { .. } => "SpecInvalid",
            Self::Key { .. } => "KeyInvalid",
            Self::SecretNotFound { .. } => "SecretNotFound",
            Self::NamespaceNotManaged { .. } => "NamespaceNotManaged",
            Self::SecretUnreadable { .. } => "SecretUnreadable",
        }
    }
}

/// What a policy does to a review.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How much it insists.
    pub mode: Mode,
    /// What it means that an image could not be checked.
    pub uncheckable: Uncheckable,
    /// Which images it governs, by normalised `host/repository`.
    pub images: Vec<Pattern>,
    /// What such an image must show.
    pub policy: Result<Policy, InvalidPolicy>,
}

impl Rules {
    /// Reads a spec, given what became of each of its [`secrets`].
    pub fn new(spec: &ImagePolicySpec, secrets: &BTreeMap<String, Material>) -> Self {
        let mode = mode(spec.mode);
        let uncheckable = match spec.uncheckable {
            Some(written::Uncheckable::Warn) => Uncheckable::Warn,
            Some(written::Uncheckable::Deny) | None => Uncheckable::Deny,
        };
        match patterns(&spec.images) {
            Ok(images) => Self { mode, uncheckable, policy: policy(spec, &images, secrets), images },
            Err(error) => Self { mode, ..Self::broken(error) },
        }
    }

    /// The rules of a policy whose own scope is not known: it governs every image and lets none pass.
    pub fn broken(error: InvalidPolicy) -> Self {
        let everything = "**".parse().into_iter().collect();
        let (mode, uncheckable) = (Mode::Enforce, Uncheckable::Deny);
        Self { mode, uncheckable, images: everything, policy: Err(error) }
    }
}

/// The mode that a policy writes.
pub fn mode(mode: written::Mode) -> Mode {
    match mode {
        written::Mode::Enforce => Mode::Enforce,
        written::Mode::Warn => Mode::Warn,
        written::Mode::Audit => Mode::Audit,
    }
}

/// A selector as the webhook configuration takes it; `path` is the field that writes it. One label that Kubernetes does
/// not take would keep the whole configuration, every other policy's entry with it, from being written.
pub fn selector(path: &str, selector: &Selector) -> Result<LabelSelector, InvalidPolicy> {
    let label = |path: String, key: &str, values: &[String]| {
        if !labels::is_key(key) {
            return Err(spec(path, format!("{key:?} is no key of a label, so nothing is selected")));
        }
        match values.iter().find(|value| !labels::is_value(value)) {
            Some(value) => {
                Err(spec(path, format!("{value:?} is no value of a label, so nothing is selected")))
            }
            None => Ok(()),
        }
    };
    for (key, value) in &selector.match_labels {
        label(format!("{path}.matchLabels"), key, std::slice::from_ref(value))?;
    }
    for (index, expression) in selector.match_expressions.iter().enumerate() {
        let path = format!("{path}.matchExpressions[{index}]");
        label(path.clone(), &expression.key, &expression.values)?;
        if matches!(expression.operator, Operator::In | Operator::NotIn) == expression.values.is_empty() {
            return Err(spec(path, "In and NotIn take values, Exists and DoesNotExist take none"));
        }
    }
    Ok(selector.into())
}

fn patterns(texts: &[String]) -> Result<Vec<Pattern>, InvalidPolicy> {
    if texts.is_empty() {
        return Err(spec("spec.images", "write at least one pattern; ** means every image"));
    }
    texts.iter().enumerate().map(|(index, text)| pattern(&format!("spec.images[{index}]"), text)).collect()
}

/// A pattern that could never match a normalised name would be a policy that binds nothing, silently.
fn pattern(path: &str, text: &str) -> Result<Pattern, InvalidPolicy> {
    let (host, rest) = text.split_once('/').unwrap_or((text, ""));
    let open = host.contains("**");
    if text.contains('@') || rest.contains(':') {
        return Err(spec(path, "patterns match host/repository: leave out the tag or digest"));
    }
    if rest.is_empty() && !open {
        return Err(spec(
            path,
            "no image matches: write host/repository, for example docker.io/library/alpine, or **",
        ));
    }
    let is_host = host.contains(['.', ':', '*']) || host.eq_ignore_ascii_case("localhost");
    if !is_host {
        let cause = format!(
            "{host:?} is no host: images are matched by their full name, for example docker.io/{text}"
        );
        return Err(spec(path, cause));
    }
    if rest.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(spec(path, "no image matches: repositories are lower-case"));
    }
    // Names are compared in the form that `ImageReference` gives them.
    let host = host.to_ascii_lowercase();
    let host = host.strip_suffix(":443").unwrap_or(&host);
    let normal = if text.contains('/') { format!("{host}/{rest}") } else { host.to_owned() };
    normal.parse().map_err(|error: InvalidPattern| spec(path, error))
}

fn spec(path: impl Into<String>, cause: impl Display) -> InvalidPolicy {
    InvalidPolicy::Spec { path: path.into(), cause: format!("{cause}") }
}

fn policy(
    policy: &ImagePolicySpec,
    images: &[Pattern],
    secrets: &BTreeMap<String, Material>,
) -> Result<Policy, InvalidPolicy> {
    for (path, written) in [("spec.namespaces", &policy.namespaces), ("spec.objects", &policy.objects)] {
        written.as_ref().map_or(Ok(()), |written| selector(path, written).map(drop))?;
    }
    let requirements = policy.require.iter().enumerate().map(|(index, requirement)| {
        let path = format!("spec.require[{index}]");
        let signature = requirement.signature.as_ref().ok_or_else(|| spec(&path, "write signature"))?;
        signatures(&format!("{path}.signature"), signature, secrets).map(berth_trust::Requirement::Signature)
    });
    let requirements = requirements.collect::<Result<_, _>>()?;
    Policy::new(images.to_vec(), Unmatched::Allow, requirements, Vec::new())
        .map_err(|error| spec("spec.require", error))
}

fn signatures(
    path: &str,
    signature: &Signature,
    secrets: &BTreeMap<String, Material>,
) -> Result<Quorum, InvalidPolicy> {
    let authorities = signature.authorities.iter().enumerate().map(|(index, authority)| {
        let key = key(&format!("{path}.authorities[{index}].key"), authority, secrets)?;
        Ok(berth_trust::Authority {
            name: authority.name.clone(),
            by: By::Key { key, log: None },
            valid_until: None,
        })
    });
    // A negative number is as little as none.
    let threshold = usize::try_from(signature.threshold.unwrap_or(1)).unwrap_or(0);
    Quorum::new(threshold, authorities.collect::<Result<_, _>>()?, None).map_err(|error| spec(path, error))
}

fn key(
    path: &str,
    authority: &Authority,
    secrets: &BTreeMap<String, Material>,
) -> Result<PublicKey, InvalidPolicy> {
    let (path, pem) = match (&authority.key.pem, &authority.key.secret_name) {
        (Some(pem), None) => (format!("{path}.pem"), pem.as_str()),
        (None, Some(secret)) => {
            let path = format!("{path}.secretName");
            let pem = Material::value(secrets, &path, secret, PUBLIC_KEY)?;
            (path, pem)
        }
        _ => return Err(spec(path, "write exactly one of pem and secretName")),
    };
    PublicKey::from_pem(pem).map_err(|error| InvalidPolicy::Key { path, cause: error.to_string() })
}

#[cfg(test)]
mod tests;
