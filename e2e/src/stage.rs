//! The stage for demo and cluster tests: a cluster with Berth's images on the node, an S3 server, and the
//! charts installed.

use std::error::Error;
use std::time::Instant;

use crate::cluster::{Cluster, Lifetime};
use crate::image::{self, Image, Set};
use crate::release;
use crate::tools::{self, Tools};
use crate::{chart, s3};

/// Builds Berth and packs every image that the stage needs.
pub fn build(tools: &Tools) -> Result<Vec<Image>, Box<dyn Error>> {
    let folder = tools::cache().join("images");
    let mut images = image::pack_all(Set::Node(tools), &folder)?;
    images.extend(image::pack_all(Set::Release(&release::build()?), &folder)?);
    Ok(images)
}

/// Boots the cluster, starts the S3 server and installs the charts for the given teams.
pub fn raise(
    name: &str,
    tools: &Tools,
    images: &[Image],
    teams: &[&str],
    lifetime: Lifetime,
) -> Result<Cluster, Box<dyn Error>> {
    let start = Instant::now();
    let cluster = Cluster::boot(name, tools, images, lifetime)?;
    s3::start(&cluster)?;
    eprintln!("  {:5.1} s  S3 server ready", start.elapsed().as_secs_f32());
    chart::install(&cluster, teams)?;
    eprintln!("  {:5.1} s  charts installed, operator ready", start.elapsed().as_secs_f32());
    Ok(cluster)
}
