//! What a policy binds: images by the pattern of their name, objects and namespaces by their labels. What could never
//! match, or what Kubernetes would refuse, is an error here and not a policy that silently binds nothing.

use berth_crds::{Operator, Selector};
use berth_registry_core::{Pattern, pattern::InvalidPattern};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::{
    image_policy::{InvalidPolicy, invalid::spec},
    labels,
};

/// The patterns of `spec.images`.
pub(super) fn patterns(texts: &[String]) -> Result<Vec<Pattern>, InvalidPolicy> {
    if texts.is_empty() {
        return Err(spec("spec.images", "write at least one pattern; ** means every image"));
    }
    texts.iter().enumerate().map(|(index, text)| pattern(&format!("spec.images[{index}]"), text)).collect()
}

/// A pattern that could never match a normalised name would be a policy that binds nothing, silently.
pub(super) fn pattern(path: &str, text: &str) -> Result<Pattern, InvalidPolicy> {
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
    let bare =
        host.strip_suffix(":443").filter(|bare| bare.contains(['.', ':', '*']) || *bare == "localhost");
    let host = bare.unwrap_or(&host);
    let normal = if text.contains('/') { format!("{host}/{rest}") } else { host.to_owned() };
    normal.parse().map_err(|error: InvalidPattern| spec(path, error))
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
