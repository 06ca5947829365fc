//! Ending a cluster: one process is killed and takes the rest with it; then folders and control groups go.
//! Works on a live cluster, on one whose harness died, and on half of one.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::cgroup::Cgroup;
use super::state::Process;
use super::{ClusterError, State, sysctl};
use crate::wait::wait_for;

/// Ends the cluster if it lives and removes every trace of it.
pub fn end(state: &State) -> Result<(), ClusterError> {
    if let Some(holder) = state.holder() {
        // The first process of the namespace, or its holder if that has not come so far.
        let target = holder.child().unwrap_or(holder.pid);
        if let Some(pid) = Pid::from_raw(target) {
            let _ = kill_process(pid, Signal::KILL);
        }
        wait_for("the cluster's first process to end", Duration::from_secs(20), || {
            match Process::find(holder.pid) {
                Ok(process) if process == holder && !is_zombie(holder.pid) => Err("it is alive"),
                _ => Ok(()),
            }
        })?;
    }
    Cgroup::named(&state.name()).remove()?;
    // The kernel may still be giving up the node's mounts.
    wait_for("the cluster's folder to be free", Duration::from_secs(20), || {
        match fs::remove_dir_all(state.folder()) {
            Err(error) if state.folder().exists() => Err(error),
            _ => Ok(()),
        }
    })?;
    sysctl::restore()
}

/// Ends every cluster whose first process is gone.
pub(super) fn end_stale() -> Result<(), ClusterError> {
    State::all().iter().filter(|state| state.holder().is_none()).try_for_each(end)
}

/// A process that has ended but that its parent has not looked after yet.
fn is_zombie(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('Z')))
}
