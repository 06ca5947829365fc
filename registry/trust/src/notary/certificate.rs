//! One certificate and the requirements that it must meet (specification: "Certificate Requirements"). Only basic
//! constraints, key usage and extended key usage are looked at, as the specification says.

use x509_parser::{
    certificate::X509Certificate,
    extensions::{BasicConstraints, ExtendedKeyUsage, KeyUsage},
    prelude::{BasicExtension, FromDer as _},
};

use super::{
    Validity,
    algorithm::{self, Key},
    chain::Purpose,
    name,
    refused::{CertificateFault, UnfitCertificate},
};
use crate::der::{BIT_STRING, Der, INTEGER, SEQUENCE, explicit};

/// A certificate as read; whether it meets anything is asked separately.
pub(super) struct Certificate<'a> {
    x509: X509Certificate<'a>,
    validity: Validity,
}

impl<'a> Certificate<'a> {
    /// Reads DER, in which nothing may follow.
    pub(super) fn parse(der: &'a [u8]) -> Option<Self> {
        exact(der)?;
        let (_, x509) = X509Certificate::from_der(der).ok()?;
        let validity = x509.validity().try_into().ok()?;
        Some(Self { x509, validity })
    }

    pub(super) fn der(&self) -> &'a [u8] {
        self.x509.as_raw()
    }

    /// Its `SubjectPublicKeyInfo`.
    pub(super) fn key(&self) -> &'a [u8] {
        self.x509.tbs_certificate.subject_pki.raw
    }

    /// Its subject, as [`name`] writes it.
    pub(super) fn subject(&self) -> String {
        name::text(self.x509.subject())
    }

    pub(super) fn validity(&self) -> Validity {
        self.validity
    }

    /// Says which certificate a fault is about.
    pub(super) fn unfit(&self, fault: CertificateFault) -> UnfitCertificate {
        UnfitCertificate { subject: self.subject(), fault }
    }

    /// Whether `issuer` is named as its issuer and its key has signed it.
    pub(super) fn is_issued_by(&self, issuer: &Certificate<'_>) -> bool {
        self.x509.issuer().as_raw() == issuer.x509.subject().as_raw()
            && algorithm::candidates(&self.x509.signature_algorithm, None).is_some_and(|candidates| {
                let signed = self.x509.tbs_certificate.as_ref();
                algorithm::verifies(candidates, issuer.key(), signed, &self.x509.signature_value.data)
            })
    }

    pub(super) fn is_self_signed(&self) -> bool {
        self.is_issued_by(self)
    }

    /// Whether it may issue certificates.
    pub(super) fn is_authority(&self) -> bool {
        self.x509.is_ca()
    }

    /// What holds for every certificate: a sound key, and a signature with a sound algorithm.
    pub(super) fn check(&self) -> Result<(), CertificateFault> {
        let identifier = &self.x509.signature_algorithm;
        if algorithm::candidates(identifier, None).is_none() {
            return Err(CertificateFault::SignatureAlgorithm(
                match identifier.algorithm.to_id_string().as_str() {
                    "1.2.840.113549.1.1.5" | "1.2.840.10045.4.1" => "SHA-1".to_owned(),
                    other => other.to_owned(),
                },
            ));
        }
        Key::of(self.key()).map(|_| ()).ok_or(CertificateFault::Key)
    }

    /// What holds for the certificate that signs.
    pub(super) fn check_leaf(&self, purpose: Purpose) -> Result<(), CertificateFault> {
        if self.basic_constraints()?.is_some_and(|constraints| constraints.value.ca) {
            return Err(CertificateFault::Authority);
        }
        let usage = self.key_usage(purpose)?;
        let other = usage.key_encipherment()
            || usage.data_encipherment()
            || usage.key_agreement()
            || usage.key_cert_sign()
            || usage.crl_sign()
            || usage.encipher_only()
            || usage.decipher_only();
        if other || !usage.digital_signature() {
            return Err(CertificateFault::KeyUsage);
        }
        let fits = match (purpose, self.extended_key_usage()?) {
            (Purpose::CodeSigning, None) => true,
            (Purpose::CodeSigning, Some(BasicExtension { value, .. })) => {
                !(value.any
                    || value.server_auth
                    || value.client_auth
                    || value.email_protection
                    || value.time_stamping
                    || value.ocsp_signing)
            }
            (Purpose::TimeStamping, None) => false,
            (Purpose::TimeStamping, Some(BasicExtension { critical, value })) => {
                let other = value.any
                    || value.server_auth
                    || value.client_auth
                    || value.code_signing
                    || value.email_protection
                    || value.ocsp_signing
                    || !value.other.is_empty();
                critical && value.time_stamping && !other
            }
        };
        fits.then_some(()).ok_or(CertificateFault::ExtendedKeyUsage(purpose.name()))
    }

    /// What holds for a certificate that issued another, with `below` authorities between it and the signer.
    pub(super) fn check_authority(&self, purpose: Purpose, below: usize) -> Result<(), CertificateFault> {
        let constraints = self
            .basic_constraints()?
            .filter(|constraints| constraints.critical && constraints.value.ca)
            .ok_or(CertificateFault::NotAuthority)?;
        let allowed = constraints.value.path_len_constraint;
        if let Some(allowed) = allowed.filter(|allowed| usize::try_from(*allowed).is_ok_and(|a| a < below)) {
            return Err(CertificateFault::PathLength { allowed, below });
        }
        if self.key_usage(purpose)?.key_cert_sign() { Ok(()) } else { Err(CertificateFault::NotForIssuing) }
    }

    /// For code signing it must be critical, for timestamps it only should.
    fn key_usage(&self, purpose: Purpose) -> Result<&KeyUsage, CertificateFault> {
        let usage = self.x509.tbs_certificate.key_usage().map_err(|_| CertificateFault::Malformed)?;
        usage
            .filter(|usage| usage.critical || purpose == Purpose::TimeStamping)
            .map(|usage| usage.value)
            .ok_or(CertificateFault::NoKeyUsage)
    }

    fn basic_constraints(&self) -> Result<Option<BasicExtension<&BasicConstraints>>, CertificateFault> {
        self.x509.tbs_certificate.basic_constraints().map_err(|_| CertificateFault::Malformed)
    }

    fn extended_key_usage(&self) -> Result<Option<BasicExtension<&ExtendedKeyUsage<'_>>>, CertificateFault> {
        self.x509.tbs_certificate.extended_key_usage().map_err(|_| CertificateFault::Malformed)
    }
}

/// What stands around the signed part is not signed. `x509-parser` is lax with tags there, so without this the same
/// certificate could come in many spellings, each with a fingerprint of its own: a SEQUENCE of the signed part, the
/// algorithm as it stands in there, and a BIT STRING of whole bytes (RFC 5280, 4.1.1).
fn exact(der: &[u8]) -> Option<()> {
    let mut outer = Der::new(der);
    let mut certificate = outer.take(SEQUENCE)?.inside();
    outer.end()?;
    let mut signed = certificate.take(SEQUENCE)?.inside();
    let algorithm = certificate.take(SEQUENCE)?;
    let signature = certificate.take(BIT_STRING)?;
    certificate.end()?;
    signed.take(explicit(0));
    signed.take(INTEGER)?;
    let same = signed.take(SEQUENCE)?.whole == algorithm.whole;
    (same && signature.content.first() == Some(&0)).then_some(())
}
