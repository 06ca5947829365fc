//! How what is remembered is held, so that a hundred thousand images are small: digests as bytes, and of facts only the
//! digests, because everything else in them is the same for all images that are signed alike.

use std::{
    collections::HashMap,
    io::{self, Read as _, Write as _},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use berth_registry_core::Digest;
use berth_trust::Facts;
use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};
use sha2::{Digest as _, Sha256};

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

/// Facts as JSON, taken apart. Of what digest they are, whoever holds them knows.
#[derive(Debug)]
pub(super) struct Written {
    /// The text with a mark in place of each digest, deflated (RFC 1951).
    shape: Arc<[u8]>,
    /// The digests, by number from 1 on; 0 is the subject.
    digests: Box<[CompactDigest]>,
    weight: u32,
}

impl Written {
    /// The text, which is about `subject`.
    pub(super) fn text(&self, subject: &Digest) -> io::Result<String> {
        let mut text = String::new();
        DeflateDecoder::new(&*self.shape).read_to_string(&mut text)?;
        text = text.replace(&mark(0), subject.as_str());
        for (number, digest) in (1..).zip(&self.digests) {
            text = text.replace(&mark(number), Digest::from(digest).as_str());
        }
        Ok(text)
    }

    /// Bytes that it takes. Where it shares its shape, whoever came first pays for that.
    pub(super) fn weight(&self) -> usize {
        self.weight as usize
    }
}

/// Stands for a digest. JSON holds no such characters.
fn mark(number: usize) -> String {
    format!("\u{1}{number}\u{2}")
}

/// The shapes that are in use, each once.
#[derive(Default)]
pub(super) struct Shapes(Mutex<Table>);

#[derive(Default)]
struct Table {
    /// By SHA-256.
    shapes: HashMap<[u8; 32], Weak<[u8]>>,
    /// Those of no use are looked for when there are as many.
    limit: usize,
}

impl Shapes {
    /// Takes facts apart.
    pub(super) fn write(&self, facts: &Facts) -> io::Result<Written> {
        let manifests = facts.statements().map(|statement| &statement.at.manifest);
        let manifests = manifests.chain(facts.refusals().map(|refusal| &refusal.at.manifest));
        let mut digests = vec![facts.subject()];
        for manifest in manifests {
            if !digests.contains(&manifest) {
                digests.push(manifest);
            }
        }
        let mut text = serde_json::to_string(facts)?;
        for (number, digest) in digests.iter().enumerate() {
            text = text.replace(digest.as_str(), &mark(number));
        }
        let (shape, is_new) = self.shape(&text)?;
        let digests: Box<[_]> = digests.into_iter().skip(1).map(CompactDigest::from).collect();
        let weight = size_of_val(&*digests) + if is_new { shape.len() } else { 0 };
        Ok(Written { shape, digests, weight: u32::try_from(weight).unwrap_or(u32::MAX) })
    }

    /// A shape, and whether nobody has it yet.
    fn shape(&self, text: &str) -> io::Result<(Arc<[u8]>, bool)> {
        let id = Sha256::digest(text).into();
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shape) = table.shapes.get(&id).and_then(Weak::upgrade) {
            return Ok((shape, false));
        }
        let mut deflated = DeflateEncoder::new(Vec::new(), Compression::default());
        deflated.write_all(text.as_bytes())?;
        let shape: Arc<[u8]> = deflated.finish()?.into();
        if table.shapes.len() >= table.limit {
            table.shapes.retain(|_, shape| shape.strong_count() > 0);
            table.limit = 2 * table.shapes.len() + 64;
        }
        table.shapes.insert(id, Arc::downgrade(&shape));
        Ok((shape, true))
    }
}

#[cfg(test)]
mod tests;
