//! The configuration file changes while the server works: what can apply does, without a request that fails
//! (R-OPS-2), and what cannot is said.

use std::path::PathBuf;

use reqwest::Method;
use tempfile::TempDir;

use crate::Test;
use crate::support::content::Manifest;
use crate::support::http::{Failure, Target, ensure};
use crate::support::process::eventually;
use crate::support::server::{Options, Server};

/// A server and its file.
struct Configured {
    server: Server,
    path: PathBuf,
    _directory: TempDir,
}

const FIXED: &str = "listen: 127.0.0.1:0\nstore: 'memory:'\nplainHttp: true\n";

impl Configured {
    async fn start(content: &str) -> Self {
        let directory = TempDir::new().expect("a directory can be made");
        let path = directory.path().join("berth.yaml");
        std::fs::write(&path, content).expect("a file can be written");
        let server = Options::default().flag("--config", &path).start().await;
        Self { server, path, _directory: directory }
    }

    /// Replaces the file in one step, as Kubernetes does.
    fn change(&self, content: &str) {
        let next = self.path.with_extension("next");
        std::fs::write(&next, content).expect("a file can be written");
        std::fs::rename(&next, &self.path).expect("a file can be replaced");
    }

    /// The configuration in force, as readiness shows it.
    async fn hash(&self) -> Result<String, Failure> {
        self.server.target().get("/readyz").await?.value("berth-config-sha256").map(String::from)
    }

    async fn metric(&self, line: &str) {
        eventually(line, || async {
            let metrics = self.server.target().get("/metrics").await;
            metrics.is_ok_and(|reply| String::from_utf8_lossy(&reply.body).lines().any(|found| found == line))
        })
        .await;
    }
}

/// Pulls until told to stop; how many pulls there were, none of which failed.
async fn pull(
    target: Target,
    name: String,
    image: Manifest,
    stop: tokio::sync::watch::Receiver<bool>,
) -> Result<usize, Failure> {
    let mut pulls = 0;
    while !*stop.borrow() {
        target.repository(&name).has_manifest(&image, "v1").await?;
        pulls += 1;
    }
    Ok(pulls)
}

/// R-OPS-2: rights change under load.
#[tokio::test]
async fn new_rights_hold_and_no_request_fails() -> Test {
    let configured = Configured::start(&format!("{FIXED}anonymous: write\n")).await;
    let target = configured.server.target();
    let (repo, image) = (target.fresh(), Manifest::image());
    repo.push(&image, "v1").await?;
    let before = configured.hash().await?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let pulls: Vec<_> = (0..4)
        .map(|_| tokio::spawn(pull(target.clone(), repo.name.clone(), image.clone(), stopped.clone())))
        .collect();
    configured.change(&format!("{FIXED}anonymous: read\nimmutableTags: ['v*']\n"));
    eventually("the new configuration is in force", || async {
        configured.hash().await.is_ok_and(|hash| hash != before)
    })
    .await;
    repo.post_upload("").send().await?.refused(&[401], &["UNAUTHORIZED"])?;
    stop.send_replace(true);
    for pull in pulls {
        ensure!(pull.await.expect("the pulls do not panic")? > 0, "nothing was pulled");
    }
    configured.change(&format!("{FIXED}anonymous: write\nimmutableTags: ['v*']\n"));
    eventually("writing is allowed again", || async {
        target.fresh().post_upload("").send().await.is_ok_and(|reply| reply.status == 202)
    })
    .await;
    let other = Manifest::image();
    repo.push_blobs_of(&other).await?;
    let refused = repo.put_manifest(&other, "v1").send().await?;
    ensure!(refused.status != 201, "the tag moved although it is immutable now");
    Ok(())
}

/// R-OPS-2: a file that is not valid changes nothing, and what needs a restart is named.
#[tokio::test]
async fn a_broken_file_and_one_that_needs_a_restart() -> Test {
    let mut configured = Configured::start(&format!("{FIXED}anonymous: read\n")).await;
    let before = configured.hash().await?;
    configured.metric("berth_config_last_reload_successful 1").await;
    configured.change(&format!("{FIXED}anonymus: write\n"));
    configured.metric("berth_config_last_reload_successful 0").await;
    let said = configured.server.process.wait_for_line(|line| line.contains("anonymus").then_some(())).await;
    ensure!(said.is_some(), "the log does not name the key");
    configured.server.target().call(Method::GET, "/v2/").send().await?.status(&[200])?;

    configured.change(&format!("{FIXED}anonymous: none\ndrainDelay: 7s\n"));
    configured.metric("berth_config_restart_required 1").await;
    configured.metric("berth_config_last_reload_successful 1").await;
    let said =
        configured.server.process.wait_for_line(|line| line.contains("drainDelay").then_some(())).await;
    ensure!(said.is_some(), "the log does not name the key");
    configured.server.target().get("/v2/").await?.status(&[401])?;
    ensure!(configured.hash().await? == before, "the file is not in force whole, but its hash is shown");
    Ok(())
}
