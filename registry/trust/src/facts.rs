//! Facts: what is said about a digest, and by whom, with respect to the anchors that the evidence was looked at with
//! (`establish`). They hold for good and may be stored; whether they suffice, and for how long, is a policy's verdict.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use berth_registry_core::Digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    anchor::{AnchorId, Anchors},
    validity::Validity,
};

/// How a statement is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Form {
    /// cosign's classic formats.
    Classic,
    /// A sigstore bundle.
    Bundle,
    /// A Notary Project envelope, JWS or COSE.
    Notary,
}

/// Where a statement was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The manifest beside the image.
    pub manifest: Digest,
    /// Which of its layers; the manifest itself if it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<usize>,
}

/// Who made a statement, and what showed it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Signer {
    /// The holder of a key.
    Key(AnchorId),
    /// Whoever an issuer vouches for.
    Identity {
        /// The trust root that holds for certificate and log.
        root: AnchorId,
        /// Who says who it is.
        issuer: String,
        /// Who it is.
        subject: String,
    },
    /// The holder of a certificate.
    Certificate {
        /// The authorities that issued it.
        authorities: AnchorId,
        /// Whose it is.
        subject: String,
        /// SHA-256 of the certificate.
        fingerprint: Digest,
    },
    /// The holder of a certificate, by a Notary Project signature.
    Notary {
        /// The trust store whose root issued it.
        store: AnchorId,
        /// Its distinguished name.
        subject: String,
        /// SHA-256 of the certificate.
        fingerprint: Digest,
    },
}

impl Signer {
    /// What the signature was verified with.
    pub fn anchor(&self) -> &AnchorId {
        match self {
            Self::Key(anchor)
            | Self::Identity { root: anchor, .. }
            | Self::Certificate { authorities: anchor, .. }
            | Self::Notary { store: anchor, .. } => anchor,
        }
    }
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(f, "the key {key}"),
            Self::Identity { issuer, subject, .. } => write!(f, "{subject} (by {issuer})"),
            Self::Certificate { subject, .. } | Self::Notary { subject, .. } => f.write_str(subject),
        }
    }
}

/// What a statement says about its subject.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Says {
    /// That it is the signer's.
    Signature,
    /// Something about it.
    Attestation {
        /// What kind of thing.
        predicate_type: String,
        /// The thing itself: JSON, as it was signed.
        predicate: String,
    },
}

/// A statement whose signature was verified.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Statement {
    /// Where it was found.
    pub at: Place,
    /// How it is stored.
    pub form: Form,
    /// The manifest that it speaks about.
    pub about: Digest,
    /// Who says it.
    pub by: Signer,
    /// What is said.
    pub says: Says,
    /// When it had been said at the latest, by the word of the logs and timestamp authorities of these anchors. It is
    /// worth something to those who trust the anchor.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub proven: BTreeMap<AnchorId, Timestamp>,
    /// The anchors whose word on the time was sought in vain, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unproven: BTreeMap<AnchorId, String>,
    /// When it was said, in the signer's own word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed: Option<Timestamp>,
    /// From then on it no longer counts, by the signer's own will.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// It counts only while the signer's certificates are valid, unless it is proven that it was made then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid: Option<Validity>,
}

/// Why something that was found does not count.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// It is by this signer, about another digest.
    OtherDigest {
        /// Who signed.
        by: Signer,
        /// What was signed.
        about: Digest,
    },
    /// It is by none of the anchors, or it was altered.
    UnknownSigner,
    /// Looked at with this anchor, it does not count.
    Refused {
        /// The anchor. To those who do not trust it this means nothing.
        by: AnchorId,
        /// For people; continues "a signature was found, but".
        why: String,
    },
    /// It cannot be read.
    Malformed {
        /// Who signed it nevertheless; nobody, if it did not come to that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Signer>,
        /// For people.
        why: String,
    },
}

/// Something that was found and does not count.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Refusal {
    /// Where it was found.
    pub at: Place,
    /// Why it does not count.
    pub cause: Cause,
}

/// What is known about one digest in one repository, with respect to some anchors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub(crate) subject: Digest,
    pub(crate) anchors: BTreeSet<AnchorId>,
    pub(crate) statements: BTreeSet<Statement>,
    pub(crate) refusals: BTreeSet<Refusal>,
}

impl Facts {
    /// The same with respect to `anchors` only, with an empty predicate where `read` says that nobody reads it.
    pub(crate) fn with_predicates(&self, anchors: &Anchors, read: impl Fn(&Says) -> bool) -> Self {
        let ours = anchors.ids().cloned().collect::<BTreeSet<_>>();
        let mut facts = Self { anchors: &self.anchors & &ours, ..self.clone() };
        facts.statements = self
            .statements
            .iter()
            .cloned()
            .map(|mut statement| {
                let keep = ours.contains(statement.by.anchor()) && read(&statement.says);
                if let Says::Attestation { predicate, .. } = &mut statement.says
                    && !keep
                {
                    "null".clone_into(predicate);
                }
                statement
            })
            .collect();
        facts
    }

    /// The digest that this is about.
    pub fn subject(&self) -> &Digest {
        &self.subject
    }

    /// Every statement that was verified, sorted.
    pub fn statements(&self) -> impl Iterator<Item = &Statement> {
        self.statements.iter()
    }

    /// Everything else that was found, sorted.
    pub fn refusals(&self) -> impl Iterator<Item = &Refusal> {
        self.refusals.iter()
    }

    /// Every place where something was found.
    pub(crate) fn places(&self) -> impl Iterator<Item = &Place> {
        self.statements().map(|statement| &statement.at).chain(self.refusals().map(|refusal| &refusal.at))
    }

    /// Whether the evidence was looked at with all of these anchors; if not, it says nothing about them.
    pub fn covers(&self, anchors: &Anchors) -> bool {
        anchors.ids().all(|id| self.anchors.contains(id))
    }
}
