//! Jobs of the management API: work on the whole registry that takes longer than a request should. Of each kind one at
//! a time runs in a process; it reports line by line to whoever asked, and goes on when nobody listens any more.
//! `client` is the other side: it asks a running server for a job.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use self::{gc::Gc, prune::Prune, scrub::Scrub};
use crate::{configuration::Shared, engine::Engine, events::Events, metrics::Metrics};

pub mod client;
pub mod gc;
pub mod prune;
pub mod scrub;

/// Lines that wait for a slow caller before the job waits for it, too. A caller that takes nothing at all is
/// disconnected, and then the job goes on.
const WAITING_LINES: usize = 1000;

/// The jobs of a server.
pub struct Jobs {
    /// Applies the lifecycle rules.
    pub prune: Job<Prune>,
    /// Collects garbage.
    pub gc: Job<Gc>,
    /// Checks everything.
    pub scrub: Job<Scrub>,
}

impl Jobs {
    /// None of them runs yet.
    pub fn new(live: Shared, events: Events, metrics: &Arc<Metrics>) -> Self {
        Self {
            prune: Job::new(Prune::new(live, events, metrics.clone())),
            gc: Job::new(Gc::new(metrics.clone())),
            scrub: Job::new(Scrub::new(metrics.clone())),
        }
    }
}

/// What a job does. It must bear to be killed at any moment and to be run again, also on two replicas at once.
pub trait Work: Send + Sync + 'static {
    /// What it can be told.
    type Request: DeserializeOwned + Default + Send + 'static;
    /// A line of its report; the last one is the summary.
    type Line: Serialize + Send + 'static;
    /// What it is called in the API's path and in messages.
    const NAME: &'static str;

    /// Does it.
    fn run(
        &self,
        engine: Engine,
        request: Self::Request,
        lines: Lines<Self::Line>,
    ) -> impl Future<Output = ()> + Send;
}

/// A job that can be started.
pub struct Job<W> {
    work: Arc<W>,
    running: Arc<AtomicBool>,
}

/// Where a job says what it does.
#[derive(Clone, Debug)]
pub struct Lines<T>(Sender<T>);

/// Frees the place of the job, also if it panics.
struct Running(Arc<AtomicBool>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl<T> Lines<T> {
    /// Says a line, if anyone still listens.
    pub async fn say(&self, line: T) {
        let _ = self.0.send(line).await;
    }
}

impl<W: Work> Job<W> {
    /// A job that is not running.
    pub fn new(work: W) -> Self {
        Self { work: Arc::new(work), running: Arc::default() }
    }

    /// What it does.
    pub fn work(&self) -> &W {
        &self.work
    }

    /// Starts the job and returns its lines; `None` if it runs already.
    pub fn start(&self, engine: Engine, request: W::Request) -> Option<Receiver<W::Line>> {
        if self.running.swap(true, Ordering::AcqRel) {
            return None;
        }
        let (running, work) = (Running(self.running.clone()), self.work.clone());
        let (sender, receiver) = channel(WAITING_LINES);
        tokio::spawn(async move {
            let _running = running;
            work.run(engine, request, Lines(sender)).await;
        });
        Some(receiver)
    }
}
