//! Content to push: as much as one likes, no two pieces alike, without generating or hashing all of it each time.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::digest::hex;

/// A body is handed over in slices of this size.
const SLICE: usize = 256 << 10;

/// Makes blobs of one size, which differ in their last bytes only.
pub(super) struct Source {
    body: Bytes,
    hash: Sha256,
}

/// A blob: what all of its source begin with, and what only it ends with.
#[derive(Clone)]
pub(super) struct Blob {
    body: Bytes,
    tail: Bytes,
    /// `sha256:…`
    pub(super) digest: String,
}

impl Source {
    /// Blobs of so many bytes, more than eight, of which the last eight count.
    pub(super) fn new(size: u32) -> Self {
        // xorshift: bytes that do not compress, and need no better randomness.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ u64::from(size);
        let words = (0..size / 8).flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        let body: Bytes = words.take(size as usize - 8).collect();
        Self { hash: Sha256::new_with_prefix(&body), body }
    }

    /// The next blob. Servers are started anew for each sample, so counting within this process is enough.
    pub(super) fn next(&self) -> Blob {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let tail = COUNTER.fetch_add(1, Ordering::Relaxed).to_le_bytes();
        let digest = format!("sha256:{}", hex(self.hash.clone().chain_update(tail).finalize()));
        Blob { body: self.body.clone(), tail: Bytes::copy_from_slice(&tail), digest }
    }
}

impl Blob {
    pub(super) fn len(&self) -> usize {
        self.body.len() + self.tail.len()
    }

    /// The bytes in order; nothing is copied.
    pub(super) fn slices(self) -> impl Iterator<Item = Bytes> {
        let Self { body, tail, .. } = self;
        let starts = (0..body.len()).step_by(SLICE);
        starts.map(move |at| body.slice(at..body.len().min(at + SLICE))).chain([tail])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::sha256;

    #[test]
    fn blobs_differ_and_are_what_their_digest_says() {
        let source = Source::new(300 << 10);
        let (one, two) = (source.next(), source.next());
        assert_ne!(one.digest, two.digest);
        let bytes = one.clone().slices().collect::<Vec<_>>().concat();
        assert_eq!((one.len(), bytes.len()), (300 << 10, 300 << 10));
        assert_eq!(one.digest, format!("sha256:{}", sha256(bytes)));
    }
}
