//! What the operator keeps about images in Secrets, which others may have written. Input: the lines of one.

use std::io::{Read as _, Write as _};

use berth_operator_core::memory::{Memory, Shard};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use jiff::Timestamp;

const BYTES: u64 = 1 << 20;

pub(crate) fn run(input: &[u8]) {
    let now = Timestamp::from_second(2_000_000_000).unwrap();
    let memory = Memory::new(BYTES);
    let _ = memory.restore(input, now);
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&header()).unwrap();
    packed.write_all(input).unwrap();
    if memory.restore(&packed.finish().unwrap(), now).is_err() {
        assert_eq!(memory.size(), Memory::new(BYTES).size());
        return;
    }
    for shard in memory.shards(now) {
        let packed = shard.pack().unwrap();
        let (once, twice) = (Memory::new(BYTES), Memory::new(BYTES));
        assert!(once.restore(&packed.bytes, now).unwrap() <= packed.entries);
        for shard in once.shards(now) {
            twice.restore(&shard.pack().unwrap().bytes, now).unwrap();
        }
        assert_eq!(once.size(), twice.size());
    }
}

/// The first line, which names the release.
fn header() -> Vec<u8> {
    let mut line = Vec::new();
    GzDecoder::new(Shard::default().pack().unwrap().bytes.as_slice()).read_to_end(&mut line).unwrap();
    line
}
