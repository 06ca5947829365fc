//! Who runs where: one core for the server that is measured, the others for whoever asks it.

use std::io;
use std::process::Command;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores of this machine that this process may use, dealt out.
#[derive(Debug)]
pub(super) struct Cores {
    server: usize,
    others: Vec<usize>,
}

impl Cores {
    /// Deals them out, and moves the calling thread, with the threads that it will start, off the server's core.
    pub(super) fn split() -> io::Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let mut others: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
        let server = others.pop().filter(|_| !others.is_empty());
        let server = server.ok_or_else(|| {
            io::Error::other("two cores are needed: one for the server, one for client and store")
        })?;
        let mut set = CpuSet::new();
        for core in &others {
            set.set(*core);
        }
        sched_setaffinity(None, &set)?;
        Ok(Self { server, others })
    }

    /// A command that will run on the server's core.
    pub(super) fn for_server(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        on(&self.server.to_string(), program)
    }

    /// A command that will run beside the client.
    pub(super) fn for_client(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let cores: Vec<String> = self.others.iter().map(ToString::to_string).collect();
        on(&cores.join(","), program)
    }
}

/// `taskset` and `setpriv` become the program, so the process is the program's own; it ends when this one does.
fn on(cores: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "taskset", "--cpu-list", cores]).arg(program);
    command
}
