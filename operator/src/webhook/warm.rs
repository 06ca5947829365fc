//! What a change means for memory: it is forgotten at once, and what is likely to be asked for is looked at again before
//! anybody asks: the images that the event names, and those of the repository that were looked at last.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use berth_registry_core::{ImageReference, event::Changes};
use berth_trust::Anchors;
use tokio::time::sleep;

use crate::webhook::{
    directory::Directory,
    looks::{IMAGES, Looks, REPOSITORIES, Source, Why},
    policies::Policies,
};

/// Changes come in bursts: an image, its signature, its attestations. They are waited for.
const SETTLE: Duration = Duration::from_millis(200);

/// Host and repository.
type Repository = (String, String);

/// Forgets and looks ahead.
pub(super) struct Warmer {
    looks: Arc<Looks>,
    policies: Arc<Policies>,
    directory: Arc<dyn Directory>,
    /// What is to be looked at, once the repository is quiet; more than [`REPOSITORIES`] are looked at when somebody asks.
    waiting: Mutex<HashMap<Repository, VecDeque<ImageReference>>>,
}

impl Warmer {
    /// Works on the memory of `looks`, for `policies`.
    pub(super) fn new(looks: Arc<Looks>, policies: Arc<Policies>, directory: Arc<dyn Directory>) -> Self {
        Self { looks, policies, directory, waiting: Mutex::default() }
    }

    /// Content of the registry at `host` changed.
    pub(super) fn heed(self: &Arc<Self>, host: &str, changes: &Changes) {
        self.looks.heed(host, changes);
        let named = changes.images.iter().filter_map(|image| format!("{host}/{image}").parse().ok());
        let named = named.filter(|image: &ImageReference| image.host == host);
        let mut wanted: HashMap<Repository, VecDeque<ImageReference>> = HashMap::new();
        for repository in &changes.repositories {
            wanted.insert((host.to_owned(), repository.clone()), self.looks.recent(host, repository));
        }
        for image in named {
            let key = (image.host.clone(), image.repository.to_string());
            wanted.entry(key).or_default().push_front(image);
        }
        for (repository, images) in wanted {
            self.want(repository, images);
        }
    }

    fn want(self: &Arc<Self>, repository: Repository, images: VecDeque<ImageReference>) {
        let images: VecDeque<_> = images.into_iter().filter(|image| self.is_governed(image)).collect();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if images.is_empty() || (waiting.len() >= REPOSITORIES && !waiting.contains_key(&repository)) {
            return;
        }
        let is_new = !waiting.contains_key(&repository);
        let queue = waiting.entry(repository.clone()).or_default();
        for image in images {
            if !queue.contains(&image) {
                queue.push_front(image);
            }
        }
        queue.truncate(2 * IMAGES);
        drop(waiting);
        if is_new {
            let warmer = self.clone();
            tokio::spawn(async move {
                sleep(SETTLE).await;
                warmer.look(&repository).await;
            });
        }
    }

    async fn look(&self, repository: &Repository) {
        let images = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(repository);
        for image in images.into_iter().flatten() {
            // Nobody waits; what fails is told by the metrics, and by the review that needs it.
            let _ = self.looks.look(&Source::own(), &image, &self.anchors_for(&image), Why::Event).await;
        }
    }

    fn is_governed(&self, image: &ImageReference) -> bool {
        self.anchors_for(image).ids().next().is_some()
    }

    fn anchors_for(&self, image: &ImageReference) -> Anchors {
        let may_ask = |namespace: &str| self.directory.permits(namespace, &image.host).is_ok();
        self.policies.anchors_for(image, may_ask)
    }
}
