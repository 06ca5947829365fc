//! The ReplicationPolicy: images that are kept in two registries.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    schema::{AGE, GLOB, LABEL, NAME_MESSAGE, NAME_RULE, conditions},
    shared::SecretReference,
};

/// What shall be replicated, from where to where, and when.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "berth.dev",
    version = "v1alpha1",
    kind = "ReplicationPolicy",
    plural = "replicationpolicies",
    shortname = "replpol",
    category = "berth",
    namespaced,
    annotation("berth.dev/schema", "1"),
    status = "ReplicationPolicyStatus",
    derive = "PartialEq",
    doc = "Copies images from one registry to another whenever they differ.",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Last Sync", type_ = "date", json_path = ".status.lastSync.finished"),
    printcolumn(name = "Copied", type_ = "integer", json_path = ".status.lastSync.copied"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Behind Since", type_ = "date", json_path = ".status.behindSince", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    ),
    validation = Rule::new(NAME_RULE).message(NAME_MESSAGE)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "!has(self.source.registry) || !has(self.destination.registry) || \
         self.source.registry != self.destination.registry || has(self.rewrite)"
    )
    .message("source and destination are the same Registry: give rewrite.prefix, or another destination"),
    validation = Rule::new(
        "!has(self.source.url) || !has(self.destination.url) || self.source.url != self.destination.url || has(self.rewrite)"
    )
    .message("source and destination are the same URL: give rewrite.prefix, or another destination"),
    validation = Rule::new(
        "!has(self.trigger) || !has(self.trigger.onPush) || !self.trigger.onPush || has(self.source.registry)"
    )
    .message("trigger.onPush needs source.registry: only a Registry of this cluster tells of its pushes")
)]
pub struct ReplicationPolicySpec {
    /// Where images are read.
    pub source: Location,
    /// Where they are written.
    pub destination: Location,
    /// Which images: those that any entry selects; all if not given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 32))]
    pub select: Vec<Selection>,
    /// How repositories are named at the destination; as at the source if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<Rewrite>,
    /// When both sides are compared, beside each change of this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,
    /// While true, no new comparison begins.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

/// A registry: a Registry of the same namespace, or any other by URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("has(self.registry) != has(self.url)")
        .message("a location takes exactly one of registry and url"),
    validation = Rule::new("has(self.url) || (!has(self.credentials) && !has(self.ca))")
        .message("credentials and ca belong to url: a Registry of this namespace needs neither")
)]
pub struct Location {
    /// Name of a Registry in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40), regex(pattern = LABEL))]
    pub registry: Option<String>,
    /// `https://host[:port]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = r"^https?://[A-Za-z0-9.:\[\]-]+/?$"))]
    pub url: Option<String>,
    /// Secret of type `kubernetes.io/basic-auth`: keys `username` and `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SecretReference>,
    /// Secret with the key `ca.crt`: certificates to trust the URL by, beside the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretReference>,
}

/// Which images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Selection {
    /// Globs over repositories of the source; all if not given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 512), regex(pattern = GLOB)))]
    pub repositories: Vec<String>,
    /// Globs over tags; all if not given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 128), regex(pattern = GLOB)))]
    pub tags: Vec<String>,
}

/// How repositories are named at the destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rewrite {
    /// Put before each repository's name, for example `mirror/`.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[a-z0-9][a-z0-9._/-]*/$"))]
    pub prefix: String,
}

/// When both sides are compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trigger {
    /// Soon after a push to the source, which must be a Registry.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_push: bool,
    /// Again so long after the last comparison ended; `15m` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10), regex(pattern = AGE))]
    pub interval: Option<String>,
}

/// How far the replication is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationPolicyStatus {
    /// Generation of the spec that this status speaks about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`; `Reconciling` and `Stalled` only while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// The last comparison that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sync: Option<LastSync>,
    /// When the source last told of a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_changed_at: Option<Time>,
    /// Since when the destination is known to lack something; absent while both sides agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind_since: Option<Time>,
    /// When the next comparison is due at the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_sync: Option<Time>,
}

/// One comparison of both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LastSync {
    /// When it began.
    pub started: Time,
    /// When it ended.
    pub finished: Time,
    /// Tags that were brought to the destination.
    #[schemars(range(min = 0))]
    pub copied: i64,
    /// Tags that were there already.
    #[schemars(range(min = 0))]
    pub unchanged: i64,
    /// Tags that could not be brought.
    #[schemars(range(min = 0))]
    pub failed: i64,
    /// Bytes that were sent.
    #[schemars(range(min = 0))]
    pub bytes: i64,
}
