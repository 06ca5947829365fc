//! How what is remembered is held, so that a hundred thousand images are small: digests as bytes, facts deflated.

use std::io::{self, Read as _, Write as _};

use berth_registry_core::Digest;
use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};

/// A digest; SHA-256, as nearly all are, by its bytes.
#[derive(Debug)]
pub(super) enum CompactDigest {
    Sha256([u8; 32]),
    Other(Digest),
}

impl From<&Digest> for CompactDigest {
    fn from(digest: &Digest) -> Self {
        digest.to_sha256().map_or_else(|| Self::Other(digest.clone()), Self::Sha256)
    }
}

impl From<&CompactDigest> for Digest {
    fn from(digest: &CompactDigest) -> Self {
        match digest {
            CompactDigest::Sha256(raw) => Self::from_sha256(*raw),
            CompactDigest::Other(digest) => digest.clone(),
        }
    }
}

/// A text, deflated (RFC 1951): half of what facts say is digests that they have said before.
#[derive(Debug, Default)]
pub(super) struct Deflated(Box<[u8]>);

impl Deflated {
    pub(super) fn new(text: &str) -> io::Result<Self> {
        let mut deflated = DeflateEncoder::new(Vec::new(), Compression::default());
        deflated.write_all(text.as_bytes())?;
        Ok(Self(deflated.finish()?.into_boxed_slice()))
    }

    pub(super) fn text(&self) -> io::Result<String> {
        let mut text = String::new();
        DeflateDecoder::new(&*self.0).read_to_string(&mut text)?;
        Ok(text)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
