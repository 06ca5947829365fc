//! `cargo bench-admission`: what it costs that somebody is asked before a Pod is let in. `POST pods?dryRun=All` of Pods
//! of two signed containers, on the real one-node cluster: with nobody to ask, with Berth, and with sigstore's
//! policy-controller, which verify the same signatures at the same Registry. Samples of all of them alternate. Client,
//! API server, etcd, webhook and Registry share the machine; the result is a Markdown table on standard output.

mod images;
mod load;
mod policy_controller;
mod stage;

use std::error::Error;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use super::heading;
use super::table::{Column, Reading, Table};
use crate::cluster::{Cluster, Lifetime};
use crate::fixtures::Outcome;
use crate::interrupt::{self, Started};
use crate::tools::Tools;
use crate::{chart, packages};
use load::Pods;
use stage::{APPS, NAMESPACES, Stage};

/// Before each sample, with Pods whose images were seen before.
const WARM_UP: Duration = Duration::from_secs(2);

/// Connections, what that is called in the table, and Pods of which each has images never seen before.
const LOADS: &[(u32, &str, u32)] = &[(1, "1 connection", 300), (16, "16 connections", 600)];

/// How much to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Scope {
    /// Shorter and fewer samples: a look, not a result.
    #[arg(long)]
    quick: bool,
    /// Samples of each figure instead of 3 (quick: 1).
    #[arg(long, value_name = "N")]
    samples: Option<u32>,
}

/// Who is asked about a Pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    /// Nobody: there is no webhook.
    Nobody,
    /// Berth, but about another namespace.
    Elsewhere,
    /// Berth, which has seen the images before.
    Warm,
    /// Berth, which has seen none of the images.
    New,
    /// policy-controller, to which all images are new each time.
    PolicyController,
}

impl Column for Subject {
    const ALL: &'static [Self] =
        &[Self::Nobody, Self::Elsewhere, Self::Warm, Self::New, Self::PolicyController];
    const RATIOS: &'static [(Self, Self)] =
        &[(Self::Warm, Self::Nobody), (Self::New, Self::PolicyController)];

    fn name(self) -> &'static str {
        match self {
            Self::Nobody => "no webhook",
            Self::Elsewhere => "Berth, policy elsewhere",
            Self::Warm => "Berth, seen before",
            Self::New => "Berth, never seen",
            Self::PolicyController => "policy-controller",
        }
    }
}

impl Scope {
    fn samples(&self) -> u32 {
        self.samples.unwrap_or(if self.quick { 1 } else { 3 })
    }

    fn time(&self) -> Duration {
        Duration::from_secs(if self.quick { 2 } else { 5 })
    }

    /// Of a sample of this many in a full one.
    fn fresh(&self, full: u32) -> u32 {
        if self.quick { full / 4 } else { full }
    }
}

/// Measures and prints.
pub fn run(scope: &Scope) -> Result<(), Box<dyn Error>> {
    packages::ensure_cluster(&[])?;
    // Refused if somebody was first; then there is one, too.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let tools = Tools::ensure_of(|_| true)?;
    let mut images = crate::stage::build(&tools)?;
    images.push(policy_controller::image(&tools)?);
    let name = format!("bench-{}", std::process::id());
    let _guard = interrupt::remember(Started::Cluster(name.clone()));
    let start = Instant::now();
    let cluster = Cluster::boot(&name, &tools, &images, Lifetime::Process)?;
    chart::install(&cluster, NAMESPACES)?;
    let mut table = Table::default();
    let outcome = measure(&cluster, scope, &mut table);
    eprintln!("measured for {} s, boot and images included", start.elapsed().as_secs());
    // What was measured before something failed is a result, too.
    print!("{}{}", heading(scope), table.markdown());
    if outcome.is_err() {
        for namespace in [APPS, policy_controller::NAMESPACE] {
            cluster.diagnose(namespace);
        }
    }
    cluster.end()?;
    outcome.map_err(|failure| format!("{failure:?}").into())
}

fn measure(cluster: &Cluster, scope: &Scope, table: &mut Table<Subject>) -> Outcome {
    let fresh = LOADS.iter().map(|(_, _, fresh)| scope.fresh(*fresh)).sum::<u32>();
    let stage = Stage::set(cluster, scope.samples() * fresh)?;
    let mut fresh = stage.fresh.as_slice();
    for round in 0..scope.samples() {
        let mut order = Subject::ALL.to_vec();
        if round % 2 == 1 {
            order.reverse();
        }
        for subject in order {
            stage.enter(subject)?;
            for &(connections, what, each) in LOADS {
                eprintln!("{}, {what}, {} of {}", subject.name(), round + 1, scope.samples());
                let pods = if subject == Subject::New {
                    let (now, later) = fresh.split_at(fresh.len().min(scope.fresh(each) as usize));
                    fresh = later;
                    Pods::Once(now)
                } else {
                    Pods::Again(&stage.familiar)
                };
                for (unit, value) in sample(&stage, subject, connections, &pods, scope.time())? {
                    table.add(subject, Reading { what: what.into(), unit, value });
                }
            }
        }
    }
    Ok(())
}

/// One sample: the units of its figures, and their values.
fn sample(
    stage: &Stage<'_>,
    subject: Subject,
    connections: u32,
    pods: &Pods<'_>,
    time: Duration,
) -> Outcome<Vec<(&'static str, f64)>> {
    let load = |pods: &Pods<'_>, time| stage.api.load(APPS, pods, connections, time);
    load(&Pods::Again(&stage.familiar), WARM_UP)?;
    let (cpu, requests) = (stage.cpu(subject)?, stage.repository.requests()?);
    let done = load(pods, time)?;
    let (cpu_now, requests_now) = (stage.cpu(subject)?, stage.repository.requests()?);
    let each = f64::from(done.pods);
    let mut figures = vec![
        ("Pods/s", each / done.wall),
        ("ms p50", done.percentile(50)),
        ("ms p99", done.percentile(99)),
        ("registry requests a Pod", (requests_now - requests) / each),
    ];
    if let (Some(before), Some(now)) = (cpu, cpu_now) {
        figures.push(("ms webhook CPU a Pod", 1000.0 * now.saturating_sub(before).as_secs_f64() / each));
    }
    Ok(figures)
}

fn heading(scope: &Scope) -> String {
    format!(
        "Pods of two containers, `dryRun=All`; images that are pinned and signed with a key in cosign's classic format. Berth \
         {}, policy-controller {} (as shipped, without its limit of processor time; its client of the API server is \
         limited to 35 requests a second, which nothing can set), Kubernetes {} on one node, etcd in memory. Client, API \
         server, webhooks and Registry (in memory) share {} cores ({}); the client is exempt from priority and fairness. \
         {} samples of {} s each (images never seen: {} and {} Pods) after {} s to warm up: median (least–most). Load of \
         the machine at the end: {}.\n\n",
        env!("CARGO_PKG_VERSION"),
        heading::pinned(policy_controller::GO_MOD, "github.com/sigstore/policy-controller"),
        heading::pinned(include_str!("../../../tools/kube/go.mod"), "k8s.io/kubernetes"),
        available_parallelism().map_or(0, std::num::NonZero::get),
        heading::processor(),
        scope.samples(),
        scope.time().as_secs(),
        scope.fresh(LOADS[0].2),
        scope.fresh(LOADS[1].2),
        WARM_UP.as_secs(),
        heading::load(),
    )
}
