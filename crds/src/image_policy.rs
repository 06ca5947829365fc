//! The ImagePolicy: which images may run. In the operator's namespace it binds the cluster, elsewhere its own namespace.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    schema::{GLOB, LABEL, NAME_MESSAGE, NAME_RULE, SUBDOMAIN, conditions},
    shared::NamespaceSelector,
};

/// Which images may run, and what they must show.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "berth.dev",
    version = "v1alpha1",
    kind = "ImagePolicy",
    plural = "imagepolicies",
    shortname = "imgpol",
    category = "berth",
    namespaced,
    annotation("berth.dev/schema", "1"),
    status = "ImagePolicyStatus",
    derive = "PartialEq",
    doc = "Says which images may run: in the operator's namespace for the whole cluster, elsewhere for its own namespace.",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Scope", type_ = "string", json_path = ".status.scope"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    ),
    validation = Rule::new(NAME_RULE).message(NAME_MESSAGE)
)]
#[serde(rename_all = "camelCase")]
pub struct ImagePolicySpec {
    /// What happens to an image that does not hold.
    pub mode: Mode,
    /// Which namespaces are bound; all if not given. Only for a policy in the operator's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<NamespaceSelector>,
    /// Globs over `host/repository` of the images that the policy speaks about.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 512), regex(pattern = GLOB)))]
    pub images: Vec<String>,
    /// What such an image must show; all entries must hold.
    #[schemars(length(min = 1, max = 16))]
    pub require: Vec<Requirement>,
}

/// What happens to an image that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// It is refused.
    Enforce,
    /// It runs, and who applied it is warned.
    Warn,
}

/// One requirement: exactly one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.signature)").message("a requirement takes exactly one member: signature"))]
pub struct Requirement {
    /// Signatures over the image's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
}

/// Signatures over the image's digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
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

/// Someone who may sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Authority {
    /// For people and messages; unique within the requirement.
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub name: String,
    /// The public key.
    pub key: Key,
}

/// A public key: exactly one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
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

/// What became of the policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImagePolicyStatus {
    /// Generation of the spec that this status speaks about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`; `Reconciling` and `Stalled` only while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// What the policy binds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
}

/// What a policy binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Scope {
    /// The namespaces that it selects, in the whole cluster.
    Cluster,
    /// Its own namespace.
    Namespace,
}
