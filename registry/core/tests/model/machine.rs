//! The machines of an actor: what each one comes to, and what the engine does then.

use berth_registry_core::protocol::{
    Action, BlobCollected, CollectBlob, CollectLink, Collected, DeleteManifest, Deleted, Finish, Finished,
    Forget, Forgotten, MendLink, Mount, Mounted, Observed, Protocol, Purge, Purged, Put, PutManifest,
    Quarantine, Quarantined, Reclaim, Reclaimed, Restore, Restored, Step,
};

use crate::{
    actor::{Actor, Stage, Task},
    fault::Fault,
    world,
};

#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) enum Machine {
    Finish(Finish),
    Mount(Mount),
    Put(PutManifest),
    Delete(DeleteManifest),
    CollectLink(CollectLink),
    CollectBlob(CollectBlob),
    Purge(Purge),
    Restore(Restore),
    Forget(Forget),
    Quarantine(Quarantine),
    Mend(MendLink),
    Reclaim(Reclaim),
}

impl Actor {
    /// The machine's next step, or what the engine does when it has ended.
    pub(crate) fn advance(&mut self, seen: Vec<Observed>, fault: Option<Fault>, blobs: usize) {
        let Some(machine) = &mut self.machine else { return };
        let next = match machine {
            Machine::Finish(machine) => poll(machine, seen).map(|end| match (end, self.task) {
                (Finished::Committed { data }, Task::Upload(_, own)) if data != own => {
                    Next::Stage(Stage::DeleteOwn("committed"))
                }
                (Finished::Committed { .. }, _) => Next::End("committed"),
                (Finished::Lost, Task::Repeat(..)) => Next::Stage(Stage::Copy),
                (Finished::Lost, _) if matches!(fault, Some(Fault::OfferTwice | Fault::ReviveOwn)) => {
                    Next::Offer
                }
                (Finished::Lost, _) => Next::Stage(Stage::DeleteOwn("lost")),
            }),
            Machine::Mount(machine) => poll(machine, seen).map(|end| match end {
                Mounted::Yes(_) => Next::End("mounted"),
                Mounted::No => Next::End("not mounted"),
            }),
            Machine::Put(machine) => poll(machine, seen).map(|end| match (end, self.task) {
                (Put::Live(_), Task::PutTagged(..)) => Next::Stage(Stage::Tag),
                (Put::Live(_), Task::Undelete(_)) => Next::End("undeleted"),
                (Put::Live(_), _) => Next::End("put"),
                (Put::Missing(_), _) => Next::End("missing"),
            }),
            Machine::Delete(machine) => poll(machine, seen).map(|end| match (end, self.task) {
                (Deleted::Yes(_), Task::Sweep(..)) => Next::End("swept"),
                (Deleted::Yes(_), _) if fault == Some(Fault::SeeTagsAfterDeath) => {
                    Next::Stage(Stage::ListHints)
                }
                (Deleted::Yes(_), _) => Next::DropTag,
                (Deleted::Unknown, _) => Next::End("unknown"),
            }),
            Machine::CollectLink(machine) => poll(machine, seen).map(|end| {
                Next::End(match end {
                    Collected::Dead => "dead",
                    Collected::Needed(_) => "needed",
                    Collected::Young => "young",
                    Collected::Unknown => "unknown",
                    Collected::Contended => "contended",
                })
            }),
            Machine::CollectBlob(machine) => poll(machine, seen).map(|end| {
                Next::End(match end {
                    BlobCollected::Dead(_) => "dead",
                    BlobCollected::Linked => "linked",
                    BlobCollected::Unknown => "unknown",
                    BlobCollected::Contended => "contended",
                })
            }),
            Machine::Purge(machine) => poll(machine, seen).map(|end| match end {
                Purged::Undecided if fault != Some(Fault::DropUndecided) => Next::End("undecided"),
                Purged::Deleted(_) | Purged::Kept | Purged::Undecided => Next::Stage(Stage::DropTrash),
            }),
            Machine::Restore(machine) => poll(machine, seen).map(|end| match end {
                Restored::Yes(_) => Next::Restored,
                Restored::Lost => Next::End("lost"),
            }),
            Machine::Forget(machine) => poll(machine, seen).map(|end| match end {
                Forgotten::Yes => Next::End("forgotten"),
                Forgotten::No => Next::End("kept"),
            }),
            Machine::Quarantine(machine) => poll(machine, seen).map(|end| match end {
                Quarantined::Yes => Next::Stage(Stage::ListLinks),
                Quarantined::No => Next::End("kept"),
            }),
            Machine::Mend(machine) => poll(machine, seen).map(|_| Next::Mended),
            Machine::Reclaim(machine) => poll(machine, seen).map(|end| match end {
                Reclaimed::Free => Next::Stage(Stage::DeleteReclaimed),
                Reclaimed::Named => Next::End("named"),
                Reclaimed::Later => Next::End("later"),
            }),
        };
        match next {
            Err(actions) => {
                self.seen = vec![None; actions.len()];
                self.todo = actions;
            }
            Ok(next) => {
                self.todo.clear();
                self.seen.clear();
                self.machine = None;
                match next {
                    Next::End(outcome) => self.end(outcome),
                    Next::Stage(stage) => self.stage = stage,
                    Next::DropTag => self.drop_tag(),
                    Next::Mended => self.mend_next(),
                    Next::Restored if self.blob + 1 < blobs => {
                        self.blob += 1;
                        self.run(Machine::Restore(Restore::new(world::now())));
                    }
                    Next::Restored => self.put(blobs),
                    Next::Offer => {
                        let own = self.own().unwrap_or_default().to_owned();
                        self.run(Machine::Finish(Finish::new(own, 1, world::now())));
                    }
                }
            }
        }
    }
}

/// What follows when a machine has ended.
enum Next {
    End(&'static str),
    Stage(Stage),
    /// The tag that was seen goes, if there was one.
    DropTag,
    /// A link is in line with the blob's record: the next one.
    Mended,
    /// A link is there again: the next one, or the manifest.
    Restored,
    /// Broken: the same bytes once more.
    Offer,
}

fn poll<P: Protocol>(machine: &mut P, seen: Vec<Observed>) -> Result<P::Outcome, Vec<Action>> {
    match machine.next(seen) {
        Step::Do(actions) => Err(actions),
        // What is looked for depends on who looks, see `operate`.
        Step::FindReference => Err(vec![Action::FindLink]),
        Step::Done(outcome) => Ok(outcome),
    }
}
