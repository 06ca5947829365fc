//! Links of one repository, many at once: all are condemned, *then* the manifests are read once for all of them, then
//! each lives or dies.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use berth_registry_core::{
    Digest, RepositoryName,
    job::GcLine,
    protocol::{CollectLink, Collected, Forget, Observed, Slot},
    record::Candidate,
};
use futures::{StreamExt as _, stream};

use super::{Run, WIDTH, add, candidates::Fate};
use crate::engine::{EngineError, drive::Place, references::References};

/// A link on its way, with the answer that its machine waits for.
struct Suspect {
    digest: Digest,
    machine: CollectLink,
    answer: Vec<Observed>,
}

impl Run {
    /// What becomes of these links. Each is told with why it was looked at.
    pub(super) async fn links(
        &self,
        repository: &RepositoryName,
        wanted: &BTreeMap<Digest, Arc<str>>,
    ) -> HashMap<Digest, Fate> {
        add(&self.counts.examined, wanted.len() as u64);
        let mut references = References::new(repository);
        let (mut fates, mut suspects) = (HashMap::new(), Vec::new());
        if !self.scan(&mut references, repository).await {
            return fates;
        }
        self.enqueue_abandoned(&references, repository).await;
        for digest in wanted.keys() {
            // Most layers are shared. What is needed now need not be condemned to find that out.
            if references.holder(digest).is_some() {
                add(&self.counts.spared, 1);
                fates.insert(digest.clone(), Fate::Needed);
            } else {
                suspects.push(Suspect {
                    digest: digest.clone(),
                    machine: CollectLink::new(Some(self.lease)),
                    answer: Vec::new(),
                });
            }
        }
        while !suspects.is_empty() {
            let steps = stream::iter(suspects).map(|suspect| self.step(repository, suspect));
            let steps: Vec<_> = steps.buffer_unordered(WIDTH).collect().await;
            let mut waiting = Vec::new();
            for (suspect, ended) in steps {
                match ended {
                    Ok(None) => waiting.push(suspect),
                    Ok(Some(collected)) => {
                        let fate = self.link_ended(repository, &suspect.digest, &collected, wanted).await;
                        fates.insert(suspect.digest, fate);
                    }
                    Err(error) => self.failed(&suspect.digest.to_string(), &error).await,
                }
            }
            // All that wait have been condemned by now, so that one look answers them all.
            if !waiting.is_empty() && !self.scan(&mut references, repository).await {
                return fates;
            }
            for suspect in &mut waiting {
                suspect.answer = vec![Observed::Referenced(references.holder(&suspect.digest))];
            }
            suspects = waiting;
        }
        references.save(&self.engine).await;
        self.forget_links(repository, &mut fates).await;
        fates
    }

    async fn step(
        &self,
        repository: &RepositoryName,
        mut suspect: Suspect,
    ) -> (Suspect, Result<Option<Collected>, EngineError>) {
        let answer = std::mem::take(&mut suspect.answer);
        let place = Place::new(repository, &suspect.digest);
        let ended = self.engine.advance(&mut suspect.machine, &place, answer).await;
        (suspect, ended)
    }

    async fn link_ended(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        collected: &Collected,
        wanted: &BTreeMap<Digest, Arc<str>>,
    ) -> Fate {
        match collected {
            Collected::Dead => {
                add(&self.counts.condemned, 1);
                let reason = wanted.get(digest).map_or_else(String::new, ToString::to_string);
                self.tell(GcLine::Unlinked {
                    repository: repository.clone(),
                    digest: digest.clone(),
                    reason,
                })
                .await;
                Fate::Gone
            }
            // An earlier run may have stopped here.
            Collected::Unknown => Fate::Gone,
            Collected::Needed(_) => {
                add(&self.counts.condemned, 1);
                add(&self.counts.spared, 1);
                Fate::Needed
            }
            Collected::Young | Collected::Contended => {
                add(&self.counts.spared, 1);
                Fate::Open
            }
        }
    }

    async fn scan(&self, references: &mut References, repository: &RepositoryName) -> bool {
        match references.scan(&self.engine).await {
            Ok(()) => true,
            Err(error) => {
                self.failed(repository.as_str(), &error).await;
                false
            }
        }
    }

    /// Manifests whose push never ended hold on to blobs, too: they become candidates, of this run or the next.
    async fn enqueue_abandoned(&self, references: &References, repository: &RepositoryName) {
        for digest in references.abandoned(self.lease) {
            let candidate = Candidate::Manifest { repository: repository.clone(), digest };
            if let Err(error) = self.engine.enqueue(&candidate).await {
                self.failed(repository.as_str(), &error).await;
            }
        }
    }

    /// Drops the records of dead links: they say no more than none would, but where sparse manifests may name what was
    /// never here. What fails is done again by the next run.
    async fn forget_links(&self, repository: &RepositoryName, fates: &mut HashMap<Digest, Fate>) {
        if !self.engine.drops_tombstones() || self.engine.options().sparse_manifests {
            return;
        }
        let gone = fates.iter_mut().filter(|(_, fate)| **fate == Fate::Gone);
        stream::iter(gone)
            .for_each_concurrent(WIDTH, |(digest, fate)| async move {
                let machine = Forget::new(Slot::Link, self.now);
                if let Err(error) = self.engine.drive(machine, &Place::new(repository, digest)).await {
                    *fate = Fate::Open;
                    self.failed(&digest.to_string(), &error).await;
                }
            })
            .await;
    }
}
