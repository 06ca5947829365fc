//! Pure trust decisions: [`Evidence`] (bytes from a registry, not believed) → [`Facts`] by digest (who says what about
//! it) → [`Judgement`] by a [`Policy`]. No network, no clock, no randomness; the same input in any order gives the same
//! answer. Facts may be cached and stored; verdicts are recomputed, at the latest when their time is up.
//!
//! Signatures are checked with `aws-lc-rs`; certificates and logs in [`sigstore`], with `sigstore-verify` for the formats of
//! bundles and trust roots; the Notary Project and timestamps in [`notary`].

mod anchor;
mod authority;
mod bounds;
mod bundle;
mod classic;
mod clock;
mod condition;
mod der;
mod dsse;
mod establish;
mod evidence;
mod facts;
mod json;
mod key;
mod matcher;
pub mod notary;
mod policy;
mod quorum;
mod signed;
pub mod sigstore;
mod validity;
mod verdict;
mod written;

pub use berth_registry_core::policy::Unmatched;

pub use anchor::{Anchor, AnchorId, Anchors};
pub use authority::{Authority, By};
pub use bounds::{Bounds, BoundsExceeded, printable};
pub use condition::{Condition, InvalidCondition};
pub use evidence::{Artifact, Described, Evidence, Index, kind};
pub use facts::{Cause, Facts, Form, Place, Refusal, Says, Signer, Statement};
pub use key::{InvalidKey, PublicKey, holds_private_key};
pub use matcher::{InvalidMatcher, Matcher};
pub use policy::{
    Exception, FACTS_OUTDATED, ImagePattern, InvalidImagePattern, InvalidPolicy, Policy, Requirement,
};
pub use quorum::Quorum;
pub use validity::Validity;
pub use verdict::{Cure, Finding, Ground, Judgement, Verdict, Way, What};
pub use written::{Flaw, InvalidWritten, patterns};
