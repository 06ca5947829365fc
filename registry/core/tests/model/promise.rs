//! What actors were promised by the answers that they got, kept beside the world: an acknowledged write stays until
//! someone begins to delete it, and who has been promised something is not refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use berth_registry_core::record::State;

use crate::{
    actor::{Actor, Stage, Task},
    world::{Image, Key, Repo, World},
};

#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) struct Promises {
    /// Links and manifests that were acknowledged and that no one has begun to delete since.
    pub(crate) records: BTreeSet<Key>,
    /// Tags, likewise.
    pub(crate) tags: BTreeMap<Repo, Image>,
    /// Tags that were acknowledged while only deletions and sweeps of their manifest may have been under way.
    pub(crate) pushed: BTreeSet<(Repo, Image)>,
    /// An actor was refused although it was owed better.
    pub(crate) refused: Option<usize>,
    /// Someone began to delete a child that an index may list.
    pub(crate) orphaned: BTreeSet<Repo>,
    /// Someone takes links away without regard for their age, or takes one back that he shares with the first attempt.
    impatient: bool,
    /// Bytes are found to be bad: only who brought his own is promised anything.
    corrupt: bool,
}

impl Promises {
    pub(crate) fn new(actors: &[Actor]) -> Self {
        let impatient = |actor: &Actor| {
            matches!(
                actor.task,
                Task::CollectLinkEagerly(..) | Task::DeleteBlob(_) | Task::Repeat(..) | Task::Reclaim(_)
            )
        };
        Self {
            records: BTreeSet::new(),
            tags: BTreeMap::new(),
            pushed: BTreeSet::new(),
            refused: None,
            orphaned: BTreeSet::new(),
            impatient: actors.iter().any(impatient),
            corrupt: actors.iter().any(|actor| actor.task == Task::SetAside),
        }
    }

    /// An actor begins, before its first operation.
    pub(crate) fn begun(&mut self, index: usize, actor: &mut Actor, actors: &mut [Arc<Actor>]) {
        match actor.task {
            Task::Delete(repo, image) => {
                self.records.remove(&Key::Manifest(repo, image));
                self.pushed.remove(&(repo, image));
                if self.tags.get(&repo) == Some(&image) {
                    self.tags.remove(&repo);
                }
                if image == Image::App {
                    self.orphaned.insert(repo);
                }
                for other in actors.iter_mut().filter(|other| other.repo == repo) {
                    if other.image == Image::Index && other.owed != (false, false) {
                        Arc::make_mut(other).owed = (false, false);
                    }
                    if other.image == image && other.undisturbed {
                        Arc::make_mut(other).undisturbed = false;
                    }
                }
            }
            Task::Sweep(repo, image) => {
                for other in actors.iter_mut().filter(|other| (other.repo, other.image) == (repo, image)) {
                    if other.owed != (false, false) {
                        Arc::make_mut(other).owed = (false, false);
                    }
                }
            }
            Task::PutTagged(repo, _) | Task::Untag(repo) => {
                self.tags.remove(&repo);
            }
            _ => {}
        }
        let swept = |repo, image| {
            let sweep = Task::Sweep(repo, image);
            actors
                .iter()
                .enumerate()
                .any(|(other, actor)| other != index && actor.started && actor.task == sweep)
        };
        actor.owed.0 = match actor.task {
            Task::Put(repo, image) | Task::PutTagged(repo, image) if !swept(repo, image) => match image {
                Image::App => self.records.contains(&Key::Link(repo, 0)),
                Image::Index => self.records.contains(&Key::Manifest(repo, Image::App)),
            },
            Task::Mount => self.records.contains(&Key::Link('A', 0)),
            // Nobody takes its link away.
            Task::Upload(..) => !self.impatient,
            _ => false,
        };
    }

    /// An actor has performed an operation.
    pub(crate) fn acted(
        &mut self,
        index: usize,
        before: &World,
        after: &World,
        actor: &mut Actor,
        actors: &[Arc<Actor>],
        blobs: usize,
    ) {
        let others =
            || actors.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, actor)| actor);
        let active = |task: Task| others().any(|other| other.task == task && other.is_active());
        let (repo, image) = (actor.repo, actor.image);
        if let Task::Put(..) | Task::PutTagged(..) = actor.task {
            let own = Key::Manifest(repo, image);
            let wrote = before.version(own) != after.version(own);
            let live = |key| after.state(key) == Some(State::Live);
            let complete = match image {
                Image::App => (0..blobs).all(|blob| live(Key::Link(repo, blob))),
                Image::Index => {
                    live(Key::Manifest(repo, Image::App)) && !active(Task::Delete(repo, Image::App))
                }
            };
            if wrote && after.state(own) == Some(State::Pending) {
                let swept = others().any(|other| other.started && other.task == Task::Sweep(repo, image));
                actor.owed.1 = complete && !swept;
            }
            let published = match actor.task {
                Task::PutTagged(..) => actor.stage == Stage::Tag,
                _ => actor.outcome == Some("put"),
            };
            actor.undisturbed |= published && !active(Task::Delete(repo, image));
        }
        let is_own = match actor.task {
            Task::Upload(_, own) => after.blob(0).is_some_and(|blob| blob.data == own),
            _ => false,
        };
        match (actor.task, actor.outcome) {
            (Task::Put(..) | Task::PutTagged(..), Some("put")) if actor.undisturbed => {
                self.records.insert(Key::Manifest(repo, image));
            }
            (Task::Upload(..) | Task::Repeat(..), Some("committed")) | (Task::Mount, Some("mounted"))
                if !self.impatient && (!self.corrupt || is_own) =>
            {
                self.records.insert(Key::Link(repo, 0));
            }
            (_, Some("missing" | "not mounted" | "lost")) if actor.owed.0 || actor.owed.1 => {
                self.refused = Some(index);
            }
            _ => {}
        }
        if let (Task::PutTagged(..), Some("put")) = (actor.task, actor.outcome) {
            let moving = others().any(|other| {
                other.is_active()
                    && other.repo == repo
                    && matches!(other.task, Task::PutTagged(..) | Task::Untag(_) | Task::Delete(..))
            });
            if !moving && actor.undisturbed {
                self.tags.insert(repo, image);
            }
            let alone = others()
                .filter(|other| other.repo == repo)
                .all(|other| matches!(other.task, Task::Delete(..) | Task::SweepTag(..)));
            if alone {
                self.pushed.insert((repo, image));
            }
        }
    }
}
