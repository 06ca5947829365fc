//! Certificate authorities of the user's own: no Fulcio, no certificate log. A certificate of theirs may live for years,
//! so a signature counts while the whole chain is valid, or for good when a log or timestamp proves its time.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use berth_registry_core::Digest;
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime, pem::PemObject as _};
use sigstore_verify::crypto::WEBPKI_VERIFICATION_ALGS;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::{CODE_SIGNING, leaf, refused::Refused};
use crate::{key::holds_private_key, validity::Validity};

/// Bytes of the text.
const MAX_PEM: usize = 256 * 1024;
/// Certificates in it.
const MAX_CERTIFICATES: usize = 100;

/// A text that holds no usable authorities; the message says what to provide.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAuthorities {
    /// No `CERTIFICATE` block.
    #[error(
        "it holds no PEM block `CERTIFICATE`: write the certificates of your authority, root and intermediates"
    )]
    NoPem,
    /// A block that is no certificate of an authority.
    #[error(
        "its certificate {position} cannot be an authority's ({cause}): write the authority's, not the signer's"
    )]
    Unusable {
        /// Counted from one.
        position: usize,
        /// For people.
        cause: String,
    },
    /// A secret where everybody can read it.
    #[error("it holds a private key: remove it, consider it stolen, and write certificates")]
    Private,
    /// More than is looked at.
    #[error(
        "it has {found} {what}, more than the limit of {bound}: write only the authorities that sign images"
    )]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        found: usize,
        /// The limit.
        bound: usize,
    },
}

/// Authorities whose certificates are trusted to sign code. Cheap to clone.
#[derive(Clone)]
pub struct CertificateAuthorities(Arc<Inner>);

struct Inner {
    id: Digest,
    roots: Vec<Root>,
    intermediates: Vec<CertificateDer<'static>>,
}

struct Root {
    der: CertificateDer<'static>,
    anchor: TrustAnchor<'static>,
    valid: Validity,
}

impl CertificateAuthorities {
    /// Reads certificates in PEM, in any order. The self-signed ones are trusted and the others lead to them; if none is
    /// self-signed, all are trusted.
    pub fn from_pem(pem: &str) -> Result<Self, InvalidAuthorities> {
        if pem.len() > MAX_PEM {
            return Err(InvalidAuthorities::TooMuch { what: "bytes", found: pem.len(), bound: MAX_PEM });
        }
        if holds_private_key(pem) {
            return Err(InvalidAuthorities::Private);
        }
        let mut roots = Vec::new();
        let mut others = Vec::new();
        let mut all = BTreeSet::new();
        for (index, der) in CertificateDer::pem_slice_iter(pem.as_bytes()).enumerate() {
            let unusable = |cause: String| InvalidAuthorities::Unusable { position: index + 1, cause };
            let der = der.map_err(|e| unusable(e.to_string()))?;
            if !all.insert(der.to_vec()) {
                continue;
            }
            let certificate = leaf::read(&der).map_err(|e| unusable(e.to_string()))?;
            if !certificate.is_ca() {
                return Err(unusable("its basic constraints do not say CA".to_owned()));
            }
            let anchor = anchor_from_trusted_cert(&der).map_err(|e| unusable(e.to_string()))?.to_owned();
            let valid = validity(&der).map_err(|e| unusable(e.to_string()))?;
            let into = if certificate.issuer() == certificate.subject() { &mut roots } else { &mut others };
            into.push(Root { der: der.clone().into_owned(), anchor, valid });
        }
        match all.len() {
            0 => return Err(InvalidAuthorities::NoPem),
            found if found > MAX_CERTIFICATES => {
                return Err(InvalidAuthorities::TooMuch {
                    what: "certificates",
                    found,
                    bound: MAX_CERTIFICATES,
                });
            }
            _ => {}
        }
        let content: Vec<u8> =
            all.iter().flat_map(|der| Digest::sha256(der).to_string().into_bytes()).collect();
        let id = Digest::sha256(&content);
        if roots.is_empty() {
            (roots, others) = (others, roots);
        }
        let intermediates = others.into_iter().map(|other| other.der).collect();
        Ok(Self(Arc::new(Inner { id, roots, intermediates })))
    }

    /// SHA-256 of what is trusted, however it is written.
    pub fn id(&self) -> &Digest {
        &self.0.id
    }

    /// When a certificate and all those that lead from it to a root are valid together. Of several ways to a root the
    /// one that lasts longest.
    pub(super) fn vouch(&self, leaf: &[u8], presented: &[&[u8]]) -> Result<Validity, Refused> {
        let own = validity(leaf)?;
        let intermediates = self.intermediates(presented);
        // Every chain lasts until one of its members ends. At the latest such moment at which there is a chain at all,
        // none lasts longer than that one.
        let mut ends: BTreeSet<_> = [own.until].into();
        ends.extend(self.0.roots.iter().map(|root| root.valid.until));
        for intermediate in &intermediates {
            ends.extend(validity(intermediate).map(|valid| valid.until));
        }
        let mut refused = Refused::malformed("its certificate ends before it begins");
        for end in ends.into_iter().rev().filter(|end| own.contains(Validity::at(*end))) {
            match self.path(leaf, &intermediates, end) {
                Ok(valid) => return Ok(valid.common(own)),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// That a certificate and all those that lead from it to a root were valid at a time.
    pub(super) fn vouch_at(&self, leaf: &[u8], presented: &[&[u8]], time: Timestamp) -> Result<(), Refused> {
        self.path(leaf, &self.intermediates(presented), time).map(drop)
    }

    fn intermediates<'a>(&'a self, presented: &[&'a [u8]]) -> Vec<CertificateDer<'a>> {
        let presented = presented.iter().map(|der| CertificateDer::from(*der));
        presented.chain(self.0.intermediates.iter().map(|der| CertificateDer::from(der.as_ref()))).collect()
    }

    /// A way to a root whose members are all valid at `time`, and when they are. Authorities may leave open what they
    /// issue certificates for; of the leaf, `leaf::holder` asks it.
    fn path(
        &self,
        leaf: &[u8],
        intermediates: &[CertificateDer<'_>],
        time: Timestamp,
    ) -> Result<Validity, Refused> {
        let leaf = CertificateDer::from(leaf);
        let leaf = EndEntityCert::try_from(&leaf)
            .map_err(|e| Refused::malformed(format_args!("its certificate: {e}")))?;
        let at = Validity::at(time);
        let roots: Vec<_> = self.0.roots.iter().filter(|root| root.valid.contains(at)).collect();
        let anchors: Vec<_> = roots.iter().map(|root| root.anchor.clone()).collect();
        let seconds = u64::try_from(time.as_second()).unwrap_or_default();
        let path = leaf.verify_for_usage(
            WEBPKI_VERIFICATION_ALGS,
            &anchors,
            intermediates,
            UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
            KeyUsage::required_if_present(CODE_SIGNING),
            None,
            None,
        )?;
        let root = roots.iter().find(|root| root.anchor == *path.anchor());
        let root = root.ok_or(webpki::Error::UnknownIssuer)?;
        let members: Vec<_> = path
            .intermediate_certificates()
            .map(|member| validity(&member.der()))
            .collect::<Result<_, _>>()?;
        Ok(members.into_iter().fold(root.valid, Validity::common))
    }
}

impl fmt::Debug for CertificateAuthorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CertificateAuthorities").field(&self.0.id).finish()
    }
}

impl PartialEq for CertificateAuthorities {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for CertificateAuthorities {}

fn validity(der: &[u8]) -> Result<Validity, Refused> {
    leaf::validity(&leaf::read(der)?)
}
