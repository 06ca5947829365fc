//! `wrk`, the load generator for GETs: one thread, connections that are kept, one request at a time on each.

use std::error::Error;
use std::process::Command;
use std::time::Duration;

use super::clients::MANIFEST;
use super::cores::Cores;
use crate::command;

/// What was asked for.
#[derive(Debug, PartialEq)]
pub(super) struct Load {
    /// Answers that came, all of them good.
    pub(super) requests: u32,
    /// In this time.
    pub(super) time: Duration,
}

/// Gets a URL for so many seconds.
pub(super) fn get(cores: &Cores, url: &str, connections: u32, seconds: u64) -> Result<Load, Box<dyn Error>> {
    let mut command: Command = cores.for_client("wrk");
    command.args(["--threads=1", "--timeout=30s", &format!("--header=Accept: {MANIFEST}")]);
    command.arg(format!("--connections={connections}")).arg(format!("--duration={seconds}s")).arg(url);
    let report = command::run(&mut command)?;
    Ok(parse(&report).ok_or_else(|| format!("wrk met errors at {url}:\n{report}"))?)
}

/// Reads `  184500 requests in 3.00s, 100.50MB read`; `None` if wrk speaks of errors.
fn parse(report: &str) -> Option<Load> {
    if report.contains("Socket errors") || report.contains("Non-2xx") {
        return None;
    }
    let line = report.lines().find(|line| line.contains(" requests in "))?;
    let (requests, rest) = line.trim().split_once(" requests in ")?;
    let time = rest.split(',').next()?;
    let seconds = match time.strip_suffix("m") {
        Some(minutes) => minutes.parse::<f64>().ok()? * 60.0,
        None => time.strip_suffix('s')?.parse().ok()?,
    };
    Some(Load { requests: requests.parse().ok()?, time: Duration::from_secs_f64(seconds) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_report() {
        let report = "Running 3s test @ http://x\n  1 threads and 16 connections\n  \
                      184500 requests in 2.50s, 100.50MB read\nRequests/sec:  61500.00\n";
        let load = Load { requests: 184_500, time: Duration::from_millis(2500) };
        assert_eq!(parse(report), Some(load));
        assert_eq!(parse(&format!("{report}  Non-2xx or 3xx responses: 7\n")), None);
    }
}
