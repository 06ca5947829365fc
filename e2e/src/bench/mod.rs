//! `cargo bench-peers`: Berth beside CNCF distribution, another registry, and nginx, which serves the same bytes
//! as files and thereby shows what this machine can do at all. Every sample comes from a server that was started
//! for it, on one core of its own; client and store have the others. Samples of the peers alternate, so that
//! whatever else the machine does meets all of them. The result is a Markdown table on standard output. [`admission`]
//! is the other comparison, on a cluster.

pub mod admission;
mod clients;
mod collection;
mod content;
mod cores;
mod heading;
mod lab;
mod memory;
mod peers;
mod process;
mod pulls;
mod pushes;
mod table;
mod wrk;

use std::error::Error;
use std::time::Instant;

use crate::tools::Tools;
use crate::{packages, release};
use lab::{Built, Lab};
use table::Table;

/// How much to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Scope {
    /// Shorter and fewer samples: a look, not a result.
    #[arg(long)]
    quick: bool,
    /// Samples of each figure instead of 5 (quick: 2).
    #[arg(long, value_name = "N")]
    samples: Option<usize>,
    /// Measure only what has this in its name: `manifest`, `TLS`, `push`.
    #[arg(default_value = "")]
    filter: String,
}

/// One measurement: it adds its rows to the table, if the filter lets it.
type Measurement = fn(&Lab, &mut Table) -> Result<(), Box<dyn Error>>;

/// In the order of the table.
const MEASUREMENTS: &[Measurement] = &[
    pulls::manifests,
    pulls::blobs,
    pushes::blobs,
    pushes::images,
    pushes::mixed,
    memory::pushes,
    collection::rate,
    collection::cost,
];

/// Measures and prints.
pub fn run(scope: Scope) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    packages::ensure(packages::BENCH)?;
    let tools = Tools::ensure_of(|module| matches!(module, "distribution" | "versitygw"))?;
    let programs =
        Built { berth: release::build_registry()?, collection: release::build_bench("collection")? };
    let lab = Lab::new(programs, &tools, scope)?;
    let mut table = Table::default();
    let outcome = MEASUREMENTS.iter().try_for_each(|measure| measure(&lab, &mut table));
    eprintln!("measured for {} s", start.elapsed().as_secs());
    // What was measured before something failed is a result, too.
    print!("{}{}", lab.heading(), table.markdown());
    outcome
}
