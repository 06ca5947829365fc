//! The stage for demo and cluster tests: a cluster with Berth's images on the node, an S3 server, the charts
//! installed, and the plugin beside kubectl.

use std::error::Error;
use std::time::Instant;

use crate::cluster::{Cluster, Lifetime};
use crate::image::{self, Recipe};
use crate::release;
use crate::tools::Tools;
use crate::{chart, s3};

/// Builds Berth; returns how to pack every image that the node needs.
pub fn build(tools: &Tools) -> Result<Vec<Recipe>, Box<dyn Error>> {
    let mut images = image::node(tools)?;
    images.extend(image::release(&release::build()?)?);
    Ok(images)
}

/// Boots the cluster, starts the S3 server and installs the charts for the given teams.
pub fn raise(
    name: &str,
    tools: &Tools,
    images: &[Recipe],
    teams: &[&str],
    lifetime: Lifetime,
) -> Result<Cluster, Box<dyn Error>> {
    let start = Instant::now();
    let cluster = Cluster::boot(name, tools, images, lifetime)?;
    let plugin = release::build_plugin()?;
    cluster.add_program("kubectl-berth", &plugin)?;
    cluster.add_program("kubectl_complete-berth", &plugin)?;
    s3::start(&cluster)?;
    eprintln!("  {:5.1} s  S3 server ready", start.elapsed().as_secs_f32());
    chart::install(&cluster, teams)?;
    eprintln!("  {:5.1} s  charts installed, operator ready", start.elapsed().as_secs_f32());
    Ok(cluster)
}
