//! Who may sign, and by what they are recognised.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    schema::{LABEL, SUBDOMAIN},
    shared::SecretReference,
};

/// Someone who may sign: exactly one of key, keyless, certificate and notation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new(
        "[has(self.key), has(self.keyless), has(self.certificate), has(self.notation)].exists_one(given, given)"
    )
    .message("an authority takes exactly one of key, keyless, certificate and notation")
)]
pub struct Authority {
    /// For people and messages; unique within the requirement.
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub name: String,
    /// From then on only what was provably signed before counts, by a log or a timestamp authority: the end of a key that
    /// was rotated, or the moment at which it was stolen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Time>,
    /// By a public key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// By the identity to which a sigstore instance issued a certificate for the moment of signing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyless: Option<Keyless>,
    /// By the subject of a certificate of a certificate authority of one's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// By the Notary Project's signatures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notation: Option<Notation>,
}

/// A public key: exactly one of pem and secretName.
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
    /// A Secret of the policy's namespace with the key `trusted_root.json`. If given, what the key signed counts only if
    /// a log or a timestamp authority of that root saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_root: Option<SecretReference>,
}

/// An identity of a sigstore instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.issuer) != has(self.issuerRegex)")
        .message("keyless takes exactly one of issuer and issuerRegex"),
    validation = Rule::new("has(self.subject) != has(self.subjectRegex)")
        .message("keyless takes exactly one of subject and subjectRegex")
)]
pub struct Keyless {
    /// Who vouched for the identity, for example `https://token.actions.githubusercontent.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub issuer: Option<String>,
    /// The same as a regular expression that must match the whole text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub issuer_regex: Option<String>,
    /// The identity: a mail address or a URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub subject: Option<String>,
    /// The same as a regular expression that must match the whole text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub subject_regex: Option<String>,
    /// A Secret of the policy's namespace with the key `trusted_root.json`, as `cosign trusted-root create` writes it.
    pub trust_root: SecretReference,
}

/// A certificate of an authority of one's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.subject) != has(self.subjectRegex)")
        .message("certificate takes exactly one of subject and subjectRegex")
)]
pub struct Certificate {
    /// Certificates of the authorities; from a Secret, its key `ca.crt`.
    pub authorities: Certificates,
    /// The subject's alternative name: a mail address, a URI or a DNS name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub subject: Option<String>,
    /// The same as a regular expression that must match the whole text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub subject_regex: Option<String>,
    /// A Secret of the policy's namespace with the key `trusted_root.json`. If given, a signature counts only if a log or
    /// a timestamp authority of that root saw it, and then for longer than its certificate lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_root: Option<SecretReference>,
}

/// Signatures of the Notary Project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Notation {
    /// Certificates of the authorities; from a Secret, its key `ca.crt`.
    pub trust_store: Certificates,
    /// Who may sign, as notation's trust policies write it: `x509.subject: C=US, ST=WA, O=acme`, of which all parts must
    /// be equal, or `*` alone for everybody in the trust store.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 1024)))]
    pub identities: Vec<String>,
    /// Certificates of timestamp authorities; from a Secret, its key `tsa.crt`. Without them a signature counts only while
    /// its certificates are valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_authorities: Option<Certificates>,
}

/// Certificates in PEM: exactly one of pem and secretName.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.pem) != has(self.secretName)")
        .message("certificates take exactly one of pem and secretName")
)]
pub struct Certificates {
    /// The certificates themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768), regex(pattern = r"^\s*-----BEGIN CERTIFICATE-----\s"))]
    pub pem: Option<String>,
    /// A Secret of the policy's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub secret_name: Option<String>,
}
