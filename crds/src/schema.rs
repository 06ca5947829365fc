//! Parts of schemas that the derive cannot say: bounds of conditions, and patterns that several fields share.

use schemars::{Schema, SchemaGenerator, json_schema};

/// Name of a Secret, ConfigMap or StorageClass (RFC 1123 subdomain).
pub(crate) const SUBDOMAIN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// Name of a Berth object (RFC 1035 label), because Services are named after it.
pub(crate) const LABEL: &str = "^[a-z]([-a-z0-9]*[a-z0-9])?$";

/// A glob, or a URI: anything but white space and control characters.
pub(crate) const GLOB: &str = r"^[!-~]+$";

/// A whole number of seconds, minutes, hours or days.
pub(crate) const AGE: &str = "^[0-9]{1,9}[smhd]$";

/// Cron's five fields.
pub(crate) const CRON: &str = r"^[0-9A-Za-z*/,?-]+( [0-9A-Za-z*/,?-]+){4}$";

/// A network, as it looks; what it means is checked by the operator.
pub(crate) const CIDR: &str = "^[0-9A-Fa-f.:]+/[0-9]{1,3}$";

/// What stands before every key in a bucket.
pub(crate) const PREFIX: &str = r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*/?$";

/// URL of a service, without a path.
pub(crate) const ENDPOINT: &str = r"^https?://[A-Za-z0-9.:\[\]-]+/?$";

/// Key of a label, with its optional prefix.
pub(crate) const LABEL_KEY: &str = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$";

/// Value of a label; may be empty.
pub(crate) const LABEL_VALUE: &str = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$";

/// `metadata.name` of every kind.
pub(crate) const NAME_RULE: &str = "size(self.metadata.name) <= 40 && \
     self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')";

/// What is said when [`NAME_RULE`] fails.
pub(crate) const NAME_MESSAGE: &str = "metadata.name must be a DNS label of at most 40 characters that begins with a letter, because other objects are named after it";

/// Labels or a node selector.
pub(crate) fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {"type": "string", "maxLength": 63, "pattern": LABEL_VALUE}
    })
}

/// Annotations.
pub(crate) fn annotations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {"type": "string", "maxLength": 1024}
    })
}

/// Quantities by resource name.
pub(crate) fn quantities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 8,
        "additionalProperties": {
            "type": "string",
            "minLength": 1,
            "maxLength": 32,
            "pattern": r"^[0-9]+(\.[0-9]+)?(m|Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$"
        }
    })
}

/// `metav1.Condition`, bounded, and merged by type.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {"type": "string", "maxLength": 64},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
                "lastTransitionTime": {"type": "string", "format": "date-time"},
                "reason": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[A-Za-z]([A-Za-z0-9]*)$"},
                "message": {"type": "string", "maxLength": 4096}
            }
        }
    })
}
