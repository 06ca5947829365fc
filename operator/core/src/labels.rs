//! What Kubernetes takes as a label: `[PREFIX/]NAME` for keys, a name or nothing for values. A selector that breaks these
//! rules is refused together with the whole object that it stands in. And what a selector selects.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// Whether `text` may be a key: a name of at most 63 bytes, after an optional DNS name of at most 253 and a slash.
pub fn is_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => {
            prefix.len() <= 253
                && prefix
                    .split('.')
                    .all(|part| is_name(part, |byte| byte == b'-', |byte| !byte.is_ascii_uppercase()))
                && is_label(name)
        }
        None => is_label(text),
    }
}

/// Whether `text` may be a value: a name of at most 63 bytes, or nothing.
pub fn is_value(text: &str) -> bool {
    text.is_empty() || is_label(text)
}

/// Whether these labels are selected, as the API server has it: an empty selector selects everything, an absent label is in no set.
pub fn are_selected(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let has = |requirement: &LabelSelectorRequirement| {
        let values = requirement.values.as_deref().unwrap_or_default();
        labels.get(&requirement.key).is_some_and(|value| values.contains(value))
    };
    let mut pairs = selector.match_labels.iter().flatten();
    let mut requirements = selector.match_expressions.iter().flatten();
    pairs.all(|(key, value)| labels.get(key) == Some(value))
        && requirements.all(|requirement| match requirement.operator.as_str() {
            "In" => has(requirement),
            "NotIn" => !has(requirement),
            "Exists" => labels.contains_key(&requirement.key),
            "DoesNotExist" => !labels.contains_key(&requirement.key),
            _ => false,
        })
}

fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_name(text, |byte| b"-_.".contains(&byte), |_| true)
}

/// Letters and digits, with the bytes of `inside` between them.
fn is_name(text: &str, inside: impl Fn(u8) -> bool, also: impl Fn(u8) -> bool) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() && also(byte);
    let bytes = text.as_bytes();
    let ends = |byte: Option<&u8>| byte.is_some_and(|byte| plain(*byte));
    ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(|byte| plain(*byte) || inside(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::labels;
    use rstest::rstest;
    use serde_json::{Value, json};

    #[rstest]
    #[case("app", true)]
    #[case("App_1.x", true)]
    #[case("app.kubernetes.io/name", true)]
    #[case("app.kubernetes.io/Name", true)]
    #[case("App.io/name", false)]
    #[case("", false)]
    #[case("/a", false)]
    #[case("a/", false)]
    #[case("a/b/c", false)]
    #[case("a b", false)]
    #[case("-a", false)]
    #[case("a-", false)]
    #[case("a..b/c", false)]
    #[case("ä", false)]
    fn keys(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(is_key(text), valid, "{text}");
    }

    #[rstest]
    #[case("", true)]
    #[case("prod", true)]
    #[case("V1.2_a-b", true)]
    #[case("a/b", false)]
    #[case("a b", false)]
    #[case("_a", false)]
    fn values(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(is_value(text), valid, "{text}");
    }

    #[test]
    fn lengths() {
        let long = "a".repeat(64);
        assert!(!is_key(&long) && !is_value(&long));
        assert!(is_key(&long[1..]) && is_value(&long[1..]));
        assert!(!is_key(&format!("{}/a", "a.".repeat(127))) && !is_key(&format!("{}a/a", "a.".repeat(127))));
    }

    #[rstest]
    #[case(json!({}), true)]
    #[case(json!({"matchLabels": {"a": "1"}}), true)]
    #[case(json!({"matchLabels": {"a": "1", "b": "1"}}), false)]
    #[case(json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["0", "1"]}]}), true)]
    #[case(json!({"matchExpressions": [{"key": "b", "operator": "In", "values": ["1"]}]}), false)]
    #[case(json!({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}), false)]
    #[case(json!({"matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["1"]}]}), true)]
    #[case(json!({"matchExpressions": [{"key": "a", "operator": "Exists"}]}), true)]
    #[case(json!({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}), false)]
    #[case(json!({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "Exists"}]}), false)]
    fn selectors(#[case] selector: Value, #[case] selected: bool) {
        let selector = serde_json::from_value(selector).unwrap();
        assert_eq!(are_selected(&selector, &labels(&[("a", "1")])), selected);
    }
}
