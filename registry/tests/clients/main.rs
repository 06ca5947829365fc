//! The clients that people have, unchanged, against the server as it is deployed: TLS by a private authority, users
//! from a file, content in a directory. Each logs in, pushes, and pulls what it pushed (R-OCI-7).
//! A test runs where `BERTH_TOOL_<CLIENT>` names its client (`cargo verify` sees to that), and says so where not.

#![allow(clippy::expect_used, clippy::panic, reason = "all of this crate is test code")]

#[path = "../support/mod.rs"]
mod support;

mod artifacts;
mod images;
mod layout;
mod user;

use support::http::Failure;

/// What a test returns: a failed expectation is printed as it reads, not as a panic's debug text.
type Test = Result<(), Failure>;
