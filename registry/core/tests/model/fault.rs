//! Each rule of the protocol can be broken from outside the machines, in what reaches the store and what they hear.
//! The tests in `broken.rs` expect that the model finds out.

use std::sync::Arc;

use berth_registry_core::{
    protocol::{Action, Body, Observed, Slot, Version},
    record::{Link, State},
};

use crate::{actor::Actor, machine::Machine, world::World};

/// A rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A link is visible from the start, not only when its blob's record is live.
    LinkLiveAtOnce,
    /// A link is published over any version of it, not the one that was seen before the blob's record was read.
    PublishOverAnyVersion,
    /// A writer reads the state of what it refers to, and writes the pending reference after it.
    ReferAfterReading(Slot),
    /// A collector reads the references without having condemned the record.
    ReadBeforeCondemning(Slot),
    /// A blob's collector lists the links before it condemns.
    ListBeforeCondemning,
    /// A search does not count pending links.
    OverlookPendingLinks,
    /// A search does not count pending manifests.
    OverlookPendingManifests,
    /// An upload that is told that its bytes may be gone offers them again.
    OfferTwice,
    /// The same, also to a purged record that names them.
    ReviveOwn,
    /// The repetition of an upload's last step believes to be the first attempt.
    RepeatAsNew,
    /// A blob's collector dies between the death of the record and the record of trash, in this order.
    DieBeforeDiscarding,
    /// A record of trash is dropped while a collector is undecided.
    DropUndecided,
    /// Bytes are deleted without marking the record as purged.
    PurgeWithoutMark,
    /// The store removes a record, whatever its version.
    RemoveAnyVersion,
    /// A scrub leaves pending links alone that say the right thing.
    LeavePendingLinks,
    /// Who deletes a manifest looks for its tags when it is dead, not before.
    SeeTagsAfterDeath,
    /// Who sweeps tags looks for the manifest, and then for its tags.
    JudgeBeforeSeeingTags,
}

/// The version of a record that was kept back.
const KEPT: &str = "@0";

/// What becomes of an operation: another one, or only an answer.
#[expect(clippy::result_large_err, reason = "the answer is used at once")]
pub(crate) fn distort(
    fault: Fault,
    actor: &mut Actor,
    world: &mut Arc<World>,
    action: Action,
) -> Result<Action, Observed> {
    let unless_changed = |slot: Slot, version: Version, actor: &Actor, world: &World| {
        let unchanged = world.version(actor.key(slot)).as_ref() == Some(&version);
        if unchanged { Observed::Written(version) } else { Observed::Lost }
    };
    let holds = matches!(actor.machine, Some(Machine::Finish(_) | Machine::Mount(_) | Machine::Restore(_)));
    match (fault, action) {
        (Fault::LinkLiveAtOnce, Action::Create(Slot::Link, body)) => {
            Ok(Action::Create(Slot::Link, visible(body)))
        }
        (Fault::LinkLiveAtOnce, Action::Replace(Slot::Link, version, body)) => {
            Ok(Action::Replace(Slot::Link, version, visible(body)))
        }
        (Fault::PublishOverAnyVersion, Action::Replace(Slot::Link, seen, body))
            if holds && body.state() == State::Live =>
        {
            let key = actor.key(Slot::Link);
            let there = world.state(key).filter(|state| state.is_reference()).and(world.version(key));
            Ok(Action::Replace(Slot::Link, there.unwrap_or(seen), body))
        }
        (Fault::ReferAfterReading(slot), Action::Create(to, body))
            if slot == to && body.state() == State::Pending =>
        {
            if world.state(actor.key(slot)).is_some() {
                return Err(Observed::Lost);
            }
            actor.kept = Some(Action::Create(to, body));
            Err(Observed::Written(KEPT.to_owned()))
        }
        (Fault::ReferAfterReading(slot), Action::Replace(to, version, body))
            if slot == to && version == KEPT =>
        {
            let key = actor.key(slot);
            Err(match actor.kept.take() {
                Some(Action::Create(..)) => Arc::make_mut(world).create(key, body),
                Some(Action::Replace(_, version, _)) => Arc::make_mut(world).replace(key, &version, body),
                _ => Observed::Lost,
            })
        }
        (Fault::ReferAfterReading(slot), Action::Replace(to, version, body))
            if slot == to && body.state() == State::Pending =>
        {
            if world.version(actor.key(slot)).as_ref() != Some(&version) {
                return Err(Observed::Lost);
            }
            actor.kept = Some(Action::Replace(to, version, body));
            Err(Observed::Written(KEPT.to_owned()))
        }
        (Fault::ReadBeforeCondemning(slot), Action::Replace(to, version, body))
            if slot == to && body.state() == State::Condemned =>
        {
            Err(unless_changed(slot, version, actor, world))
        }
        (Fault::ListBeforeCondemning, Action::Read(Slot::Blob))
            if matches!(actor.machine, Some(Machine::CollectBlob(_))) =>
        {
            actor.listed = Some(world.links(actor.blob));
            Ok(Action::Read(Slot::Blob))
        }
        (Fault::ReviveOwn, Action::Read(Slot::Blob)) => Err(match world.read(actor.key(Slot::Blob)) {
            Observed::Found(Body::Blob(mut blob), version)
                if blob.state == State::Purged && actor.own() == Some(blob.data.as_str()) =>
            {
                blob.data.clear();
                Observed::Found(Body::Blob(blob), version)
            }
            observed => observed,
        }),
        (Fault::DieBeforeDiscarding, Action::Discard(..)) => Err(Observed::Done),
        (Fault::PurgeWithoutMark, Action::Replace(Slot::Blob, version, body))
            if body.state() == State::Purged =>
        {
            Err(unless_changed(Slot::Blob, version, actor, world))
        }
        (Fault::LeavePendingLinks, Action::Replace(Slot::Link, version, body))
            if matches!(actor.machine, Some(Machine::Mend(_))) && body.state() == State::Pending =>
        {
            Err(unless_changed(Slot::Link, version, actor, world))
        }
        (Fault::RemoveAnyVersion, Action::Remove(slot, _)) => {
            Err(Arc::make_mut(world).remove(actor.key(slot), None))
        }
        (_, action) => Ok(action),
    }
}

fn visible(body: Body) -> Body {
    match body {
        Body::Link(link) if link.state == State::Pending => Body::Link(Link { state: State::Live, ..link }),
        body => body,
    }
}
