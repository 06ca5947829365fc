//! What a policy trusts: the roots of signers, of signing authorities and of timestamp authorities. They are kept apart,
//! because who may sign may not thereby say when (specification: "Signing Scheme", FAQ on trust stores).

use std::{collections::BTreeSet, sync::Arc};

use berth_registry_core::Digest;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::certificate::Certificate;
use crate::key::holds_private_key;

/// Bytes of one text with certificates.
const MAX_PEM: usize = 1024 * 1024;

/// Certificates in DER.
type Roots = Arc<BTreeSet<Vec<u8>>>;

/// The certificates that a policy trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotaryStore {
    authorities: Roots,
    signing_authorities: Roots,
    timestamp_authorities: Roots,
}

/// A text that holds no usable certificates; the message says what to provide.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStore {
    /// No `CERTIFICATE` block.
    #[error("it holds no PEM block `CERTIFICATE`: write the root certificates of those who sign")]
    NoPem,
    /// A block that is no certificate.
    #[error("its certificate {0} is no X.509: write certificates in PEM")]
    Malformed(usize),
    /// A certificate that can be nobody's root.
    #[error("its certificate {0:?} is neither self-signed nor an authority: write the root that issued it")]
    NotRoot(String),
    /// A secret where everybody can read it.
    #[error("it holds a private key: remove it, consider it stolen, and write the certificate")]
    Private,
    /// More than is looked at.
    #[error("it has {0} bytes, more than the limit of {MAX_PEM}: write only the roots that are needed")]
    TooLarge(usize),
}

impl NotaryStore {
    /// Trusts those whose certificates these roots (PEM) issued; as notation's trust store of type `ca`.
    pub fn new(authorities: &str) -> Result<Self, InvalidStore> {
        Ok(Self {
            authorities: roots(authorities)?,
            signing_authorities: Roots::default(),
            timestamp_authorities: Roots::default(),
        })
    }

    /// Trusts also these signing authorities, for signing and for its time; type `signingAuthority`.
    pub fn with_signing_authorities(self, pem: &str) -> Result<Self, InvalidStore> {
        Ok(Self { signing_authorities: roots(pem)?, ..self })
    }

    /// Trusts also these timestamp authorities, so that a signature outlives its certificates; type `tsa`.
    pub fn with_timestamp_authorities(self, pem: &str) -> Result<Self, InvalidStore> {
        Ok(Self { timestamp_authorities: roots(pem)?, ..self })
    }

    /// SHA-256 of what is trusted for what, however it is written.
    pub fn id(&self) -> Digest {
        let mut content = Vec::new();
        for roots in [&self.authorities, &self.signing_authorities, &self.timestamp_authorities] {
            content.extend_from_slice(&(roots.len() as u64).to_be_bytes());
            for root in roots.iter() {
                content.extend_from_slice(&(root.len() as u64).to_be_bytes());
                content.extend_from_slice(root);
            }
        }
        Digest::sha256(&content)
    }

    pub(super) fn authorities(&self) -> &BTreeSet<Vec<u8>> {
        &self.authorities
    }

    pub(super) fn signing_authorities(&self) -> &BTreeSet<Vec<u8>> {
        &self.signing_authorities
    }

    pub(super) fn timestamp_authorities(&self) -> &BTreeSet<Vec<u8>> {
        &self.timestamp_authorities
    }
}

fn roots(pem: &str) -> Result<Roots, InvalidStore> {
    if pem.len() > MAX_PEM {
        return Err(InvalidStore::TooLarge(pem.len()));
    }
    if holds_private_key(pem) {
        return Err(InvalidStore::Private);
    }
    let mut roots = BTreeSet::new();
    for (position, block) in CertificateDer::pem_slice_iter(pem.as_bytes()).enumerate() {
        let malformed = || InvalidStore::Malformed(position + 1);
        let der = block.map_err(|_| malformed())?;
        let certificate = Certificate::parse(&der).ok_or_else(malformed)?;
        if !certificate.is_authority() && !certificate.is_self_signed() {
            return Err(InvalidStore::NotRoot(certificate.subject()));
        }
        roots.insert(der.to_vec());
    }
    if roots.is_empty() { Err(InvalidStore::NoPem) } else { Ok(Arc::new(roots)) }
}
