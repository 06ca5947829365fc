//! A program that was started for a measurement: what it has used, and its end.

use std::fmt::Display;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::command::{self, CommandError};
use crate::interrupt::{self, Guard, Started};

/// A running program; dropping it ends it.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    line: String,
    _guard: Guard,
}

impl Process {
    /// Starts it. Its log, which it writes as it does by default, goes nowhere.
    pub(super) fn start(command: &mut Command) -> Result<Self, CommandError> {
        let line = command::describe(command);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let child = child.spawn().map_err(|source| CommandError::Start { command: line.clone(), source })?;
        let guard = interrupt::remember(Started::Group(child.id()));
        Ok(Self { child, line, _guard: guard })
    }

    /// Fails if the program has ended by itself.
    pub(super) fn alive(&mut self) -> io::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(io::Error::other(format!("`{}` ended with {status}", self.line))),
        }
    }

    /// Processor time of all its threads so far, in steps of a hundredth of a second.
    pub(super) fn cpu(&self) -> io::Result<Duration> {
        cpu_of(self.child.id())
    }

    /// The most memory that it has held at once, bytes.
    pub(super) fn peak_memory(&self) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        peak(&status).ok_or_else(|| unreadable(self.child.id(), "status"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // What it kept is thrown away: no need to ask it kindly.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time of all threads of a process so far, in steps of a hundredth of a second.
pub(super) fn cpu_of(process: impl Display) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    cpu(&stat, rustix::param::clock_ticks_per_second()).ok_or_else(|| unreadable(&process, "stat"))
}

fn unreadable(process: impl Display, file: &str) -> io::Error {
    io::Error::other(format!("/proc/{process}/{file} is not as expected"))
}

/// `utime` and `stime` of a line of `/proc/PID/stat` (proc(5)).
fn cpu(stat: &str, ticks_per_second: u64) -> Option<Duration> {
    // The name in parentheses may hold anything; the state follows as the third field.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_nanos(ticks * 1_000_000_000 / ticks_per_second))
}

fn peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_says_about_a_process() {
        let stat = "1234 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0";
        assert_eq!(cpu(stat, 100), Some(Duration::from_secs(2)));
        assert_eq!(peak("Name:\tx\nVmHWM:\t   2048 kB\nVmRSS:\t 1 kB\n"), Some(2 << 20));
    }
}
