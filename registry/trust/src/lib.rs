//! Pure trust decisions: [`Evidence`] (bytes from a registry, not believed) → [`Facts`] by digest (which keys signed
//! it) → [`Verdict`] of a [`Policy`]. No network, no clock, no randomness; the same input in any order gives the same
//! answer. Facts may be cached and stored; verdicts are recomputed.
//!
//! Signatures are checked with `aws-lc-rs` directly and not through `sigstore-verify` 0.15: that one reads only
//! bundles, not cosign's classic signatures, wants a trust root and log entries, which signatures by a local key lack,
//! and brings 74 crates; it earns its place when keyless signatures come.

mod bounds;
mod bundle;
mod classic;
mod evidence;
mod facts;
mod json;
mod key;
pub mod notary;
mod policy;
mod verdict;

pub use bounds::{Bounds, BoundsExceeded};
pub use evidence::{Artifact, Evidence, kind};
pub use facts::{Facts, Format, Outcome, Signature};
pub use key::{InvalidKey, KeyId, PublicKey};
pub use policy::{Authority, InvalidPolicy, Policy, SignatureRequirement};
pub use verdict::{Finding, Verdict};
