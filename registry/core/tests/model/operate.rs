//! A machine's operations on the world. A search is a listing and then one read after the other; a write whose answer
//! is lost is followed by a read that finds the own nonce or another's.

use std::sync::Arc;

use berth_registry_core::{
    protocol::{Action, Observed, Slot},
    record::State,
};

use crate::{
    actor::{Actor, Choice},
    fault::{Fault, distort},
    machine::Machine,
    world::{Image, Key, World, image_digest},
};

impl Actor {
    pub(crate) fn operate(
        &mut self,
        world: &mut Arc<World>,
        choice: Choice,
        fault: Option<Fault>,
        blobs: usize,
    ) -> bool {
        let (Choice::Do(index) | Choice::Lose(index)) = choice;
        if let Some((index, version)) = self.unsure.take() {
            let key = match &self.todo[index] {
                Action::Create(slot, _) | Action::Replace(slot, ..) => self.key(*slot),
                _ => return false,
            };
            let won = world.version(key).as_ref() == Some(&version);
            self.seen[index] = Some(if won { Observed::Written(version) } else { Observed::Lost });
        } else if let Some(rest) = self.scan.take() {
            self.search(world, rest, fault);
        } else {
            let action = self.todo[index].clone();
            let observed = self.perform(world, action, fault);
            match (choice, observed) {
                (Choice::Lose(_), Some(Observed::Written(version))) => self.unsure = Some((index, version)),
                (Choice::Lose(_), _) => return false,
                (Choice::Do(_), observed) => {
                    let list = self.scan.take_if(|list| list.is_empty()).is_some();
                    self.seen[index] = if list { Some(self.found(false)) } else { observed };
                }
            }
        }
        if self.scan.is_none() && self.unsure.is_none() && self.seen.iter().all(Option::is_some) {
            let seen = std::mem::take(&mut self.seen).into_iter().flatten().collect();
            self.advance(seen, fault, blobs);
        }
        true
    }

    /// Reads one record of a search.
    fn search(&mut self, world: &World, mut rest: Vec<Key>, fault: Option<Fault>) {
        let Some(key) = rest.pop() else { return };
        let refers = match world.state(key) {
            Some(State::Pending) => match key {
                Key::Link(..) => fault != Some(Fault::OverlookPendingLinks),
                _ => fault != Some(Fault::OverlookPendingManifests),
            },
            state => state.is_some_and(State::is_reference),
        };
        if refers || rest.is_empty() {
            self.seen[0] = Some(self.found(refers));
        } else {
            self.scan = Some(rest);
        }
    }

    fn found(&self, refers: bool) -> Observed {
        match self.machine {
            Some(Machine::CollectBlob(_)) => Observed::Linked(refers),
            _ => Observed::Referenced(refers.then(|| image_digest(Image::App))),
        }
    }

    pub(crate) fn key(&self, slot: Slot) -> Key {
        match (slot, self.image) {
            (Slot::Link, _) => Key::Link(self.repo, self.blob),
            (Slot::Source, _) => Key::Link('A', self.blob),
            (Slot::Blob, _) => Key::Blob(self.blob),
            (Slot::Manifest, image) => Key::Manifest(self.repo, image),
            (Slot::Reference(blob), Image::App) => Key::Link(self.repo, blob),
            (Slot::Reference(_), Image::Index) => Key::Manifest(self.repo, Image::App),
        }
    }

    /// `None`: a search has begun.
    fn perform(&mut self, world: &mut Arc<World>, action: Action, fault: Option<Fault>) -> Option<Observed> {
        let action = match fault {
            Some(fault) => match distort(fault, self, world, action) {
                Ok(action) => action,
                Err(observed) => return Some(observed),
            },
            None => action,
        };
        Some(match action {
            Action::Read(slot) => world.read(self.key(slot)),
            Action::Create(slot, body) => Arc::make_mut(world).create(self.key(slot), body),
            Action::Replace(slot, version, body) => {
                Arc::make_mut(world).replace(self.key(slot), &version, body)
            }
            Action::Remove(slot, version) => Arc::make_mut(world).remove(self.key(slot), Some(&version)),
            Action::FindLink if matches!(self.machine, Some(Machine::CollectLink(_))) => {
                let app = Key::Manifest(self.repo, Image::App);
                self.scan = Some(world.records.contains_key(&app).then_some(app).into_iter().collect());
                return None;
            }
            Action::FindLink => {
                let listed = self.listed.take();
                self.scan = Some(listed.unwrap_or_else(|| world.links(self.blob)));
                return None;
            }
            Action::Discard(data, due) => {
                Arc::make_mut(world).discard((self.blob, data, due));
                Observed::Done
            }
            Action::DeleteData(data) => {
                Arc::make_mut(world).data.remove(&data);
                Observed::Done
            }
        })
    }
}
