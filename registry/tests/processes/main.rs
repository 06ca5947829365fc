//! The server as a process: what an operator and a kubelet rely on. Each test starts its own processes
//! on free ports and leaves nothing behind. Tests that need S3 run where `BERTH_TOOL_VERSITYGW` names a
//! versitygw binary, and say so where it does not.

#![allow(clippy::expect_used, clippy::panic, reason = "all of this crate is test code")]

#[path = "../support/mod.rs"]
mod support;

mod certificates;
mod collection;
mod configuration;
mod crash;
mod drain;
mod gate;
mod health;
mod kills;
mod login;
mod memory;
mod races;
mod raw;
mod redirects;
mod reload;
mod rendered;
mod replicas;
mod slow;
mod traces;

use support::http::Failure;

/// What a test returns: a failed expectation is printed as it reads, not as a panic's debug text.
type Test = Result<(), Failure>;
