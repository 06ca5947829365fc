//! The ImagePolicy: which images may run. In the operator's namespace it binds the cluster, elsewhere its own namespace.
//! A field that this version does not know makes the object unreadable, and what it governs is refused: a policy that
//! is half understood could let in what it was written against.

mod authority;
mod exception;
mod requirement;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    schema::{GLOB, NAME_MESSAGE, NAME_RULE, conditions},
    shared::Selector,
};

pub use authority::{Authority, Certificate, Certificates, Key, Keyless, Notation};
pub use exception::Exception;
pub use requirement::{Attestation, NamedByDigest, Requirement, Signature};

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
    printcolumn(name = "Denied", type_ = "integer", json_path = ".status.images.denied"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    ),
    validation = Rule::new(NAME_RULE).message(NAME_MESSAGE)
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.require) || (has(self.unmatched) && self.unmatched == 'Deny')")
        .message("require is missing: only a policy with unmatched: Deny may ask for nothing")
)]
pub struct ImagePolicySpec {
    /// What happens to an image that does not hold.
    pub mode: Mode,
    /// Which namespaces are bound; all if not given. Only for a policy in the operator's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Selector>,
    /// Which objects are bound, by their own labels (a Deployment's, not those of its Pods); all if not given. Whoever
    /// may create an object chooses its labels, so this sorts the work of people who mean well and holds nobody back;
    /// a label that is added or removed later is no new image and is not judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<Selector>,
    /// Globs over `host/repository` of the images that the policy speaks about.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 512), regex(pattern = GLOB)))]
    pub images: Vec<String>,
    /// What becomes of the images of bound objects that match none of `images`: `Allow` (another policy may speak about
    /// them) if not given. With `Deny`, `images` is a list of all that may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmatched: Option<Unmatched>,
    /// What an image that matches must show; all entries must hold. May be left out with `unmatched: Deny`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16))]
    pub require: Vec<Requirement>,
    /// What it means that evidence could not be fetched, because a registry is down or does not answer in time; `Deny`
    /// if not given. With `Warn`, whoever can silence a registry decides what runs from it. What cannot be checked for
    /// a reason that does not pass, such as too many signatures, is always refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncheckable: Option<Uncheckable>,
    /// Images that this policy lets pass all the same. Other policies are not touched by it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64))]
    pub exceptions: Vec<Exception>,
}

/// What happens to an image that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// It is refused.
    Enforce,
    /// It runs, and who applied it is warned.
    Warn,
    /// It runs, and who applied it is told nothing: it is recorded and counted.
    Audit,
}

/// What becomes of images that a policy does not list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Unmatched {
    /// The policy does not speak about them.
    Allow,
    /// They do not hold.
    Deny,
}

/// What it means that nobody can say whether an image holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Uncheckable {
    /// The same as that it does not hold.
    Deny,
    /// It runs, and who applied it is warned.
    Warn,
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
    /// Images that run where the policy binds, by what it says about them now; each image and digest counts once in a
    /// namespace. Nothing that runs is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<RunningImages>,
    /// The next days on which workloads that are admitted now stop being admissible, though nothing changes but the date: an
    /// exception, an authority, a certificate or the age of a signature ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub forecast: Vec<Forecast>,
}

/// Images that run, by what a policy says about them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunningImages {
    /// They hold, or are excepted.
    pub admitted: i64,
    /// They do not hold: made anew, their Pods would be refused, warned of or recorded, as the mode says.
    pub denied: i64,
    /// Nobody can say: a registry did not answer, or the policy is not in order.
    pub uncheckable: i64,
    /// How many of all these are run by static Pods, which a kubelet has on its own disk and no policy can refuse; absent if
    /// none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub static_pods: Option<i64>,
}

/// A day on which workloads stop being admissible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Forecast {
    /// When the first of them does.
    pub at: Time,
    /// How many do on that day (UTC).
    pub workloads: i64,
    /// Which, and why the first of them does.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// What a policy binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Scope {
    /// The namespaces that it selects, in the whole cluster.
    Cluster,
    /// Its own namespace.
    Namespace,
}
