//! Large objects on their way out: read ahead of the client by one chunk, into buffers that are used again. What the
//! system has in memory is copied on the spot; only what must come from the disk is left to another thread.

use std::{
    fs::File,
    io::{self, IoSliceMut},
    ops::Range,
    os::unix::fs::FileExt as _,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use rustix::io::{ReadWriteFlags, preadv2};

use super::{
    super::{StoreError, StoreStream},
    files::failed,
};

/// Small enough to be still in the processor's cache when it is sent.
const CHUNK: usize = 256 << 10;
/// Buffers kept for the next reader.
const SPARE: usize = 32;

/// Buffers that wait for the next chunk: fresh memory would cost a page fault every 4 KiB.
#[derive(Debug, Default)]
pub(super) struct Buffers(Mutex<Vec<Box<[u8]>>>);

/// A buffer that returns when nobody reads it any more.
struct Lent {
    bytes: Box<[u8]>,
    home: Arc<Buffers>,
}

impl Buffers {
    fn lend(self: &Arc<Self>) -> Lent {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Lent { bytes: spare.unwrap_or_else(|| vec![0; CHUNK].into()), home: self.clone() }
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut spare = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE {
            spare.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// The bytes of a range of a file.
pub(super) fn stream(key: &str, file: File, range: Range<u64>, buffers: &Arc<Buffers>) -> StoreStream {
    let (key, file, buffers) = (key.to_owned(), Arc::new(file), buffers.clone());
    stream::try_unfold(range, move |range| {
        let (key, file, buffers) = (key.clone(), file.clone(), buffers.clone());
        async move {
            if range.is_empty() {
                return Ok(None);
            }
            let bytes = chunk(file, range.clone(), &buffers).await.map_err(|error| failed(&key, &error))?;
            let rest = range.start + bytes.len() as u64..range.end;
            Ok::<_, StoreError>(Some((bytes, rest)))
        }
    })
    .boxed()
}

async fn chunk(file: Arc<File>, range: Range<u64>, buffers: &Arc<Buffers>) -> io::Result<Bytes> {
    let mut buffer = buffers.lend();
    let size = usize::try_from(range.end - range.start).unwrap_or(CHUNK).min(CHUNK);
    let mut wanted = [IoSliceMut::new(&mut buffer.bytes[..size])];
    let (buffer, read) = match preadv2(&file, &mut wanted, range.start, ReadWriteFlags::NOWAIT) {
        Ok(read) if read > 0 => (buffer, read),
        // Not in memory, or a file system that cannot tell.
        _ => {
            let read =
                move || file.read_at(&mut buffer.bytes[..size], range.start).map(|read| (buffer, read));
            tokio::task::spawn_blocking(read).await??
        }
    };
    if read == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than it was"));
    }
    Ok(Bytes::from_owner(buffer).slice(..read))
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;

    use super::*;

    #[tokio::test]
    async fn every_byte_of_a_range_comes_and_buffers_come_back() {
        let bytes: Vec<u8> = (0..3 * CHUNK + 5).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        std::fs::write(&path, &bytes).unwrap();
        let buffers = Arc::new(Buffers::default());
        for range in [0..bytes.len(), 1..CHUNK + 1, 2 * CHUNK..2 * CHUNK, bytes.len() - 1..bytes.len()] {
            let wanted = range.start as u64..range.end as u64;
            let read = stream("k", File::open(&path).unwrap(), wanted, &buffers);
            let read: Vec<Bytes> = read.try_collect().await.unwrap();
            assert_eq!(read.concat(), bytes[range]);
        }
        assert_eq!(buffers.0.lock().unwrap().len(), 4, "as many as were held at once");
        let beyond = stream("k", File::open(&path).unwrap(), 0..bytes.len() as u64 + 1, &buffers);
        assert!(beyond.try_collect::<Vec<_>>().await.is_err(), "a file that shrank is no whole object");
    }
}
