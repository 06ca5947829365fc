//! Pulls: manifests, which are small and many, and blobs, which are large.

use std::error::Error;

use super::clients::Length;
use super::content::{Blob, Source};
use super::lab::{Figure, Lab, Subject};
use super::peers::{ALL, PLAIN, Setting};
use super::table::Table;

const BLOB: u32 = 10 << 20;
/// As many as nodes that roll out at once.
const CONNECTIONS: u32 = 16;
/// Few: one core encrypts at one speed.
const BLOB_CONNECTIONS: u32 = 4;

/// Manifest GET by tag and by digest.
pub(super) fn manifests(lab: &Lab, table: &mut Table) -> Result<(), Box<dyn Error>> {
    lab.compare(table, "manifest GET, 16 connections", ALL, |peer| {
        let subject = lab.start(peer, PLAIN)?;
        let (digest, _) = push_image(lab, &subject, 1 << 10)?;
        let mut readings = Vec::new();
        for (by, reference) in [("tag", "v1"), ("digest", digest.as_str())] {
            let work = lab.measure_gets(&subject, &format!("manifests/{reference}"), CONNECTIONS, 0.0)?;
            let what = format!("manifest GET by {by}, 16 connections");
            let figures = [Figure::Rate("requests/s"), Figure::CpuEach, Figure::Busy];
            readings.extend(work.rows(&what, &figures));
        }
        Ok(readings)
    })
}

/// Blob GET, plain and over TLS.
pub(super) fn blobs(lab: &Lab, table: &mut Table) -> Result<(), Box<dyn Error>> {
    for (how, tls) in [("plain", None), ("TLS", Some(lab.identity()))] {
        let what = format!("blob GET of 10 MiB, {how}");
        lab.compare(table, &what, ALL, |peer| {
            let subject = lab.start(peer, Setting { tls, ..PLAIN })?;
            let (_, layer) = push_image(lab, &subject, BLOB)?;
            let path = format!("blobs/{}", layer.digest);
            let work = lab.measure_gets(&subject, &path, BLOB_CONNECTIONS, BLOB.into())?;
            Ok(work.rows(&what, &[Figure::Throughput, Figure::CpuEach, Figure::CpuPerGib, Figure::Busy]))
        })?;
    }
    Ok(())
}

/// Pushes an image with one layer of so many bytes as `v1`; returns its digest and the layer.
fn push_image(lab: &Lab, subject: &Subject, size: u32) -> Result<(String, Blob), Box<dyn Error>> {
    let (config, layer) = (Source::new(1 << 10).next(), Source::new(size).next());
    let digest = lab.wait(async {
        for blob in [&config, &layer] {
            subject.repository.push(blob.clone(), Length::Known).await?;
        }
        subject.repository.tag("v1", &config, std::slice::from_ref(&layer)).await
    })?;
    Ok((digest, layer))
}
