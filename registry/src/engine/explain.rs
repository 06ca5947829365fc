//! Why something is there, and until when: the chains of references that keep a tag, manifest or blob of a repository,
//! and the rule or job that will remove it. Reads, decides nothing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use berth_registry_core::{
    Digest, Reference, RepositoryName,
    config::LifecycleRule,
    job::{Explanation, Keeper, Removal},
    key,
    lifecycle::{self, Image},
    record::{Blob, Link, ManifestRecord, State},
};
use jiff::{SignedDuration, Timestamp};

use super::{
    Engine, EngineError,
    gather::{gather, work},
};

/// Chains that are told; more would tell no more.
const CHAINS: usize = 16;
const SECOND: Duration = Duration::from_secs(1);

impl Engine {
    /// Explains a tag, a manifest or a blob of a repository under these rules.
    pub async fn explain(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        rules: &[LifecycleRule],
    ) -> Result<Explanation, EngineError> {
        let digest = match reference {
            Reference::Digest(digest) => digest.clone(),
            Reference::Tag(tag) => {
                let last = match self.resolve(repository, tag).await? {
                    Some(target) => Some(target.digest),
                    None => {
                        self.changes(repository, tag, None, 1).await?.pop().and_then(|change| change.digest)
                    }
                };
                last.ok_or_else(|| EngineError::ManifestUnknown(tag.to_string()))?
            }
        };
        match self.manifest_at(&key::manifest(repository, &digest)).await?.1 {
            Some(record) => self.explain_manifest(repository, digest, &record, rules).await,
            None => self.explain_blob(repository, digest).await,
        }
    }

    async fn explain_manifest(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        record: &ManifestRecord,
        rules: &[LifecycleRule],
    ) -> Result<Explanation, EngineError> {
        let options = Arc::clone(&self.options());
        let explanation = |kept_by, removal, summary: String| Explanation {
            repository: repository.clone(),
            digest: digest.clone(),
            state: record.state,
            kept_by,
            removal,
            summary,
        };
        if !record.state.is_visible() {
            let Some(died) = record.died else {
                let at = later(record.pushed, options.upload_lease);
                let removal = removal("gc", at, "its push has not ended");
                return Ok(explanation(
                    vec![],
                    Some(removal),
                    "it is being pushed, or its push broke off".into(),
                ));
            };
            let until = later(died, options.undelete_window);
            let summary = format!(
                "it was deleted on {died} and can be undeleted until {until}, or until gc runs after"
            );
            return Ok(explanation(vec![], Some(removal("gc", until, "it was deleted")), summary));
        }
        let images = self.images(repository).await?;
        let by_digest: BTreeMap<&Digest, &Image> =
            images.iter().map(|image| (&image.digest, image)).collect();
        let chains = chains(&digest, &by_digest, 0);
        let removal = by_digest.get(&digest).and_then(|image| rule(rules, repository, &images, image));
        let summary = match (&removal, chains.is_empty()) {
            (Some(removal), _) => {
                format!("the next prune after {} removes it: {}", removal.at, removal.reason)
            }
            (None, true) => "nothing refers to it; it stays until someone deletes it".to_owned(),
            (None, false) => "it stays as long as one of the chains does; no rule removes it".to_owned(),
        };
        Ok(explanation(chains, removal, summary))
    }

    async fn explain_blob(
        &self,
        repository: &RepositoryName,
        digest: Digest,
    ) -> Result<Explanation, EngineError> {
        let unknown = || EngineError::BlobUnknown(digest.clone());
        let link = self.read_record::<Link>(&key::link(&digest, repository)).await?;
        let link = link.map(|(link, _)| link).filter(|link| link.state.is_reference());
        let Some(link) = link else {
            let (blob, _) = self.read_record::<Blob>(&key::blob(&digest)).await?.ok_or_else(unknown)?;
            let until = blob.until.filter(|_| blob.state == State::Dead).ok_or_else(unknown)?;
            return Ok(Explanation {
                repository: repository.clone(),
                state: blob.state,
                kept_by: vec![],
                removal: Some(removal("gc", until, "no repository holds it any more")),
                summary: format!(
                    "no repository holds it any more; its bytes go with the first gc after {until}"
                ),
                digest,
            });
        };
        let entries = self.list_all(&key::manifests(repository)).await?;
        let manifests =
            gather(entries.iter().map(|entry| work(self.manifest_at(&entry.key))).collect()).await?;
        let images = self.images(repository).await?;
        let by_digest: BTreeMap<&Digest, &Image> =
            images.iter().map(|image| (&image.digest, image)).collect();
        let mut kept_by = Vec::new();
        for (manifest, record, _) in manifests {
            let (Some(manifest), Some(record)) = (manifest, record) else { continue };
            if record.state.is_reference() && record.blobs.contains(&digest) {
                kept_by.extend(below(&Keeper::Manifest(manifest.clone()), chains(&manifest, &by_digest, 1)));
            }
        }
        kept_by.truncate(CHAINS);
        let at = later(link.since, self.options().upload_lease);
        let (removal, summary) = if kept_by.is_empty() {
            let summary =
                "no manifest of the repository names it: after a deletion gc removes it, else scrub";
            (Some(removal("gc", at, "no manifest of the repository names it")), summary)
        } else {
            (None, "it stays as long as a manifest names it; deleting the last one makes it a matter of gc")
        };
        let (repository, state) = (repository.clone(), link.state);
        Ok(Explanation { repository, digest, state, kept_by, removal, summary: summary.to_owned() })
    }
}

fn removal(by: &str, at: Timestamp, reason: &str) -> Removal {
    Removal { by: by.to_owned(), rule: None, at, reason: reason.to_owned() }
}

fn later(at: Timestamp, span: Duration) -> Timestamp {
    let span = SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
    at.checked_add(span).unwrap_or(Timestamp::MAX)
}

/// Chains that begin with a keeper; it alone, if nothing keeps it in turn.
fn below(keeper: &Keeper, chains: Vec<Vec<Keeper>>) -> Vec<Vec<Keeper>> {
    if chains.is_empty() {
        return vec![vec![keeper.clone()]];
    }
    chains.into_iter().map(|chain| std::iter::once(keeper.clone()).chain(chain).collect()).collect()
}

/// What keeps a manifest: its tags, the indexes that list it, and what it is attached to.
fn chains(digest: &Digest, images: &BTreeMap<&Digest, &Image>, depth: usize) -> Vec<Vec<Keeper>> {
    let Some(image) = images.get(digest).filter(|_| depth < CHAINS) else { return vec![] };
    let mut chains_of: Vec<_> = image.tags.iter().map(|tag| vec![Keeper::Tag(tag.clone())]).collect();
    for index in images.values().filter(|other| other.children.contains(digest)) {
        if chains_of.len() >= CHAINS {
            break;
        }
        chains_of
            .extend(below(&Keeper::Index(index.digest.clone()), chains(&index.digest, images, depth + 1)));
    }
    if let Some(subject) = image.subject.as_ref().filter(|subject| images.contains_key(subject)) {
        chains_of.extend(below(&Keeper::Subject(subject.clone()), chains(subject, images, depth + 1)));
    }
    chains_of.truncate(CHAINS);
    chains_of
}

/// When the rules will remove an image, if nothing else changes: now, or when it comes to a rule's age.
fn rule(
    rules: &[LifecycleRule],
    repository: &RepositoryName,
    images: &[Image],
    image: &Image,
) -> Option<Removal> {
    let now = Timestamp::now();
    // Also of age may be what it belongs to. A rule removes what is older by a whole second.
    let spans = rules.iter().filter_map(|rule| rule.older_than).map(|age| age.as_duration() + SECOND);
    let mut times: Vec<Timestamp> = spans
        .flat_map(|span| images.iter().map(move |image| later(image.pushed_at, span)))
        .filter(|at| *at > now)
        .collect();
    times.push(now);
    times.sort_unstable();
    times.dedup();
    let verdict = |at: Timestamp| {
        let verdicts = lifecycle::evaluate(rules, repository, images, at);
        verdicts.into_iter().find(|verdict| verdict.digest == image.digest)
    };
    // Once of age, always of age: the first such time is found by halves.
    let first = times.partition_point(|at| verdict(*at).is_none());
    let at = *times.get(first)?;
    let verdict = verdict(at)?;
    Some(Removal { by: "prune".to_owned(), rule: Some(verdict.rule), at, reason: verdict.reason })
}
