//! Authorities: whose word counts, how they are recognised, and until when.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    anchor::{Anchor, AnchorId},
    clock::Clock,
    facts::{Signer, Statement},
    key::PublicKey,
    matcher::Matcher,
    notary::{Identities, NotaryStore},
    sigstore::{CertificateAuthorities, TrustRoot},
    validity::Validity,
    verdict::{Finding, Way},
};

/// Somebody whose word counts.
#[derive(Clone, Debug)]
pub struct Authority {
    /// For messages; unique within the requirement.
    pub name: String,
    /// How it is recognised.
    pub by: By,
    /// From then on, only what was provably signed before counts.
    pub valid_until: Option<Timestamp>,
}

/// How an authority is recognised.
#[derive(Clone, Debug)]
pub enum By {
    /// By its key.
    Key {
        /// The key.
        key: PublicKey,
        /// The instance whose log or timestamp authority must prove when it signed, if any.
        log: Option<TrustRoot>,
    },
    /// By its identity, for which this trust root's certificates, logs and timestamps hold.
    Keyless {
        /// Certificate authorities and logs.
        root: TrustRoot,
        /// Who says who it is.
        issuer: Matcher,
        /// Who it is.
        subject: Matcher,
    },
    /// By its certificate.
    Certificate {
        /// Who issues such certificates.
        authorities: CertificateAuthorities,
        /// Whose they are.
        subject: Matcher,
        /// The instance whose log or timestamp authority must prove when it signed, if any.
        log: Option<TrustRoot>,
    },
    /// By its certificate in a Notary Project signature.
    Notary {
        /// The roots that issue such certificates.
        store: NotaryStore,
        /// Whose they are.
        identities: Identities,
    },
}

/// What tells signers apart: not who vouches for them, and never the signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who<'a> {
    Key(&'a AnchorId),
    Identity { issuer: &'a str, subject: &'a str },
    Certificate { subject: &'a str },
}

impl Signer {
    pub(crate) fn who(&self) -> Who<'_> {
        match self {
            Self::Key(key) => Who::Key(key),
            Self::Identity { issuer, subject, .. } => Who::Identity { issuer, subject },
            Self::Certificate { subject, .. } | Self::Notary { subject, .. } => Who::Certificate { subject },
        }
    }
}

impl By {
    /// What statements have to be verified with for this authority.
    pub(crate) fn anchor(&self) -> Anchor {
        match self {
            Self::Key { key, .. } => Anchor::Key(key.clone()),
            Self::Keyless { root, .. } => Anchor::Sigstore(root.clone()),
            Self::Certificate { authorities, .. } => Anchor::Authorities(authorities.clone()),
            Self::Notary { store, .. } => Anchor::Notary(store.clone()),
        }
    }

    /// The instance that has to prove when it signed.
    pub(crate) fn log(&self) -> Option<Anchor> {
        match self {
            Self::Key { log, .. } | Self::Certificate { log, .. } => log.clone().map(Anchor::Sigstore),
            Self::Keyless { .. } | Self::Notary { .. } => None,
        }
    }

    /// Whether a signer that was verified with the anchor of this authority is this authority.
    pub(crate) fn recognises(&self, signer: &Signer) -> bool {
        match (self, signer) {
            (Self::Key { .. }, Signer::Key(_)) => true,
            (Self::Keyless { issuer, subject, .. }, Signer::Identity { issuer: by, subject: who, .. }) => {
                issuer.matches(by) && subject.matches(who)
            }
            (Self::Certificate { subject, .. }, Signer::Certificate { subject: who, .. }) => {
                subject.matches(who)
            }
            (Self::Notary { identities, .. }, Signer::Notary { subject, .. }) => identities.hold(subject),
            _ => false,
        }
    }

    /// The one signer that it can stand for, if there is but one.
    pub(crate) fn only(&self) -> Option<Who<'_>> {
        match self {
            Self::Key { key, .. } => Some(Who::Key(key.id())),
            Self::Keyless { issuer, subject, .. } => {
                Some(Who::Identity { issuer: issuer.only()?, subject: subject.only()? })
            }
            Self::Certificate { subject, .. } => Some(Who::Certificate { subject: subject.only()? }),
            Self::Notary { .. } => None,
        }
    }

    /// How such an authority signs.
    pub(crate) fn way(&self) -> Way {
        match self {
            Self::Key { .. } => Way::Key,
            Self::Keyless { .. } => Way::Keyless,
            Self::Certificate { .. } => Way::Certificate,
            Self::Notary { .. } => Way::Notation,
        }
    }
}

/// When a statement was made, by what nobody but its signer could have written. That a log or a timestamp authority saw a
/// signature shows that it is no newer; anybody can have an old one seen again, unless the certificate is for that
/// moment alone.
fn made(statement: &Statement, proven: Option<Timestamp>) -> Option<Timestamp> {
    let earliest = [statement.claimed, proven].into_iter().flatten().min();
    match statement.by {
        Signer::Identity { .. } => proven.or(statement.claimed),
        // Without the signer's word, a signing authority's stands in the envelope itself.
        Signer::Notary { .. } => earliest,
        Signer::Key(_) | Signer::Certificate { .. } => statement.claimed.and(earliest),
    }
}

/// How far a signer's clock may be ahead of ours.
const SKEW: Duration = Duration::from_mins(5);

/// The shortest time that there is.
const INSTANT: Duration = Duration::from_nanos(1);

impl Authority {
    /// Whether a statement that it made, verified with its anchor, counts now. `log` is that of [`By::log`].
    pub(crate) fn accepts(
        &self,
        statement: &Statement,
        log: Option<&AnchorId>,
        max_age: Option<Duration>,
        clock: &Clock,
    ) -> Result<(), Finding> {
        let authority = self.name.clone();
        if let Some(end) = statement.expires.filter(|end| clock.reached(*end)) {
            return Err(Finding::Expired { authority, end });
        }
        let proven = statement.proven.get(log.unwrap_or(statement.by.anchor())).copied();
        if let (Some(log), None) = (log, proven) {
            let cause = statement.unproven.get(log).cloned().unwrap_or_default();
            return Err(Finding::NotProven { authority, cause });
        }
        if let (None, Some(Validity { from, until })) = (proven, statement.valid) {
            let end = until.saturating_add(INSTANT).unwrap_or(Timestamp::MAX);
            if !clock.reached(from) || clock.reached(end) {
                return Err(Finding::CertificateNotValid { authority, from, end });
            }
        }
        let ended = |end: &Timestamp| proven.is_none_or(|proven| proven >= *end) && clock.reached(*end);
        if let Some(end) = self.valid_until.filter(ended) {
            return Err(Finding::AuthorityEnded { authority, end });
        }
        let Some(max_age) = max_age else { return Ok(()) };
        let Some(signed) = made(statement, proven) else {
            return Err(Finding::NoSigningTime { authority });
        };
        let begin = signed.saturating_sub(SKEW).unwrap_or(Timestamp::MIN);
        if !clock.reached(begin) {
            return Err(Finding::SignedInFuture { authority, signed });
        }
        let end = signed.saturating_add(max_age).unwrap_or(Timestamp::MAX);
        if clock.reached(end) {
            return Err(Finding::TooOld { authority, signed, end });
        }
        Ok(())
    }
}
