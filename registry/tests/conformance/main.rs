//! Conformance to OCI distribution-spec 1.1, and to what Berth promises beyond it, as tables of cases
//! that run against any registry over HTTP.
//!
//! - `cargo test -p berth-registry --test conformance` starts our own server on each kind of store.
//! - `BERTH_TOOL_VERSITYGW=…` adds S3; `BERTH_TOOL_DISTRIBUTION=…` runs the cases on CNCF distribution,
//!   which tests the cases themselves.
//! - `BERTH_CONFORMANCE_URL=https://… [BERTH_CONFORMANCE_USER=… BERTH_CONFORMANCE_PASSWORD=…]` asks a
//!   registry that runs already (with `BERTH_CONFORMANCE_SCOPE=berth` also for our own promises).

#![allow(clippy::expect_used, clippy::panic, reason = "all of this crate is test code")]

#[path = "../support/mod.rs"]
mod support;

mod case;
mod conditional;
mod discovery;
mod errors;
mod immutable;
mod limits;
mod management;
mod manifests;
mod mount;
mod others;
mod ours;
mod pull;
mod push;
mod ranges;
mod referrers;
mod refusals;
mod sessions;
mod sha512;
mod sparse;
mod suite;
