//! Who may sign, and by what they are recognised.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::{LABEL, SUBDOMAIN};

/// Someone who may sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Authority {
    /// For people and messages; unique within the requirement.
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub name: String,
    /// From then on only what was provably signed before counts, by a log or a timestamp authority: the end of a key that
    /// was rotated, or the moment at which it was stolen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Time>,
    /// The public key.
    pub key: Key,
}

/// A public key: exactly one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.pem) != has(self.secretName)")
        .message("a key takes exactly one of pem and secretName")
)]
pub struct Key {
    /// The key itself, as `cosign public-key` prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192), regex(pattern = r"^\s*-----BEGIN PUBLIC KEY-----\s"))]
    pub pem: Option<String>,
    /// A Secret of the policy's namespace with the key `cosign.pub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub secret_name: Option<String>,
}
