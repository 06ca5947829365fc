//! `kubectl berth`: what image policies say and why, told by the same code that the admission webhook runs.
//!
//! `cli` reads the command line; each command makes a report (`policy_test`, `verify`), which `output` prints as a table,
//! JSON or YAML. `documents` reads what `-f` names, `registries` finds the registry of an image and who we are there,
//! `judge` asks it and applies policies.

mod cli;
mod docker_config;
mod documents;
mod judge;
mod output;
mod policy_test;
mod registries;
mod table;
mod verify;

pub use cli::run;
