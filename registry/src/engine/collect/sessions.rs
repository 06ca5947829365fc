//! Uploads under `u/` that nobody goes on with: what has arrived is removed. One that ended may have left a blob that no
//! manifest ever named: its link is looked at like that of a deletion.

use berth_registry_core::{
    key,
    record::{Progress, Received, Session},
};
use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};

use super::{Run, WIDTH, candidates::Task};
use crate::{
    engine::{EngineError, blobs::PAGE, drive::Swap},
    store::{Entry, PutMode},
};

impl Run {
    pub(super) async fn sessions(&self) -> Result<(), EngineError> {
        let (mut after, mut known) = (None, None);
        loop {
            let page = self.engine.store().list(key::UPLOADS, after.as_deref(), PAGE).await?;
            if page.entries.is_empty() {
                return Ok(());
            }
            let limit = match known {
                Some(limit) => limit,
                None => *known.insert(self.idle_limit().await?),
            };
            after = page.entries.last().map(|entry| entry.key.clone());
            let idle = page.entries.into_iter().filter(|entry| entry.meta.modified <= limit);
            let tasks: Vec<_> =
                stream::iter(idle).map(|entry| self.session(entry)).buffer_unordered(WIDTH).collect().await;
            self.perform(tasks.into_iter().flatten().collect()).await;
            if !page.more || self.must_stop() {
                return Ok(());
            }
        }
    }

    /// The lease by the store's own clock, which also says when a session was written last.
    async fn idle_limit(&self) -> Result<Timestamp, EngineError> {
        let now = self.engine.store_time().await?;
        let lease = SignedDuration::from_secs(self.now.as_second() - self.lease.as_second());
        Ok(now.checked_sub(lease).unwrap_or(Timestamp::MIN))
    }

    async fn session(&self, entry: Entry) -> Option<Task> {
        match self.end_session(&entry.key).await {
            Ok(task) => task,
            Err(error) => {
                self.failed(&entry.key, &error).await;
                None
            }
        }
    }

    /// Removes what a session left. `Some`: the record goes when this is done.
    async fn end_session(&self, key: &str) -> Result<Option<Task>, EngineError> {
        let Some((session, etag)) = self.engine.read_record::<Session>(key).await? else { return Ok(None) };
        let repository = session.repository.clone();
        let mut task = Task::new(key);
        let reason = match session.progress {
            Progress::Open(received) => {
                // From here on the client is told that the upload is gone; what it holds stays on record.
                let progress = Progress::Abandoned(received.clone());
                let abandoned = Session { progress, ..session };
                match self.engine.swap_record(key, PutMode::Update(etag), &abandoned).await? {
                    Swap::Won(_) => {}
                    Swap::Lost(_) => return Ok(None),
                }
                self.discard_received(&received).await?;
                "nobody went on with it"
            }
            Progress::Abandoned(received) => {
                self.discard_received(&received).await?;
                "nobody went on with it"
            }
            Progress::Cancelled => "it was cancelled",
            Progress::Finished { digest, .. } => {
                let why = "it was uploaded, and no manifest of the repository names it";
                task.links = Some((repository.clone(), vec![digest], why.into()));
                "it ended"
            }
        };
        task.session = Some((repository, reason));
        Ok(Some(task))
    }

    /// Parts, the object that they may have been joined to, and the tail: no blob's, as the session never finished.
    async fn discard_received(&self, received: &Received) -> Result<(), EngineError> {
        let store = self.engine.store();
        if let Some(multipart) = &received.multipart {
            store.abort_multipart(&multipart.data, &multipart.id).await?;
            store.delete(&multipart.data).await?;
        }
        if let Some(tail) = &received.tail {
            store.delete(&tail.data).await?;
        }
        Ok(())
    }
}
