//! Pure rules of the registry: names, digests, manifests, lifecycle, configuration.
//! Neither I/O nor a clock: time and randomness come in as arguments.

pub mod age;
pub mod config;
pub mod digest;
pub mod event;
pub mod job;
pub mod key;
pub mod lifecycle;
pub mod manifest;
pub mod name;
pub mod pack;
pub mod pattern;
pub mod policy;
pub mod protocol;
pub mod record;
pub mod reference;
pub mod scrub;
pub mod size;
pub mod usage;

/// The request header of a client that takes no redirect to another host; its value does not matter.
pub const NO_REDIRECT: &str = "berth-no-redirect";

pub use age::Age;
pub use digest::{Algorithm, Digest};
pub use manifest::{Descriptor, Manifest};
pub use name::{Reference, RepositoryName, Tag};
pub use pattern::Pattern;
pub use reference::ImageReference;
pub use size::Size;
