//! The plugin as a process, against a registry as a process, with images that the real cosign signed (R-OPR-9). A test
//! runs where `BERTH_TOOL_COSIGN` names cosign (`cargo verify` sees to that), and says so where not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of this crate is test code")]

mod cluster;
mod decisions;
mod policies;
mod registry;
mod running;
mod statements;
mod user;
