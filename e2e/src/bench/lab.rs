//! The laboratory: starts a server for each sample, measures work on it, and keeps the peers alternating.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::Scope;
use super::clients::{Client, ClientError, Repository};
use super::cores::Cores;
use super::heading;
use super::peers::{Bucket, Identity, Peer, Programs, Server, Setting};
use super::table::{Column, Reading, Table};
use super::wrk;
use crate::interrupt::{self, Guard, Started};
use crate::tools::Tools;
use crate::wait::wait_for;

/// The module of the tool.
const DISTRIBUTION: &str = include_str!("../../tools/distribution/go.mod");

const MIB: f64 = 1_048_576.0;
/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Our own programs.
pub(super) struct Built {
    /// The server.
    pub(super) berth: PathBuf,
    /// The benchmark of garbage collection.
    pub(super) collection: PathBuf,
}

/// What every measurement uses.
pub(super) struct Lab {
    cores: Cores,
    collection: PathBuf,
    programs: Programs,
    identity: Identity,
    client: Client,
    runtime: Runtime,
    scope: Scope,
    _remembered: Guard,
    _folder: TempDir,
}

/// A server that answers, and its repository.
pub(super) struct Subject {
    server: Server,
    pub(super) repository: Repository,
}

/// Work that a server did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Work {
    /// How much of it.
    pub(super) done: f64,
    /// Content that was moved, bytes.
    pub(super) bytes: f64,
    /// How long it took, seconds.
    pub(super) wall: f64,
    /// The server's processor time, seconds.
    pub(super) cpu: f64,
}

impl Lab {
    /// Makes ready, and moves this process off the server's core.
    pub(super) fn new(built: Built, tools: &Tools, scope: Scope) -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let leaf = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let identity =
            Identity { certificate: folder.path().join("tls.crt"), key: folder.path().join("tls.key") };
        fs::write(&identity.certificate, leaf.cert.pem())?;
        fs::write(&identity.key, leaf.signing_key.serialize_pem())?;
        Ok(Self {
            cores: Cores::split()?,
            collection: built.collection,
            programs: Programs::find(built.berth, tools, folder.path())?,
            client: Client::new(&leaf.cert.pem())?,
            identity,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            scope,
            _remembered: interrupt::remember(Started::Folder(folder.path().into())),
            _folder: folder,
        })
    }

    /// Who runs where.
    pub(super) fn cores(&self) -> &Cores {
        &self.cores
    }

    /// The benchmark of garbage collection.
    pub(super) fn collection(&self) -> &Path {
        &self.collection
    }

    /// The certificate of servers that speak TLS.
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether only a look is wanted.
    pub(super) fn quick(&self) -> bool {
        self.scope.quick
    }

    /// Whether the user wants to know this.
    pub(super) fn wants(&self, what: &str) -> bool {
        what.to_lowercase().contains(&self.scope.filter.to_lowercase())
    }

    /// How long a sample takes.
    pub(super) fn time(&self) -> Duration {
        Duration::from_secs(self.seconds())
    }

    fn seconds(&self) -> u64 {
        if self.scope.quick { 1 } else { 3 }
    }

    fn samples(&self) -> usize {
        self.scope.samples.unwrap_or(if self.scope.quick { 2 } else { 5 })
    }

    /// Takes samples of each peer, in turn and back again, if the filter lets it.
    pub(super) fn compare(
        &self,
        table: &mut Table,
        what: &str,
        peers: &[Peer],
        mut sample: impl FnMut(Peer) -> Result<Vec<Reading>, Box<dyn Error>>,
    ) -> Result<(), Box<dyn Error>> {
        if !self.wants(what) {
            return Ok(());
        }
        for round in 0..self.samples() {
            let mut order = peers.to_vec();
            if round % 2 == 1 {
                order.reverse();
            }
            for peer in order {
                eprintln!("{what}: {}, {} of {}", peer.name(), round + 1, self.samples());
                let readings = sample(peer).map_err(|error| format!("{what}, {}: {error}", peer.name()))?;
                for reading in readings {
                    table.add(peer, reading);
                }
            }
        }
        Ok(())
    }

    /// Starts a server and waits until it answers.
    pub(super) fn start(&self, peer: Peer, setting: Setting<'_>) -> Result<Subject, Box<dyn Error>> {
        let mut server = self.programs.start(&self.cores, peer, setting)?;
        let url = format!("{}{}", server.base, peer.readiness());
        wait_for(&format!("{} at {url}", peer.name()), PATIENCE, || self.wait(self.client.answers(&url)))
            // That it has ended says more than that it does not answer.
            .map_err(|error| {
                server.process.alive().err().map_or_else(|| error.into(), Box::<dyn Error>::from)
            })?;
        let repository = self.client.repository(peer, &server.base);
        Ok(Subject { server, repository })
    }

    /// Starts an S3 server and waits until it answers.
    pub(super) fn bucket(&self) -> Result<Bucket, Box<dyn Error>> {
        let mut bucket = self.programs.bucket(&self.cores)?;
        let address = bucket.endpoint.trim_start_matches("http://").to_owned();
        wait_for("the S3 server", PATIENCE, || {
            bucket.process.alive()?;
            std::net::TcpStream::connect(&address).map(drop)
        })?;
        Ok(bucket)
    }

    /// Runs something on the client's core to its end.
    pub(super) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Measures a server while it is asked for something.
    pub(super) fn measure(
        &self,
        subject: &Subject,
        work: impl Future<Output = Result<Done, ClientError>>,
    ) -> Result<Work, Box<dyn Error>> {
        let (start, before) = (Instant::now(), subject.server.process.cpu()?);
        let Done { times, bytes } = self.wait(work)?;
        let wall = start.elapsed().as_secs_f64();
        let cpu = (subject.server.process.cpu()?.saturating_sub(before)).as_secs_f64();
        Ok(Work { done: times, bytes, wall, cpu })
    }

    /// Measures GETs of something that has so many bytes, after a second to warm up.
    pub(super) fn measure_gets(
        &self,
        subject: &Subject,
        path: &str,
        connections: u32,
        bytes: f64,
    ) -> Result<Work, Box<dyn Error>> {
        let url = format!("{}/{path}", subject.repository.url);
        wrk::get(&self.cores, &url, connections, 1)?;
        let before = subject.server.process.cpu()?;
        let load = wrk::get(&self.cores, &url, connections, self.seconds())?;
        let cpu = (subject.server.process.cpu()?.saturating_sub(before)).as_secs_f64();
        let done = f64::from(load.requests);
        Ok(Work { done, bytes: done * bytes, wall: load.time.as_secs_f64(), cpu })
    }

    /// What the table is about.
    pub(super) fn heading(&self) -> String {
        format!(
            "Berth {}, distribution {}, nginx {} on one core ({}); {} samples of {} s each: \
             median (least–most). Load of the machine at the end: {}, which should not be much above 2.\n\n",
            env!("CARGO_PKG_VERSION"),
            heading::pinned(DISTRIBUTION, "github.com/distribution/distribution/v3"),
            self.programs.nginx_version(),
            heading::processor(),
            self.samples(),
            self.seconds(),
            heading::load(),
        )
    }
}

/// A figure to show of some work.
#[derive(Debug, Clone, Copy)]
pub(super) enum Figure {
    /// How often a second, in this unit.
    Rate(&'static str),
    /// Content a second.
    Throughput,
    /// Processor time for each.
    CpuEach,
    /// Processor time for content.
    CpuPerGib,
    /// How busy the server was: well below 100 %, the client or the disk held it up, and the rate says more
    /// about them.
    Busy,
}

/// What a client has got done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    pub(super) times: f64,
    pub(super) bytes: f64,
}

impl Subject {
    /// The most memory that the server has held, MiB.
    pub(super) fn peak_memory(&self) -> Result<f64, Box<dyn Error>> {
        Ok(f64::from(u32::try_from(self.server.process.peak_memory()? >> 10)?) / 1024.0)
    }
}

impl Work {
    /// Its figures as rows of the table.
    pub(super) fn rows(self, what: &str, figures: &[Figure]) -> Vec<Reading> {
        let row = |figure: &Figure| {
            let (unit, value) = match *figure {
                Figure::Rate(unit) => (unit, self.done / self.wall),
                Figure::Throughput => ("MiB/s", self.bytes / MIB / self.wall),
                Figure::CpuEach => ("ms CPU each", 1000.0 * self.cpu / self.done),
                Figure::CpuPerGib => ("s CPU per GiB", 1024.0 * MIB * self.cpu / self.bytes),
                Figure::Busy => ("% of its core", 100.0 * self.cpu / self.wall),
            };
            Reading { what: what.into(), unit, value }
        };
        figures.iter().map(row).collect()
    }
}
