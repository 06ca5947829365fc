//! The prune job: applies the lifecycle rules to every repository, through the engine like any other client.
//! Two replicas that prune at once only find less to do.

use std::sync::Arc;

use berth_registry_core::{
    Digest, RepositoryName,
    config::LifecycleRule,
    job::{JobRequest, PruneLine, PruneSummary},
    lifecycle::{self, Verdict},
};
use jiff::Timestamp;

use super::{Lines, Work};
use crate::{
    configuration::Shared,
    engine::{Engine, EngineError},
    events::Events,
    metrics::Metrics,
};

const PAGE: usize = 1000;

/// The prune job's rules, and whom it tells.
pub struct Prune {
    live: Shared,
    events: Events,
    metrics: Arc<Metrics>,
}

impl Prune {
    /// Applies the rules that are in force when it starts.
    pub fn new(live: Shared, events: Events, metrics: Arc<Metrics>) -> Self {
        Self { live, events, metrics }
    }

    /// The rules that are in force now.
    pub fn rules(&self) -> Arc<[LifecycleRule]> {
        self.live.load().lifecycle.clone()
    }
}

impl Work for Prune {
    type Request = JobRequest;
    type Line = PruneLine;
    const NAME: &'static str = "prune";

    async fn run(&self, engine: Engine, request: JobRequest, lines: Lines<PruneLine>) {
        let run = Run {
            engine,
            rules: self.rules(),
            dry: request.dry_run,
            events: self.events.clone(),
            metrics: self.metrics.clone(),
            lines,
            summary: PruneSummary {
                dry_run: request.dry_run,
                started: Timestamp::now(),
                finished: Timestamp::now(),
                examined: 0,
                removed: 0,
                failed: 0,
            },
        };
        run.run().await;
    }
}

struct Run {
    engine: Engine,
    rules: Arc<[LifecycleRule]>,
    dry: bool,
    events: Events,
    metrics: Arc<Metrics>,
    lines: Lines<PruneLine>,
    summary: PruneSummary,
}

impl Run {
    async fn run(mut self) {
        if let Err(error) = self.repositories().await {
            tracing::error!(%error, reason = error.reason(), "prune ended early");
            self.summary.failed += 1;
        }
        self.summary.finished = Timestamp::now();
        tracing::info!(
            dry_run = self.dry,
            examined = self.summary.examined,
            removed = self.summary.removed,
            failed = self.summary.failed,
            "prune ended"
        );
        self.lines.say(PruneLine::Summary(self.summary)).await;
    }

    async fn repositories(&mut self) -> Result<(), EngineError> {
        let mut last: Option<String> = None;
        while !self.rules.is_empty() {
            let page = self.engine.catalog(last.as_deref(), PAGE).await?;
            for name in &page.items {
                // What the catalog lists was a valid name when it was written.
                if let Ok(name) = name.parse() {
                    // One repository in trouble must not keep the others from being pruned.
                    if let Err(error) = self.repository(&name).await {
                        tracing::error!(repository = %name, %error, reason = error.reason(), "not pruned");
                        self.summary.failed += 1;
                    }
                }
            }
            last = page.items.last().cloned();
            if !page.more {
                break;
            }
        }
        Ok(())
    }

    async fn repository(&mut self, name: &RepositoryName) -> Result<(), EngineError> {
        let images = self.engine.images(name).await?;
        self.summary.examined += images.len() as u64;
        let mut left = lifecycle::evaluate(&self.rules, name, &images, self.summary.started);
        // What others need can go only after them, so what is refused is tried again while there is progress.
        loop {
            let before = left.len();
            let mut refused = Vec::new();
            for verdict in left {
                match self.remove(name, &verdict.digest).await {
                    Ok(()) => self.removed(name, verdict).await,
                    Err(error) => refused.push((verdict, error)),
                }
            }
            if refused.is_empty() || refused.len() == before {
                for (verdict, error) in refused {
                    self.failed(name, verdict.digest, &error).await;
                }
                return Ok(());
            }
            left = refused.into_iter().map(|(verdict, _)| verdict).collect();
        }
    }

    async fn remove(&self, name: &RepositoryName, digest: &Digest) -> Result<(), EngineError> {
        if self.dry {
            return Ok(());
        }
        match self.engine.expire_manifest(name, digest).await {
            // Someone else was faster.
            Err(EngineError::ManifestUnknown(_)) => Ok(()),
            result => result,
        }
    }

    async fn removed(&mut self, name: &RepositoryName, verdict: Verdict) {
        let Verdict { digest, tags, rule, reason } = verdict;
        if !self.dry {
            self.events.changed(name);
            self.metrics.pruned();
            tracing::info!(target: "audit", repository = %name, %digest, rule, reason, "image removed");
        }
        self.summary.removed += 1;
        self.lines.say(PruneLine::Removed { repository: name.clone(), digest, tags, rule, reason }).await;
    }

    async fn failed(&mut self, name: &RepositoryName, digest: Digest, error: &EngineError) {
        tracing::warn!(repository = %name, %digest, %error, "image not removed");
        self.summary.failed += 1;
        let line = PruneLine::Failed { repository: name.clone(), digest, message: error.to_string() };
        self.lines.say(line).await;
    }
}

#[cfg(test)]
mod tests {
    use arc_swap::ArcSwap;
    use berth_registry_core::{Reference, manifest::OCI_INDEX};
    use bytes::Bytes;

    use super::*;
    use crate::{
        configuration::Live,
        engine::{EngineOptions, PutOptions},
        jobs::Job,
        store::MemoryStore,
    };

    async fn push(engine: &Engine, tag: &str) {
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[],"annotations":{{"a":"{tag}"}}}}"#
        );
        let reference = Reference::Tag(tag.parse().unwrap());
        let (name, bytes) = ("app/web".parse().unwrap(), Bytes::from(index));
        engine.put_manifest(&name, &reference, None, bytes, PutOptions::default()).await.unwrap();
    }

    async fn tags(engine: &Engine) -> Vec<String> {
        engine.tags(&"app/web".parse().unwrap(), None, 10).await.unwrap().items
    }

    async fn lines(prune: &Job<Prune>, engine: &Engine, dry_run: bool) -> (Vec<String>, PruneSummary) {
        let mut receiver = prune.start(engine.clone(), JobRequest { dry_run }).unwrap();
        let mut removed = Vec::new();
        loop {
            match receiver.recv().await.unwrap() {
                PruneLine::Removed { tags, rule: 1, .. } => {
                    removed.extend(tags.iter().map(ToString::to_string));
                }
                PruneLine::Summary(summary) => return (removed, summary),
                line => panic!("{line:?}"),
            }
        }
    }

    fn rules(text: &str) -> Shared {
        let lifecycle: Vec<LifecycleRule> = serde_yaml::from_str(text).unwrap();
        Arc::new(ArcSwap::from_pointee(Live { lifecycle: lifecycle.into(), ..Live::default() }))
    }

    #[tokio::test]
    async fn the_rules_are_applied_and_a_dry_run_changes_nothing() {
        let engine = Engine::open(Arc::new(MemoryStore::default()), EngineOptions::default()).await.unwrap();
        for tag in ["v1", "v2", "v3", "keep"] {
            push(&engine, tag).await;
        }
        let rules = rules("[{priority: 1, tagPatterns: ['v*'], keepLast: 1}]");
        let prune = Job::new(Prune::new(rules, Events::default(), Arc::default()));

        let (mut would, summary) = lines(&prune, &engine, true).await;
        would.sort();
        assert_eq!((summary.examined, summary.removed, summary.failed), (4, 2, 0));
        assert_eq!(tags(&engine).await, ["keep", "v1", "v2", "v3"]);

        let (mut removed, summary) = lines(&prune, &engine, false).await;
        removed.sort();
        assert_eq!(removed, would);
        assert_eq!((summary.removed, summary.failed), (2, 0));
        let left = tags(&engine).await;
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(left.contains(&"keep".to_owned()), "{left:?}");
    }

    #[tokio::test]
    async fn one_at_a_time_and_it_goes_on_without_its_caller() {
        let engine = Engine::open(Arc::new(MemoryStore::default()), EngineOptions::default()).await.unwrap();
        push(&engine, "v1").await;
        let rules = rules("[{priority: 1, keepLast: 0}]");
        let prune = Job::new(Prune::new(rules, Events::default(), Arc::default()));
        let request = JobRequest::default();
        let first = prune.start(engine.clone(), request.clone()).unwrap();
        assert!(prune.start(engine.clone(), request).is_none(), "the first still runs");
        drop(first);
        while !tags(&engine).await.is_empty() {
            tokio::task::yield_now().await;
        }
    }
}
