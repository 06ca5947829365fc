//! Names of what is remembered: a hash over all that tells two things apart, so that a hundred thousand of them are
//! small, and what one tenant's credentials showed is not found with another's.

use base64::{Engine, prelude::BASE64_STANDARD};
use berth_registry_core::{Digest, ImageReference, RepositoryName, Tag};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::changes::Places;

/// SHA-256 over scope, host, repository, and tag or digest; base64 in what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Key([u8; 32]);

/// A repository, as seen by somebody.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Whose credentials it is read with; empty for the operator's own.
    pub scope: &'a str,
    /// `host[:port]`, normalised.
    pub host: &'a str,
    /// Repository.
    pub repository: &'a RepositoryName,
}

impl<'a> Place<'a> {
    /// Where an image is.
    pub fn of(scope: &'a str, image: &'a ImageReference) -> Self {
        Self { scope, host: &image.host, repository: &image.repository }
    }

    /// Names what is known about a digest.
    pub fn digest(&self, digest: &Digest) -> Key {
        self.key("@", digest.as_str())
    }

    /// Names where a tag points.
    pub fn tag(&self, tag: &Tag) -> Key {
        self.key(":", tag.as_str())
    }

    /// Where changes of the repository show.
    pub(super) fn changes(&self) -> Places {
        Places::of(self.host, self.repository.as_str())
    }

    fn key(&self, kind: &str, name: &str) -> Key {
        let mut hash = Sha256::new();
        // None of these can hold a zero byte.
        for part in [self.scope, "\0", self.host, "\0", self.repository.as_str(), kind, name] {
            hash.update(part.as_bytes());
        }
        Key(hash.finalize().into())
    }
}

impl Key {
    /// Some number that differs from key to key.
    pub(super) fn spread(self) -> u8 {
        self.0[0]
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        BASE64_STANDARD.encode(key.0)
    }
}

impl TryFrom<String> for Key {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = BASE64_STANDARD.decode(text).map_err(|_| "a key is base64")?;
        bytes.try_into().map(Self).map_err(|_| "a key has 32 bytes")
    }
}
