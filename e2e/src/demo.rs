//! The demo: from an empty machine to Berth at work, every step a command that a user could type.

use std::error::Error;

use crate::cluster::Lifetime;
use crate::interrupt::{self, Started};
use crate::stage;
use crate::tools::Tools;

/// The name of the demo's cluster.
const NAME: &str = "demo";

/// The teams of the story.
const TEAMS: &[&str] = &["team-a", "team-b"];

/// Plays the demo; with `keep`, the cluster stays up at the end.
pub fn run(keep: bool) -> Result<(), Box<dyn Error>> {
    let tools = Tools::ensure()?;
    let images = stage::build(&tools)?;
    let lifetime = if keep { Lifetime::Kept } else { Lifetime::Process };
    let guard = interrupt::remember(Started::Cluster(NAME.into()));
    let cluster = stage::raise(NAME, &tools, &images, TEAMS, lifetime)?;
    println!("{}", cluster.run("helm", &["list", "--all-namespaces"])?);
    drop(guard);
    if keep {
        println!("the cluster stays up: {} kubectl get berth -A", cluster.state().path("inside").display());
        println!("to end it: berth-e2e cluster down --name {NAME}");
        return Ok(());
    }
    Ok(cluster.end()?)
}
