//! Pushes: blobs alone, whole images, and a mix of pushes and pulls. Both registries sync what they keep to the
//! disk before they say so; nginx does not, and takes a file in one request.

use std::error::Error;

use futures::future::try_join_all;

use super::clients::{ClientError, Length, repeat};
use super::content::Source;
use super::lab::{Done, Figure, Lab};
use super::peers::{ALL, PLAIN, REGISTRIES};
use super::table::Table;

const CONNECTIONS: usize = 16;
const MIB: u32 = 1 << 20;
const LAYERS: usize = 4;
const IMAGES: &[Figure] = &[Figure::Rate("images/s"), Figure::CpuEach, Figure::Busy];
/// How often the mixed load pulls what it has pushed.
const PULLS: usize = 4;

/// Blobs of 1 MiB.
pub(super) fn blobs(lab: &Lab, table: &mut Table) -> Result<(), Box<dyn Error>> {
    let what = "blob push of 1 MiB, 16 connections";
    let source = Source::new(MIB);
    lab.compare(table, what, ALL, |peer| {
        let subject = lab.start(peer, PLAIN)?;
        let work = lab.measure(&subject, async {
            let push = async || subject.repository.push(source.next(), Length::Known).await;
            let times = f64::from(repeat(CONNECTIONS, lab.time(), push).await?);
            Ok(Done { times, bytes: times * f64::from(MIB) })
        })?;
        let rate = Figure::Rate("blobs/s");
        Ok(work.rows(what, &[rate, Figure::CpuEach, Figure::CpuPerGib, Figure::Busy]))
    })
}

/// Images: config, four layers of 1 MiB at once, manifest.
pub(super) fn images(lab: &Lab, table: &mut Table) -> Result<(), Box<dyn Error>> {
    let what = "image push (config, 4 layers of 1 MiB, manifest), 4 at once";
    let (configs, layers) = (Source::new(1 << 10), Source::new(MIB));
    lab.compare(table, what, REGISTRIES, |peer| {
        let subject = lab.start(peer, PLAIN)?;
        let push = async || -> Result<(), ClientError> {
            let config = configs.next();
            let layers: Vec<_> = (0..LAYERS).map(|_| layers.next()).collect();
            let blobs = layers.iter().chain([&config]).cloned();
            try_join_all(blobs.map(|blob| subject.repository.push(blob, Length::Known))).await?;
            subject.repository.tag(tag_of(&config.digest), &config, &layers).await.map(|_| ())
        };
        let work = lab.measure(&subject, async {
            let times = f64::from(repeat(CONNECTIONS / LAYERS, lab.time(), push).await?);
            Ok(Done { times, bytes: 0.0 })
        })?;
        Ok(work.rows(what, IMAGES))
    })
}

/// Small images, each pushed once and pulled four times.
pub(super) fn mixed(lab: &Lab, table: &mut Table) -> Result<(), Box<dyn Error>> {
    let what = "mixed: push of an image with one layer of 64 KiB, 4 pulls of it, 16 at once";
    let (configs, layers) = (Source::new(1 << 10), Source::new(64 << 10));
    lab.compare(table, what, REGISTRIES, |peer| {
        let subject = lab.start(peer, PLAIN)?;
        let story = async || -> Result<(), ClientError> {
            let (config, layer) = (configs.next(), layers.next());
            for blob in [&config, &layer] {
                subject.repository.push(blob.clone(), Length::Known).await?;
            }
            let tag = tag_of(&config.digest);
            let digest = subject.repository.tag(tag, &config, std::slice::from_ref(&layer)).await?;
            for _ in 0..PULLS {
                subject.repository.get(&format!("manifests/{tag}")).await?;
                subject.repository.get(&format!("manifests/{digest}")).await?;
                for blob in [&config, &layer] {
                    subject.repository.get(&format!("blobs/{}", blob.digest)).await?;
                }
            }
            Ok(())
        };
        let work = lab.measure(&subject, async {
            let times = f64::from(repeat(CONNECTIONS, lab.time(), story).await?);
            Ok(Done { times, bytes: 0.0 })
        })?;
        Ok(work.rows(what, IMAGES))
    })
}

/// A tag that no other image has.
fn tag_of(digest: &str) -> &str {
    digest.rsplit(':').next().unwrap_or(digest)
}
