//! Ctrl-C and SIGTERM: what this process started ends before it does.

use std::fs;
use std::path::PathBuf;
use std::process::exit;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::cluster::{State, end};

static STARTED: Mutex<Vec<Started>> = Mutex::new(Vec::new());

/// Something to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Started {
    /// A process group, by its leader.
    Group(u32),
    /// The cluster of that name.
    Cluster(String),
    /// A folder.
    Folder(PathBuf),
}

/// Keeps something on the list while it lives.
#[derive(Debug)]
pub struct Guard(Started);

/// Answers Ctrl-C and SIGTERM from now on.
pub fn install() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| {
        eprintln!("\ninterrupted: ending what was started");
        // The newest first: a test before the cluster that it uses.
        for started in list().iter().rev() {
            match started {
                Started::Group(leader) => {
                    if let Some(group) = i32::try_from(*leader).ok().and_then(Pid::from_raw) {
                        let _ = kill_process_group(group, Signal::TERM);
                    }
                }
                Started::Cluster(name) => {
                    if let Err(error) = end(&State::named(name)) {
                        eprintln!("{error}");
                    }
                }
                Started::Folder(folder) => drop(fs::remove_dir_all(folder)),
            }
        }
        exit(130);
    })
}

/// Puts something on the list until the guard is dropped.
pub fn remember(started: Started) -> Guard {
    list().push(started.clone());
    Guard(started)
}

impl Drop for Guard {
    fn drop(&mut self) {
        list().retain(|started| *started != self.0);
    }
}

fn list() -> MutexGuard<'static, Vec<Started>> {
    STARTED.lock().unwrap_or_else(PoisonError::into_inner)
}
