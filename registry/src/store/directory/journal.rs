//! The journal: a change is durable when it stands here, so that one write to one file, shared by everybody who waits,
//! takes the place of a sync of each file and each directory. The files are changed right after, without a sync; after
//! a crash the journal is replayed. Two segments take turns: one is written, the other's changes are brought to disk.
//!
//! A record is its epoch (8 bytes), the length of its content (4), a digest (16) and the content: a line of JSON, then a
//! body. The digest covers the record before it: nothing that an earlier life of the segment, or a torn write, has left
//! can follow a newer record.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Sizes, disk::Disk};

const DIRECTORY: &str = ".journal";
const HEADER: usize = 28;

type Checksum = [u8; 16];

/// A change to one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "camelCase")]
pub(super) enum Change {
    /// The key has the body that follows, with this modification time in nanoseconds.
    Put { key: String, modified: u64 },
    /// The file of this name, durable already, becomes the key's.
    Adopt { key: String, from: String },
    /// The key is gone.
    Delete { key: String },
}

impl Change {
    pub(super) fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Adopt { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// A change and its body.
pub(super) type Recorded = (Change, Bytes);

#[derive(Debug)]
pub(super) struct Journal {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    sizes: Sizes,
    segments: [File; 2],
    state: Mutex<State>,
    turned: Condvar,
    /// Where the next record goes; for the one writer who writes for all.
    tail: Mutex<Tail>,
}

#[derive(Debug, Default)]
struct State {
    /// Content that nobody writes yet, and where its writer will say how it went.
    waiting: Vec<Vec<u8>>,
    outcome: Arc<Outcome>,
    is_writing: bool,
    /// How many changes were handed in, and which of them the files do not show yet.
    handed_in: u64,
    unapplied: BTreeSet<u64>,
    /// Whether a segment holds nothing that is not durable in the files.
    is_free: [bool; 2],
    /// Why nothing is written any more.
    broken: Option<String>,
}

type Outcome = OnceLock<Result<(), String>>;

#[derive(Debug)]
struct Tail {
    epoch: u64,
    length: u64,
    last: Checksum,
    /// The last change of the epoch.
    changes: u64,
}

/// A durable change that the files do not show yet: to be dropped when they do.
#[derive(Debug)]
pub(super) struct Unapplied<'a> {
    journal: &'a Journal,
    number: u64,
}

impl Drop for Unapplied<'_> {
    fn drop(&mut self) {
        self.journal.lock().unapplied.remove(&self.number);
        self.journal.turned.notify_all();
    }
}

fn segment(epoch: u64) -> usize {
    usize::from(epoch % 2 == 1)
}

fn checksum(before: &Checksum, epoch: u64, content: &[u8]) -> Checksum {
    let mut hash = Sha256::new();
    hash.update(before);
    hash.update(epoch.to_le_bytes());
    hash.update(content);
    let mut checksum = Checksum::default();
    checksum.copy_from_slice(&hash.finalize()[..16]);
    checksum
}

/// The records of a segment, as far as they are whole.
struct Records {
    rest: Bytes,
    tail: Tail,
}

impl Iterator for Records {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let epoch = u64::from_le_bytes(*self.rest.first_chunk()?);
        let length = u32::from_le_bytes(*self.rest.get(8..)?.first_chunk()?) as usize;
        let sum: Checksum = *self.rest.get(12..)?.first_chunk()?;
        let content = self.rest.get(HEADER..HEADER.checked_add(length)?)?;
        if self.tail.length == 0 {
            self.tail.epoch = epoch;
        }
        if epoch != self.tail.epoch || checksum(&self.tail.last, epoch, content) != sum {
            return None;
        }
        self.tail.last = sum;
        self.tail.length += (HEADER + length) as u64;
        Some(self.rest.split_to(HEADER + length).split_off(HEADER))
    }
}

fn decode(mut content: Bytes) -> io::Result<Recorded> {
    let end = content.iter().position(|byte| *byte == b'\n').map_or(content.len(), |end| end + 1);
    let change = serde_json::from_slice(&content.split_to(end))?;
    Ok((change, content))
}

impl Journal {
    /// Opens the journal of a directory. The changes are to be applied before anything else happens, in this order.
    pub(super) fn open(
        disk: &Arc<dyn Disk>,
        root: &Path,
        sizes: Sizes,
    ) -> io::Result<(Arc<Self>, Vec<Recorded>)> {
        let directory = root.join(DIRECTORY);
        super::files::create_durably(disk.as_ref(), &directory)?;
        let open = |name: &str| {
            let path = directory.join(name);
            if !path.exists() {
                disk.create(&path)?;
                disk.sync_directory(&directory)?;
            }
            fs::OpenOptions::new().read(true).write(true).open(path)
        };
        let segments = [open("0")?, open("1")?];
        let mut found = Vec::new();
        for (index, file) in segments.iter().enumerate() {
            // What a process has left that was killed may not be durable: nobody must see it before it is.
            disk.sync_data(file)?;
            let bytes = fs::read(directory.join(index.to_string()))?;
            let tail = Tail { epoch: 0, length: 0, last: Checksum::default(), changes: 0 };
            let mut records = Records { rest: bytes.into(), tail };
            let changes = records.by_ref().map(decode).collect::<io::Result<Vec<_>>>()?;
            if records.tail.length > 0 {
                found.push((records.tail, changes));
            }
        }
        found.sort_by_key(|(tail, _)| tail.epoch);
        let mut changes = Vec::new();
        let mut tail = Tail { epoch: 1, length: 0, last: Checksum::default(), changes: 0 };
        let mut state = State { is_free: [true; 2], ..State::default() };
        for (of_segment, of_changes) in found {
            state.is_free[segment(of_segment.epoch)] = false;
            changes.extend(of_changes);
            tail = of_segment;
        }
        let older = segment(tail.epoch + 1);
        let settle = !state.is_free[older];
        let journal = Self {
            disk: disk.clone(),
            root: root.to_owned(),
            sizes,
            segments,
            state: Mutex::new(state),
            turned: Condvar::new(),
            tail: Mutex::new(tail),
        };
        let journal = Arc::new(journal);
        if settle {
            // Held back until the caller has applied the changes.
            journal.lock().unapplied.insert(0);
            journal.settle(older, 0);
        }
        Ok((journal, changes))
    }

    /// Says that the changes found by [`Self::open`] are applied.
    pub(super) fn applied(&self) {
        drop(Unapplied { journal: self, number: 0 });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic leaves a state behind that is whole: each change of it is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.turned.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change durable. Who finds nobody writing writes for all who wait.
    pub(super) fn append(self: &Arc<Self>, change: &Change, body: &[u8]) -> io::Result<Unapplied<'_>> {
        let mut content = serde_json::to_vec(change)?;
        content.push(b'\n');
        content.extend_from_slice(body);
        let mut state = self.lock();
        state.handed_in += 1;
        let unapplied = Unapplied { journal: self, number: state.handed_in };
        state.unapplied.insert(unapplied.number);
        state.waiting.push(content);
        let outcome = state.outcome.clone();
        loop {
            if let Some(done) = outcome.get() {
                drop(state);
                return done.clone().map(|()| unapplied).map_err(io::Error::other);
            }
            if state.is_writing {
                state = self.wait(state);
                continue;
            }
            state.is_writing = true;
            let batch = std::mem::take(&mut state.waiting);
            let outcome = std::mem::take(&mut state.outcome);
            let (last, broken) = (state.handed_in, state.broken.clone());
            drop(state);
            let written = match broken {
                Some(broken) => Err(broken),
                None => self.write(&batch, last).map_err(|error| error.to_string()),
            };
            let _ = outcome.set(written);
            state = self.lock();
            state.is_writing = false;
            self.turned.notify_all();
        }
    }

    fn write(self: &Arc<Self>, batch: &[Vec<u8>], changes: u64) -> io::Result<()> {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        if tail.length >= self.sizes.segment {
            self.turn(&mut tail)?;
        }
        let mut last = tail.last;
        let mut bytes = Vec::with_capacity(batch.iter().map(|content| HEADER + content.len()).sum());
        for content in batch {
            let length = u32::try_from(content.len()).map_err(io::Error::other)?;
            last = checksum(&last, tail.epoch, content);
            bytes.extend_from_slice(&tail.epoch.to_le_bytes());
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(&last);
            bytes.extend_from_slice(content);
        }
        let file = &self.segments[segment(tail.epoch)];
        let (size, end) = (file.metadata()?.len(), tail.length + bytes.len() as u64);
        if end > size {
            // Zeros, which can be overwritten without a change of the file's metadata. A full disk shows here, where
            // no change is lost.
            let more = end.next_multiple_of(self.sizes.step) - size;
            let zeros = vec![0; usize::try_from(more).unwrap_or_default()];
            self.disk.write_at(file, &zeros, size)?;
        }
        let written = self.disk.write_at(file, &bytes, tail.length);
        // What a failed sync has brought to disk nobody can tell.
        written.and_then(|()| self.disk.sync_data(file)).inspect_err(|error| self.fail(error))?;
        (tail.length, tail.last, tail.changes) = (end, last, changes);
        Ok(())
    }

    /// Goes on in the other segment once that is free.
    fn turn(self: &Arc<Self>, tail: &mut Tail) -> io::Result<()> {
        let (current, next) = (segment(tail.epoch), segment(tail.epoch + 1));
        let mut state = self.lock();
        while !state.is_free[next] {
            if let Some(broken) = &state.broken {
                return Err(io::Error::other(broken.clone()));
            }
            state = self.wait(state);
        }
        state.is_free = [false; 2];
        drop(state);
        self.settle(current, tail.changes);
        *tail = Tail { epoch: tail.epoch + 1, length: 0, last: Checksum::default(), changes: tail.changes };
        Ok(())
    }

    /// Brings what is done so far to the disk, when the files show the first changes up to `last`: then the segment
    /// can be written anew.
    fn settle(self: &Arc<Self>, segment: usize, last: u64) {
        let journal = self.clone();
        std::thread::spawn(move || {
            let mut state = journal.lock();
            while state.unapplied.first().is_some_and(|first| *first <= last) {
                state = journal.wait(state);
            }
            drop(state);
            match journal.disk.sync_everything(&journal.root) {
                Ok(()) => journal.lock().is_free[segment] = true,
                Err(error) => journal.fail(&error),
            }
            journal.turned.notify_all();
        });
    }

    /// Nothing is written any more: files and journal may differ, and only a restart can tell.
    pub(super) fn fail(&self, error: &io::Error) {
        tracing::error!(%error, "the directory takes no writes until the registry is restarted");
        self.lock().broken = Some(format!("{error}; see to the disk, then restart the registry"));
        self.turned.notify_all();
    }
}
