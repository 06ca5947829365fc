//! The event that a registry sends when its content changed: a `CloudEvents` 1.0 structured JSON body.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The `type` of a [`ContentChanged`] event.
pub const CONTENT_CHANGED: &str = "dev.berth.registry.content.changed";

/// The audience of the token that a registry sends along.
pub const EVENTS_AUDIENCE: &str = "berth-events";

/// Content of a Registry changed. Changes close together share one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentChanged {
    /// `1.0`.
    pub specversion: String,
    /// [`CONTENT_CHANGED`].
    #[serde(rename = "type")]
    pub event_type: String,
    /// `NAMESPACE/NAME` of the Registry.
    pub source: String,
    /// Unique within the source.
    pub id: String,
    /// When the last change was acknowledged.
    pub time: Timestamp,
    /// Which repositories; at most [`MAX_REPOSITORIES`], the rest is not told.
    pub data: Changes,
}

/// The most repositories that one event names.
pub const MAX_REPOSITORIES: usize = 100;

/// What changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Repositories with a new, moved or deleted manifest.
    pub repositories: Vec<String>,
}
