//! The registry server.

pub mod engine;
pub mod store;
