//! One after the other, without rivals, the machines come to what a client expects.

use std::collections::BTreeSet;

use berth_registry_core::record::State::{self, Condemned, Dead, Live, Pending, Purged};

use crate::{
    actor::Task::{
        self, CollectBlob, CollectLink, CollectLinkEagerly, Delete, DeleteBlob, ForgetBlob, ForgetLink,
        ForgetManifest, Mount, Purge, Put, Repeat, Sweep, SweepTag, Undelete, Upload,
    },
    scenario::Scenario,
    world::{Image::App, Key, World},
};

const STATES: [State; 5] = [Pending, Live, Condemned, Dead, Purged];
const LINK: Key = Key::Link('A', 0);
const BLOB: Key = Key::Blob(0);
const MANIFEST: Key = Key::Manifest('A', App);

fn run(world: World, task: Task) -> (World, &'static str) {
    let (world, outcomes) = Scenario::new(world, [task]).in_turn();
    (world, outcomes[0])
}

fn data(keys: &[&str]) -> BTreeSet<String> {
    keys.iter().map(ToString::to_string).collect()
}

#[test]
fn new_content_takes_three_writes() {
    let (world, outcome) = run(World::default(), Upload('A', "U1"));
    assert_eq!((outcome, world.state(LINK), world.writes()), ("committed", Some(Live), 3));
}

#[test]
fn known_content_is_adopted_and_the_bytes_given_back() {
    let (world, _) = run(World::live(1), Upload('B', "U1"));
    assert_eq!(world.data, data(&["K0"]));
    assert_eq!(world.state(Key::Link('B', 0)), Some(Live));
}

#[test]
fn an_upload_meets_every_state_of_a_blob() {
    for state in [Live, Condemned, Dead, Purged] {
        let mut before = World::default();
        before.put_blob(0, state);
        let (after, outcome) = run(before, Upload('A', "U1"));
        assert_eq!((outcome, after.state(BLOB)), ("committed", Some(Live)), "{state}");
        let expected = if state.is_visible() { "K0" } else { "U1" };
        assert_eq!(after.blob(0).map(|blob| blob.data.as_str()), Some(expected), "{state}");
        assert!(after.data.contains(expected), "{state}");
    }
}

#[test]
fn a_purged_record_is_not_revived_with_its_own_key() {
    let mut before = World::default();
    before.put_blob(0, Purged);
    let (after, outcome) = run(before, Upload('A', "K0"));
    assert_eq!((outcome, after.state(BLOB), after.state(LINK)), ("lost", Some(Purged), Some(Dead)));
}

#[test]
fn the_last_step_is_repeated_with_the_bytes_that_the_record_names_or_a_copy() {
    for (state, expected) in [(Live, "K0"), (Condemned, "K0"), (Dead, "K0"), (Purged, "U1")] {
        let mut before = World::default();
        before.put_blob(0, state);
        let (after, outcome) = run(before, Repeat('A', "K0", "U1"));
        assert_eq!(outcome, "committed", "{state}");
        assert_eq!(after.blob(0).map(|blob| blob.data.as_str()), Some(expected), "{state}");
    }
}

#[test]
fn every_state_of_a_link_is_met() {
    for state in STATES {
        let before = World::with('A', 1, Live, state, Dead);
        let (after, _) = run(before.clone(), Upload('A', "U1"));
        assert_eq!(after.state(LINK), Some(Live), "{state}");
        let (after, outcome) = run(before, Put('A', App));
        assert_eq!(outcome, if state.is_visible() { "put" } else { "missing" }, "{state}");
        let expected = if state.is_visible() { Live } else { Dead };
        assert_eq!(after.state(MANIFEST), Some(expected), "never left pending: {state}");
    }
}

#[test]
fn every_state_of_a_manifest_is_met() {
    for state in STATES {
        let before = World::with('A', 1, Live, Live, state);
        let (after, _) = run(before.clone(), Put('A', App));
        assert_eq!(after.state(MANIFEST), Some(Live), "{state}");
        let (after, _) = run(before.clone(), Delete('A', App));
        assert_eq!(after.state(MANIFEST), Some(if state.is_visible() { Dead } else { state }), "{state}");
        let (after, _) = run(before, Sweep('A', App));
        assert_eq!(after.state(MANIFEST), Some(if state == Pending { Dead } else { state }), "{state}");
    }
}

#[test]
fn a_tag_that_leads_nowhere_is_swept() {
    for state in STATES {
        let mut before = World::with('A', 1, Live, Live, state);
        before.put_tag('A', App);
        before.hints.insert(('A', App));
        let (after, _) = run(before, SweepTag('A', App));
        assert_eq!(after.tags.contains_key(&'A'), state.is_visible(), "{state}");
    }
}

#[test]
fn a_mount_needs_a_visible_source() {
    for state in STATES {
        let (after, outcome) = run(World::with('A', 1, Live, state, Dead), Mount);
        assert_eq!(outcome == "mounted", state.is_visible(), "{state}");
        assert_eq!(after.state(Key::Link('B', 0)) == Some(Live), state.is_visible(), "{state}");
    }
}

#[test]
fn a_mount_of_a_dying_blob_leaves_nothing_visible() {
    for state in [Dead, Purged] {
        let (after, outcome) = run(World::with('A', 1, state, Live, Dead), Mount);
        assert_eq!((outcome, after.state(Key::Link('B', 0))), ("not mounted", Some(Dead)));
    }
}

#[test]
fn a_needed_link_is_spared() {
    for (manifest, outcome, link) in [
        (Pending, "needed", Live),
        (Live, "needed", Live),
        (Condemned, "needed", Live),
        (Dead, "dead", Dead),
        (Purged, "dead", Dead),
    ] {
        for task in [CollectLink('A', 0), DeleteBlob('A')] {
            let (after, ended) = run(World::with('A', 1, Live, Live, manifest), task);
            assert_eq!((ended, after.state(LINK)), (outcome, Some(link)), "{manifest}");
        }
    }
}

#[test]
fn a_young_link_is_spared_unless_a_client_deletes_it() {
    let (young, _) = run(World::default(), Upload('A', "U1"));
    assert_eq!(run(young.clone(), CollectLink('A', 0)).1, "young");
    assert_eq!(run(young.clone(), CollectLinkEagerly('A', 0)).1, "dead");
    assert_eq!(run(young, DeleteBlob('A')).1, "dead");
}

#[test]
fn a_pending_link_is_swept_by_age_and_unknown_to_clients() {
    let pending = World::with('A', 1, Live, Pending, Dead);
    assert_eq!(run(pending.clone(), CollectLink('A', 0)).1, "dead");
    assert_eq!(run(pending, DeleteBlob('A')).1, "unknown");
}

#[test]
fn a_blob_lives_by_any_link() {
    for state in STATES {
        let (after, outcome) = run(World::with('B', 1, Live, state, Dead), CollectBlob(0, 0));
        assert_eq!(outcome, if state.is_reference() { "linked" } else { "dead" }, "{state}");
        assert_eq!(after.trash.is_empty(), state.is_reference(), "{state}");
    }
}

#[test]
fn an_image_is_collected_and_forgotten_to_the_last_record() {
    let tasks = [
        Delete('A', App),
        CollectLink('A', 0),
        CollectBlob(0, 0),
        Purge,
        ForgetManifest('A', App),
        ForgetLink('A'),
        ForgetBlob,
    ];
    let (world, outcomes) = Scenario::new(World::live(1), tasks).in_turn();
    assert_eq!(outcomes, ["deleted", "dead", "dead", "purged", "forgotten", "forgotten", "forgotten"]);
    assert!(world.records.is_empty() && world.data.is_empty() && world.trash.is_empty(), "{world:?}");
}

#[test]
fn nothing_is_purged_within_its_window() {
    let tasks = [Delete('A', App), CollectLink('A', 0), CollectBlob(0, 100), Purge, ForgetBlob];
    let (world, outcomes) = Scenario::new(World::live(1), tasks).in_turn();
    assert_eq!(outcomes, ["deleted", "dead", "dead", "kept"], "the purge has nothing to do");
    assert_eq!(world.data, data(&["K0"]));
}

#[test]
fn undelete_brings_back_what_is_not_purged() {
    let (world, outcome) = run(World::dead(), Undelete('A'));
    assert_eq!((outcome, world.state(LINK), world.state(MANIFEST)), ("undeleted", Some(Live), Some(Live)));
    assert_eq!(world.blob(0).map(|blob| (blob.state, blob.until)), Some((Live, None)));
    let (world, outcomes) = Scenario::new(World::dead(), [Purge, Undelete('A')]).in_turn();
    assert_eq!(outcomes, ["purged", "lost"]);
    assert_eq!(world.state(LINK), Some(Dead), "no link is left behind");
}

#[test]
fn what_is_in_use_is_not_forgotten() {
    for state in STATES {
        for (task, key) in [(ForgetLink('A'), LINK), (ForgetBlob, BLOB), (ForgetManifest('A', App), MANIFEST)]
        {
            let (after, _) = run(World::with('A', 1, state, state, state), task);
            let tombstone = state == Purged || (state == Dead && key != BLOB);
            assert_eq!(after.state(key).is_none(), tombstone, "{task:?} {state}");
        }
    }
}
