//! The cluster's network for this process's own sockets: work runs on a thread that has moved into it. Other programs
//! get there by `client`.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::State;

/// A way into the network of a cluster that is up.
#[derive(Debug, Clone)]
pub struct Network(PathBuf);

impl Network {
    pub(super) fn of(state: &State) -> io::Result<Self> {
        let init = fs::read_to_string(state.path("init"))?;
        Ok(Self(PathBuf::from(format!("/proc/{}/ns/net", init.trim()))))
    }

    /// Runs something to its end on a thread of its own inside, with an event loop. Names are not resolved by the
    /// cluster's name service: sockets need addresses.
    pub fn run<T, F>(&self, work: impl FnOnce() -> F + Send) -> io::Result<T>
    where
        T: Send,
        F: Future<Output = T>,
    {
        thread::scope(|scope| match scope.spawn(|| self.enter_and_run(work)).join() {
            Ok(done) => done,
            Err(panic) => resume_unwind(panic),
        })
    }

    fn enter_and_run<T, F>(&self, work: impl FnOnce() -> F) -> io::Result<T>
    where
        F: Future<Output = T>,
    {
        let network = File::open(&self.0)?;
        // Of this thread alone, and of the threads that it will start.
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work()))
    }
}
