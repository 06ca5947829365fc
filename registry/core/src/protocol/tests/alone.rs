//! The machines alone, without rivals, come to what a client expects.

use super::*;

fn run(mut actor: Actor, mut world: World) -> (Actor, World) {
    if !actor.own.is_empty() {
        world.data.insert(actor.own.clone());
    }
    for _ in 0..50 {
        if actor.done.is_some() {
            return (actor, world);
        }
        actor.step(&mut world);
    }
    panic!("{actor:?} does not end");
}

#[test]
fn new_content_takes_three_writes() {
    let (actor, world) = run(upload('A', "K1"), World::default());
    assert_eq!(actor.done, Some("committed"));
    assert_eq!(world.state(Key::Link('A')), Some(State::Live));
    assert_eq!(world.records.values().map(|(_, version)| version).sum::<u32>(), 3);
}

#[test]
fn known_content_is_adopted_and_the_bytes_given_back() {
    let (_, world) = run(upload('B', "K1"), live());
    assert_eq!(world.data, BTreeSet::from(["K0".to_owned()]));
    assert_eq!(world.state(Key::Link('B')), Some(State::Live));
}

#[test]
fn every_state_of_a_blob_is_met() {
    for state in [State::Live, State::Condemned, State::Dead, State::Purged] {
        let (_, after) = run(upload('A', "K1"), world(Some(state), &[], &[], &["K0"]));
        let Some((Body::Blob(blob), _)) = after.records.get(&Key::Blob) else { panic!("no blob") };
        assert_eq!(blob.state, State::Live, "{state}");
        assert_eq!(blob.data, if state.is_visible() { "K0" } else { "K1" }, "{state}");
        assert!(after.data.contains(&blob.data));
    }
}

#[test]
fn a_purged_record_is_not_revived_with_its_own_key() {
    let (actor, _) = run(upload('A', "K0"), world(Some(State::Purged), &[], &[], &[]));
    assert_eq!(actor.done, Some("lost"));
}

#[test]
fn every_state_of_a_link_is_met() {
    for state in [State::Pending, State::Live, State::Condemned, State::Dead, State::Purged] {
        let before = world(Some(State::Live), &[('A', state)], &[], &["K0"]);
        let (_, after) = run(upload('A', "K1"), before.clone());
        assert_eq!(after.state(Key::Link('A')), Some(State::Live), "{state}");
        let (_, after) = run(put('A'), before);
        let manifest = after.state(Key::Manifest('A')).unwrap();
        assert_eq!(manifest == State::Live, state.is_visible(), "{state}");
        assert!(manifest == State::Live || manifest == State::Dead, "never left pending: {state}");
    }
}

#[test]
fn every_state_of_a_manifest_is_met() {
    for state in [State::Pending, State::Live, State::Condemned, State::Dead, State::Purged] {
        let before = world(Some(State::Live), &[('A', State::Live)], &[('A', state)], &["K0"]);
        let (_, after) = run(put('A'), before.clone());
        assert_eq!(after.state(Key::Manifest('A')), Some(State::Live), "{state}");
        let (_, after) = run(delete('A'), before);
        let expected = if state.is_visible() { State::Dead } else { state };
        assert_eq!(after.state(Key::Manifest('A')), Some(expected), "{state}");
    }
}

#[test]
fn a_mount_needs_a_visible_source() {
    for state in [State::Pending, State::Live, State::Condemned, State::Dead, State::Purged] {
        let (_, after) = run(mount(), world(Some(State::Live), &[('A', state)], &[], &["K0"]));
        assert_eq!(after.state(Key::Link('B')) == Some(State::Live), state.is_visible(), "{state}");
    }
}

#[test]
fn a_mount_of_a_dying_blob_leaves_nothing_visible() {
    for state in [State::Dead, State::Purged] {
        let (_, after) = run(mount(), world(Some(state), &[('A', State::Live)], &[], &["K0"]));
        assert_eq!(after.state(Key::Link('B')), Some(State::Dead));
    }
}

#[test]
fn a_needed_link_is_spared() {
    for (manifest, expected) in [
        (State::Pending, State::Live),
        (State::Live, State::Live),
        (State::Condemned, State::Live),
        (State::Dead, State::Dead),
    ] {
        let before = world(Some(State::Live), &[('A', State::Live)], &[('A', manifest)], &["K0"]);
        let (_, after) = run(collect_link('A'), before);
        assert_eq!(after.state(Key::Link('A')), Some(expected), "{manifest}");
    }
}
