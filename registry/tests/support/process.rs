//! A child process whose output is kept for the failure message, and that dies with its handle.
//! Conditions are polled with a deadline; nothing here sleeps for a guessed time.

use std::net::TcpListener;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// How long a condition may take before a test gives up. Generous: a loaded machine is no defect.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A running child.
pub(crate) struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    news: watch::Receiver<usize>,
}

impl Process {
    /// Starts a command and collects its output line by line.
    pub(crate) fn start(command: &mut Command) -> Self {
        let spawned = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut child = spawned.unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (sender, news) = watch::channel(0);
        let sender = Arc::new(sender);
        collect(child.stdout.take(), &lines, &sender);
        collect(child.stderr.take(), &lines, &sender);
        Self { child, lines, news }
    }

    /// Everything that the process wrote so far.
    pub(crate) fn log(&self) -> String {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    /// The first value that `find` makes of a line, waiting for lines to come.
    pub(crate) async fn wait_for_line<T>(&mut self, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        let search = async {
            let mut seen = 0;
            loop {
                let fresh: Vec<_> = {
                    let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
                    lines[seen..].to_vec()
                };
                seen += fresh.len();
                if let Some(found) = fresh.iter().find_map(|line| find(line)) {
                    return Some(found);
                }
                // Both pipes closed: the process is over and nothing more will come.
                if fresh.is_empty() && self.news.changed().await.is_err() {
                    return None;
                }
            }
        };
        tokio::time::timeout(PATIENCE, search).await.unwrap_or_default()
    }

    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Sends SIGTERM, as the kubelet does.
    pub(crate) fn terminate(&self) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        let id = id.and_then(rustix::process::Pid::from_raw).expect("the process runs");
        rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("SIGTERM can be sent");
    }

    /// Kills at once (SIGKILL) and waits until the process is gone.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("SIGKILL can be sent");
    }

    /// Waits for the process to end by itself.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let ended = ended.unwrap_or_else(|_| panic!("the process does not end:\n{}", self.log()));
        ended.expect("the process can be waited for")
    }

    /// Whether the process has ended.
    pub(crate) fn ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }
}

fn collect(
    pipe: Option<impl AsyncRead + Unpin + Send + 'static>,
    lines: &Arc<Mutex<Vec<String>>>,
    news: &Arc<watch::Sender<usize>>,
) {
    let (lines, news) = (Arc::clone(lines), Arc::clone(news));
    let Some(pipe) = pipe else { return };
    tokio::spawn(async move {
        let mut reader = BufReader::new(pipe).lines();
        while let Ok(Some(line)) = reader.next_line().await {
            lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            news.send_modify(|count| *count += 1);
        }
    });
}

/// A port of the loopback interface that is free now, for servers that cannot choose one themselves.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// Polls until the condition holds; says what it waited for when it never does.
pub(crate) async fn eventually<F>(what: &str, mut condition: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    let poll = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, poll).await.is_ok(), "waited in vain: {what}");
}

/// Waits until something listens at a loopback port.
pub(crate) async fn listens(process: &mut Process, port: u16) {
    let poll = async {
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(!process.ended(), "ended instead of listening on {port}:\n{}", process.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let up = tokio::time::timeout(PATIENCE, poll).await;
    assert!(up.is_ok(), "nothing listens on {port}:\n{}", process.log());
}
