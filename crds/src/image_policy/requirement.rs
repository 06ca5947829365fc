//! What an image must show: one member a requirement, so that each can be read aloud, and denied, by itself.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::image_policy::Authority;

/// One requirement: exactly one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.signature)").message("a requirement takes exactly one member: signature"))]
pub struct Requirement {
    /// Signatures over the image's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
}

/// Signatures over the image's digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!has(self.threshold) || self.threshold <= size(self.authorities)")
        .message("threshold is greater than the number of authorities, so no image could ever hold")
)]
pub struct Signature {
    /// How many different authorities must have signed; one if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub threshold: Option<i32>,
    /// Who may sign.
    #[schemars(
        length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub authorities: Vec<Authority>,
}
