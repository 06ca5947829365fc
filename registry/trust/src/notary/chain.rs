//! A chain of certificates: signer first, each issued by the next, a self-signed root last (specification: "Certificate
//! Requirements", "Other requirements").

use std::collections::BTreeSet;

use super::{
    Validity,
    certificate::Certificate,
    refused::{CertificateFault, Refused, UnfitCertificate},
};

/// Certificates in one chain.
pub(super) const MAX_CHAIN: usize = 10;

/// What the first certificate signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    CodeSigning,
    TimeStamping,
}

impl Purpose {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::CodeSigning => "codeSigning",
            Self::TimeStamping => "timeStamping alone, marked critical",
        }
    }
}

/// One to [`MAX_CHAIN`] certificates.
pub(super) struct Chain<'a> {
    leaf: Certificate<'a>,
    /// The ones above, the root last.
    above: Vec<Certificate<'a>>,
}

impl<'a> Chain<'a> {
    /// Reads the certificates; nothing is checked yet.
    pub(super) fn parse(ders: &'a [Vec<u8>]) -> Result<Self, Refused> {
        if ders.len() > MAX_CHAIN {
            return Err(Refused::ChainLength(ders.len()));
        }
        let mut certificates = Vec::with_capacity(ders.len());
        for (position, der) in ders.iter().enumerate() {
            let certificate = Certificate::parse(der).ok_or_else(|| {
                Refused::Malformed(format!("certificate {} of its chain is no X.509", position + 1))
            })?;
            certificates.push(certificate);
        }
        let mut certificates = certificates.into_iter();
        let leaf = certificates.next().ok_or(Refused::ChainLength(0))?;
        Ok(Self { leaf, above: certificates.collect() })
    }

    /// A chain of certificates that have been read.
    pub(super) fn new(leaf: Certificate<'a>, above: Vec<Certificate<'a>>) -> Self {
        Self { leaf, above }
    }

    pub(super) fn leaf(&self) -> &Certificate<'a> {
        &self.leaf
    }

    pub(super) fn root(&self) -> &Certificate<'a> {
        self.above.last().unwrap_or(&self.leaf)
    }

    fn iter(&self) -> impl Iterator<Item = &Certificate<'a>> {
        std::iter::once(&self.leaf).chain(&self.above)
    }

    /// Whether one of them is among these. The chain is complete, so a store that pins an intermediate works as well.
    pub(super) fn meets(&self, roots: &BTreeSet<Vec<u8>>) -> bool {
        self.iter().any(|certificate| roots.contains(certificate.der()))
    }

    /// All requirements but time.
    pub(super) fn check(&self, purpose: Purpose) -> Result<(), UnfitCertificate> {
        self.check_links(purpose)?;
        if self.root().is_self_signed() { Ok(()) } else { Err(self.root().unfit(CertificateFault::NotRoot)) }
    }

    /// The same for a chain whose end is trusted as it is.
    pub(super) fn check_links(&self, purpose: Purpose) -> Result<(), UnfitCertificate> {
        for certificate in self.iter() {
            certificate.check().map_err(|fault| certificate.unfit(fault))?;
        }
        self.leaf.check_leaf(purpose).map_err(|fault| self.leaf.unfit(fault))?;
        for (below, authority) in self.above.iter().enumerate() {
            authority.check_authority(purpose, below).map_err(|fault| authority.unfit(fault))?;
        }
        for (certificate, issuer) in self.iter().zip(&self.above) {
            if certificate.is_self_signed() {
                return Err(certificate.unfit(CertificateFault::SelfSigned));
            }
            if !certificate.is_issued_by(issuer) {
                return Err(certificate.unfit(CertificateFault::Issuer));
            }
        }
        Ok(())
    }

    /// When all of them are valid.
    pub(super) fn validity(&self) -> Validity {
        self.above.iter().map(Certificate::validity).fold(self.leaf.validity(), Validity::common)
    }
}
