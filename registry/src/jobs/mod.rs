//! Jobs of the management API: `prune` runs in the server, `client` asks a server to run it.

pub mod client;
pub mod prune;
