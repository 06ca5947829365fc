//! Deletions leave candidates under `q/`: each is followed down to the blobs that nothing needs any more. A page of them
//! is one batch: its links by repository, then its blobs. A candidate is removed when all of its work is done.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use berth_registry_core::{
    Digest, RepositoryName,
    job::GcLine,
    key,
    protocol::{DeleteManifest, Deleted},
    record::{Candidate, ManifestRecord, State, Trash},
};
use futures::{StreamExt as _, stream};
use jiff::Timestamp;

use super::{REPOSITORIES, Run, WIDTH, add};
use crate::{
    engine::{EngineError, blobs::PAGE, drive::Place},
    store::Entry,
};

/// What a record of work asks to be looked at.
pub(super) struct Task {
    /// Key of the record.
    pub key: String,
    /// Links of this repository to these blobs, and why they may be unneeded.
    pub links: Option<(RepositoryName, Vec<Digest>, Arc<str>)>,
    /// Blobs that may be unneeded in all repositories.
    pub blobs: Vec<Digest>,
    /// A dead manifest that is to be forgotten when its window ends.
    pub manifest: Option<(RepositoryName, Digest, ManifestRecord)>,
    /// An upload that is removed with the record, and why.
    pub session: Option<(RepositoryName, &'static str)>,
}

/// What became of something that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is not there any more.
    Gone,
    /// Something needs it.
    Needed,
    /// It could not be decided yet: too young, contended, or failed.
    Open,
}

impl Run {
    pub(super) async fn candidates(&self) -> Result<(), EngineError> {
        // Candidates that are left for later are passed over, also those that this run adds.
        let mut after = None;
        loop {
            let page = self.engine.store().list(key::CANDIDATES, after.as_deref(), PAGE).await?;
            let Some(last) = page.entries.last() else { return Ok(()) };
            after = Some(last.key.clone());
            let tasks: Vec<_> = stream::iter(page.entries)
                .map(|entry| self.task(entry))
                .buffer_unordered(WIDTH)
                .collect()
                .await;
            self.perform(tasks.into_iter().flatten().collect()).await;
            if self.must_stop() {
                return Ok(());
            }
        }
    }

    async fn task(&self, entry: Entry) -> Option<Task> {
        match self.read_task(&entry.key).await {
            Ok(task) => task,
            Err(error) => {
                self.failed(&entry.key, &error).await;
                None
            }
        }
    }

    /// What a candidate asks for; `None`: nothing yet, or another run has done it.
    async fn read_task(&self, key: &str) -> Result<Option<Task>, EngineError> {
        let Some((candidate, _)) = self.engine.read_record::<Candidate>(key).await? else { return Ok(None) };
        let mut task = Task::new(key);
        match candidate {
            Candidate::Blob(digest) => task.blobs.push(digest),
            Candidate::Manifest { repository, digest } => {
                let found = self.engine.manifest_at(&key::manifest(&repository, &digest)).await?;
                match found.1 {
                    // Someone pushes it at this moment, or died doing so.
                    Some(record) if record.state == State::Pending => {
                        match self.abandon(&repository, &digest).await? {
                            Some(record) => {
                                let reason = format!("its push ended in the middle on {}", record.pushed);
                                self.tell(GcLine::Abandoned {
                                    repository: repository.clone(),
                                    digest: digest.clone(),
                                    reason,
                                })
                                .await;
                                task.follow(repository, digest, record);
                            }
                            None => return Ok(None),
                        }
                    }
                    Some(record) if !record.state.is_reference() => {
                        self.engine.sweep_tags(&repository, &digest).await?;
                        task.follow(repository, digest, record);
                    }
                    // Pushed again, or forgotten already: nothing is left to do.
                    _ => {}
                }
            }
        }
        Ok(Some(task))
    }

    async fn abandon(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<ManifestRecord>, EngineError> {
        let machine = DeleteManifest::abandoned(self.lease, self.now);
        Ok(match self.engine.drive(machine, &Place::new(repository, digest)).await? {
            Deleted::Yes(record) => Some(record),
            Deleted::Unknown => None,
        })
    }

    /// Does a batch of work and removes the records of what is done.
    pub(super) async fn perform(&self, tasks: Vec<Task>) {
        let links = self.links_of(&tasks).await;
        let gone = links.values().flatten().filter(|(_, fate)| **fate == Fate::Gone);
        let wanted: HashSet<Digest> = gone
            .map(|(digest, _)| digest.clone())
            .chain(tasks.iter().flat_map(|task| task.blobs.clone()))
            .collect();
        let blobs = self.blobs(wanted).await;
        let is_done = |task: &Task| {
            let settled = |blob: &Digest| blobs.get(blob).is_some_and(|fate| *fate != Fate::Open);
            let unlinked = task.links.iter().all(|(repository, wanted, _)| {
                wanted.iter().all(|blob| match links.get(repository).and_then(|fates| fates.get(blob)) {
                    Some(Fate::Gone) => settled(blob),
                    Some(Fate::Needed) => true,
                    Some(Fate::Open) | None => false,
                })
            });
            unlinked && task.blobs.iter().all(settled)
        };
        let done = stream::iter(tasks.iter().filter(|task| is_done(task)));
        done.for_each_concurrent(WIDTH, |task| async {
            if let Err(error) = self.close(task).await {
                self.failed(&task.key, &error).await;
            }
        })
        .await;
    }

    async fn links_of(&self, tasks: &[Task]) -> HashMap<RepositoryName, HashMap<Digest, Fate>> {
        let mut wanted: BTreeMap<RepositoryName, BTreeMap<Digest, Arc<str>>> = BTreeMap::new();
        for (repository, digests, why) in tasks.iter().filter_map(|task| task.links.as_ref()) {
            let links = wanted.entry(repository.clone()).or_default();
            links.extend(digests.iter().map(|digest| (digest.clone(), why.clone())));
        }
        stream::iter(wanted)
            .map(|(repository, wanted)| async move {
                let fates = self.links(&repository, &wanted).await;
                (repository, fates)
            })
            .buffer_unordered(REPOSITORIES)
            .collect()
            .await
    }

    async fn close(&self, task: &Task) -> Result<(), EngineError> {
        if let Some((repository, digest, record)) = &task.manifest
            && self.engine.drops_tombstones()
        {
            let died = record.died;
            let due = died.unwrap_or(self.now).checked_add(self.window).unwrap_or(Timestamp::MAX);
            let trash = Trash::Manifest { repository: repository.clone(), digest: digest.clone(), died };
            self.engine.discard(&trash, due).await?;
        }
        self.engine.store().delete(&task.key).await?;
        if let Some((repository, reason)) = &task.session {
            add(&self.counts.sessions, 1);
            let upload = task.key.strip_prefix(key::UPLOADS).unwrap_or(&task.key).to_owned();
            let (repository, reason) = (repository.clone(), (*reason).to_owned());
            self.tell(GcLine::Session { repository, upload, reason }).await;
        }
        Ok(())
    }
}

impl Task {
    pub(super) fn new(key: &str) -> Self {
        Self { key: key.to_owned(), links: None, blobs: Vec::new(), manifest: None, session: None }
    }

    fn follow(&mut self, repository: RepositoryName, digest: Digest, record: ManifestRecord) {
        let why = format!("manifest {digest} was deleted, and no other one of the repository names the blob");
        self.links = Some((repository.clone(), record.blobs.clone(), why.into()));
        self.manifest = Some((repository, digest, record));
    }
}
