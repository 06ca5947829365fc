//! Files that are re-read when their content changes: certificates (`tls`), users (`auth::htpasswd`) and `configuration`.
//! By polling content, because Kubernetes replaces mounted Secrets by swapping a symbolic link above them.

use std::{path::PathBuf, time::Duration};

use aws_lc_rs::digest::{Digest, SHA256, digest};

const INTERVAL: Duration = Duration::from_secs(2);

/// A set of files that are replaced together.
pub struct Files {
    paths: Vec<PathBuf>,
    seen: Vec<Digest>,
}

/// A file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {source}", path.display())]
pub struct Unreadable {
    pub(crate) path: PathBuf,
    pub(crate) source: std::io::Error,
}

impl Files {
    /// Reads the files for the first time.
    pub async fn read(paths: Vec<PathBuf>) -> Result<(Self, Vec<Vec<u8>>), Unreadable> {
        let contents = contents(&paths).await?;
        let seen = fingerprints(&contents);
        Ok((Self { paths, seen }, contents))
    }

    /// Waits until the content differs from what was returned last, and returns it. A file that is missing for a
    /// moment is no change: what was read before stays in force.
    pub async fn changed(&mut self) -> Vec<Vec<u8>> {
        let mut complained = false;
        loop {
            tokio::time::sleep(INTERVAL).await;
            match contents(&self.paths).await {
                Ok(contents) => {
                    let seen = fingerprints(&contents);
                    if !same(&seen, &self.seen) {
                        self.seen = seen;
                        return contents;
                    }
                }
                Err(error) if !complained => {
                    complained = true;
                    tracing::error!(%error, "what was read before stays in force");
                }
                Err(_) => {}
            }
        }
    }
}

async fn contents(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, Unreadable> {
    let mut contents = Vec::with_capacity(paths.len());
    for path in paths {
        contents
            .push(tokio::fs::read(path).await.map_err(|source| Unreadable { path: path.clone(), source })?);
    }
    Ok(contents)
}

fn fingerprints(contents: &[Vec<u8>]) -> Vec<Digest> {
    contents.iter().map(|content| digest(&SHA256, content)).collect()
}

fn same(a: &[Digest], b: &[Digest]) -> bool {
    a.iter().map(AsRef::as_ref).eq(b.iter().map(AsRef::<[u8]>::as_ref))
}
