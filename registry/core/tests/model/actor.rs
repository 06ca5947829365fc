//! Who acts on the store: clients as the engine serves them, collectors and sweepers. An actor runs the machines of
//! `berth_registry_core::protocol` and does, between them, what the engine does. It performs one store operation at a
//! time; computing takes none. That it dies is the behaviour in which it is not chosen any more.

use std::sync::Arc;

use berth_registry_core::{
    protocol::{
        Action, CollectBlob, CollectLink, DeleteManifest, Finish, Forget, MendLink, Mount, Observed, Purge,
        PutManifest, Quarantine, Reclaim, Restore, Slot, Version,
    },
    record::State,
};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use crate::{
    fault::Fault,
    machine::Machine,
    world::{self, Image, Key, Repo, Trash, World},
};

/// What an actor is there for.
#[derive(Clone, Copy, Debug, PartialEq, Hash)]
pub(crate) enum Task {
    /// Finishes an upload of the blob whose bytes lie under this key.
    Upload(Repo, &'static str),
    /// The last step of the same upload once more; the other key is for a copy of the bytes.
    Repeat(Repo, &'static str, &'static str),
    /// From A to B.
    Mount,
    /// Pushes a manifest by digest, or by the repository's tag.
    Put(Repo, Image),
    PutTagged(Repo, Image),
    /// Deletes a manifest and the tag, if it points there.
    Delete(Repo, Image),
    Untag(Repo),
    /// Collects the link to the n-th blob with the lease honoured; without regard for age; as a client's DELETE.
    CollectLink(Repo, usize),
    CollectLinkEagerly(Repo, usize),
    DeleteBlob(Repo),
    /// Collects the n-th blob; what dies can be undeleted for so many seconds.
    CollectBlob(usize, i64),
    /// Handles one record of trash.
    Purge,
    /// Undeletes the image.
    Undelete(Repo),
    /// Drops tombstones.
    ForgetLink(Repo),
    ForgetBlob,
    ForgetManifest(Repo, Image),
    /// Takes a pending manifest away, without regard for its age.
    Sweep(Repo, Image),
    /// A scrub: the bytes under `K0` are bad.
    SetAside,
    /// A scrub: no record names the bytes under this key.
    Reclaim(&'static str),
    /// Takes the tag away, if it leads to this manifest and that is not there.
    SweepTag(Repo, Image),
}

/// Where an actor stands in its task.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) enum Stage {
    /// A machine runs.
    Run,
    /// Uploads: delete the own bytes; read them again.
    DeleteOwn(&'static str),
    Copy,
    /// Manifests: write the hint, then (later) the tag.
    Hint,
    Tag,
    /// Deleters of manifests: look for hints, read the tag, then (later) remove this version of it.
    ListHints,
    ReadTag,
    DropTag(Version),
    /// Scrubs: list the links to a blob that was set aside; delete bytes that nothing will name.
    ListLinks,
    DeleteReclaimed,
    /// Sweepers of tags: look whether the manifest is there.
    Judge,
    /// Purge: choose a record of trash; drop it.
    PickTrash,
    DropTrash,
    /// Undelete: read the dead manifest.
    ReadDead,
    Over,
}

#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) struct Actor {
    pub(crate) task: Task,
    pub(crate) stage: Stage,
    /// How it ended, in a word.
    pub(crate) outcome: Option<&'static str>,
    pub(crate) started: bool,
    /// A refusal would be wrong, because of what was promised before it began; because of the reference that it wrote.
    pub(crate) owed: (bool, bool),
    /// No one has begun to delete what it wrote.
    pub(crate) undisturbed: bool,
    pub(crate) repo: Repo,
    pub(crate) blob: usize,
    pub(crate) image: Image,
    pub(crate) machine: Option<Machine>,
    /// The operations of the machine's step, and what those that are done have shown.
    pub(crate) todo: Vec<Action>,
    pub(crate) seen: Vec<Option<Observed>>,
    /// Records that a search has still to read.
    pub(crate) scan: Option<Vec<Key>>,
    /// The answer to the n-th operation was lost; it wrote this version.
    pub(crate) unsure: Option<(usize, Version)>,
    /// The record of trash that is handled.
    trash: Option<Trash>,
    /// Links that a scrub has still to bring in line.
    links: Vec<Key>,
    /// The tag, as it was seen.
    tag: Option<Version>,
    /// What a broken actor keeps back, see [`Fault`].
    pub(crate) kept: Option<Action>,
    pub(crate) listed: Option<Vec<Key>>,
}

/// What an actor can do next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Choice {
    /// The n-th open operation, or the n-th record of trash.
    Do(usize),
    /// The same, and the answer is lost.
    Lose(usize),
}

impl Actor {
    pub(crate) fn new(task: Task, blobs: usize, fault: Option<Fault>) -> Self {
        let (repo, blob, image) = match task {
            Task::Upload(repo, _)
            | Task::Repeat(repo, ..)
            | Task::Untag(repo)
            | Task::DeleteBlob(repo)
            | Task::Undelete(repo)
            | Task::ForgetLink(repo) => (repo, 0, Image::App),
            Task::Mount => ('B', 0, Image::App),
            Task::Put(repo, image)
            | Task::PutTagged(repo, image)
            | Task::Delete(repo, image)
            | Task::ForgetManifest(repo, image)
            | Task::Sweep(repo, image)
            | Task::SweepTag(repo, image) => (repo, 0, image),
            Task::CollectLink(repo, blob) | Task::CollectLinkEagerly(repo, blob) => (repo, blob, Image::App),
            Task::CollectBlob(blob, _) => ('A', blob, Image::App),
            Task::Purge | Task::ForgetBlob | Task::SetAside | Task::Reclaim(_) => ('A', 0, Image::App),
        };
        let mut actor = Self {
            task,
            stage: Stage::Run,
            outcome: None,
            started: false,
            owed: (false, false),
            undisturbed: false,
            repo,
            blob,
            image,
            machine: None,
            todo: Vec::new(),
            seen: Vec::new(),
            scan: None,
            unsure: None,
            trash: None,
            links: Vec::new(),
            tag: None,
            kept: None,
            listed: None,
        };
        let (lease, now) = (world::lease(), world::now());
        match task {
            Task::Upload(_, own) => actor.run(Machine::Finish(Finish::new(own.into(), 1, now))),
            Task::Repeat(_, own, _) if fault == Some(Fault::RepeatAsNew) => {
                actor.run(Machine::Finish(Finish::new(own.into(), 1, now)));
            }
            Task::Repeat(_, own, _) => actor.run(Machine::Finish(Finish::again(own.into(), 1, now))),
            Task::Mount => actor.run(Machine::Mount(Mount::new(now))),
            Task::Put(..) => actor.put(blobs),
            Task::PutTagged(..) => actor.stage = Stage::Hint,
            Task::Delete(..) if fault == Some(Fault::SeeTagsAfterDeath) => actor.delete(),
            Task::SweepTag(..) if fault == Some(Fault::JudgeBeforeSeeingTags) => actor.stage = Stage::Judge,
            Task::Delete(..) | Task::SweepTag(..) => actor.stage = Stage::ListHints,
            Task::Untag(_) => actor.stage = Stage::ReadTag,
            Task::CollectLink(..) => actor.run(Machine::CollectLink(CollectLink::new(Some(lease)))),
            Task::CollectLinkEagerly(..) => {
                actor.run(Machine::CollectLink(CollectLink::new(Some(Timestamp::MAX))));
            }
            Task::DeleteBlob(_) => actor.run(Machine::CollectLink(CollectLink::new(None))),
            Task::CollectBlob(_, window) => {
                let window = SignedDuration::from_secs(window);
                actor.run(Machine::CollectBlob(CollectBlob::new(now, window)));
            }
            Task::Purge => actor.stage = Stage::PickTrash,
            Task::Undelete(_) => actor.stage = Stage::ReadDead,
            Task::ForgetLink(_) => actor.run(Machine::Forget(Forget::new(Slot::Link, now))),
            Task::ForgetBlob => actor.run(Machine::Forget(Forget::new(Slot::Blob, now))),
            Task::ForgetManifest(..) => actor.run(Machine::Forget(Forget::new(Slot::Manifest, now))),
            Task::SetAside => {
                actor.run(Machine::Quarantine(Quarantine::new(world::BAD.into(), world::later())));
            }
            Task::Reclaim(data) => actor.run(Machine::Reclaim(Reclaim::new(data.into(), 1))),
            Task::Sweep(..) => {
                actor.run(Machine::Delete(DeleteManifest::abandoned(Timestamp::MAX, now)));
            }
        }
        actor
    }

    pub(crate) fn is_active(&self) -> bool {
        self.started && self.outcome.is_none()
    }

    /// The upload's own bytes, while it may still use or delete them.
    pub(crate) fn own(&self) -> Option<&'static str> {
        match self.task {
            Task::Upload(_, own) | Task::Repeat(_, own, _) if self.outcome.is_none() => Some(own),
            _ => None,
        }
    }

    pub(crate) fn choices(&self, world: &World, losses: bool) -> Vec<Choice> {
        match &self.stage {
            Stage::Over => Vec::new(),
            Stage::PickTrash => (0..world.due().count()).map(Choice::Do).collect(),
            Stage::Run if self.scan.is_none() && self.unsure.is_none() => {
                let open = (0..self.todo.len()).filter(|&index| self.seen[index].is_none());
                open.flat_map(|index| {
                    let write = matches!(self.todo[index], Action::Create(..) | Action::Replace(..));
                    [Some(Choice::Do(index)), (losses && write).then_some(Choice::Lose(index))]
                })
                .flatten()
                .collect()
            }
            _ => vec![Choice::Do(0)],
        }
    }

    /// One atomic operation on the world; `false`: this choice makes no difference.
    pub(crate) fn act(
        &mut self,
        world: &mut Arc<World>,
        choice: Choice,
        fault: Option<Fault>,
        blobs: usize,
    ) -> bool {
        self.started = true;
        match std::mem::replace(&mut self.stage, Stage::Run) {
            Stage::Run => return self.operate(world, choice, fault, blobs),
            Stage::DeleteOwn(outcome) => {
                if let Some(own) = self.own() {
                    Arc::make_mut(world).data.remove(own);
                }
                self.end(outcome);
            }
            Stage::Copy => match self.task {
                // A new upload. The old bytes stay behind: who was to finish them first may still come.
                Task::Repeat(repo, own, copy) if world.data.contains(own) => {
                    Arc::make_mut(world).data.insert(copy.to_owned());
                    self.task = Task::Upload(repo, copy);
                    self.run(Machine::Finish(Finish::new(copy.to_owned(), 1, world::now())));
                }
                _ => self.end("lost"),
            },
            Stage::Hint => {
                Arc::make_mut(world).hints.insert((self.repo, self.image));
                self.put(blobs);
            }
            Stage::Tag => {
                Arc::make_mut(world).put_tag(self.repo, self.image);
                self.end("put");
            }
            Stage::ListHints if world.hints.contains(&(self.repo, self.image)) => self.stage = Stage::ReadTag,
            Stage::ListHints => self.seen_tag(fault),
            Stage::ReadTag => {
                let any = matches!(self.task, Task::Untag(_));
                let tag = world.tag(self.repo).filter(|(image, _)| any || *image == self.image);
                self.tag = tag.map(|(_, version)| version);
                self.seen_tag(fault);
            }
            Stage::ListLinks => {
                self.links = world.links(self.blob);
                self.mend_next();
            }
            Stage::DeleteReclaimed => {
                if let Task::Reclaim(data) = self.task {
                    Arc::make_mut(world).data.remove(data);
                }
                self.end("reclaimed");
            }
            Stage::Judge if world.is_visible(Key::Manifest(self.repo, self.image)) => self.end("kept"),
            Stage::Judge if fault == Some(Fault::JudgeBeforeSeeingTags) => self.stage = Stage::ListHints,
            Stage::Judge => self.drop_tag(),
            Stage::DropTag(version) => {
                // A client's wish holds for whatever is there.
                let any = matches!(self.task, Task::Untag(_));
                if world.tag(self.repo).is_some_and(|(_, there)| any || there == version) {
                    Arc::make_mut(world).tags.remove(&self.repo);
                }
                self.end("deleted");
            }
            Stage::PickTrash => {
                let (Choice::Do(index) | Choice::Lose(index)) = choice;
                if let Some(trash) = world.due().nth(index).cloned() {
                    self.blob = trash.0;
                    self.run(Machine::Purge(Purge::new(trash.1.clone(), world::now())));
                    self.trash = Some(trash);
                }
            }
            Stage::DropTrash => {
                if let Some(trash) = &self.trash {
                    Arc::make_mut(world).drop_trash(trash);
                }
                self.end("purged");
            }
            Stage::ReadDead if world.state(Key::Manifest(self.repo, self.image)) == Some(State::Dead) => {
                self.run(Machine::Restore(Restore::new(world::now())));
            }
            Stage::ReadDead | Stage::Over => self.end("unknown"),
        }
        true
    }

    pub(crate) fn end(&mut self, outcome: &'static str) {
        self.stage = Stage::Over;
        self.machine = None;
        self.outcome = Some(outcome);
    }

    pub(crate) fn run(&mut self, machine: Machine) {
        self.stage = Stage::Run;
        self.machine = Some(machine);
        self.advance(Vec::new(), None, 0);
    }

    pub(crate) fn mend_next(&mut self) {
        match self.links.pop() {
            Some(Key::Link(repo, _)) => {
                self.repo = repo;
                self.run(Machine::Mend(MendLink::default()));
            }
            _ => self.end("set aside"),
        }
    }

    fn delete(&mut self) {
        self.run(Machine::Delete(DeleteManifest::new(world::now())));
    }

    /// The tag was seen, or not.
    fn seen_tag(&mut self, fault: Option<Fault>) {
        match self.task {
            Task::Delete(..) if fault != Some(Fault::SeeTagsAfterDeath) => self.delete(),
            Task::SweepTag(..) if fault != Some(Fault::JudgeBeforeSeeingTags) && self.tag.is_some() => {
                self.stage = Stage::Judge;
            }
            _ => self.drop_tag(),
        }
    }

    pub(crate) fn drop_tag(&mut self) {
        match self.tag.take() {
            Some(version) => self.stage = Stage::DropTag(version),
            None => self.end("deleted"),
        }
    }

    pub(crate) fn put(&mut self, blobs: usize) {
        let record = world::manifest(self.image, blobs, State::Pending, world::now());
        self.run(Machine::Put(PutManifest::new(record, Bytes::new(), false)));
    }
}
