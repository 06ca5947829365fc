//! Small objects in memory. One process owns the directory, so what it remembers is the truth: writers replace an entry
//! when the new object is durable and before they answer; readers fill in what is missing while no writer can.

use std::sync::Arc;

use bytes::Bytes;
use quick_cache::{Weighter, sync::Cache};

use super::super::Meta;

/// Bytes of all entries together.
const CAPACITY: u64 = 64 << 20;
/// What an entry takes beside its key and body.
const OVERHEAD: u64 = 256;
const EXPECTED_ENTRIES: usize = 16 << 10;

/// A whole object.
#[derive(Debug)]
pub(super) struct Remembered {
    pub(super) body: Bytes,
    pub(super) meta: Meta,
}

#[derive(Clone, Debug)]
struct Weight;

impl Weighter<Box<str>, Arc<Remembered>> for Weight {
    fn weight(&self, key: &Box<str>, object: &Arc<Remembered>) -> u64 {
        OVERHEAD + key.len() as u64 + object.body.len() as u64
    }
}

/// The objects that were read or written lately.
#[derive(Debug)]
pub(super) struct Memory(Cache<Box<str>, Arc<Remembered>, Weight>);

impl Memory {
    pub(super) fn new() -> Self {
        Self(Cache::with_weighter(EXPECTED_ENTRIES, CAPACITY, Weight))
    }

    pub(super) fn get(&self, key: &str) -> Option<Arc<Remembered>> {
        self.0.get(key)
    }

    /// Takes what is durable now. The caller holds the key's stripe.
    pub(super) fn put(&self, key: &str, body: Bytes, meta: Meta) -> Arc<Remembered> {
        let object = Arc::new(Remembered { body, meta });
        self.0.insert(key.into(), object.clone());
        object
    }

    /// The caller holds the key's stripe.
    pub(super) fn forget(&self, key: &str) {
        self.0.remove(key);
    }
}
