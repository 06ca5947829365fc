//! Who writes what, as server-side apply sees it: one stable name a writer. Renaming one orphans its fields.

/// Children of Registries.
pub const REGISTRY: &str = "berth-registry";
/// Status of every kind.
pub const STATUS: &str = "berth-status";
/// Children of `ReplicationPolicies`.
pub const REPLICATION: &str = "berth-replication";
/// `status.sourceChangedAt` of `ReplicationPolicies` and `status.storeChangedAt` of Registries, written where an event
/// arrives.
pub const EVENTS: &str = "berth-events";
/// The webhook configuration.
pub const IMAGE_POLICY: &str = "berth-image-policy";
/// The cluster role, and its binding, that lets registries ask for `TokenReviews`.
pub const TOKEN_REVIEW: &str = "berth-token-review";
/// Secrets with what is known about images.
pub const KEPT: &str = "berth-kept";
/// Secrets with the certificate authority and the webhook's certificate.
pub const CERTIFICATES: &str = "berth-certificates";
/// `PolicyReports`.
pub const POLICY_REPORT: &str = "berth-policy-report";
