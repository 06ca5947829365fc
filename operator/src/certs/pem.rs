//! Reads PEM: what a certificate says about itself, and the bundle that clients trust.

use std::sync::Arc;

use berth_operator_core::certificate::{Leaf, Validity};
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use rcgen::{KeyPair, PublicKeyData as _};
use x509_parser::{
    extensions::GeneralName,
    pem::Pem,
    prelude::{FromDer as _, X509Certificate},
};

use super::CertificateError;

/// PEM certificates of Berth's CA that clients are to trust: the one in use first, then the next, then former ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle(Arc<str>);

impl Bundle {
    /// Reads `ca.crt` of a Secret.
    pub fn read(secret: &Secret) -> Result<Self, CertificateError> {
        let pem = text(secret, "ca.crt")?;
        if certificates(&pem).is_empty() {
            return Err(unusable(secret, "ca.crt"));
        }
        Ok(Self(pem.into()))
    }

    /// As PEM text.
    pub fn as_pem(&self) -> &str {
        &self.0
    }

    pub(super) fn new(pem: &str) -> Self {
        Self(pem.into())
    }
}

/// The text under a key of a Secret.
pub(super) fn text(secret: &Secret, key: &'static str) -> Result<String, CertificateError> {
    let bytes = secret.data.as_ref().and_then(|data| data.get(key));
    bytes
        .and_then(|ByteString(bytes)| String::from_utf8(bytes.clone()).ok())
        .filter(|text| !text.is_empty())
        .ok_or_else(|| unusable(secret, key))
}

fn unusable(secret: &Secret, key: &'static str) -> CertificateError {
    CertificateError::Secret { secret: secret.metadata.name.clone().unwrap_or_default(), key }
}

/// The certificates in a PEM text, each again as PEM, that can be parsed.
pub(super) fn certificates(pem: &str) -> Vec<(String, Validity)> {
    pem.split_inclusive("-----END CERTIFICATE-----")
        .filter_map(|block| {
            let start = block.find("-----BEGIN CERTIFICATE-----")?;
            let block = block.get(start..)?;
            Some((format!("{block}\n"), validity(block)?))
        })
        .collect()
}

/// When the first certificate of a PEM text is good.
pub(super) fn validity(pem: &str) -> Option<Validity> {
    read(pem, |certificate| {
        let instant = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
        Some(Validity {
            not_before: instant(certificate.validity().not_before)?,
            not_after: instant(certificate.validity().not_after)?,
        })
    })
}

/// Whether a private key belongs to the first certificate of a PEM text.
pub(super) fn is_key_of(key: &str, pem: &str) -> bool {
    let Ok(key) = KeyPair::from_pem(key) else { return false };
    read(pem, |certificate| Some(certificate.public_key().raw == key.subject_public_key_info()))
        .unwrap_or_default()
}

/// What the first certificate of a PEM text says, and whether the authority `issuer` has signed it.
pub(super) fn leaf(pem: &str, issuer: &str) -> Option<Leaf> {
    let (_, authority) = x509_parser::pem::parse_x509_pem(issuer.as_bytes()).ok()?;
    let (_, authority) = X509Certificate::from_der(&authority.contents).ok()?;
    let validity = validity(pem)?;
    read(pem, |certificate| {
        let names = certificate.subject_alternative_name().ok().flatten()?.value.general_names.iter();
        let names = names.filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
        Some(Leaf {
            validity,
            names: names.collect(),
            signed_by_active: certificate.verify_signature(Some(authority.public_key())).is_ok(),
        })
    })
}

fn read<T>(pem: &str, take: impl FnOnce(&X509Certificate<'_>) -> Option<T>) -> Option<T> {
    let (_, Pem { contents, .. }) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
    let (_, certificate) = X509Certificate::from_der(&contents).ok()?;
    take(&certificate)
}
