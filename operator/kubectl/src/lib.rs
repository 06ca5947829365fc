//! `kubectl berth`: what image policies say and why, told by the same code that the admission webhook runs.
//!
//! `cli` reads the command line; each command makes a report (`policy_test`, `forecast`, `verify`, `images`, `why`), which
//! `output` prints for people, as JSON or as YAML. `documents` reads what `-f` names, `cluster` what the API server has,
//! `registries` finds the registry of an image and who we are there (`docker_config`, `credential_helper`), `judge` asks it and applies policies, `running` does so
//! for all Pods.

mod cli;
mod cluster;
mod completion;
mod credential_helper;
mod docker_config;
mod documents;
mod forecast;
mod images;
mod judge;
mod output;
mod policy_test;
mod registries;
mod running;
mod table;
mod verify;
mod why;

pub use cli::run;
