//! Blobs that lost a link: each is condemned, *then* the links of all repositories are read. What dies keeps its bytes
//! for the undelete window, and is on record under `z/` before it is dead.

use std::collections::{HashMap, HashSet};

use berth_registry_core::{
    Digest,
    job::GcLine,
    protocol::{BlobCollected, CollectBlob},
};
use futures::{StreamExt as _, stream};

use super::{Run, WIDTH, add, candidates::Fate};
use crate::engine::{EngineError, drive::Place};

impl Run {
    /// What becomes of these blobs.
    pub(super) async fn blobs(&self, wanted: HashSet<Digest>) -> HashMap<Digest, Fate> {
        add(&self.counts.examined, wanted.len() as u64);
        stream::iter(wanted)
            .map(|digest| async move {
                let fate = match self.blob(&digest).await {
                    Ok(fate) => fate,
                    Err(error) => {
                        self.failed(&digest.to_string(), &error).await;
                        Fate::Open
                    }
                };
                (digest, fate)
            })
            .buffer_unordered(WIDTH)
            .collect()
            .await
    }

    async fn blob(&self, digest: &Digest) -> Result<Fate, EngineError> {
        let machine = CollectBlob::new(self.now, self.window);
        Ok(match self.engine.drive(machine, &Place::blob(digest)).await? {
            BlobCollected::Dead(blob) => {
                add(&self.counts.condemned, 1);
                add(&self.counts.dead, 1);
                self.tell(GcLine::Dead {
                    digest: digest.clone(),
                    bytes: blob.size,
                    until: blob.until.unwrap_or(self.now),
                    reason: "no repository holds it any more".to_owned(),
                })
                .await;
                Fate::Gone
            }
            BlobCollected::Unknown => Fate::Gone,
            BlobCollected::Linked => {
                add(&self.counts.condemned, 1);
                add(&self.counts.spared, 1);
                Fate::Needed
            }
            BlobCollected::Contended => {
                add(&self.counts.spared, 1);
                Fate::Open
            }
        })
    }
}
