//! A policy in one sentence, made from what was understood of it: whoever wrote a field that the API server dropped finds
//! it missing here.

use berth_crds::{
    ImagePolicySpec,
    image_policy::{Authority, Requirement, Signature, Uncheckable},
};

use crate::{admission::Mode, image_policy::mode};

/// What a policy asks for, and what becomes of an image that does not hold.
pub fn summary(spec: &ImagePolicySpec) -> String {
    let images = spec.images.join(", ");
    let required: Vec<_> = spec.require.iter().map(requirement).collect();
    let otherwise = match (mode(spec.mode), spec.uncheckable) {
        (Mode::Enforce, Some(Uncheckable::Warn)) => {
            "those without are refused, those whose registry is down are warned of"
        }
        (Mode::Enforce, _) => "those without are refused",
        (Mode::Warn, _) => "those without are warned of",
        (Mode::Audit, _) => "those without are recorded, and run",
    };
    format!("images {images} need {}; {otherwise}", required.join(" and "))
}

fn requirement(requirement: &Requirement) -> String {
    let Requirement { signature } = requirement;
    signature.as_ref().map(signatures).into_iter().collect()
}

fn signatures(signature: &Signature) -> String {
    let Signature { threshold, authorities } = signature;
    quorum("signature", *threshold, authorities)
}

/// `a signature by release`, `a signature by one of ci, release`, `signatures by 2 of ci, release`.
fn quorum(noun: &str, threshold: Option<i32>, authorities: &[Authority]) -> String {
    let names: Vec<_> = authorities.iter().map(|authority| authority.name.as_str()).collect();
    match (threshold.unwrap_or(1), names.as_slice()) {
        (1, [name]) => format!("a {noun} by {name}"),
        (1, names) => format!("a {noun} by one of {}", names.join(", ")),
        (threshold, names) => format!("{noun}s by {threshold} of {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn authorities(names: &[&str]) -> Value {
        names.iter().map(|name| json!({"name": name, "key": {"secretName": "s"}})).collect()
    }

    #[rstest]
    #[case::one(json!({"mode": "Enforce", "images": ["r.io/**"], "require": [{"signature": {"authorities": authorities(&["ci"])}}]}),
        "images r.io/** need a signature by ci; those without are refused")]
    #[case::one_of(json!({"mode": "Warn", "images": ["r.io/**"], "require": [{"signature": {"authorities": authorities(&["ci", "release"])}}]}),
        "images r.io/** need a signature by one of ci, release; those without are warned of")]
    #[case::two_of(json!({"mode": "Audit", "images": ["r.io/**", "q.io/**"], "require": [{"signature": {"threshold": 2, "authorities": authorities(&["a", "b", "c"])}}]}),
        "images r.io/**, q.io/** need signatures by 2 of a, b, c; those without are recorded, and run")]
    #[case::lenient(json!({"mode": "Enforce", "uncheckable": "Warn", "images": ["**"], "require": [{"signature": {"authorities": authorities(&["ci"])}}]}),
        "images ** need a signature by ci; those without are refused, those whose registry is down are warned of")]
    fn summaries(#[case] spec: Value, #[case] expected: &str) {
        assert_eq!(summary(&serde_json::from_value(spec).unwrap()), expected);
    }
}
