//! The registry server: the OCI distribution API over HTTPS, on a store that is the only state.
//! `cli` reads what to do, `serve` puts the parts together, `server` takes connections, `http` answers, `engine` stores.

pub mod auth;
pub mod cli;
pub mod configuration;
pub mod engine;
pub mod events;
pub mod gate;
pub mod http;
pub mod jobs;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod outbound;
pub mod peer;
pub mod readiness;
pub mod redirects;
pub mod reload;
pub mod replicate;
pub mod serve;
pub mod server;
pub mod settings;
pub mod stall;
pub mod store;
pub mod tally;
pub mod tls;
pub mod traces;
