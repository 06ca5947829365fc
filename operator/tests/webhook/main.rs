//! The webhook as the API server and registries meet it: over TLS, in this process, with a registry that can misbehave; and
//! the controller that judges with the same knowledge what runs. Needs neither root nor network beyond loopback (R-OPR-6,
//! R-OPR-7, R-SIG-1, R-OPS-3).

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of this crate is test code")]

mod cluster;
mod decisions;
mod events;
mod foreign;
mod kept;
mod load;
mod memory;
mod own;
mod registry;
mod reviews;
mod running;
mod serving;
mod warm;
mod world;

use world::{World, client, issue, review_of, trusting};
