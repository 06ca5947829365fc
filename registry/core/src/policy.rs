//! What an image must show, as it is written: in `berth.yaml`, and by the operator from an `ImagePolicy` and its Secrets.
//! Everything is in it, nothing is referred to. Only its shape is checked here; `berth_trust::Policy::compile` says what
//! it means, or which field makes no sense.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Which images, and what they must show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// Globs over `host/repository` of the images that the policy speaks about.
    pub images: Vec<String>,
    /// What becomes of images that match none of `images`; `Allow` if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmatched: Option<Unmatched>,
    /// What an image that matches must show; all entries must hold. May be left out with `unmatched: Deny`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<Requirement>,
    /// Images that are let pass all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<Exception>,
}

/// What becomes of images that a policy does not list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unmatched {
    /// The policy does not speak about them.
    Allow,
    /// They are denied.
    Deny,
}

/// One requirement: exactly one member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Requirement {
    /// Signatures over the image's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// Signed statements about the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation: Option<Attestation>,
    /// The image is named by digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<NamedByDigest>,
}

/// Signatures over the image's digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Signature {
    /// How many different authorities must have signed; one if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<u32>,
    /// Who may sign; their names differ.
    pub authorities: Vec<Authority>,
    /// How old a signature may be, for example `90d`; any age if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<String>,
}

/// Signed statements of one type about the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attestation {
    /// What kind of statement; compared with what was signed.
    pub predicate_type: String,
    /// How many different authorities must have stated it; one if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<u32>,
    /// Who may state it; their names differ.
    pub authorities: Vec<Authority>,
    /// What must be true of each such statement, in CEL over `predicate` and `predicateType`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<String>,
    /// How old a statement may be; any age if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<String>,
}

/// Nothing more to say about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedByDigest {}

/// Someone who may sign: exactly one of `key`, `keyless`, `certificate` and `notation`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Authority {
    /// For messages.
    pub name: String,
    /// From then on, only what was provably signed before counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Timestamp>,
    /// By its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// By its identity at a sigstore instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyless: Option<Keyless>,
    /// By its certificate of an authority of one's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// By the Notary Project's signatures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notation: Option<Notation>,
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Key {
    /// The key, in PEM.
    pub pem: String,
    /// A `trusted_root.json`: if given, a log or a timestamp authority of that root must have seen the signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_root: Option<String>,
}

/// An identity of a sigstore instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Keyless {
    /// Who vouched for the identity. Exactly one of `issuer` and `issuerRegex`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The same as a regular expression that must match the whole text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_regex: Option<String>,
    /// The identity. Exactly one of `subject` and `subjectRegex`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The same as a regular expression that must match the whole text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_regex: Option<String>,
    /// The instance: a `trusted_root.json`.
    pub trust_root: String,
}

/// A certificate of an authority of one's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Certificate {
    /// Certificates of the authorities, in PEM.
    pub authorities: String,
    /// The subject's alternative name. Exactly one of `subject` and `subjectRegex`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The same as a regular expression that must match the whole text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_regex: Option<String>,
    /// A `trusted_root.json`: if given, a log or a timestamp authority of that root must have seen the signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_root: Option<String>,
}

/// Signatures of the Notary Project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Notation {
    /// Certificates of the authorities, in PEM.
    pub trust_store: String,
    /// Who may sign, as notation's trust policies write it.
    pub identities: Vec<String>,
    /// Certificates of timestamp authorities, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_authorities: Option<String>,
}

/// Somebody answers for some images, until a day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Exception {
    /// Globs over `host/repository`, each for all digests or, with `@sha256:…` behind it, for one.
    pub images: Vec<String>,
    /// Why.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// From then on the exception is none any more.
    pub expires: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, option, prelude::*};
    use rstest::rstest;

    fn text() -> impl Strategy<Value = String> {
        "[ -~\n\u{e4}]{0,12}"
    }

    fn time() -> impl Strategy<Value = Timestamp> {
        (0..4_000_000_000_i64).prop_map(|second| Timestamp::from_second(second).unwrap())
    }

    fn authority() -> impl Strategy<Value = Authority> {
        let key = (text(), option::of(text())).prop_map(|(pem, trust_root)| Key { pem, trust_root });
        let four = || (option::of(text()), option::of(text()), option::of(text()), option::of(text()));
        let keyless = (four(), text()).prop_map(|((issuer, issuer_regex, subject, subject_regex), root)| {
            Keyless { issuer, issuer_regex, subject, subject_regex, trust_root: root }
        });
        let certificate = (text(), option::of(text()), option::of(text()), option::of(text())).prop_map(
            |(authorities, subject, subject_regex, trust_root)| Certificate {
                authorities,
                subject,
                subject_regex,
                trust_root,
            },
        );
        let notation = (text(), vec(text(), 0..3), option::of(text())).prop_map(
            |(trust_store, identities, timestamp_authorities)| Notation {
                trust_store,
                identities,
                timestamp_authorities,
            },
        );
        (
            text(),
            option::of(time()),
            option::of(key),
            option::of(keyless),
            option::of(certificate),
            option::of(notation),
        )
            .prop_map(|(name, valid_until, key, keyless, certificate, notation)| Authority {
                name,
                valid_until,
                key,
                keyless,
                certificate,
                notation,
            })
    }

    fn requirement() -> impl Strategy<Value = Requirement> {
        let quorum = || (option::of(any::<u32>()), vec(authority(), 0..3), option::of(text()));
        let signature = quorum().prop_map(|(threshold, authorities, max_age)| Signature {
            threshold,
            authorities,
            max_age,
        });
        let attestation = (text(), quorum(), vec(text(), 0..3)).prop_map(
            |(predicate_type, (threshold, authorities, max_age), conditions)| Attestation {
                predicate_type,
                threshold,
                authorities,
                conditions,
                max_age,
            },
        );
        (option::of(signature), option::of(attestation), option::of(Just(NamedByDigest {})))
            .prop_map(|(signature, attestation, digest)| Requirement { signature, attestation, digest })
    }

    fn policy() -> impl Strategy<Value = Policy> {
        let exception = (vec(text(), 0..3), text(), text(), time())
            .prop_map(|(images, reason, owner, expires)| Exception { images, reason, owner, expires });
        let unmatched = option::of(prop_oneof![Just(Unmatched::Allow), Just(Unmatched::Deny)]);
        (vec(text(), 0..3), unmatched, vec(requirement(), 0..3), vec(exception, 0..3)).prop_map(
            |(images, unmatched, require, exceptions)| Policy { images, unmatched, require, exceptions },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_written_is_read_back(policy in policy()) {
            let text = serde_json::to_string(&policy).unwrap();
            prop_assert_eq!(serde_json::from_str::<Policy>(&text).unwrap(), policy);
        }
    }

    /// A policy that is half understood would let in what it was written against (R-OPR-6).
    #[rstest]
    #[case(r#"{"images": [], "mode": "Enforce"}"#)]
    #[case(r#"{"images": [], "require": [{"digest": {"of": 1}}]}"#)]
    #[case(r#"{"images": [], "require": [{"signature": {"authorities": [], "minimum": 1}}]}"#)]
    #[case(r#"{"images": [], "require": [{"signature": {"authorities": [{"name": "a", "key": {"pem": "", "secretName": "s"}}]}}]}"#)]
    #[case(r#"{"images": [], "exceptions": [{"images": [], "reason": "r", "owner": "o", "expires": "2026-07-01T00:00:00Z", "until": 1}]}"#)]
    fn unknown_fields_are_refused(#[case] text: &str) {
        let error = serde_json::from_str::<Policy>(text).unwrap_err().to_string();
        assert!(error.contains("unknown field"), "{error}");
    }
}
