//! Facts: what is said about a digest, and by whom, established once by looking at the evidence with the anchors of all
//! policies that care. They hold for good and may be stored; whether they suffice, and for how long, is a policy's verdict.

use std::collections::BTreeSet;

use berth_registry_core::Digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    anchor::{Anchor, AnchorId, Anchors},
    bounds::{Bounds, BoundsExceeded},
    evidence::Evidence,
    signed::{self, Signed},
};

/// How a statement is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Form {
    /// cosign's classic formats.
    Classic,
    /// A sigstore bundle.
    Bundle,
    /// A manifest that could not be read.
    Unknown,
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
    /// When it was said, in the signer's own word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed: Option<Timestamp>,
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
    subject: Digest,
    anchors: BTreeSet<AnchorId>,
    statements: BTreeSet<Statement>,
    refusals: BTreeSet<Refusal>,
}

impl Facts {
    /// Looks at the evidence with the given anchors. Every statement is tried with every anchor; what cannot be read is
    /// a fact, too. Fails only when there is more evidence than we look at.
    pub fn establish(
        evidence: &Evidence,
        anchors: &Anchors,
        bounds: &Bounds,
    ) -> Result<Self, BoundsExceeded> {
        let artifacts: BTreeSet<_> = evidence.artifacts.iter().collect();
        if artifacts.len() > bounds.referrers {
            return Err(BoundsExceeded { what: "referrers", bound: bounds.referrers });
        }
        let found: Vec<_> =
            artifacts.into_iter().flat_map(|artifact| signed::read(artifact, bounds)).collect();
        if found.len() > bounds.referrers {
            return Err(BoundsExceeded { what: "signed statements", bound: bounds.referrers });
        }
        let mut facts = Self {
            subject: evidence.subject.clone(),
            anchors: anchors.ids().cloned().collect(),
            statements: BTreeSet::new(),
            refusals: BTreeSet::new(),
        };
        for signed::Found { place, form, signed } in found {
            match signed {
                Ok(signed) => facts.verify(&place, form, &signed, anchors),
                Err(why) => facts.refuse(&place, Cause::Malformed { by: None, why }),
            }
        }
        Ok(facts)
    }

    /// Tries one statement with each anchor. More than one may verify it, because keys can be made to fit a given
    /// signature; each then counts for those who trust that anchor.
    fn verify(&mut self, place: &Place, form: Form, signed: &Signed, anchors: &Anchors) {
        let signers = anchors.iter().filter_map(|anchor| match anchor {
            Anchor::Key(key) => {
                key.verifies(&signed.message, &signed.signature).then(|| Signer::Key(key.id().clone()))
            }
        });
        let signers: Vec<_> = signers.collect();
        if signers.is_empty() {
            self.refuse(place, Cause::UnknownSigner);
        }
        for by in signers {
            self.believe(place, form, by, signed);
        }
    }

    /// Takes the word of a verified payload, if it speaks about the subject.
    fn believe(&mut self, place: &Place, form: Form, by: Signer, signed: &Signed) {
        let claims = match (signed.claims)(&signed.payload) {
            Ok(claims) => claims,
            Err(why) => {
                let why = format!("its signed payload is malformed: {why}");
                return self.refuse(place, Cause::Malformed { by: Some(by), why });
            }
        };
        if claims.subjects.contains(&self.subject) {
            let (at, about) = (place.clone(), self.subject.clone());
            let (says, claimed) = (claims.says, claims.claimed);
            self.statements.insert(Statement { at, form, about, by, says, claimed });
            return;
        }
        let cause = match claims.subjects.into_iter().min() {
            Some(about) => Cause::OtherDigest { by, about },
            None => Cause::Malformed { by: Some(by), why: "its signed payload names no digest".to_owned() },
        };
        self.refuse(place, cause);
    }

    fn refuse(&mut self, place: &Place, cause: Cause) {
        self.refusals.insert(Refusal { at: place.clone(), cause });
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
