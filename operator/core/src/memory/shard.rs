//! What of memory outlives a process: facts and tags of this cluster's own Registries, in parts that fit into Secrets.
//! The leader keeps them and every replica reads them at its start (`kept` in the operator). They hold no names: an entry
//! is found again by its key, and is doubtful until its registry confirms it.

use std::{
    cmp::Reverse,
    io::{self, Read as _, Write as _},
    sync::Arc,
};

use berth_registry_core::Digest;
use berth_trust::Facts;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Age, Key, Known, Memory, Places, Tagged, Terms};

/// Parts that memory is kept in.
pub const SHARDS: usize = 16;

/// Bytes of a part. etcd takes objects of 1.5 MiB, and the API server Secrets of 1 MiB.
const MAX_PACKED: usize = 700 * 1024;

/// Bytes that a part may unpack to.
const MAX_UNPACKED: usize = 16 * 1024 * 1024;

/// Bytes of an entry. One with a large predicate would cost hundreds of others their place.
const MAX_ENTRY: usize = 64 * 1024;

/// Seconds to which it is kept when something was seen: looking again at what stays the same changes nothing for so long.
const GRAIN: i64 = 3600;

/// First line. What another release verified, this one verifies itself: it may know better.
const HEADER: &str = concat!("berth facts 1 ", env!("CARGO_PKG_VERSION"));

/// Why a part is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShardError {
    /// Not what [`Shard::pack`] wrote.
    #[error("it is damaged, or not ours: {0}")]
    Malformed(String),
    /// It would take too much memory.
    #[error("it unpacks to more than {MAX_UNPACKED} bytes")]
    TooLarge,
    /// Written by another release.
    #[error("it is by another release, whose findings are not relied on")]
    OtherRelease,
}

impl ShardError {
    fn malformed(cause: &impl ToString) -> Self {
        Self::Malformed(cause.to_string())
    }
}

/// A line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry<'a> {
    key: Key,
    seen: i64,
    places: Places,
    #[serde(borrow)]
    what: What<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum What<'a> {
    #[serde(borrow)]
    Facts(&'a RawValue),
    Tag(Digest),
}

/// What one part is to hold.
#[derive(Default)]
pub struct Shard {
    facts: Vec<(Key, Arc<Known>)>,
    tags: Vec<(Key, Arc<Tagged>)>,
}

/// A part as it is kept.
#[derive(Debug, PartialEq, Eq)]
pub struct Packed {
    /// The same for the same entries, whatever order they came in.
    pub bytes: Vec<u8>,
    /// Digests and tags in it.
    pub entries: usize,
}

impl Shard {
    /// Writes it: what was seen last comes first, and what was seen first is left out if there is too much.
    pub fn pack(&self) -> io::Result<Packed> {
        let mut lines = Vec::with_capacity(self.facts.len() + self.tags.len());
        let mut write = |key, age: &Age, what: What<'_>| -> io::Result<()> {
            let seen = age.seen - age.seen.rem_euclid(GRAIN);
            let line = serde_json::to_string(&Entry { key, seen, places: age.places, what })?;
            if line.len() <= MAX_ENTRY {
                lines.push((Reverse(seen), key, line));
            }
            Ok(())
        };
        for (key, known) in &self.facts {
            let written = known.written.as_ref().and_then(|written| written.text(&known.subject()).ok());
            // Unreadable, it is looked at again.
            let Some(written) = written.and_then(|text| RawValue::from_string(text).ok()) else { continue };
            write(*key, &known.age, What::Facts(&written))?;
        }
        for (key, tagged) in &self.tags {
            write(*key, &tagged.age, What::Tag((&tagged.digest).into()))?;
        }
        lines.sort_unstable();
        let lines: Vec<_> = lines.into_iter().map(|(_, _, line)| line).collect();
        let mut room = MAX_UNPACKED - HEADER.len() - 1;
        let fits = |line: &&String| room.checked_sub(line.len() + 1).inspect(|left| room = *left).is_some();
        let mut entries = lines.iter().take_while(fits).count();
        loop {
            let bytes = compress(&lines[..entries])?;
            if bytes.len() <= MAX_PACKED {
                return Ok(Packed { bytes, entries });
            }
            // In proportion, and a little less.
            entries = entries * MAX_PACKED / bytes.len() * 31 / 32;
        }
    }
}

fn compress(lines: &[String]) -> io::Result<Vec<u8>> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    for line in std::iter::once(HEADER).chain(lines.iter().map(String::as_str)) {
        packed.write_all(line.as_bytes())?;
        packed.write_all(b"\n")?;
    }
    packed.finish()
}

fn unpack(packed: &[u8]) -> Result<String, ShardError> {
    let mut text = String::new();
    let mut unpacked = GzDecoder::new(packed).take(MAX_UNPACKED as u64 + 1);
    unpacked.read_to_string(&mut text).map_err(|error| ShardError::malformed(&error))?;
    if text.len() > MAX_UNPACKED { Err(ShardError::TooLarge) } else { Ok(text) }
}

impl Memory {
    /// What is worth keeping, by part. Nothing of it is shown to a stranger: what a Pod's pull secrets gave access to is
    /// left out.
    pub fn shards(&self, now: Timestamp) -> [Shard; SHARDS] {
        let mut shards: [Shard; SHARDS] = std::array::from_fn(|_| Shard::default());
        let lasts = |age: &Age| age.terms == Terms::Own && self.holds(age, now);
        for (key, known) in self.facts.iter().filter(|(_, known)| lasts(&known.age)) {
            shards[shard(key)].facts.push((key, known));
        }
        for (key, tagged) in self.tags.iter().filter(|(_, tagged)| lasts(&tagged.age)) {
            shards[shard(key)].tags.push((key, tagged));
        }
        shards
    }

    /// Takes in what [`Shard::pack`] wrote, and says how much of it is news: what is known already is not replaced, and
    /// what changed since the start of this process is not believed. A part that is damaged anywhere is not used at all.
    pub fn restore(&self, packed: &[u8], now: Timestamp) -> Result<usize, ShardError> {
        let text = unpack(packed)?;
        let mut lines = text.lines();
        match lines.next() {
            Some(HEADER) => {}
            Some(header) if header.starts_with("berth facts ") => return Err(ShardError::OtherRelease),
            _ => return Err(ShardError::malformed(&"its first line is another's")),
        }
        let (mut facts, mut tags) = (Vec::new(), Vec::new());
        for line in lines {
            let malformed = |error| ShardError::malformed(&error);
            let Entry { key, seen, places, what } = serde_json::from_str(line).map_err(malformed)?;
            let age = Age::doubtful(places, seen);
            // Whatever is from the future was not seen.
            if seen > now.as_second() || !self.holds(&age, now) {
                continue;
            }
            match what {
                What::Facts(written) => {
                    let read: Facts = serde_json::from_str(written.get()).map_err(malformed)?;
                    let (subject, id) = (read.subject().into(), self.next_id());
                    facts.push((key, Known { subject, written: self.shapes.write(&read).ok(), id, age }));
                }
                What::Tag(digest) => tags.push((key, Tagged { digest: (&digest).into(), age })),
            }
        }
        facts.retain(|(key, _)| !self.facts.contains_key(key));
        tags.retain(|(key, _)| !self.tags.contains_key(key));
        let news = facts.len() + tags.len();
        for (key, known) in facts {
            self.facts.insert(key, Arc::new(known));
        }
        for (key, tagged) in tags {
            self.tags.insert(key, Arc::new(tagged));
        }
        Ok(news)
    }
}

fn shard(key: Key) -> usize {
    usize::from(key.spread()) * SHARDS / 256
}

#[cfg(test)]
mod tests;
