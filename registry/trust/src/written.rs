//! From a policy as it is written (`berth_registry_core::policy`) to one that judges. The one way there is: the webhook,
//! the command line and the registry's own gate all come through here. Every error names its field.

use std::{fmt::Display, str::FromStr};

use berth_registry_core::{Age, Pattern, pattern::InvalidPattern, policy as written};

use crate::{
    authority::{Authority, By},
    condition::Condition,
    key::PublicKey,
    matcher::Matcher,
    notary::{Identities, NotaryStore},
    policy::{Exception, ImagePattern, Policy, Requirement},
    quorum::Quorum,
    sigstore::{CertificateAuthorities, TrustRoot},
};

/// What kind of thing cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A field makes no sense.
    Field,
    /// A public key.
    Key,
    /// A trust root.
    TrustRoot,
    /// Certificates of authorities.
    Certificates,
}

/// Why a written policy cannot judge. The message begins with the path of a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {cause}")]
pub struct InvalidWritten {
    /// For example `require[0].signature.authorities[1].key.pem`.
    pub path: String,
    /// What kind of thing stands there.
    pub flaw: Flaw,
    /// What is wrong with it, and what to write.
    pub cause: String,
}

impl InvalidWritten {
    fn new(flaw: Flaw, path: impl Into<String>, cause: impl Display) -> Self {
        Self { path: path.into(), flaw, cause: cause.to_string() }
    }
}

fn field(path: impl Into<String>, cause: impl Display) -> InvalidWritten {
    InvalidWritten::new(Flaw::Field, path, cause)
}

impl Policy {
    /// Reads a policy.
    pub fn compile(policy: &written::Policy) -> Result<Self, InvalidWritten> {
        let written::Policy { images, unmatched, require, exceptions } = policy;
        let requirements = require.iter().enumerate();
        let requirements =
            requirements.map(|(index, written)| requirement(&format!("require[{index}]"), written));
        let exceptions = exceptions.iter().enumerate();
        let exceptions =
            exceptions.map(|(index, written)| exception(&format!("exceptions[{index}]"), written));
        Self::new(
            patterns(images)?,
            unmatched.unwrap_or(written::Unmatched::Allow),
            requirements.collect::<Result<_, _>>()?,
            exceptions.collect::<Result<_, _>>()?,
        )
        .map_err(|error| field("require", error))
    }
}

/// The patterns of a policy's `images`, in the form in which names are compared.
pub fn patterns(images: &[String]) -> Result<Vec<Pattern>, InvalidWritten> {
    if images.is_empty() {
        return Err(field("images", "write at least one pattern; ** means every image"));
    }
    images.iter().enumerate().map(|(index, text)| pattern(&format!("images[{index}]"), text)).collect()
}

/// A pattern that could never match a normalised name would be a policy that binds nothing, silently.
fn pattern(path: &str, text: &str) -> Result<Pattern, InvalidWritten> {
    let (host, rest) = text.split_once('/').unwrap_or((text, ""));
    let open = host.contains("**");
    if text.contains('@') || rest.contains(':') {
        return Err(field(path, "patterns match host/repository: leave out the tag or digest"));
    }
    if rest.is_empty() && !open {
        return Err(field(
            path,
            "no image matches: write host/repository, for example docker.io/library/alpine, or **",
        ));
    }
    let is_host = host.contains(['.', ':', '*']) || host.eq_ignore_ascii_case("localhost");
    if !is_host {
        let cause = format!(
            "{host:?} is no host: images are matched by their full name, for example docker.io/{text}"
        );
        return Err(field(path, cause));
    }
    if rest.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(field(path, "no image matches: repositories are lower-case"));
    }
    // Names are compared in the form that `ImageReference` gives them.
    let host = host.to_ascii_lowercase();
    let bare =
        host.strip_suffix(":443").filter(|bare| bare.contains(['.', ':', '*']) || *bare == "localhost");
    let host = bare.unwrap_or(&host);
    let normal = if text.contains('/') { format!("{host}/{rest}") } else { host.to_owned() };
    normal.parse().map_err(|error: InvalidPattern| field(path, error))
}

fn requirement(path: &str, requirement: &written::Requirement) -> Result<Requirement, InvalidWritten> {
    match requirement {
        written::Requirement { signature: Some(signature), attestation: None, digest: None } => {
            let written::Signature { threshold, authorities, max_age } = signature;
            quorum(&format!("{path}.signature"), *threshold, authorities, max_age.as_deref())
                .map(Requirement::Signature)
        }
        written::Requirement { signature: None, attestation: Some(attestation), digest: None } => {
            let written::Attestation { predicate_type, threshold, authorities, conditions, max_age } =
                attestation;
            let path = format!("{path}.attestation");
            if predicate_type.is_empty() {
                return Err(field(format!("{path}.predicateType"), "write the type of the statement"));
            }
            let conditions = conditions.iter().enumerate().map(|(index, text)| {
                let path = format!("{path}.conditions[{index}]");
                Condition::compile(text).map_err(|error| field(path, error))
            });
            Ok(Requirement::Attestation {
                predicate_type: predicate_type.clone(),
                conditions: conditions.collect::<Result<_, _>>()?,
                quorum: quorum(&path, *threshold, authorities, max_age.as_deref())?,
            })
        }
        written::Requirement {
            signature: None,
            attestation: None,
            digest: Some(written::NamedByDigest {}),
        } => Ok(Requirement::Digest),
        _ => Err(field(path, "write exactly one of signature, attestation and digest")),
    }
}

fn quorum(
    path: &str,
    threshold: Option<u32>,
    authorities: &[written::Authority],
    max_age: Option<&str>,
) -> Result<Quorum, InvalidWritten> {
    let authorities = authorities
        .iter()
        .enumerate()
        .map(|(index, written)| authority(&format!("{path}.authorities[{index}]"), written));
    let max_age = max_age.map(|text| parse::<Age>(format!("{path}.maxAge"), text)).transpose()?;
    let threshold = usize::try_from(threshold.unwrap_or(1)).unwrap_or(usize::MAX);
    Quorum::new(threshold, authorities.collect::<Result<_, _>>()?, max_age.map(Age::as_duration))
        .map_err(|error| field(path, error))
}

fn exception(path: &str, exception: &written::Exception) -> Result<Exception, InvalidWritten> {
    let written::Exception { images, reason, owner, expires } = exception;
    for (name, text) in [("reason", reason), ("owner", owner)] {
        if text.trim().is_empty() {
            return Err(field(
                format!("{path}.{name}"),
                "somebody has to answer for an exception: fill it in",
            ));
        }
    }
    if images.is_empty() {
        return Err(field(format!("{path}.images"), "write at least one pattern"));
    }
    let images = images.iter().enumerate().map(|(index, text)| {
        let path = format!("{path}.images[{index}]");
        let (name, digest) =
            text.split_once('@').map_or((text.as_str(), None), |(name, digest)| (name, Some(digest)));
        let name = pattern(&path, name)?;
        let digest = digest.map(|digest| format!("@{digest}")).unwrap_or_default();
        parse::<ImagePattern>(path, &format!("{}{digest}", name.as_str()))
    });
    Ok(Exception {
        images: images.collect::<Result<_, _>>()?,
        reason: reason.clone(),
        owner: owner.clone(),
        expires: *expires,
    })
}

fn parse<T: FromStr<Err: Display>>(path: String, text: &str) -> Result<T, InvalidWritten> {
    text.parse().map_err(|error| field(path, error))
}

fn authority(path: &str, authority: &written::Authority) -> Result<Authority, InvalidWritten> {
    let written::Authority { name, valid_until, key, keyless, certificate, notation } = authority;
    let by = match (key, keyless, certificate, notation) {
        (Some(written), None, None, None) => key_holder(&format!("{path}.key"), written),
        (None, Some(written), None, None) => identity(&format!("{path}.keyless"), written),
        (None, None, Some(written), None) => certificate_holder(&format!("{path}.certificate"), written),
        (None, None, None, Some(written)) => notary(&format!("{path}.notation"), written),
        _ => Err(field(path, "write exactly one of key, keyless, certificate and notation")),
    };
    Ok(Authority { name: name.clone(), by: by?, valid_until: *valid_until })
}

fn key_holder(path: &str, key: &written::Key) -> Result<By, InvalidWritten> {
    let written::Key { pem, trust_root: log } = key;
    let key = PublicKey::from_pem(pem)
        .map_err(|error| InvalidWritten::new(Flaw::Key, format!("{path}.pem"), error))?;
    Ok(By::Key { key, log: log.as_deref().map(|json| trust_root(path, json)).transpose()? })
}

fn identity(path: &str, keyless: &written::Keyless) -> Result<By, InvalidWritten> {
    let written::Keyless { issuer, issuer_regex, subject, subject_regex, trust_root: root } = keyless;
    Ok(By::Keyless {
        root: trust_root(path, root)?,
        issuer: matcher(path, "issuer", issuer.as_deref(), issuer_regex.as_deref())?,
        subject: matcher(path, "subject", subject.as_deref(), subject_regex.as_deref())?,
    })
}

fn certificate_holder(path: &str, certificate: &written::Certificate) -> Result<By, InvalidWritten> {
    let written::Certificate { authorities, subject, subject_regex, trust_root: log } = certificate;
    Ok(By::Certificate {
        authorities: CertificateAuthorities::from_pem(authorities)
            .map_err(|error| InvalidWritten::new(Flaw::Certificates, format!("{path}.authorities"), error))?,
        subject: matcher(path, "subject", subject.as_deref(), subject_regex.as_deref())?,
        log: log.as_deref().map(|json| trust_root(path, json)).transpose()?,
    })
}

fn notary(path: &str, notation: &written::Notation) -> Result<By, InvalidWritten> {
    let written::Notation { trust_store, identities, timestamp_authorities } = notation;
    let unusable =
        |name: &str, error| InvalidWritten::new(Flaw::Certificates, format!("{path}.{name}"), error);
    let mut store = NotaryStore::new(trust_store).map_err(|error| unusable("trustStore", error))?;
    if let Some(pem) = timestamp_authorities {
        store =
            store.with_timestamp_authorities(pem).map_err(|error| unusable("timestampAuthorities", error))?;
    }
    let identities = Identities::parse(identities.iter().map(String::as_str))
        .map_err(|error| field(format!("{path}.identities"), error))?;
    Ok(By::Notary { store, identities })
}

fn trust_root(path: &str, json: &str) -> Result<TrustRoot, InvalidWritten> {
    TrustRoot::parse(json.as_bytes())
        .map_err(|error| InvalidWritten::new(Flaw::TrustRoot, format!("{path}.trustRoot"), error))
}

/// One text, or a regular expression over all of it.
fn matcher(
    path: &str,
    name: &str,
    exact: Option<&str>,
    regex: Option<&str>,
) -> Result<Matcher, InvalidWritten> {
    match (exact, regex) {
        (Some(text), None) => Matcher::exact(text).map_err(|error| field(format!("{path}.{name}"), error)),
        (None, Some(text)) => {
            Matcher::regex(text).map_err(|error| field(format!("{path}.{name}Regex"), error))
        }
        _ => Err(field(path, format!("write exactly one of {name} and {name}Regex"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    const KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEVBiFo/TiNcGHDnMC5qcTrn2s8zZ0
cJQ2C9XkKAyPvZXIivQxaTPRXQAodApL2oI/Vo+bK979KcWrzEn/f0B/bg==
-----END PUBLIC KEY-----
";

    fn compile(written: Value) -> Result<Policy, InvalidWritten> {
        Policy::compile(&serde_json::from_value(written).unwrap())
    }

    fn signed_by(authority: &Value) -> Value {
        json!({"images": ["r.io/**"], "require": [{"signature": {"authorities": [authority]}}]})
    }

    #[test]
    fn what_is_written_judges() {
        let policy = compile(signed_by(&json!({"name": "a", "key": {"pem": KEY}}))).unwrap();
        assert_eq!(policy.anchors().ids().count(), 1);
        assert!(policy.applies_to(&"r.io/app:v1".parse().unwrap()));
        assert!(!policy.applies_to(&"q.io/app:v1".parse().unwrap()));
    }

    /// What is wrong is named by its place; the operator's tables have a case for each field (R-OPR-6).
    #[rstest]
    #[case(json!({"images": []}), Flaw::Field, "images")]
    #[case(json!({"images": ["r.io/**", "alpine"]}), Flaw::Field, "images[1]")]
    #[case(json!({"images": ["r.io/**"]}), Flaw::Field, "require")]
    #[case(json!({"images": ["**"], "require": [{}]}), Flaw::Field, "require[0]")]
    #[case(signed_by(&json!({"name": "a"})), Flaw::Field, "require[0].signature.authorities[0]")]
    #[case(signed_by(&json!({"name": "a", "key": {"pem": "x"}})), Flaw::Key, "require[0].signature.authorities[0].key.pem")]
    #[case(signed_by(&json!({"name": "a", "key": {"pem": KEY, "trustRoot": "x"}})), Flaw::TrustRoot, "require[0].signature.authorities[0].key.trustRoot")]
    #[case(signed_by(&json!({"name": "a", "certificate": {"authorities": "x", "subject": "s"}})), Flaw::Certificates, "require[0].signature.authorities[0].certificate.authorities")]
    #[case(signed_by(&json!({"name": "a", "notation": {"trustStore": "x", "identities": ["*"]}})), Flaw::Certificates, "require[0].signature.authorities[0].notation.trustStore")]
    #[case(json!({"images": ["**"], "unmatched": "Deny", "exceptions": [{"images": ["r.io/**"], "reason": "", "owner": "o", "expires": "2026-07-01T00:00:00Z"}]}), Flaw::Field, "exceptions[0].reason")]
    fn a_flaw_is_named_by_its_place(#[case] written: Value, #[case] flaw: Flaw, #[case] path: &str) {
        let error = compile(written).unwrap_err();
        assert_eq!((error.flaw, error.path.as_str()), (flaw, path), "{error}");
    }
}
