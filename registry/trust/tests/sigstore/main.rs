//! Signatures with certificates, log entries and timestamps. Shows R-TRUST on what public instances issued (`public`),
//! on what cosign made against services of our own (`cosign`; `../corpus/sigstore/README.md` says how), on certificates
//! by all kinds of authorities (`authorities`), and on logs and keys of every kind, made here (`logs`, `fulcio`, `stamps`, `renewed`).

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of this crate is test code")]

mod authorities;
mod cosign;
mod forge;
mod fulcio;
mod logs;
mod material;
mod public;
mod renewed;
mod stamps;
#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code, unused_imports, reason = "envelopes are not needed here")]
#[path = "../notary/forge/mod.rs"]
mod workshop;
