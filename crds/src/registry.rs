//! The Registry: one OCI registry, served over TLS in its own namespace.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    schema::{AGE, CIDR, CRON, GLOB, NAME_MESSAGE, NAME_RULE, annotations, conditions, labels, quantities},
    shared::SecretReference,
};

mod storage;

pub use storage::{Azure, Gcs, Memory, S3, Storage, Volume};

/// What a Registry shall be.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "berth.dev",
    version = "v1alpha1",
    kind = "Registry",
    plural = "registries",
    shortname = "reg",
    category = "berth",
    namespaced,
    annotation("berth.dev/schema", "1"),
    status = "RegistryStatus",
    derive = "PartialEq",
    doc = "An OCI registry, served over TLS at NAME.NAMESPACE.svc.cluster.local.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".status.endpoint"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.readyReplicas", priority = 1),
    printcolumn(name = "Certificate Until", type_ = "string", json_path = ".status.certificate.notAfter", priority = 1),
    printcolumn(name = "Bytes", type_ = "integer", json_path = ".status.storage.bytes", priority = 1),
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
        "!has(self.replicas) || self.replicas <= 1 || \
         has(self.storage.s3) || has(self.storage.gcs) || has(self.storage.azure)"
    )
    .message("more than one replica needs storage.s3, gcs or azure: a volume or memory cannot be shared by replicas"),
    validation = Rule::new(
        "!has(self.redirects) || has(self.storage.s3) || has(self.storage.gcs) || has(self.storage.azure)"
    )
    .message("redirects needs storage.s3, gcs or azure: only a bucket can be read by clients")
)]
pub struct RegistrySpec {
    /// How many servers; one if not given. More than one needs a bucket: `storage.s3`, `gcs` or `azure`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 32))]
    pub replicas: Option<i32>,
    /// Where the content is kept: exactly one of s3, gcs, azure, volume and memory, which cannot be exchanged later.
    pub storage: Storage,
    /// Who may call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// Which images are removed, and what becomes of the space of what was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
    /// Sends clients to the bucket for the bytes of blobs, by pre-signed URLs; without it they come through the servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirects: Option<Redirects>,
    /// Tells requests as traces to an OpenTelemetry collector; none are told if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traces: Option<Traces>,
    /// How the servers are placed, and who they are to the cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodOptions>,
    /// While true, nothing of this Registry is changed or repaired, and its jobs do not run. The servers go on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

/// Who may call, and what is refused to whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.pullOnlyUsers) || has(self.users)")
        .message("pullOnlyUsers names some of the users in the Secret users: write that, too")
)]
pub struct Access {
    /// What callers without credentials may do; nothing if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<Anonymous>,
    /// Secret with the key `htpasswd`: users with bcrypt hashes, who may pull, push and delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<SecretReference>,
    /// Those of the users who may only pull, such as the one that nodes log in as.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 255)))]
    pub pull_only_users: Vec<String>,
    /// Whether images that ImagePolicies forbid are refused to callers who may only pull. These are the policies in mode
    /// `Enforce` that bind the Pods of this namespace: its own, and those of the operator's namespace that select it; one
    /// with `objects` is left out, since a registry does not know what an image is pulled for. Policies name the images
    /// of this Registry by its endpoint, `NAME.NAMESPACE.svc.cluster.local/**`. Who may push is refused nothing, or
    /// nobody could sign. Not if not given.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub enforce_image_policies: bool,
    /// Globs over tags that cannot be moved to another image once they exist, for example `v*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 128), regex(pattern = GLOB)))]
    pub immutable_tags: Vec<String>,
}

/// What callers without credentials may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Anonymous {
    /// Nothing.
    None,
    /// Pull.
    Pull,
}

/// Which clients are sent to the bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Redirects {
    /// Networks of clients that reach the bucket, as CIDR, for example `10.0.0.0/8`; all clients if not given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 64), regex(pattern = CIDR)))]
    pub networks: Vec<String>,
}

/// Where requests are told as traces, and how many of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Traces {
    /// URL of a collector that takes OTLP over HTTP, for example `http://collector.observability.svc:4318`.
    #[schemars(length(max = 512), regex(pattern = r"^https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._/-]*)?$"))]
    pub endpoint: String,
    /// Of a million requests whose clients do not say whether to trace them, so many are traced; all if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub sampling_rate_per_million: Option<i32>,
    /// Secret with the key `headers`: what the collector is to be sent along, such as a token, a line `name: value` each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<SecretReference>,
    /// Secret with the key `ca.crt`: certificates to trust the collector by; the public ones if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretReference>,
}

/// Which images are removed, and what becomes of the space of what was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.schedule) == has(self.rules)")
        .message("schedule and rules go together: the rules are applied at these times")
)]
pub struct Lifecycle {
    /// When the rules are applied, in cron's five fields, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 100), regex(pattern = CRON))]
    pub schedule: Option<String>,
    /// Only say what the rules would remove.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// What to remove. An image is judged once, by the first rule that selects it, the lowest priority number first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = 50),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["priority"])
    )]
    pub rules: Vec<LifecycleRule>,
    /// For how long what was removed can be brought back, for example `14d`; seven days if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10), regex(pattern = AGE))]
    pub undelete_window: Option<String>,
    /// When the space of what was removed is given back, in cron's five fields, UTC; once a night if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 100), regex(pattern = CRON))]
    pub collection_schedule: Option<String>,
    /// When all content is read and compared with its digests, in cron's five fields, UTC; once a week if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 100), regex(pattern = CRON))]
    pub scrub_schedule: Option<String>,
}

/// One lifecycle rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.keepLast) != has(self.olderThan)")
        .message("a rule takes exactly one of keepLast and olderThan"),
    validation = Rule::new("has(self.tagPatterns) || has(self.tagStatus)")
        .message("a rule says which images it means: by tagPatterns, or by tagStatus"),
    validation = Rule::new("!has(self.tagPatterns) || !has(self.tagStatus) || self.tagStatus == 'Tagged'")
        .message("tagPatterns goes only with tagStatus Tagged: an untagged image has nothing to match")
)]
pub struct LifecycleRule {
    /// The lowest number comes first; unique within the Registry.
    #[schemars(range(min = 1, max = 9999))]
    pub priority: i32,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub description: Option<String>,
    /// Globs over repositories; all if not given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 512), regex(pattern = GLOB)))]
    pub repositories: Vec<String>,
    /// Globs over tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 128), regex(pattern = GLOB)))]
    pub tag_patterns: Vec<String>,
    /// Which images the rule means; `Tagged` if tagPatterns are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag_status: Option<TagStatus>,
    /// Keep so many of the newest, remove the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub keep_last: Option<i32>,
    /// Remove what was pushed longer ago, for example `14d` or `36h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10), regex(pattern = AGE))]
    pub older_than: Option<String>,
}

/// Which images a rule means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TagStatus {
    /// Those with at least one tag.
    Tagged,
    /// Those without a tag.
    Untagged,
    /// All.
    Any,
}

/// How the servers are placed, and who they are to the cloud.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "!has(self.labels) || self.labels.all(key, !key.startsWith('app.kubernetes.io/') && !key.startsWith('berth.dev/'))"
    )
    .message("labels that begin with app.kubernetes.io/ or berth.dev/ are Berth's own: choose others")
)]
pub struct PodOptions {
    /// Labels of the servers' pods, beside Berth's own; for example `azure.workload.identity/use: "true"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the servers' ServiceAccount, by which clouds give it an identity; for example
    /// `iam.gke.io/gcp-service-account`, `azure.workload.identity/client-id` or `eks.amazonaws.com/role-arn`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "annotations")]
    pub service_account_annotations: BTreeMap<String, String>,
    /// Resources of the server's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Labels that a node must carry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that are tolerated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<Toleration>,
}

/// Requests and limits, as quantities by resource name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Resources {
    /// What is reserved.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub requests: BTreeMap<String, String>,
    /// What is the most.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub limits: BTreeMap<String, String>,
}

/// A taint that is tolerated, as in a Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    /// Key of the taint; all if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 317))]
    pub key: Option<String>,
    /// `Equal` or `Exists`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = "^(Equal|Exists)$"))]
    pub operator: Option<String>,
    /// Value of the taint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`; all if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = "^(NoSchedule|PreferNoSchedule|NoExecute)$"))]
    pub effect: Option<String>,
    /// How long a NoExecute taint is tolerated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub toleration_seconds: Option<i64>,
}

/// What a Registry is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryStatus {
    /// Generation of the spec that this status speaks about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// URL that clients in the cluster use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub endpoint: Option<String>,
    /// `Ready`; `Reconciling` and `Stalled` only while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// Servers that exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Servers that are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Selects the servers' pods, for autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub selector: Option<String>,
    /// The served certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateStatus>,
    /// SHA-256 of the configuration that all servers run, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub configuration: Option<String>,
    /// The last run of the lifecycle rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<LifecycleStatus>,
    /// What the content takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageStatus>,
    /// When a server last told that its store began to refuse writes, or takes them again. Which of the two, `Ready` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_changed_at: Option<Time>,
}

/// What the content takes, as the last collection found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageStatus {
    /// Bytes in the store: content, what was removed and can still be brought back, uploads under way, records.
    #[schemars(range(min = 0))]
    pub bytes: i64,
    /// Repositories with content.
    #[schemars(range(min = 0))]
    pub repositories: i64,
    /// When that was measured; a later look that found the same is not written down.
    pub as_of: Time,
}

/// The served certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// When it expires. It is replaced after two thirds of its life.
    pub not_after: Time,
}

/// The last finished run of the lifecycle rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LifecycleStatus {
    /// When it ended.
    pub last_run: Time,
    /// Images that were removed or, in a dry run, would have been.
    #[schemars(range(min = 0))]
    pub removed: i64,
    /// Whether nothing was really removed.
    pub dry_run: bool,
}
