//! Each rule is needed: without it, the model finds what goes wrong.

use berth_registry_core::{protocol::Slot, record::State};

use crate::{
    actor::Task::{
        CollectBlob, CollectLinkEagerly, Delete, ForgetBlob, Purge, Put, PutTagged, Repeat, SetAside,
        SweepTag, Undelete, Upload,
    },
    fault::Fault,
    property::{BYTES, COMPLETE, LINKED, REMEMBERED, SET_ASIDE, TAGGED},
    scenario::Scenario,
    world::{Image::App, World},
};

/// A blob that a repository holds, and no manifest needs.
fn unused() -> World {
    World::with('A', 1, State::Live, State::Live, State::Dead)
}

/// A blob that no repository holds any more.
fn unlinked() -> World {
    World::with('A', 1, State::Live, State::Dead, State::Dead)
}

#[test]
fn a_link_becomes_live_only_after_the_record_of_its_blob() {
    let tasks = [Upload('A', "U1"), Put('A', App)];
    Scenario::new(World::default(), tasks).fault(Fault::LinkLiveAtOnce).breaks(COMPLETE);
}

#[test]
fn a_link_becomes_live_by_a_swap_on_the_version_seen_before_the_blob_was_read() {
    let tasks = [Upload('A', "U1"), Upload('A', "U2"), CollectLinkEagerly('A', 0), CollectBlob(0, 0)];
    Scenario::new(World::default(), tasks).fault(Fault::PublishOverAnyVersion).breaks(LINKED);
}

#[test]
fn a_link_is_written_before_its_blob_is_read() {
    let tasks = [Upload('B', "U1"), CollectBlob(0, 0)];
    Scenario::new(unlinked(), tasks).fault(Fault::ReferAfterReading(Slot::Link)).breaks(LINKED);
}

#[test]
fn a_manifest_is_written_before_its_links_are_read() {
    let tasks = [Put('A', App), CollectLinkEagerly('A', 0)];
    Scenario::new(unused(), tasks).fault(Fault::ReferAfterReading(Slot::Manifest)).breaks(COMPLETE);
}

#[test]
fn a_link_is_condemned_before_the_manifests_are_read() {
    let tasks = [Put('A', App), CollectLinkEagerly('A', 0)];
    Scenario::new(unused(), tasks).fault(Fault::ReadBeforeCondemning(Slot::Link)).breaks(COMPLETE);
}

#[test]
fn a_blob_is_condemned_before_the_links_are_read() {
    let tasks = [Upload('B', "U1"), CollectBlob(0, 0)];
    Scenario::new(unlinked(), tasks).fault(Fault::ReadBeforeCondemning(Slot::Blob)).breaks(LINKED);
}

#[test]
fn a_blob_is_condemned_before_the_links_are_listed() {
    let tasks = [Upload('B', "U1"), CollectBlob(0, 0)];
    Scenario::new(unlinked(), tasks).fault(Fault::ListBeforeCondemning).breaks(LINKED);
}

#[test]
fn a_pending_link_counts() {
    let tasks = [Upload('B', "U1"), CollectBlob(0, 0)];
    Scenario::new(unlinked(), tasks).fault(Fault::OverlookPendingLinks).breaks(LINKED);
}

#[test]
fn a_pending_manifest_counts() {
    let tasks = [Put('A', App), CollectLinkEagerly('A', 0)];
    Scenario::new(unused(), tasks).fault(Fault::OverlookPendingManifests).breaks(COMPLETE);
}

#[test]
fn a_purged_record_is_not_revived_with_its_own_key() {
    let tasks = [Upload('A', "U1"), CollectLinkEagerly('A', 0), CollectBlob(0, 0), Purge];
    Scenario::new(World::default(), tasks).fault(Fault::ReviveOwn).breaks(BYTES);
}

#[test]
fn a_data_key_enters_a_record_once() {
    let tasks = [Upload('A', "U1"), CollectLinkEagerly('A', 0), CollectBlob(0, 0), Purge, ForgetBlob];
    Scenario::new(World::default(), tasks).fault(Fault::OfferTwice).breaks(BYTES);
}

#[test]
fn the_repetition_of_a_last_step_is_no_first_attempt() {
    let tasks =
        [Upload('A', "U1"), Repeat('A', "U1", "U2"), CollectLinkEagerly('A', 0), CollectBlob(0, 0), Purge];
    Scenario::new(unused(), tasks).fault(Fault::RepeatAsNew).breaks(BYTES);
}

#[test]
fn trash_is_on_record_before_the_death() {
    Scenario::new(unlinked(), [CollectBlob(0, 0)]).fault(Fault::DieBeforeDiscarding).breaks(REMEMBERED);
}

#[test]
fn trash_stays_on_record_while_a_collector_is_undecided() {
    Scenario::new(unlinked(), [CollectBlob(0, 0), Purge]).fault(Fault::DropUndecided).breaks(REMEMBERED);
}

#[test]
fn a_record_is_purged_before_its_bytes_go() {
    Scenario::new(World::dead(), [Undelete('A'), Purge]).fault(Fault::PurgeWithoutMark).breaks(BYTES);
}

#[test]
fn a_tombstone_is_removed_by_its_version() {
    let purged = World::with('A', 1, State::Purged, State::Dead, State::Dead);
    Scenario::new(purged, [Upload('A', "U1"), ForgetBlob]).fault(Fault::RemoveAnyVersion).breaks(LINKED);
}

#[test]
fn a_pending_link_is_written_anew_when_its_blob_is_set_aside() {
    let tasks = [SetAside, Upload('A', "U1"), Upload('B', "U2")];
    Scenario::new(World::with('B', 1, State::Live, State::Live, State::Live), tasks)
        .fault(Fault::LeavePendingLinks)
        .breaks(SET_ASIDE);
}

#[test]
fn the_tags_of_a_manifest_are_seen_before_it_dies() {
    let tasks = [PutTagged('A', App), Delete('A', App)];
    Scenario::new(World::live(1), tasks).fault(Fault::SeeTagsAfterDeath).breaks(TAGGED);
}

#[test]
fn a_tag_is_seen_before_its_manifest_is_missed() {
    let mut deleted = World::with('A', 1, State::Live, State::Live, State::Dead);
    deleted.put_tag('A', App);
    deleted.hints.insert(('A', App));
    let tasks = [PutTagged('A', App), SweepTag('A', App)];
    Scenario::new(deleted, tasks).fault(Fault::JudgeBeforeSeeingTags).breaks(TAGGED);
}
