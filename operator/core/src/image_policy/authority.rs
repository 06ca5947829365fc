//! From an authority, as it is written, to how `berth_trust` recognises it: keys, certificates and trust roots are taken
//! from the policy or from the named keys of its Secrets. Every error names the field.

use std::fmt::Display;

use berth_crds::{
    SecretReference,
    image_policy::{self as written, Certificates},
};
use berth_trust::{
    Authority, By, Matcher, PublicKey,
    notary::{Identities, NotaryStore},
    sigstore::{CertificateAuthorities, TrustRoot},
};

use crate::image_policy::{
    AUTHORITIES, InvalidPolicy, Material, PUBLIC_KEY, Secrets, TIMESTAMP_AUTHORITIES, TRUST_ROOT,
    invalid::spec,
};

/// The authority at `path`.
pub(super) fn authority(
    path: &str,
    authority: &written::Authority,
    secrets: &Secrets,
) -> Result<Authority, InvalidPolicy> {
    let written::Authority { name, valid_until, key, keyless, certificate, notation } = authority;
    let by = match (key, keyless, certificate, notation) {
        (Some(written), None, None, None) => key_holder(&format!("{path}.key"), written, secrets),
        (None, Some(written), None, None) => identity(&format!("{path}.keyless"), written, secrets),
        (None, None, Some(written), None) => {
            certificate_holder(&format!("{path}.certificate"), written, secrets)
        }
        (None, None, None, Some(written)) => notary(&format!("{path}.notation"), written, secrets),
        _ => Err(spec(path, "write exactly one of key, keyless, certificate and notation")),
    };
    Ok(Authority { name: name.clone(), by: by?, valid_until: valid_until.as_ref().map(|time| time.0) })
}

fn key_holder(path: &str, key: &written::Key, secrets: &Secrets) -> Result<By, InvalidPolicy> {
    let written::Key { pem, secret_name, trust_root } = key;
    let (at, pem) = text(path, pem.as_deref(), secret_name.as_deref(), PUBLIC_KEY, secrets)?;
    let key = PublicKey::from_pem(pem).map_err(|error| InvalidPolicy::unusable(PUBLIC_KEY, at, error))?;
    Ok(By::Key { key, log: optional_trust_root(path, trust_root.as_ref(), secrets)? })
}

fn identity(path: &str, keyless: &written::Keyless, secrets: &Secrets) -> Result<By, InvalidPolicy> {
    let written::Keyless { issuer, issuer_regex, subject, subject_regex, trust_root: root } = keyless;
    Ok(By::Keyless {
        root: trust_root(path, root, secrets)?,
        issuer: matcher(path, "issuer", issuer.as_deref(), issuer_regex.as_deref())?,
        subject: matcher(path, "subject", subject.as_deref(), subject_regex.as_deref())?,
    })
}

fn certificate_holder(
    path: &str,
    certificate: &written::Certificate,
    secrets: &Secrets,
) -> Result<By, InvalidPolicy> {
    let written::Certificate { authorities, subject, subject_regex, trust_root } = certificate;
    let (at, pem) = certificates(&format!("{path}.authorities"), authorities, AUTHORITIES, secrets)?;
    Ok(By::Certificate {
        authorities: CertificateAuthorities::from_pem(pem).map_err(|error| unusable(at, error))?,
        subject: matcher(path, "subject", subject.as_deref(), subject_regex.as_deref())?,
        log: optional_trust_root(path, trust_root.as_ref(), secrets)?,
    })
}

fn notary(path: &str, notation: &written::Notation, secrets: &Secrets) -> Result<By, InvalidPolicy> {
    let written::Notation { trust_store, identities, timestamp_authorities } = notation;
    let (at, pem) = certificates(&format!("{path}.trustStore"), trust_store, AUTHORITIES, secrets)?;
    let mut store = NotaryStore::new(pem).map_err(|error| unusable(at, error))?;
    if let Some(written) = timestamp_authorities {
        let path = format!("{path}.timestampAuthorities");
        let (at, pem) = certificates(&path, written, TIMESTAMP_AUTHORITIES, secrets)?;
        store = store.with_timestamp_authorities(pem).map_err(|error| unusable(at, error))?;
    }
    let identities = Identities::parse(identities.iter().map(String::as_str))
        .map_err(|error| spec(format!("{path}.identities"), error))?;
    Ok(By::Notary { store, identities })
}

fn unusable(path: String, error: impl Display) -> InvalidPolicy {
    InvalidPolicy::unusable(AUTHORITIES, path, error)
}

/// One text, or a regular expression over all of it.
fn matcher(
    path: &str,
    field: &str,
    exact: Option<&str>,
    regex: Option<&str>,
) -> Result<Matcher, InvalidPolicy> {
    match (exact, regex) {
        (Some(text), None) => Matcher::exact(text).map_err(|error| spec(format!("{path}.{field}"), error)),
        (None, Some(text)) => {
            Matcher::regex(text).map_err(|error| spec(format!("{path}.{field}Regex"), error))
        }
        _ => Err(spec(path, format!("write exactly one of {field} and {field}Regex"))),
    }
}

fn optional_trust_root(
    path: &str,
    written: Option<&SecretReference>,
    secrets: &Secrets,
) -> Result<Option<TrustRoot>, InvalidPolicy> {
    written.map(|written| trust_root(path, written, secrets)).transpose()
}

fn trust_root(path: &str, written: &SecretReference, secrets: &Secrets) -> Result<TrustRoot, InvalidPolicy> {
    let path = format!("{path}.trustRoot.secretName");
    let json = Material::value(secrets, &path, &written.secret_name, TRUST_ROOT)?;
    TrustRoot::parse(json.as_bytes()).map_err(|error| InvalidPolicy::unusable(TRUST_ROOT, path, error))
}

fn certificates<'a>(
    path: &str,
    written: &'a Certificates,
    key: &str,
    secrets: &'a Secrets,
) -> Result<(String, &'a str), InvalidPolicy> {
    let Certificates { pem, secret_name } = written;
    text(path, pem.as_deref(), secret_name.as_deref(), key, secrets)
}

/// Public text from the policy itself or from a key of a Secret, with the path of the field that it comes from.
fn text<'a>(
    path: &str,
    pem: Option<&'a str>,
    secret: Option<&str>,
    key: &str,
    secrets: &'a Secrets,
) -> Result<(String, &'a str), InvalidPolicy> {
    match (pem, secret) {
        (Some(pem), None) => Ok((format!("{path}.pem"), pem)),
        (None, Some(secret)) => {
            let path = format!("{path}.secretName");
            let value = Material::value(secrets, &path, secret, key)?;
            Ok((path, value))
        }
        _ => Err(spec(path, "write exactly one of pem and secretName")),
    }
}
