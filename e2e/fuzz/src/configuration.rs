//! The files that the server and the replication worker are started with. Input: YAML.

use std::fmt::Debug;

use berth_registry_core::config::{ReplicateConfig, ServerConfig};
use serde::{Serialize, de::DeserializeOwned};

pub(crate) fn run(input: &[u8]) {
    if let Some(config) = same::<ServerConfig>(input) {
        assert_eq!(config.needs_restart(&config), Vec::<String>::new());
    }
    same::<ReplicateConfig>(input);
}

/// What the server reads is what the operator writes.
fn same<T: DeserializeOwned + Serialize + PartialEq + Debug>(input: &[u8]) -> Option<T> {
    let read: T = serde_yaml::from_slice(input).ok()?;
    let written = serde_yaml::to_string(&read).unwrap();
    assert_eq!(serde_yaml::from_str::<T>(&written).unwrap(), read, "{written}");
    Some(read)
}
