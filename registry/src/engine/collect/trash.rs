//! What is due under `z/`: the bytes of dead blobs are deleted, the records of dead manifests dropped, with what the
//! repository remembered for them. The record of trash goes last.

use berth_registry_core::{
    Digest, RepositoryName,
    job::GcLine,
    key,
    protocol::{Forget, Forgotten, Purge, Purged, Slot},
    record::Trash,
};
use futures::{StreamExt as _, stream};
use jiff::Timestamp;

use super::{Run, WIDTH, add};
use crate::{
    engine::{EngineError, blobs::PAGE, drive::Place},
    store::Entry,
};

impl Run {
    pub(super) async fn trash(&self) -> Result<(), EngineError> {
        let (mut after, end) = (None, key::trash_after(self.now));
        loop {
            let page = self.engine.store().list(key::TRASH, after.as_deref(), PAGE).await?;
            after = page.entries.last().map(|entry| entry.key.clone());
            let due: Vec<_> = page.entries.into_iter().filter(|entry| entry.key < end).collect();
            let is_last = !page.more || after.as_ref().is_none_or(|last| *last >= end);
            let due = stream::iter(due);
            due.for_each_concurrent(WIDTH, |entry| async move {
                if let Err(error) = self.throw_away(&entry).await {
                    self.failed(&entry.key, &error).await;
                }
            })
            .await;
            if is_last || self.must_stop() {
                return Ok(());
            }
        }
    }

    async fn throw_away(&self, entry: &Entry) -> Result<(), EngineError> {
        // Absent: another run was here.
        let Some((trash, _)) = self.engine.read_record::<Trash>(&entry.key).await? else { return Ok(()) };
        let done = match trash {
            Trash::Data { digest, data } => self.purge(&digest, data).await?,
            Trash::Manifest { repository, digest, died } => {
                self.forget_manifest(&repository, &digest, died).await?
            }
        };
        if done {
            self.engine.store().delete(&entry.key).await?;
        }
        Ok(())
    }

    async fn purge(&self, digest: &Digest, data: String) -> Result<bool, EngineError> {
        add(&self.counts.examined, 1);
        let place = Place::blob(digest);
        match self.engine.drive(Purge::new(data, self.now), &place).await? {
            Purged::Deleted(blob) => {
                let (bytes, reason) = match blob {
                    Some(blob) => {
                        add(&self.counts.purged, 1);
                        add(&self.counts.bytes_freed, blob.size);
                        (blob.size, "its undelete window is over")
                    }
                    None => (0, "nothing names these bytes any more"),
                };
                let (digest, reason) = (digest.clone(), reason.to_owned());
                self.tell(GcLine::Purged { digest, bytes, reason }).await;
                if self.engine.drops_tombstones() {
                    self.engine.drive(Forget::new(Slot::Blob, self.now), &place).await?;
                }
                Ok(true)
            }
            Purged::Kept => {
                add(&self.counts.spared, 1);
                Ok(true)
            }
            Purged::Undecided => Ok(false),
        }
    }

    async fn forget_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        died: Option<Timestamp>,
    ) -> Result<bool, EngineError> {
        // If it died again since, its record still says what that candidate has to look at.
        let machine = Forget::new(Slot::Manifest, died.unwrap_or(Timestamp::MIN));
        if self.engine.drive(machine, &Place::new(repository, digest)).await? == Forgotten::No {
            // Pushed again, or deleted again: then a later record of trash names it.
            return Ok(true);
        }
        // Hints of a push that is under way have been written anew: only old ones go.
        for hint in self.engine.list_all(&key::hints(repository, digest)).await? {
            if hint.meta.modified <= self.lease {
                self.engine.store().delete(&hint.key).await?;
            }
        }
        self.engine.store().delete(&key::referrer_index(repository, digest)).await?;
        self.tell(GcLine::Forgotten {
            repository: repository.clone(),
            digest: digest.clone(),
            reason: "it was deleted, and its undelete window is over".to_owned(),
        })
        .await;
        Ok(true)
    }
}
