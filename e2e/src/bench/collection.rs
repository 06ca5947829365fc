//! Garbage collection: how fast it is when the store is far away, and what it costs in a registry that is large.
//! Counted and measured on the engine itself, by `registry/benches/collection.rs`; distribution has to be stopped for
//! its own, so there is nothing to compare.

use std::error::Error;

use super::lab::Lab;
use super::peers::Peer;
use super::table::{Reading, Table};
use crate::command;

/// In a full sample.
const DEAD: u32 = 2_000;
/// Between a request and its answer, milliseconds.
const DELAY: u32 = 20;

/// What the benchmark says.
struct Collected {
    requests: f64,
    seconds: f64,
    cpu: f64,
}

/// The rate at 20 ms.
pub(super) fn rate(lab: &Lab, table: &mut Table) -> Result<(), Box<dyn Error>> {
    let what = format!("collection of {DEAD} dead blobs, {DELAY} ms from the store");
    if !lab.wants(&what) {
        return Ok(());
    }
    lab.compare(table, &what, &[Peer::Berth], |_| {
        let collected = collect(lab, 10_000, DELAY)?;
        let reading = |unit, value| Reading { what: what.clone(), unit, value };
        let rate = reading("blobs/s", f64::from(DEAD) / collected.seconds);
        Ok(vec![rate, reading("% of its core", 100.0 * collected.cpu / collected.seconds)])
    })
}

/// What a dead blob costs among few and many others.
pub(super) fn cost(lab: &Lab, table: &mut Table) -> Result<(), Box<dyn Error>> {
    let sizes: &[u32] = if lab.quick() { &[10_000, 100_000] } else { &[10_000, 100_000, 1_000_000] };
    for &live in sizes {
        let what = format!("collection of {DEAD} dead blobs among {live} others");
        if !lab.wants(&what) {
            continue;
        }
        lab.compare(table, &what, &[Peer::Berth], |_| {
            let collected = collect(lab, live, 0)?;
            let each = |unit, value| Reading { what: what.clone(), unit, value: value / f64::from(DEAD) };
            Ok(vec![each("requests each", collected.requests), each("ms CPU each", 1000.0 * collected.cpu)])
        })?;
    }
    Ok(())
}

fn collect(lab: &Lab, live: u32, delay: u32) -> Result<Collected, Box<dyn Error>> {
    let mut command = lab.cores().for_server(lab.collection());
    command.args([live, DEAD, delay].map(|number| number.to_string()));
    let said = command::run(&mut command)?;
    let result: serde_json::Value = serde_json::from_str(&said)?;
    let number =
        |key: &str| result[key].as_f64().ok_or_else(|| format!("the benchmark says no {key}: {said}"));
    Ok(Collected { requests: number("requests")?, seconds: number("seconds")?, cpu: number("cpu")? })
}
