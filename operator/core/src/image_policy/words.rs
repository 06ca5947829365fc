//! A policy in one sentence, made from what was understood of it: whoever wrote a field that the API server dropped finds
//! it missing here.

use berth_crds::{
    ImagePolicySpec,
    image_policy::{Attestation, Authority, NamedByDigest, Requirement, Signature, Uncheckable, Unmatched},
};

use jiff::Timestamp;

use crate::{admission::Mode, image_policy::mode};

/// What a policy asks for at a time, and what becomes of an image that does not hold. `cluster_wide` if it stands in the
/// operator's namespace.
pub fn summary(spec: &ImagePolicySpec, cluster_wide: bool, now: Timestamp) -> String {
    let images = spec.images.join(", ");
    let required: Vec<_> = spec.require.iter().map(|written| requirement(written, now)).collect();
    let required = if required.is_empty() {
        "are allowed".to_owned()
    } else {
        format!("need {}", required.join(" and "))
    };
    let fate = match mode(spec.mode) {
        Mode::Enforce => "refused",
        Mode::Warn => "warned of",
        Mode::Audit => "recorded, and run",
    };
    let mut clauses = vec![format!("images {images} {required}")];
    if !spec.require.is_empty() {
        clauses.push(format!("those without are {fate}"));
    }
    if spec.unmatched == Some(Unmatched::Deny) {
        clauses.push(format!("all other images are {fate}"));
    }
    if spec.uncheckable == Some(Uncheckable::Warn) && mode(spec.mode) == Mode::Enforce {
        clauses.push("those whose registry is down are warned of".to_owned());
    }
    for exception in &spec.exceptions {
        let (images, end) = (exception.images.join(", "), exception.expires.0);
        clauses.push(if end <= now {
            format!("the exception of {images} is over since {end}")
        } else {
            format!("except {images} until {end}")
        });
    }
    if spec.namespaces.is_some() && !cluster_wide {
        clauses.push("spec.namespaces has no say outside of the operator's namespace".to_owned());
    }
    clauses.join("; ")
}

fn requirement(requirement: &Requirement, now: Timestamp) -> String {
    let Requirement { signature, attestation, digest } = requirement;
    let signature = signature.as_ref().map(|signature| {
        let Signature { threshold, authorities, max_age } = signature;
        quorum("signature", *threshold, authorities, max_age.as_deref(), now)
    });
    let attestation = attestation.as_ref().map(|attestation| {
        let Attestation { predicate_type, threshold, authorities, conditions, max_age } = attestation;
        let stated = quorum("attestation", *threshold, authorities, max_age.as_deref(), now);
        let conditions = match conditions.len() {
            0 => String::new(),
            1 => " that meets a condition".to_owned(),
            n => format!(" that meets {n} conditions"),
        };
        format!("{stated} of type {predicate_type}{conditions}")
    });
    let digest = digest.as_ref().map(|NamedByDigest {}| "to be named by digest".to_owned());
    signature.into_iter().chain(attestation).chain(digest).collect::<Vec<_>>().join(" and ")
}

/// `a signature by release`, `a signature of the last 90d by one of ci, release`, `signatures by 2 of ci, release`.
fn quorum(
    noun: &str,
    threshold: Option<i32>,
    authorities: &[Authority],
    max_age: Option<&str>,
    now: Timestamp,
) -> String {
    let names: Vec<_> = authorities.iter().map(|authority| named(authority, now)).collect();
    let age = max_age.map(|age| format!(" of the last {age}")).unwrap_or_default();
    let article = if noun.starts_with('a') { "an" } else { "a" };
    match (threshold.unwrap_or(1), names.as_slice()) {
        (1, [name]) => format!("{article} {noun}{age} by {name}"),
        (1, names) => format!("{article} {noun}{age} by one of {}", names.join(", ")),
        (threshold, names) => format!("{noun}s{age} by {threshold} of {}", names.join(", ")),
    }
}

fn named(authority: &Authority, now: Timestamp) -> String {
    let Authority { name, valid_until, key, keyless: _, certificate, notation: _ } = authority;
    let of_key = key.as_ref().and_then(|key| key.trust_root.as_ref());
    let log = of_key.or_else(|| certificate.as_ref().and_then(|certificate| certificate.trust_root.as_ref()));
    let log = log.map(|_| "proven by a log".to_owned());
    let end = valid_until.as_ref().map(|end| match end.0 {
        end if end <= now => format!("only what was provably signed before {end}"),
        end => format!("until {end}"),
    });
    let notes: Vec<_> = log.into_iter().chain(end).collect();
    if notes.is_empty() { name.clone() } else { format!("{name} ({})", notes.join(", ")) }
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
        "images ** need a signature by ci; those without are refused; those whose registry is down are warned of")]
    #[case::list(json!({"mode": "Enforce", "images": ["r.io/**"], "unmatched": "Deny"}),
        "images r.io/** are allowed; all other images are refused")]
    #[case::all(json!({
        "mode": "Enforce", "images": ["r.io/**"], "unmatched": "Deny",
        "require": [
            {"signature": {"maxAge": "90d", "authorities": [{"name": "ci", "key": {"secretName": "s"}, "validUntil": "2026-01-01T00:00:00Z"}]}},
            {"attestation": {"predicateType": "https://slsa.dev/provenance/v1", "conditions": ["true"], "authorities": authorities(&["ci"])}},
            {"digest": {}},
        ],
        "exceptions": [{"images": ["r.io/old/**"], "reason": "r", "owner": "o", "expires": "2026-07-01T00:00:00Z"}],
    }), "images r.io/** need a signature of the last 90d by ci (until 2026-01-01T00:00:00Z) and an attestation by ci of type https://slsa.dev/provenance/v1 that meets a condition and to be named by digest; those without are refused; all other images are refused; except r.io/old/** until 2026-07-01T00:00:00Z")]
    fn summaries(#[case] spec: Value, #[case] expected: &str) {
        let now = "2025-06-01T00:00:00Z".parse().unwrap();
        assert_eq!(summary(&serde_json::from_value(spec).unwrap(), true, now), expected);
    }

    /// What has ended by itself, and what has no say, is told in the status without anybody asking.
    #[test]
    fn what_is_over_is_told() {
        let key = json!({"secretName": "s", "trustRoot": {"secretName": "t"}});
        let authorities = json!([{"name": "ci", "key": key, "validUntil": "2026-01-01T00:00:00Z"}]);
        let spec = json!({
            "mode": "Enforce", "images": ["r.io/**"], "namespaces": {"matchLabels": {"a": "b"}},
            "require": [{"signature": {"authorities": authorities}}],
            "exceptions": [{"images": ["r.io/old/**"], "reason": "r", "owner": "o", "expires": "2026-07-01T00:00:00Z"}],
        });
        let now = "2026-07-01T00:00:00Z".parse().unwrap();
        let words = summary(&serde_json::from_value(spec).unwrap(), false, now);
        assert_eq!(
            words,
            "images r.io/** need a signature by ci (proven by a log, only what was provably signed before \
             2026-01-01T00:00:00Z); those without are refused; the exception of r.io/old/** is over since \
             2026-07-01T00:00:00Z; spec.namespaces has no say outside of the operator's namespace"
        );
    }
}
