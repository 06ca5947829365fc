//! Log lines on their way to stdout. Every line, of `tracing` or of the access log, is appended to one bounded buffer;
//! one thread writes it, some milliseconds at a time, so that a request pays neither a system call nor a slow pipe.

use std::{
    io::{self, Write},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// What may wait for a slow reader.
const CAPACITY: usize = 1 << 20;
/// How long the first line of a batch waits for company; the others wait less.
const LINGER: Duration = Duration::from_millis(20);

/// The way to the log; clones share it. [`Log::default`] goes nowhere.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Shared>);

/// Writes what is left and ends the thread when it is dropped.
#[derive(Debug)]
pub struct Writer {
    log: Log,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    buffer: Mutex<Buffer>,
    /// Told to the writer: there is something to do.
    work: Condvar,
    /// Told to those who wait: there is room.
    room: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Buffer {
    lines: Vec<u8>,
    /// Lines that found no room since the last batch.
    dropped: u64,
    /// Do not wait for more lines.
    urgent: bool,
    /// There is a writer.
    open: bool,
}

impl Log {
    /// Starts the thread that writes to `out`.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<(Self, Writer)> {
        let log = Self::default();
        log.buffer().open = true;
        let writing = log.clone();
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn(move || writing.write(out))?;
        Ok((log.clone(), Writer { log, thread: Some(thread) }))
    }

    /// Sends what `tracing` says here, as lines of JSON, down to the level that `BERTH_LOG` says.
    pub fn take_tracing(&self) {
        let filter = EnvFilter::try_from_env("BERTH_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
        tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_env_filter(filter)
            .with_writer(self.clone())
            .init();
    }

    /// Adds a line of the access log. One that finds no room is dropped and counted: a client that pulls must not wait
    /// for whoever reads the log. All other lines wait for room instead.
    pub fn access(&self, line: &impl Serialize) {
        let mut buffer = self.buffer();
        if !buffer.open {
            return;
        }
        if buffer.lines.len() >= CAPACITY {
            buffer.dropped += 1;
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.append(&mut buffer, |lines| {
            // Writing to memory cannot fail, and a line has no keys that are no text.
            let _ = serde_json::to_writer(&mut *lines, line);
            lines.push(b'\n');
        });
    }

    /// How many lines of the access log found no room.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.0.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the writer when a batch begins and when it should wait no longer, not once a line.
    fn append(&self, buffer: &mut Buffer, write: impl FnOnce(&mut Vec<u8>)) {
        let begins = buffer.lines.is_empty();
        write(&mut buffer.lines);
        let fills = !buffer.urgent && buffer.lines.len() >= CAPACITY / 2;
        buffer.urgent |= fills;
        if begins || fills {
            self.0.work.notify_one();
        }
    }

    fn write(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        loop {
            let mut buffer = self.buffer();
            while buffer.lines.is_empty() {
                if !buffer.open {
                    return;
                }
                buffer = self.0.work.wait(buffer).unwrap_or_else(PoisonError::into_inner);
            }
            let waits = |buffer: &mut Buffer| buffer.open && !buffer.urgent;
            let (mut buffer, _) =
                self.0.work.wait_timeout_while(buffer, LINGER, waits).unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut batch, &mut buffer.lines);
            buffer.urgent = false;
            let dropped = std::mem::take(&mut buffer.dropped);
            drop(buffer);
            self.0.room.notify_all();
            // There is nobody to tell that nobody listens.
            let _ = out.write_all(&batch).and_then(|()| out.flush());
            batch.clear();
            if dropped > 0 {
                // Not through `tracing`, which would wait for the room that this thread makes.
                let line = json!({
                    "timestamp": Timestamp::now(),
                    "level": "WARN",
                    "message": "the log's reader is too slow: lines of the access log are lost",
                    "lines": dropped,
                });
                self.append(&mut self.buffer(), |lines| {
                    lines.extend_from_slice(format!("{line}\n").as_bytes());
                });
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.log.buffer().open = false;
        self.log.0.work.notify_one();
        self.log.0.room.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has said so itself.
            let _ = thread.join();
        }
    }
}

/// Takes one line of `tracing` at a time.
pub struct Line<'a>(&'a Log);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let full = |buffer: &mut Buffer| buffer.open && buffer.lines.len() >= CAPACITY;
        let mut buffer =
            self.0.0.room.wait_while(self.0.buffer(), full).unwrap_or_else(PoisonError::into_inner);
        self.0.append(&mut buffer, |lines| lines.extend_from_slice(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// A pipe whose reader takes one write at a time.
    struct Pipe(SyncSender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn log() -> (Log, Writer, Receiver<Vec<u8>>) {
        let (sender, receiver) = sync_channel(0);
        let (log, writer) = Log::start(Pipe(sender)).unwrap();
        (log, writer, receiver)
    }

    #[test]
    fn lines_are_written_without_a_stop_and_what_is_left_at_one() {
        let (log, writer, read) = log();
        log.access(&"a");
        assert_eq!(read.recv().unwrap(), b"\"a\"\n");
        let reader = std::thread::spawn(move || read.iter().flatten().collect::<Vec<u8>>());
        log.access(&"b");
        log.make_writer().write_all(b"c\n").unwrap();
        drop(writer);
        drop(log);
        assert_eq!(reader.join().unwrap(), b"\"b\"\nc\n");
    }

    #[test]
    fn a_reader_that_stops_costs_access_lines_only_and_they_are_counted() {
        let (log, writer, read) = log();
        let line = "x".repeat(CAPACITY / 4);
        // One batch is with the reader, who does not take it; one more fills the buffer.
        while log.dropped() == 0 {
            log.access(&line);
        }
        let waiting = std::thread::spawn({
            let log = log.clone();
            move || log.make_writer().write_all(b"kept\n").unwrap()
        });
        let reader = std::thread::spawn(move || read.iter().flatten().collect::<Vec<u8>>());
        waiting.join().unwrap();
        drop(writer);
        drop(log);
        let read = String::from_utf8(reader.join().unwrap()).unwrap();
        assert!(read.lines().any(|line| line == "kept"));
        assert!(read.lines().any(|line| line.contains("lines of the access log are lost")));
    }
}
