//! Looks at registries: each image at most once at a time, however many reviews wait for it, and no longer than a review
//! may take. What was seen goes into memory, from where the next review has it. A look goes on when its review is gone.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use berth_client::{
    ClientError,
    evidence::resolve,
    examine::{ExamineError, examine, examine_digest},
};
use berth_operator_core::{
    memory::{Belief, Key, Known, Memory, Moment, Place},
    pulling::Pulling,
};
use berth_registry_core::{ImageReference, event::Changes};
use berth_trust::{Anchors, Bounds, FACTS_OUTDATED, Facts};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use jiff::Timestamp;
use tokio::{
    sync::{Semaphore, oneshot, watch},
    time::timeout,
};

use crate::webhook::{
    directory::{Directory, NoRegistry},
    metrics::Looked,
};

/// Looks at one registry under way at once; one that hangs must not keep the others waiting.
const AT_ONE_HOST: usize = 32;

/// Looks under way and waiting, in all.
const AT_ONCE: usize = 2048;

/// Repositories of which it is known what was looked at last, and how many images of each.
pub(super) const REPOSITORIES: usize = 1024;
pub(super) const IMAGES: usize = 8;

/// As `berth_client::ClientError` names a registry's refusal of our credentials.
const UNAUTHORIZED: &str = "Unauthorized";

/// Why a look saw nothing; the image itself has no part in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Unseen {
    /// Stable name.
    pub reason: String,
    /// Whether the next look may see something.
    pub transient: bool,
    message: String,
}

impl Unseen {
    fn new(reason: &str, message: &impl ToString, transient: bool) -> Self {
        Self { reason: reason.to_owned(), message: message.to_string(), transient }
    }

    /// A registry that keeps us waiting.
    pub(super) fn deadline(host: &str, patience: Duration) -> Self {
        let seconds = patience.as_secs();
        let message = format!("{host} did not deliver the evidence within {seconds} seconds");
        Self::new("DeadlineExceeded", &message, true)
    }
}

impl From<NoRegistry> for Unseen {
    fn from(error: NoRegistry) -> Self {
        Self::new(error.reason(), &error, error.is_transient())
    }
}

impl From<ClientError> for Unseen {
    fn from(error: ClientError) -> Self {
        Self::new(error.reason(), &error, error.is_transient())
    }
}

impl From<ExamineError> for Unseen {
    fn from(error: ExamineError) -> Self {
        Self::new(error.reason(), &error, error.is_transient())
    }
}

/// What a look came to; `None`: the registry answered, and has no such image.
pub type Look = Result<Option<Arc<Known>>, Unseen>;

/// In whose name a registry is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    scope: String,
    pulling: Option<Pulling>,
}

impl Source {
    /// In the operator's: a Registry of this cluster.
    pub fn own() -> Self {
        Self::default()
    }

    /// In a Pod's: any other registry. What it shows is remembered for Pods with the same pull secrets only.
    pub fn pod(pulling: Pulling) -> Self {
        let secrets = pulling.secrets.iter().map(String::as_str);
        let names = [pulling.namespace.as_str(), pulling.service_account.as_str()].into_iter().chain(secrets);
        // None of these names can hold a zero byte.
        let scope = names.collect::<Vec<_>>().join("\0");
        Self { scope, pulling: Some(pulling) }
    }

    /// Whether it is [`Source::own`].
    pub fn is_own(&self) -> bool {
        self.pulling.is_none()
    }

    fn place<'a>(&'a self, image: &'a ImageReference) -> Place<'a> {
        Place::of(&self.scope, image)
    }
}

/// A look that is under way.
struct Flight {
    number: u64,
    asked: Moment,
    answer: Shared<BoxFuture<'static, Look>>,
}

#[derive(Default)]
struct Flights {
    begun: u64,
    by_image: HashMap<Key, Flight>,
    hosts: HashMap<String, Arc<Semaphore>>,
}

/// Why a look is taken, for metrics.
#[derive(Clone, Copy, Debug)]
pub enum Why {
    /// A review waits for it.
    Review,
    /// A review would refuse, and wants to be sure.
    Refusal,
    /// What is in memory is from before a restart.
    Doubt,
    /// What is in memory is old.
    Age,
    /// A registry said that something changed.
    Event,
    /// It runs.
    Running,
}

/// Fetches what reviews need and remembers it.
pub struct Looks {
    /// What was seen.
    pub memory: Memory,
    directory: Arc<dyn Directory>,
    /// Longest duration of a look.
    patience: Duration,
    metrics: Looked,
    flights: Mutex<Flights>,
    recent: Mutex<Recent>,
    changed: watch::Sender<()>,
}

/// The images that were looked at last, by host and repository.
type Recent = HashMap<(String, String), VecDeque<ImageReference>>;

impl Looks {
    /// Nothing seen yet; remembers about so many bytes.
    pub fn new(directory: Arc<dyn Directory>, patience: Duration, bytes: u64, metrics: Looked) -> Self {
        Self {
            memory: Memory::new(bytes),
            directory,
            patience,
            metrics,
            flights: Mutex::default(),
            recent: Mutex::default(),
            changed: watch::Sender::default(),
        }
    }

    /// Content of the registry at `host` changed: what was seen of it before does not count any more.
    pub fn heed(&self, host: &str, changes: &Changes) {
        if changes.more {
            self.memory.host_changed(host);
        }
        for repository in &changes.repositories {
            self.memory.repository_changed(host, repository);
        }
        self.changed.send_replace(());
    }

    /// Fires when content of any registry changed.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// What memory holds about an image.
    pub fn remembered(&self, source: &Source, image: &ImageReference, now: Timestamp) -> Belief<Arc<Known>> {
        let place = source.place(image);
        let tagged = match (&image.digest, &image.tag) {
            (Some(digest), _) => return self.memory.facts(&place, digest, now),
            (None, Some(tag)) => self.memory.digest(&place, tag, now),
            (None, None) => Belief::None,
        };
        let facts = |digest| self.memory.facts(&place, digest, now);
        // No surer than where the tag points.
        match &tagged {
            Belief::None => Belief::None,
            Belief::Sure(digest) => facts(digest),
            Belief::Due(digest) => match facts(digest) {
                Belief::Sure(known) => Belief::Due(known),
                belief => belief,
            },
            Belief::Doubtful(digest) => facts(digest).known().map_or(Belief::None, Belief::Doubtful),
        }
    }

    /// Looks at an image, or waits for a look that began after the last change.
    pub async fn look(
        self: &Arc<Self>,
        source: &Source,
        image: &ImageReference,
        anchors: &Anchors,
        why: Why,
    ) -> Look {
        for _ in 0..2 {
            let known = self.join(source, image, anchors, why)?.await?;
            // A look that somebody else began may have had other anchors.
            if known.as_ref().is_none_or(|known| known.facts().is_some_and(|facts| facts.covers(anchors))) {
                return Ok(known);
            }
        }
        Err(Unseen::new(FACTS_OUTDATED, &"the policies change faster than images can be looked at", true))
    }

    /// Looks at an image while nobody waits.
    pub fn look_ahead(
        self: &Arc<Self>,
        source: &Source,
        image: &ImageReference,
        anchors: &Anchors,
        why: Why,
    ) {
        if let Err(error) = self.join(source, image, anchors, why) {
            tracing::debug!(%image, %error, "not looked at ahead of time");
        }
    }

    /// The images of a repository that were looked at last.
    pub fn recent(&self, host: &str, repository: &str) -> VecDeque<ImageReference> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.get(&(host.to_owned(), repository.to_owned())).cloned().unwrap_or_default()
    }

    fn note(&self, image: &ImageReference) {
        let key = (image.host.clone(), image.repository.to_string());
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() >= REPOSITORIES && !recent.contains_key(&key) {
            recent.clear();
        }
        let images = recent.entry(key).or_default();
        images.retain(|other| other != image);
        images.push_front(image.clone());
        images.truncate(IMAGES);
    }

    fn join(
        self: &Arc<Self>,
        source: &Source,
        image: &ImageReference,
        anchors: &Anchors,
        why: Why,
    ) -> Result<Shared<BoxFuture<'static, Look>>, Unseen> {
        let place = source.place(image);
        let key = match (&image.digest, &image.tag) {
            (Some(digest), _) => place.digest(digest),
            (None, Some(tag)) => place.tag(tag),
            (None, None) => {
                return Err(Unseen::new("ImageInvalid", &"it names neither a tag nor a digest", false));
            }
        };
        let asked = self.memory.moment();
        let mut flights = self.flights();
        if let Some(flight) = flights.by_image.get(&key)
            && !self.memory.changed_since(&place, flight.asked)
        {
            return Ok(flight.answer.clone());
        }
        if flights.by_image.len() >= AT_ONCE {
            return Err(Unseen::new("Busy", &format!("{AT_ONCE} images are being looked at already"), true));
        }
        flights.begun += 1;
        let number = flights.begun;
        let seats = flights.hosts.entry(image.host.clone());
        let seats = seats.or_insert_with(|| Arc::new(Semaphore::new(AT_ONE_HOST))).clone();
        let (sender, receiver) = oneshot::channel();
        let aborted = |_| Err(Unseen::new("Aborted", &"the look at the registry was given up", true));
        let answer = receiver.map(move |answer| answer.unwrap_or_else(aborted)).boxed().shared();
        flights.by_image.insert(key, Flight { number, asked, answer: answer.clone() });
        let (looks, source) = (self.clone(), source.clone());
        let (image, anchors) = (image.clone(), anchors.clone());
        tokio::spawn(async move {
            let answer = looks.take_off(&source, &image, &anchors, asked, why, &seats).await;
            looks.metrics.observe(why, &answer, looks.memory.size());
            looks.land(key, number);
            let _ = sender.send(answer);
        });
        Ok(answer)
    }

    fn land(&self, key: Key, number: u64) {
        let mut flights = self.flights();
        // A later look may have taken the place since.
        if flights.by_image.get(&key).is_some_and(|flight| flight.number == number) {
            flights.by_image.remove(&key);
        }
        if flights.by_image.is_empty() {
            flights.hosts.clear();
        }
    }

    async fn take_off(
        &self,
        source: &Source,
        image: &ImageReference,
        anchors: &Anchors,
        asked: Moment,
        why: Why,
        seats: &Semaphore,
    ) -> Look {
        let fetch = async {
            // Never closed, so there is always a seat in the end.
            let _seat = seats.acquire().await;
            self.fetch(source, image, anchors, asked, why).await
        };
        let answer = timeout(self.patience, fetch)
            .await
            .unwrap_or_else(|_| Err(Unseen::deadline(&image.host, self.patience)));
        if answer.as_ref().is_err_and(|error| error.reason == UNAUTHORIZED) {
            self.directory.refused(&image.host);
        }
        answer
    }

    async fn fetch(
        &self,
        source: &Source,
        image: &ImageReference,
        anchors: &Anchors,
        asked: Moment,
        why: Why,
    ) -> Look {
        let (place, bounds) = (source.place(image), Bounds::default());
        if let Some(pulling) = &source.pulling {
            return self.fetch_outside(pulling, &place, image, anchors, asked, why).await;
        }
        let client = self.directory.client(&image.host)?;
        let Some(facts) = examine(&client, image, anchors, &bounds).await? else {
            self.memory.forget(&place, image);
            return Ok(None);
        };
        self.note(image);
        Ok(Some(self.learn(image, &place, &facts, asked)))
    }

    /// The tag is resolved each time, the facts about its digest are remembered for a while.
    async fn fetch_outside(
        &self,
        pulling: &Pulling,
        place: &Place<'_>,
        image: &ImageReference,
        anchors: &Anchors,
        asked: Moment,
        why: Why,
    ) -> Look {
        let client = self.directory.outside(pulling, image).await?;
        let digest = match resolve(&client, image).await {
            Ok(digest) => digest,
            Err(ClientError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if let (Why::Review, Belief::Sure(known)) = (why, self.memory.facts(place, &digest, Timestamp::now()))
            && known.facts().is_some_and(|facts| facts.covers(anchors))
        {
            return Ok(Some(known));
        }
        let facts = examine_digest(&client, image, &digest, anchors, &Bounds::default()).await?;
        Ok(Some(self.memory.learn(place, &facts, asked, Timestamp::now())))
    }

    fn learn(&self, image: &ImageReference, place: &Place<'_>, facts: &Facts, asked: Moment) -> Arc<Known> {
        let now = Timestamp::now();
        if let (None, Some(tag)) = (&image.digest, &image.tag) {
            self.memory.learn_tag(place, tag, facts.subject(), asked, now);
        }
        self.memory.learn(place, facts, asked, now)
    }

    fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
