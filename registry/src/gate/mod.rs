//! The second gate: what policies forbid is not served to those who may only pull, so that nothing gets past admission by
//! being pulled in another way, or a moment after it was forbidden. `http::gate` asks [`Gate::pass`] before a manifest
//! leaves; evidence is read from this registry's own store (`source`) and judged as the webhook judges (`judge`).

mod judge;
mod source;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use berth_client::evidence::collect;
use berth_registry_core::{
    Digest, ImageReference, Manifest, Reference, RepositoryName, config, manifest::Kind,
};
use berth_trust::{Bounds, Evidence, Index};
use jiff::Timestamp;
use quick_cache::sync::Cache;
use tokio::sync::{Mutex, Semaphore};

use self::{
    judge::{Judge, Opinion},
    source::{Local, Unseen},
};
use crate::{
    auth::{Action, Caller},
    engine::{Engine, EngineError, StoredManifest},
    store::StoreError,
};

pub use self::judge::{InvalidGate, Refusal};

/// For how long an answer stands without a look at the store. A signature that is deleted through another replica counts
/// for so long on this one; what is changed through this one is known at once.
const BELIEF: Duration = Duration::from_secs(2);
/// Answers that are remembered; a refusal has up to 2 KiB of words.
const ANSWERS: usize = 4096;
/// Looks under way at once. Each may hold as much evidence as `Bounds` allow.
const LOOKS: usize = 8;
/// Indexes above a manifest that are looked at.
const PARENTS: usize = 64;

/// The policies of a registry, and what they said lately. Clones share everything.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    config: config::Gate,
    judges: Vec<Judge>,
    answers: Cache<(RepositoryName, Digest), Arc<Place>>,
    /// An index that was served and lists the manifest: who pulls an image comes by its index.
    parents: Cache<(RepositoryName, Digest), Digest>,
    turns: Semaphore,
    belief: Duration,
}

/// What is remembered of one manifest in one repository.
#[derive(Default)]
struct Place {
    answer: ArcSwapOption<Answer>,
    /// Who asks for the same waits for the same look.
    looking: Mutex<()>,
}

#[derive(Clone)]
struct Answer {
    refusal: Option<Arc<Refusal>>,
    stands: Stands,
}

/// For how long an answer stands.
#[derive(Clone)]
enum Stands {
    /// It follows from the content and the policies alone.
    ForGood,
    /// It follows from what lies beside it.
    While {
        /// This process has not changed the repository.
        revision: u64,
        /// The look is not too long ago.
        looked: Instant,
        /// Time changes nothing.
        until: Option<Timestamp>,
    },
}

/// Why a manifest is not served.
#[derive(Debug)]
pub enum Closed {
    /// Policies forbid it.
    Refused(Arc<Refusal>),
    /// Nobody can say, because the store does not answer.
    Unknown(EngineError),
}

impl From<EngineError> for Closed {
    fn from(error: EngineError) -> Self {
        Self::Unknown(error)
    }
}

impl Gate {
    /// Reads the policies.
    pub fn new(config: config::Gate) -> Result<Self, InvalidGate> {
        Self::believing(config, BELIEF)
    }

    /// Reads the policies, whose answers stand for so long.
    pub(crate) fn believing(config: config::Gate, belief: Duration) -> Result<Self, InvalidGate> {
        Ok(Self(Arc::new(Inner {
            judges: judge::judges(&config)?,
            config,
            answers: Cache::new(ANSWERS),
            parents: Cache::new(ANSWERS),
            turns: Semaphore::new(LOOKS),
            belief,
        })))
    }

    /// Whether a caller is to be stopped. Who may push must see an image to sign it.
    pub fn concerns(&self, caller: &Caller) -> bool {
        !caller.grant.allows(Action::Push)
            && caller.name.as_ref().is_none_or(|name| !self.0.config.exempt.contains(name))
    }

    /// Lets a manifest of a repository pass, or says why not.
    pub async fn pass(
        &self,
        engine: &Engine,
        repository: &RepositoryName,
        manifest: &StoredManifest,
    ) -> Result<(), Closed> {
        let key = (repository.clone(), manifest.digest.clone());
        let place = self.0.answers.get(&key).unwrap_or_else(|| {
            let place = Arc::<Place>::default();
            self.0.answers.insert(key, place.clone());
            place
        });
        if let Some(answer) = self.remembered(&place, engine, repository) {
            return answer.outcome();
        }
        let _looking = place.looking.lock().await;
        if let Some(answer) = self.remembered(&place, engine, repository) {
            return answer.outcome();
        }
        let Ok(_turn) = self.0.turns.acquire().await else { return Err(ended("the gate").into()) };
        let answer = self.look(engine, repository, manifest).await?;
        place.answer.store(Some(Arc::new(answer.clone())));
        answer.outcome()
    }

    fn remembered(&self, place: &Place, engine: &Engine, repository: &RepositoryName) -> Option<Answer> {
        let answer = place.answer.load();
        let answer = answer.as_deref()?;
        let stands = match &answer.stands {
            Stands::ForGood => true,
            Stands::While { revision, looked, until } => {
                *revision == engine.revision(repository)
                    && looked.elapsed() < self.0.belief
                    && until.is_none_or(|until| Timestamp::now() < until)
            }
        };
        stands.then(|| answer.clone())
    }

    async fn look(
        &self,
        engine: &Engine,
        repository: &RepositoryName,
        manifest: &StoredManifest,
    ) -> Result<Answer, EngineError> {
        let image = ImageReference {
            host: self.0.config.host.clone(),
            repository: repository.clone(),
            tag: None,
            digest: Some(manifest.digest.clone()),
        };
        // What cannot be parsed could be anything.
        let parsed = Manifest::parse(Some(&manifest.media_type), &manifest.bytes).ok();
        let is_artifact = parsed.as_ref().is_some_and(|parsed| !parsed.is_runnable());
        if is_artifact || !self.0.judges.iter().any(|judge| judge.speaks_about(&image)) {
            return Ok(Answer { refusal: None, stands: Stands::ForGood });
        }
        let (revision, looked) = (engine.revision(repository), Instant::now());
        let opinion = match judge::settled(&self.0.judges, &image, Timestamp::now()) {
            Some(opinion) => opinion,
            None => self.examine(engine, &image, parsed.as_ref()).await?,
        };
        if let (Some(index), None) = (parsed.filter(|parsed| parsed.kind == Kind::Index), &opinion.refusal) {
            for child in index.manifests.into_iter().take(PARENTS) {
                self.0.parents.insert((repository.clone(), child.digest), manifest.digest.clone());
            }
        }
        let stands = Stands::While { revision, looked, until: opinion.until };
        Ok(Answer { refusal: opinion.refusal.map(Arc::new), stands })
    }

    /// Judges by what is stated about the image itself, else by what is stated about an index above it, too.
    async fn examine(
        &self,
        engine: &Engine,
        image: &ImageReference,
        parsed: Option<&Manifest>,
    ) -> Result<Opinion, EngineError> {
        let (repository, bounds) = (&image.repository, Bounds::default());
        let source = Local { engine, repository };
        let Some(digest) = &image.digest else { return Err(ended("the name of the image")) };
        let evidence = match collect(&source, digest, &bounds).await {
            Ok(evidence) => evidence,
            Err(Unseen::Engine(error)) => return Err(error),
            Err(Unseen::TooMuch(what)) => return Ok(judge::uncheckable(&self.0.judges, image, &what)),
        };
        let own = self.opinion(image, evidence.clone()).await?;
        if own.refusal.is_none() || parsed.is_some_and(|parsed| parsed.kind == Kind::Index) {
            return Ok(own);
        }
        let served = self.0.parents.get(&(repository.clone(), digest.clone()));
        if let Some(index) = &served
            && let Some(opinion) = self.with_index(&source, image, &evidence, index).await?
        {
            return Ok(opinion);
        }
        for index in engine.indexes_of(repository, digest, PARENTS).await? {
            if served.as_ref() != Some(&index)
                && let Some(opinion) = self.with_index(&source, image, &evidence, &index).await?
            {
                return Ok(opinion);
            }
        }
        Ok(own)
    }

    /// The opinion with what is stated about an index, if nothing speaks against the image then.
    async fn with_index(
        &self,
        source: &Local<'_>,
        image: &ImageReference,
        evidence: &Evidence,
        index: &Digest,
    ) -> Result<Option<Opinion>, EngineError> {
        let by_digest = Reference::Digest(index.clone());
        let manifest = match source.engine.get_manifest(source.repository, &by_digest).await {
            Ok(manifest) => manifest,
            Err(EngineError::ManifestUnknown(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let artifacts = match collect(source, index, &Bounds::default()).await {
            Ok(evidence) => evidence.artifacts,
            Err(Unseen::Engine(error)) => return Err(error),
            // Others may speak for the image.
            Err(Unseen::TooMuch(_)) => return Ok(None),
        };
        if artifacts.is_empty() {
            return Ok(None);
        }
        let index = Index { digest: index.clone(), manifest: manifest.bytes.to_vec(), artifacts };
        let evidence = Evidence { indexes: vec![index], ..evidence.clone() };
        let opinion = self.opinion(image, evidence).await?;
        Ok(Some(opinion).filter(|opinion| opinion.refusal.is_none()))
    }

    /// Signatures and conditions take the processor for milliseconds, which other requests must not wait for.
    async fn opinion(&self, image: &ImageReference, evidence: Evidence) -> Result<Opinion, EngineError> {
        let (gate, image) = (self.clone(), image.clone());
        let judging = move || judge::judged(&gate.0.judges, &image, &evidence, Timestamp::now());
        let opinion = tokio::task::spawn_blocking(judging).await;
        opinion.map_err(|error| ended(&format!("the judging of an image ({error})")))
    }
}

fn ended(what: &str) -> EngineError {
    StoreError::Other(format!("{what} came to no end")).into()
}

impl Answer {
    fn outcome(self) -> Result<(), Closed> {
        self.refusal.map_or(Ok(()), |refusal| Err(Closed::Refused(refusal)))
    }
}

impl PartialEq for Gate {
    fn eq(&self, other: &Self) -> bool {
        self.0.config == other.0.config
    }
}

impl Eq for Gate {}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gate").field(&self.0.config).finish()
    }
}
