//! Anchors: what a statement is verified with. Evidence is looked at with the anchors of all policies that care, and
//! facts remember which ones, so that "no such statement" is never said of an anchor that nobody tried.

use std::{collections::BTreeMap, fmt};

use berth_registry_core::Digest;
use serde::{Deserialize, Serialize};

use crate::{
    key::PublicKey,
    notary::NotaryStore,
    sigstore::{CertificateAuthorities, TrustRoot},
};

/// SHA-256 of an anchor's canonical content: it is known by what it is, not by how it is written or called.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AnchorId(Digest);

impl AnchorId {
    /// Of the canonical bytes of an anchor.
    pub(crate) fn of(content: &[u8]) -> Self {
        Self(Digest::sha256(content))
    }
}

impl From<Digest> for AnchorId {
    fn from(digest: Digest) -> Self {
        Self(digest)
    }
}

impl fmt::Display for AnchorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What a statement can be verified with. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Anchor {
    /// A public key.
    Key(PublicKey),
    /// Certificate authorities and logs of a sigstore instance.
    Sigstore(TrustRoot),
    /// Certificate authorities of one's own.
    Authorities(CertificateAuthorities),
    /// The roots of a Notary Project trust store.
    Notary(NotaryStore),
}

impl Anchor {
    /// What it is known by.
    pub fn id(&self) -> AnchorId {
        match self {
            Self::Key(key) => key.id().clone(),
            Self::Sigstore(root) => root.id().clone().into(),
            Self::Authorities(authorities) => authorities.id().clone().into(),
            Self::Notary(store) => store.id().into(),
        }
    }
}

/// Some anchors, each once, in a fixed order.
#[derive(Clone, Debug, Default)]
pub struct Anchors(BTreeMap<AnchorId, Anchor>);

impl Anchors {
    /// What they are known by.
    pub fn ids(&self) -> impl Iterator<Item = &AnchorId> {
        self.0.keys()
    }

    /// The anchors, by what they are known by.
    pub fn iter(&self) -> impl Iterator<Item = (&AnchorId, &Anchor)> {
        self.0.iter()
    }
}

impl Extend<Anchor> for Anchors {
    fn extend<I: IntoIterator<Item = Anchor>>(&mut self, anchors: I) {
        self.0.extend(anchors.into_iter().map(|anchor| (anchor.id(), anchor)));
    }
}

impl FromIterator<Anchor> for Anchors {
    fn from_iter<I: IntoIterator<Item = Anchor>>(anchors: I) -> Self {
        let mut all = Self::default();
        all.extend(anchors);
        all
    }
}

impl IntoIterator for Anchors {
    type Item = Anchor;
    type IntoIter = std::collections::btree_map::IntoValues<AnchorId, Anchor>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_values()
    }
}
