//! What an image must show: one member a requirement, so that each can be read aloud, and denied, by itself.

use kube::KubeSchema;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use crate::{
    image_policy::Authority,
    schema::{AGE, GLOB},
};

/// One requirement: exactly one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("[has(self.signature), has(self.attestation), has(self.digest)].exists_one(given, given)")
        .message("a requirement takes exactly one member: signature, attestation or digest")
)]
pub struct Requirement {
    /// Signatures over the image's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// Signed statements about the image: where it was built, what is in it, what a scanner found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation: Option<Attestation>,
    /// The object names the image by digest, so that nobody can put another one under its tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<NamedByDigest>,
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
    /// How old a signature may be, for example `90d`: by the time at which its keyless certificate was good, or that a
    /// notation signature states. Signatures by a key or a certificate of one's own say no time, and anybody can have an
    /// old one logged or timestamped again, so that none of them counts then. Any age if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10), regex(pattern = AGE))]
    pub max_age: Option<String>,
}

/// Signed statements of one type about the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!has(self.threshold) || self.threshold <= size(self.authorities)")
        .message("threshold is greater than the number of authorities, so no image could ever hold")
)]
pub struct Attestation {
    /// What kind of statement, for example `https://slsa.dev/provenance/v1`; compared with what was signed.
    #[schemars(length(min = 1, max = 512), regex(pattern = GLOB))]
    pub predicate_type: String,
    /// How many different authorities must have stated it; one if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub threshold: Option<i32>,
    /// Who may state it.
    #[schemars(
        length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub authorities: Vec<Authority>,
    /// What must be true of each such statement, in CEL over `predicate` and `predicateType`, for example
    /// `predicate.runDetails.builder.id == "https://ci.example.com"`; all must hold. One statement for which one does
    /// not hold speaks against the image, however many others there are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 2048)))]
    pub conditions: Vec<String>,
    /// How old a statement may be, for example `72h`: by the time at which its keyless certificate was good, else by the
    /// time that it states itself. One without any such time does not count then. Any age if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10), regex(pattern = AGE))]
    pub max_age: Option<String>,
}

/// Nothing more to say about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = without_additional_properties)]
pub struct NamedByDigest {}

/// Kubernetes takes no `additionalProperties: false`: it drops what a schema does not name.
fn without_additional_properties(schema: &mut Schema) {
    schema.remove("additionalProperties");
}
