//! The storage protocol under every interleaving: the machines that the engine runs, driven by actors that stop
//! anywhere and lose answers, beside collectors without any patience. `holds.rs` has the scenarios that must hold,
//! `broken.rs` breaks one rule at a time and expects the counterexample, `alone.rs` runs one machine without rivals.
//! The argument in words: `registry/DESIGN.md`.
//!
//! `cargo test -p berth-registry-core --test model -- --nocapture` prints the explored states, `--ignored` goes deeper.

#![allow(clippy::panic, reason = "all of this crate is test code")]

mod actor;
mod alone;
mod broken;
mod deeper;
mod fault;
mod holds;
mod machine;
mod operate;
mod promise;
mod property;
mod scenario;
mod world;
