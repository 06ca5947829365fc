//! A real one-node cluster, real clients, the demo and the acceptance tests.
//!
//! The flow: [`packages`] and [`tools`] provide the programs, [`image`] packs them into container
//! images, [`cluster`] boots a node that runs those images, and [`verify`] and [`demo`] use it;
//! [`fixtures`] is what the acceptance tests in `tests/` share. [`bench`] compares Berth with others.

pub mod bench;
pub mod chart;
pub mod cli;
pub mod cluster;
pub mod command;
pub mod demo;
mod digest;
pub mod fixtures;
pub mod fuzz;
pub mod image;
pub mod interrupt;
pub mod narrator;
pub mod packages;
pub mod release;
pub mod s3;
pub mod stage;
pub mod tools;
pub mod verify;
pub mod wait;
