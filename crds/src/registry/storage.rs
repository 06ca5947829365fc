//! Where a Registry keeps its content: a bucket of one of three clouds, a volume, or memory.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    schema::{ENDPOINT, PREFIX, SUBDOMAIN},
    shared::SecretReference,
};

/// Where the content is kept: exactly one member. The member cannot be exchanged for another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("[has(self.s3), has(self.gcs), has(self.azure), has(self.volume), has(self.memory)].exists_one(given, given)")
        .message("storage takes exactly one of s3, gcs, azure, volume and memory"),
    validation = Rule::new(
        "has(self.s3) == has(oldSelf.s3) && has(self.gcs) == has(oldSelf.gcs) && has(self.azure) == has(oldSelf.azure) && \
         has(self.volume) == has(oldSelf.volume) && has(self.memory) == has(oldSelf.memory)"
    )
    .message("the kind of storage cannot be changed: create another Registry and replicate into it")
)]
pub struct Storage {
    /// A bucket of an S3-compatible object store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3>,
    /// A bucket of Google Cloud Storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gcs: Option<Gcs>,
    /// A container of Azure Blob Storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure: Option<Azure>,
    /// A PersistentVolumeClaim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Volume>,
    /// The server's memory: gone when the pod is. For trying things out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
}

/// A bucket of an S3-compatible object store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3 {
    /// The bucket's name. It must exist.
    #[schemars(length(min = 3, max = 63), regex(pattern = r"^[a-z0-9][a-z0-9.-]*[a-z0-9]$"))]
    pub bucket: String,
    /// Put before every key, so that several registries can share a bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), regex(pattern = PREFIX))]
    pub prefix: Option<String>,
    /// The region that requests are signed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9-]+$"))]
    pub region: Option<String>,
    /// URL of the service; AWS if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = ENDPOINT))]
    pub endpoint: Option<String>,
    /// Secret with the keys `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`; without it the pod's own identity is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SecretReference>,
    /// Secret with the key `ca.crt`: certificates to trust the endpoint by, beside the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretReference>,
}

/// A bucket of Google Cloud Storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gcs {
    /// The bucket's name. It must exist.
    #[schemars(length(min = 3, max = 222), regex(pattern = "^[a-z0-9][a-z0-9._-]*[a-z0-9]$"))]
    pub bucket: String,
    /// Put before every key, so that several registries can share a bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), regex(pattern = PREFIX))]
    pub prefix: Option<String>,
    /// URL of the service; `https://storage.googleapis.com` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = ENDPOINT))]
    pub endpoint: Option<String>,
    /// Secret with the key `credentials.json`: a key of a service account, as Google writes it; without it the pod's own
    /// identity is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SecretReference>,
    /// Secret with the key `ca.crt`: certificates to trust the endpoint by, beside the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretReference>,
}

/// A container of Azure Blob Storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Azure {
    /// The storage account.
    #[schemars(length(min = 3, max = 24), regex(pattern = "^[a-z0-9]+$"))]
    pub account: String,
    /// The container's name. It must exist.
    #[schemars(length(min = 3, max = 63), regex(pattern = "^[a-z0-9](-?[a-z0-9])*$"))]
    pub container: String,
    /// Put before every name, so that several registries can share a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), regex(pattern = PREFIX))]
    pub prefix: Option<String>,
    /// URL of the account's blob service; `https://ACCOUNT.blob.core.windows.net` if not given. Where the account does not
    /// stand in the name of the host it follows as the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = r"^https?://[A-Za-z0-9.:\[\]-]+(/[a-z0-9]+)?/?$"))]
    pub endpoint: Option<String>,
    /// Secret with the key `AZURE_STORAGE_ACCOUNT_KEY`; without it the pod's own identity is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SecretReference>,
    /// Secret with the key `ca.crt`: certificates to trust the endpoint by, beside the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretReference>,
}

/// A PersistentVolumeClaim: one that is made (`size`), or one that exists (`claimName`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.size) != has(self.claimName)")
        .message("volume takes exactly one of size and claimName"),
    validation = Rule::new("!has(self.storageClassName) || has(self.size)")
        .message("storageClassName belongs to size: an existing claim has its class already"),
    validation = Rule::new(
        "has(self.claimName) == has(oldSelf.claimName) && (!has(self.claimName) || self.claimName == oldSelf.claimName) && \
         has(self.storageClassName) == has(oldSelf.storageClassName) && \
         (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)"
    )
    .message("the volume cannot be exchanged: create another Registry and replicate into it"),
    validation = Rule::new(
        "!has(self.size) || !has(oldSelf.size) || quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0"
    )
    .message("a volume can grow, not shrink")
)]
pub struct Volume {
    /// Size of the claim to make, for example `20Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24), regex(pattern = "^[1-9][0-9]*(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$"))]
    pub size: Option<String>,
    /// Class of the claim to make; the cluster's default if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub storage_class_name: Option<String>,
    /// An existing claim in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub claim_name: Option<String>,
}

/// Nothing to say about memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Memory {}
