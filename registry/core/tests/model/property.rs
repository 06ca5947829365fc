//! What holds in every state, so also if everyone dies in it.

use berth_registry_core::protocol::Body;
use stateright::Property;

use crate::{
    scenario::{Scenario, State},
    world::{BAD, Image, Key, World},
};

pub(crate) const COMPLETE: &str = "a visible manifest has its links, its blobs and their bytes";
pub(crate) const CHILDREN: &str = "a visible index has its child, unless a client deletes that";
pub(crate) const LINKED: &str = "a visible link has a visible blob";
pub(crate) const BYTES: &str = "a visible blob has its bytes";
pub(crate) const ACKNOWLEDGED: &str = "what was acknowledged stays until someone deletes it";
pub(crate) const TAGGED: &str = "a tag that was acknowledged leads to its manifest for as long as that lives";
pub(crate) const SET_ASIDE: &str = "nothing leads to bytes that were set aside";
pub(crate) const WELCOME: &str = "no push is refused because someone collects";
pub(crate) const REMEMBERED: &str = "bytes that nothing needs are on record for deletion";

pub(crate) fn all() -> Vec<Property<Scenario>> {
    vec![
        Property::always(COMPLETE, |scenario: &Scenario, state: &State| {
            scenario.is_corrupt() || complete(&state.world, scenario.blob_count())
        }),
        Property::always(CHILDREN, |_, state: &State| children(state)),
        Property::always(LINKED, |scenario: &Scenario, state: &State| {
            scenario.is_corrupt() || linked(&state.world)
        }),
        Property::always(SET_ASIDE, |_, state: &State| set_aside(state)),
        Property::always(BYTES, |_, state: &State| bytes(&state.world)),
        Property::always(ACKNOWLEDGED, |_, state: &State| acknowledged(state)),
        Property::always(TAGGED, |_, state: &State| tagged(state)),
        Property::always(WELCOME, |scenario: &Scenario, state: &State| {
            scenario.is_corrupt() || state.promises.refused.is_none()
        }),
        Property::always(REMEMBERED, |_, state: &State| remembered(state)),
    ]
}

fn has_bytes(world: &World, blob: usize) -> bool {
    world.blob(blob).is_some_and(|blob| world.data.contains(&blob.data))
}

fn complete(world: &World, blobs: usize) -> bool {
    ['A', 'B'].into_iter().filter(|repo| world.is_visible(Key::Manifest(*repo, Image::App))).all(|repo| {
        (0..blobs).all(|blob| {
            world.is_visible(Key::Link(repo, blob))
                && world.is_visible(Key::Blob(blob))
                && has_bytes(world, blob)
        })
    })
}

fn children(state: &State) -> bool {
    ['A', 'B'].into_iter().all(|repo| {
        !state.world.is_visible(Key::Manifest(repo, Image::Index))
            || state.world.is_visible(Key::Manifest(repo, Image::App))
            || state.promises.orphaned.contains(&repo)
    })
}

fn linked(world: &World) -> bool {
    world.records.keys().all(|key| match key {
        Key::Link(_, blob) => !world.is_visible(*key) || world.is_visible(Key::Blob(*blob)),
        _ => true,
    })
}

fn bytes(world: &World) -> bool {
    world.records.keys().all(|key| match key {
        Key::Blob(blob) => !world.is_visible(*key) || has_bytes(world, *blob),
        _ => true,
    })
}

fn acknowledged(state: &State) -> bool {
    let tag = |repo| state.world.tags.get(&repo).map(|(image, _)| *image);
    state.promises.records.iter().all(|key| state.world.is_visible(*key))
        && state.promises.tags.iter().all(|(repo, image)| tag(*repo) == Some(*image))
}

fn set_aside(state: &State) -> bool {
    let done = state.actors.iter().any(|actor| actor.outcome == Some("set aside"));
    let leads = |body: &Body| match body {
        Body::Link(link) => link.state.is_visible() && link.data == BAD,
        Body::Blob(blob) => blob.state.is_visible() && blob.data == BAD,
        Body::Manifest(..) => false,
    };
    !done || !state.world.records.values().any(|(body, _)| leads(body))
}

fn tagged(state: &State) -> bool {
    state.promises.pushed.iter().all(|(repo, image)| {
        !state.world.is_visible(Key::Manifest(*repo, *image))
            || state.world.tags.get(repo).is_some_and(|(there, _)| there == image)
    })
}

/// All bytes are those of a visible blob, on record as trash, or an upload's that is under way.
fn remembered(state: &State) -> bool {
    let world = &state.world;
    world.data.iter().all(|data| {
        let blobs = world.records.keys().filter_map(|key| match key {
            Key::Blob(blob) if world.is_visible(*key) => world.blob(*blob),
            _ => None,
        });
        blobs.into_iter().any(|blob| blob.data == *data)
            || world.trash.keys().any(|(_, trash, _)| trash == data)
            || state.actors.iter().any(|actor| actor.own() == Some(data.as_str()))
    })
}
