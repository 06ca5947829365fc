//! The event that a registry sends when its content changed: a `CloudEvents` 1.0 structured JSON body.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    name::{Reference, RepositoryName},
};

/// The `type` of a [`ContentChanged`] event.
pub const CONTENT_CHANGED: &str = "dev.berth.registry.content.changed";

/// The audience of the token that a registry sends along.
pub const EVENTS_AUDIENCE: &str = "berth-events";

/// Content of a Registry changed. Changes close together share one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentChanged {
    /// `1.0`.
    pub specversion: String,
    /// [`CONTENT_CHANGED`].
    #[serde(rename = "type")]
    pub event_type: String,
    /// `NAMESPACE/NAME` of the Registry.
    pub source: String,
    /// Unique within the source.
    pub id: String,
    /// When the last change was acknowledged.
    pub time: Timestamp,
    /// Which repositories; at most [`MAX_REPOSITORIES`], the rest is not told.
    pub data: Changes,
}

/// The most repositories that one event names.
pub const MAX_REPOSITORIES: usize = 100;

/// The most images that one event names.
pub const MAX_IMAGES: usize = 100;

/// What changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Repositories with a new, moved or deleted manifest.
    pub repositories: Vec<String>,
    /// Other repositories changed as well; which ones is not told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// Images that were pushed or signed, as `repository:tag` or `repository@digest`: they may soon be asked about. Not
    /// complete, and for convenience only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// The store began to refuse writes, or takes them again; which of the two, `/readyz` says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub store: bool,
}

/// The image that a push is about, as [`Changes::images`] names it: that of the tag, or of the digest that a signature
/// under its tag (`sha256-<hex>.sig`) is for.
pub fn image(repository: &RepositoryName, reference: &Reference) -> String {
    match reference {
        Reference::Tag(tag) => match Digest::of_referrers_tag(tag.as_str()) {
            Some(subject) => format!("{repository}@{subject}"),
            None => format!("{repository}:{tag}"),
        },
        Reference::Digest(digest) => format!("{repository}@{digest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_about_its_image() {
        let (app, digest) = ("team/app".parse().unwrap(), Digest::sha256(b"x"));
        let tag = |text: &str| Reference::Tag(text.parse().unwrap());
        assert_eq!(image(&app, &tag("v1")), "team/app:v1");
        assert_eq!(image(&app, &tag("sha256-short.sig")), "team/app:sha256-short.sig");
        let expected = format!("team/app@{digest}");
        assert_eq!(image(&app, &Reference::Digest(digest.clone())), expected);
        for end in ["", ".sig", ".att"] {
            assert_eq!(image(&app, &tag(&format!("{}{end}", digest.referrers_tag()))), expected);
        }
    }
}
