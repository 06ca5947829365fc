//! Images that a policy lets pass all the same: somebody answers for them, and the answer ends on a day.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::GLOB;

/// Somebody answers for some images, until a day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Exception {
    /// Globs over `host/repository`, each for all digests or, with `@sha256:…` behind it, for one.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 640), regex(pattern = GLOB)))]
    pub images: Vec<String>,
    /// Why, for people and in messages.
    #[schemars(length(min = 1, max = 512))]
    pub reason: String,
    /// Who answers for it.
    #[schemars(length(min = 1, max = 253))]
    pub owner: String,
    /// From then on the exception is none any more.
    pub expires: Time,
}
