//! Large pushes, many at once, to S3: the most memory that a server takes for them. The S3 server runs beside the
//! client, so the rates are not about the registries alone.

use std::error::Error;

use futures::future::try_join_all;

use super::clients::Length;
use super::content::Source;
use super::lab::{Done, Figure, Lab};
use super::peers::{PLAIN, REGISTRIES, Setting};
use super::table::{Reading, Table};

const BLOB: u32 = 64 << 20;

/// 16 and (not for a quick look) 64 pushes at once.
pub(super) fn pushes(lab: &Lab, table: &mut Table) -> Result<(), Box<dyn Error>> {
    let source = Source::new(BLOB);
    let sizes: &[u32] = if lab.quick() { &[16] } else { &[16, 64] };
    for &at_once in sizes {
        for (how, length) in [("streamed", Length::Streamed), ("length known", Length::Known)] {
            let what = format!("{at_once} pushes of 64 MiB at once to S3, {how}");
            lab.compare(table, &what, REGISTRIES, |peer| {
                let bucket = lab.bucket()?;
                let subject = lab.start(peer, Setting { bucket: Some(&bucket), ..PLAIN })?;
                let work = lab.measure(&subject, async {
                    let blobs = (0..at_once).map(|_| subject.repository.push(source.next(), length));
                    try_join_all(blobs).await?;
                    Ok(Done { times: at_once.into(), bytes: f64::from(at_once) * f64::from(BLOB) })
                })?;
                let peak =
                    Reading { what: what.clone(), unit: "MiB of memory", value: subject.peak_memory()? };
                let figures = [Figure::Throughput, Figure::CpuPerGib, Figure::Busy];
                Ok([vec![peak], work.rows(&what, &figures)].concat())
            })?;
        }
    }
    Ok(())
}
