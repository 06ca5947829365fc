//! Where a cluster lives on disk, and how another process recognises one that is still alive.
//!
//! Every cluster has a folder of its own below one root. A cluster whose first process is gone is stale,
//! whatever its folder says: the next boot removes it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::ClusterError;

/// Short, because Unix sockets below it may have 107 characters at most; on disk, because images go here.
const ROOT: &str = "/var/tmp/berth";

/// The folder of one cluster.
#[derive(Debug, Clone)]
pub struct State {
    folder: PathBuf,
}

impl State {
    /// The cluster of that name, whether it exists or not.
    pub fn named(name: &str) -> Self {
        Self { folder: Path::new(ROOT).join(name) }
    }

    /// The cluster in that folder.
    pub(super) fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Every cluster that has a folder.
    pub(super) fn all() -> Vec<Self> {
        let entries = fs::read_dir(ROOT).into_iter().flatten().flatten();
        entries.map(|entry| Self { folder: entry.path() }).filter(|state| state.folder.is_dir()).collect()
    }

    /// Waits until no other process is booting a cluster; the others wait until the file is dropped. A cluster
    /// whose first process has not started yet looks stale.
    pub(super) fn lock() -> Result<File, ClusterError> {
        let path = Path::new(ROOT).join("lock");
        let lock = fs::create_dir_all(ROOT).and_then(|()| File::create(&path)).and_then(|file| {
            file.lock()?;
            Ok(file)
        });
        lock.map_err(|source| ClusterError::io(&path, source))
    }

    /// The file that keeps the machine's kernel settings while any cluster is up.
    pub(super) fn saved_sysctls() -> PathBuf {
        Path::new(ROOT).join("sysctls.json")
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file or folder in it.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.folder.join(inside)
    }

    /// The name of the cluster.
    pub fn name(&self) -> String {
        self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Writes a file in the folder, and the folders above it.
    pub(super) fn write(&self, inside: &str, content: impl AsRef<[u8]>) -> Result<PathBuf, ClusterError> {
        let path = self.path(inside);
        let parent = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, content))
            .map_err(|source| ClusterError::io(&path, source))?;
        Ok(path)
    }

    /// Remembers the process that holds the cluster's namespaces together.
    pub(super) fn remember(&self, holder: Process) -> Result<(), ClusterError> {
        self.write("holder", format!("{} {}", holder.pid, holder.started)).map(|_| ())
    }

    /// The process that holds the namespaces together, if it is alive.
    pub(super) fn holder(&self) -> Option<Process> {
        let text = fs::read_to_string(self.path("holder")).ok()?;
        let (pid, started) = text.split_once(' ')?;
        let holder = Process { pid: pid.parse().ok()?, started: started.parse().ok()? };
        (Process::find(holder.pid).ok()? == holder).then_some(holder)
    }

    /// The end of a log, for a failure message.
    pub(super) fn log_tail(&self, name: &str) -> String {
        const LINES: usize = 15;
        let path = self.path(&format!("log/{name}.log"));
        let text =
            fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!("--- {}\n{}\n", path.display(), lines[lines.len().saturating_sub(LINES)..].join("\n"))
    }
}

/// A process, told apart from a later one with the same number by when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    /// Clock ticks since the machine started.
    started: u64,
}

impl Process {
    pub(super) fn find(pid: i32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The second field is the program's name in parentheses and may hold anything; count from its end.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let started = fields.split_whitespace().nth(19).and_then(|ticks| ticks.parse().ok());
        started
            .map(|started| Self { pid, started })
            .ok_or_else(|| io::Error::other("unreadable /proc/PID/stat"))
    }

    /// The only child, once there is one.
    pub(super) fn child(self) -> Option<i32> {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid)).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_process_number_is_not_the_old_process() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::at(folder.path().into());
        let me = Process::find(i32::try_from(std::process::id()).unwrap()).unwrap();
        state.remember(me).unwrap();
        assert_eq!(state.holder(), Some(me));
        state.remember(Process { started: me.started - 1, ..me }).unwrap();
        assert_eq!(state.holder(), None);
    }

    #[test]
    fn a_log_is_cut_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::at(folder.path().into());
        let log = (0..100).map(|line| format!("line {line}")).collect::<Vec<_>>().join("\n");
        state.write("log/kubelet.log", log).unwrap();
        let tail = state.log_tail("kubelet");
        assert!(tail.contains("line 99") && !tail.contains("line 84"), "{tail}");
    }
}
