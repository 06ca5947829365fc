//! Notary Project signatures (R-SIG-3): what notation wrote (`corpus/notary/make.sh` says how), what an attacker would
//! make of it, and envelopes forged here that break one rule each.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of this crate is test code")]

mod attributes;
mod certificates;
mod corpus;
mod forge;
mod identities;
mod timestamps;
