//! The machines against each other: every interleaving of their store operations, each of them stopping for ever at
//! any point, beside collectors that are as eager as they can be. The collectors of blobs and data are written here,
//! as adversaries without any waiting time.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
};

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::{manifest::OCI_MANIFEST, record::State};

mod alone;

const MAX_STATES: usize = 250_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Key {
    Link(char),
    Manifest(char),
    Blob,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
struct World {
    records: BTreeMap<Key, (Body, u32)>,
    data: BTreeSet<String>,
    trash: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Machine {
    Finish(Finish),
    Mount(Mount),
    Put(PutManifest),
    Delete(DeleteManifest),
    CollectLink(CollectLink),
    CollectBlob(CollectBlob),
    Purge(Purge),
    /// Removes the upload's own bytes if others were adopted.
    Trash(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Actor {
    repository: char,
    own: String,
    machine: Machine,
    /// Operations of the current step that are not done yet, and what the others showed.
    todo: Vec<Action>,
    seen: Vec<Observed>,
    /// Links that a blob collector still has to read.
    links: Option<Vec<Key>>,
    done: Option<&'static str>,
}

fn time() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

fn blob_digest() -> Digest {
    Digest::sha256(b"blob")
}

fn actor(repository: char, machine: Machine, own: &str) -> Actor {
    Actor { repository, own: own.into(), machine, todo: vec![], seen: vec![], links: None, done: None }
}

fn upload(repository: char, own: &str) -> Actor {
    actor(repository, Machine::Finish(Finish::new(own.into(), 1, time())), own)
}

fn mount() -> Actor {
    actor('B', Machine::Mount(Mount::new(time())), "")
}

fn put(repository: char) -> Actor {
    actor(repository, Machine::Put(PutManifest::new(manifest(State::Pending), Bytes::new(), false)), "")
}

fn delete(repository: char) -> Actor {
    actor(repository, Machine::Delete(DeleteManifest::new(time())), "")
}

fn collect_link(repository: char) -> Actor {
    actor(repository, Machine::CollectLink(CollectLink::new(None)), "")
}

fn collect_blob() -> Actor {
    actor('A', Machine::CollectBlob(CollectBlob::new(time(), SignedDuration::ZERO)), "")
}

fn purge() -> Actor {
    actor('A', Machine::Purge(Purge::new("K0".into(), time())), "")
}

fn manifest(state: State) -> ManifestRecord {
    ManifestRecord {
        state,
        media_type: OCI_MANIFEST.into(),
        blobs: vec![blob_digest()],
        manifests: vec![],
        subject: None,
        artifact_type: None,
        author: None,
        pushed: time(),
        died: None,
        sparse: false,
    }
}

impl World {
    fn get(&self, key: Key) -> Observed {
        self.records
            .get(&key)
            .map_or(Observed::Absent, |(body, version)| Observed::Found(body.clone(), version.to_string()))
    }

    fn state(&self, key: Key) -> Option<State> {
        self.records.get(&key).map(|(body, _)| body.state())
    }

    fn write(&mut self, key: Key, body: Body) -> Observed {
        let version = self.records.get(&key).map_or(1, |(_, version)| version + 1);
        self.records.insert(key, (body, version));
        Observed::Written(version.to_string())
    }

    fn perform(&mut self, repository: char, action: &Action) -> Observed {
        let key = |slot: &Slot| match slot {
            Slot::Link | Slot::Reference(_) => Key::Link(repository),
            Slot::Source => Key::Link('A'),
            Slot::Blob => Key::Blob,
            Slot::Manifest => Key::Manifest(repository),
        };
        match action {
            Action::Read(slot) => self.get(key(slot)),
            Action::Create(slot, body) if !self.records.contains_key(&key(slot)) => {
                self.write(key(slot), body.clone())
            }
            Action::Replace(slot, version, body)
                if self.records.get(&key(slot)).is_some_and(|(_, there)| there.to_string() == *version) =>
            {
                self.write(key(slot), body.clone())
            }
            Action::Create(..) | Action::Replace(..) => Observed::Lost,
            Action::Discard(data, _) => {
                self.trash.insert(data.clone());
                Observed::Done
            }
            Action::DeleteData(data) => {
                self.data.remove(data);
                Observed::Done
            }
            Action::FindLink | Action::Remove(..) => panic!("{action:?}"),
            Action::FindReference => {
                let needed = self.state(Key::Manifest(repository)).is_some_and(State::is_reference);
                Observed::Referenced(needed.then(|| Digest::sha256(b"manifest")))
            }
        }
    }

    /// What must hold at every instant.
    fn broken(&self) -> Option<String> {
        for repository in ['A', 'B'] {
            let manifest = self.state(Key::Manifest(repository));
            if !manifest.is_some_and(State::is_visible) {
                continue;
            }
            for key in [Key::Link(repository), Key::Blob] {
                if !self.state(key).is_some_and(State::is_visible) {
                    return Some(format!(
                        "manifest of {repository} is live, {key:?} is {:?}",
                        self.state(key)
                    ));
                }
            }
            match self.records.get(&Key::Blob) {
                Some((Body::Blob(blob), _)) if self.data.contains(&blob.data) => {}
                _ => return Some(format!("manifest of {repository} is live, the bytes are gone")),
            }
        }
        None
    }
}

impl Actor {
    /// One atomic operation on the world. Computing between operations takes no time.
    fn step(&mut self, world: &mut World) {
        if let Machine::Trash(key) = &self.machine {
            world.data.remove(key);
            self.done = Some("committed");
            return;
        }
        if self.todo.is_empty() && self.links.is_none() {
            self.advance();
        }
        if self.done.is_some() || matches!(self.machine, Machine::Trash(_)) {
            return;
        }
        if let Some(links) = &mut self.links {
            match links.pop() {
                Some(link) if world.state(link).is_some_and(State::is_reference) => {
                    self.links = None;
                    self.seen.push(Observed::Linked(true));
                }
                Some(_) => {}
                None => {
                    self.links = None;
                    self.seen.push(Observed::Linked(false));
                }
            }
        } else if self.todo == [Action::FindLink] {
            // The LIST; the GETs follow one by one.
            self.todo.clear();
            let links = world.records.keys().filter(|key| matches!(key, Key::Link(_)));
            self.links = Some(links.copied().collect());
            return;
        } else {
            let action = self.todo.remove(0);
            self.seen.push(world.perform(self.repository, &action));
        }
        if self.todo.is_empty() && self.links.is_none() {
            self.advance();
        }
    }

    fn advance(&mut self) {
        fn end<T>(
            step: Step<T>,
            name: impl Fn(&T) -> &'static str,
        ) -> Result<Vec<Action>, (&'static str, T)> {
            match step {
                Step::Do(actions) => Ok(actions),
                Step::Done(outcome) => Err((name(&outcome), outcome)),
            }
        }
        let seen = std::mem::take(&mut self.seen);
        let next = match &mut self.machine {
            Machine::Finish(machine) => match end(machine.next(seen), |_| "finished") {
                Ok(actions) => Ok(actions),
                Err((_, Finished::Lost)) => Err("lost"),
                Err((_, Finished::Committed { data })) if data == self.own => Err("committed"),
                Err((_, Finished::Committed { .. })) => {
                    self.machine = Machine::Trash(self.own.clone());
                    return;
                }
            },
            Machine::Mount(machine) => end(machine.next(seen), |_| "mount ended").map_err(|(name, _)| name),
            Machine::Put(machine) => end(machine.next(seen), |_| "put ended").map_err(|(name, _)| name),
            Machine::Delete(machine) => end(machine.next(seen), |_| "delete ended").map_err(|(name, _)| name),
            Machine::CollectLink(machine) => {
                end(machine.next(seen), |_| "collected").map_err(|(name, _)| name)
            }
            Machine::CollectBlob(machine) => {
                end(machine.next(seen), |_| "collected").map_err(|(name, _)| name)
            }
            Machine::Purge(machine) => end(machine.next(seen), |_| "purged").map_err(|(name, _)| name),
            Machine::Trash(_) => return,
        };
        match next {
            Ok(actions) => self.todo = actions,
            Err(name) => self.done = Some(name),
        }
    }
}

fn explore(world: World, actors: Vec<Actor>) -> usize {
    let mut world = world;
    for actor in &actors {
        if !actor.own.is_empty() {
            world.data.insert(actor.own.clone());
        }
    }
    let fingerprint = |state: &(World, Vec<Actor>)| {
        let mut hasher = DefaultHasher::new();
        state.hash(&mut hasher);
        hasher.finish()
    };
    let first = (world, actors);
    let mut seen = HashSet::from([fingerprint(&first)]);
    let mut queue = vec![first];
    while let Some((world, actors)) = queue.pop() {
        if let Some(broken) = world.broken() {
            panic!("{broken}\n{world:#?}\n{actors:#?}");
        }
        // That an actor stops for ever is the branch in which it is not chosen any more.
        for index in 0..actors.len() {
            if actors[index].done.is_some() {
                continue;
            }
            let (mut world, mut actors) = (world.clone(), actors.clone());
            actors[index].step(&mut world);
            let next = (world, actors);
            if seen.insert(fingerprint(&next)) {
                queue.push(next);
            }
        }
        assert!(seen.len() < MAX_STATES, "the case is too large to be explored");
    }
    println!("{} states hold", seen.len());
    seen.len()
}

fn world(blob: Option<State>, links: &[(char, State)], manifests: &[(char, State)], data: &[&str]) -> World {
    let mut world = World { data: data.iter().map(ToString::to_string).collect(), ..World::default() };
    if let Some(state) = blob {
        world.write(Key::Blob, Body::Blob(Blob { state, size: 1, data: "K0".into(), until: None }));
    }
    for (repository, state) in links {
        let link = Link { state: *state, size: 1, data: "K0".into(), since: time() };
        world.write(Key::Link(*repository), Body::Link(link));
    }
    for (repository, state) in manifests {
        world.write(Key::Manifest(*repository), Body::Manifest(manifest(*state), Bytes::new()));
    }
    world
}

fn live() -> World {
    world(Some(State::Live), &[('A', State::Live)], &[('A', State::Live)], &["K0"])
}

#[test]
fn fresh_upload_and_manifest_beside_collectors() {
    let states =
        explore(World::default(), vec![upload('A', "K1"), put('A'), collect_link('A'), collect_blob()]);
    assert!(states > 500, "{states}");
}

#[test]
fn two_uploads_of_one_digest_and_a_collector() {
    explore(World::default(), vec![upload('A', "K1"), upload('A', "K2"), put('A'), collect_blob()]);
}

#[test]
fn two_writers_of_one_manifest() {
    explore(live(), vec![delete('A'), put('A'), put('A'), collect_link('A')]);
}

#[test]
fn delete_and_push_again_beside_collectors() {
    explore(live(), vec![delete('A'), put('A'), collect_link('A'), collect_blob(), purge()]);
}

#[test]
fn delete_and_upload_again_while_it_is_purged() {
    explore(live(), vec![delete('A'), upload('A', "K1"), put('A'), collect_link('A'), collect_blob()]);
}

#[test]
fn dead_and_uploaded_again_while_it_is_purged() {
    let dead = world(Some(State::Dead), &[('A', State::Dead)], &[('A', State::Dead)], &["K0"]);
    explore(dead, vec![upload('A', "K1"), put('A'), collect_blob(), purge()]);
}

#[test]
fn mounted_while_the_source_is_deleted_and_collected() {
    explore(live(), vec![mount(), put('B'), delete('A'), collect_link('A'), collect_blob()]);
}

#[test]
fn mounted_into_a_repository_that_is_collected() {
    explore(live(), vec![mount(), put('B'), collect_link('B'), collect_blob()]);
}

#[test]
fn mount_and_upload_of_one_blob() {
    explore(live(), vec![mount(), upload('B', "K1"), put('B'), collect_blob()]);
}
