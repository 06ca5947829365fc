//! Names of uploads. A name is signed with a secret that the replicas share through the store, so that beginning an
//! upload writes nothing and yet no client can make up a name. It also says how far the upload was when it was given out:
//! unsigned, as it concerns nobody but the client.

use aws_lc_rs::hmac;
use berth_registry_core::{Algorithm, RepositoryName, digest::hex};
use ulid::Ulid;

use super::{EngineError, UploadId};

/// What a valid name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Upload {
    pub generation: Ulid,
    pub algorithm: Algorithm,
    /// No byte had arrived when the name was given out. A hint: it spares a request, it decides nothing.
    pub fresh: bool,
}

/// The state of a name that no byte came under yet.
const NEW: &str = "n";

impl UploadId {
    /// The name of the same upload once it holds so many bytes.
    #[must_use]
    pub fn at(&self, offset: u64) -> Self {
        let offset = offset.to_string();
        let fields = self.0.split('.').enumerate();
        let fields: Vec<_> = fields.map(|(n, field)| if n == 2 { offset.as_str() } else { field }).collect();
        Self(fields.join("."))
    }

    /// How many bytes the upload held when this name was given out; those of earlier versions do not say.
    pub fn offset(&self) -> Option<u64> {
        match self.0.split('.').nth(2)? {
            NEW => Some(0),
            state => state.parse().ok(),
        }
    }
}

impl Upload {
    pub(super) fn begin(algorithm: Algorithm) -> Self {
        Self { generation: Ulid::generate(), algorithm, fresh: true }
    }

    fn stem(&self) -> String {
        format!("{}.{}", self.generation.to_string().to_ascii_lowercase(), self.algorithm.as_str())
    }

    fn signature(&self, key: &hmac::Key, repository: &RepositoryName) -> String {
        let tag = hmac::sign(key, format!("{repository}!{}", self.stem()).as_bytes());
        hex(tag.as_ref().get(..16).unwrap_or_default())
    }

    pub(super) fn name(&self, key: &hmac::Key, repository: &RepositoryName) -> UploadId {
        UploadId(format!("{}.{NEW}.{}", self.stem(), self.signature(key, repository)))
    }

    pub(super) fn parse(
        id: &UploadId,
        key: &hmac::Key,
        repository: &RepositoryName,
    ) -> Result<Self, EngineError> {
        let parse = || {
            let mut fields = id.0.split('.');
            let (generation, algorithm) = (fields.next()?, fields.next()?);
            let (state, signature) = (fields.next()?, fields.next()?);
            let upload = Self {
                generation: Ulid::from_string(generation).ok()?,
                algorithm: algorithm.parse().ok()?,
                fresh: state == NEW,
            };
            // Neither side is secret enough to need constant time: the signature only keeps out made-up names.
            (fields.next().is_none() && upload.signature(key, repository) == signature).then_some(upload)
        };
        parse().ok_or(EngineError::UploadUnknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_in_their_repository_only() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
        let other = hmac::Key::new(hmac::HMAC_SHA256, b"other");
        let (a, b): (RepositoryName, RepositoryName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let upload = Upload::begin(Algorithm::Sha512);
        let id = upload.name(&key, &a);
        assert_eq!(Upload::parse(&id, &key, &a).unwrap(), upload);
        assert_eq!(id.offset(), Some(0));
        let later = id.at(7).at(4096);
        assert_eq!(Upload::parse(&later, &key, &a).unwrap(), Upload { fresh: false, ..upload });
        assert_eq!(later.offset(), Some(4096));
        let silent = UploadId(id.0.replace(".n.", ".o."));
        assert_eq!(Upload::parse(&silent, &key, &a).unwrap(), Upload { fresh: false, ..upload });
        assert_eq!(silent.offset(), None);
        assert!(Upload::parse(&id, &key, &b).is_err());
        assert!(Upload::parse(&id, &other, &a).is_err());
        for text in ["", "x", "....", &format!("{}.x", id.0), &id.0.replace("sha512", "sha256")] {
            assert!(Upload::parse(&UploadId(text.to_owned()), &key, &a).is_err(), "{text}");
        }
    }
}
