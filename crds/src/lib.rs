//! The objects that users write: Registry, ReplicationPolicy, ImagePolicy (group `berth.dev`, version `v1alpha1`).
//! Each type is the schema that the API server enforces; `manifests/` holds the generated definitions.

// The schema derive makes public shadow types that nobody is to name; and what is documented here is read through
// `kubectl explain`, where kinds are plain words.
#![allow(unreachable_pub, clippy::doc_markdown)]

pub mod image_policy;
pub mod registry;
pub mod replication_policy;
mod schema;
mod shared;

pub use image_policy::{ImagePolicy, ImagePolicySpec, ImagePolicyStatus};
pub use k8s_openapi;
pub use kube::{CustomResourceExt, Resource, ResourceExt};
pub use registry::{Registry, RegistrySpec, RegistryStatus};
pub use replication_policy::{ReplicationPolicy, ReplicationPolicySpec, ReplicationPolicyStatus};
pub use shared::{Expression, Operator, SecretReference, Selector};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

/// The API group of every kind.
pub const GROUP: &str = "berth.dev";

/// The one version that is served.
pub const VERSION: &str = "v1alpha1";

/// Counts changes of the schema; every definition carries it as the annotation [`SCHEMA_ANNOTATION`], so that an
/// operator can tell that the installed definitions are older than itself.
pub const SCHEMA: &str = "1";

/// See [`SCHEMA`].
pub const SCHEMA_ANNOTATION: &str = "berth.dev/schema";

/// The longest name of an object, in bytes: room is left for the suffixes of the objects made from it.
pub const MAX_NAME: usize = 40;

/// Every definition, in a stable order.
pub fn definitions() -> [CustomResourceDefinition; 3] {
    [Registry::crd(), ReplicationPolicy::crd(), ImagePolicy::crd()]
}
