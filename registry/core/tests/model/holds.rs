//! What must hold, whoever meets whom. A collector that is called impatient takes no notice of age; a purge waits for
//! no window unless it is said.

use berth_registry_core::record::State;

use crate::{
    actor::Task::{
        CollectBlob, CollectLink, CollectLinkEagerly, Delete, DeleteBlob, ForgetBlob, ForgetLink,
        ForgetManifest, Mount, Purge, Put, PutTagged, Reclaim, Repeat, SetAside, Sweep, SweepTag, Undelete,
        Untag, Upload,
    },
    scenario::Scenario,
    world::{
        Image::{App, Index},
        World,
    },
};

#[test]
fn a_first_upload_and_its_manifest() {
    let tasks = [Upload('A', "U1"), Put('A', App), CollectLinkEagerly('A', 0), CollectBlob(0, 0), Purge];
    Scenario::new(World::default(), tasks)
        .losses(1)
        .holds("a first upload and its manifest, impatient collectors", &[(1, "put"), (3, "dead")]);
}

#[test]
fn two_uploads_of_one_digest() {
    let tasks = [Upload('A', "U1"), Upload('A', "U2"), Put('A', App), CollectBlob(0, 0)];
    Scenario::new(World::default(), tasks)
        .holds("two uploads of one digest, an impatient collector", &[(0, "committed"), (1, "committed")]);
}

#[test]
fn a_client_whose_lease_is_honoured_is_never_refused() {
    let tasks =
        [Delete('A', App), Upload('A', "U1"), Put('A', App), CollectLink('A', 0), CollectBlob(0, 0), Purge];
    Scenario::new(World::live(1), tasks)
        .holds("deleted and pushed again, patient collectors", &[(2, "put"), (3, "dead"), (4, "dead")]);
}

#[test]
fn deleted_and_pushed_again_beside_impatient_collectors() {
    let tasks = [
        Delete('A', App),
        Upload('A', "U1"),
        Put('A', App),
        CollectLinkEagerly('A', 0),
        CollectBlob(0, 0),
        Purge,
    ];
    Scenario::new(World::live(1), tasks)
        .holds("deleted and pushed again, impatient collectors", &[(2, "put"), (2, "missing"), (4, "dead")]);
}

#[test]
fn answers_are_lost() {
    let tasks = [Upload('A', "U1"), Put('A', App), CollectLinkEagerly('A', 0), CollectBlob(0, 0)];
    let unused = World::with('A', 1, State::Live, State::Live, State::Dead);
    Scenario::new(unused, tasks)
        .losses(1)
        .holds("uploaded again and pushed, an answer is lost", &[(0, "committed"), (1, "put"), (3, "dead")]);
}

#[test]
fn two_rounds_of_collectors() {
    let tasks = [
        Delete('A', App),
        Put('A', App),
        CollectLinkEagerly('A', 0),
        CollectLinkEagerly('A', 0),
        CollectBlob(0, 0),
    ];
    Scenario::new(World::live(1), tasks)
        .holds("two rounds of impatient collectors", &[(1, "missing"), (4, "dead")]);
}

#[test]
fn uploaded_again_while_it_is_purged_and_forgotten() {
    let tasks = [Upload('A', "U1"), Put('A', App), CollectBlob(0, 0), Purge, ForgetBlob, ForgetLink('A')];
    Scenario::new(World::dead(), tasks).losses(1).holds(
        "uploaded again while purged and forgotten",
        &[(0, "committed"), (1, "put"), (4, "forgotten")],
    );
}

#[test]
fn the_last_step_is_repeated_over_a_dead_blob() {
    let tasks = [Upload('B', "U1"), Repeat('B', "U1", "U2"), CollectBlob(0, 0), Purge];
    Scenario::new(World::dead(), tasks)
        .holds("the last step is repeated over a dead blob", &[(0, "committed"), (1, "committed")]);
}

#[test]
fn mounted_while_the_source_is_deleted_and_collected() {
    let tasks =
        [Mount, Put('B', App), Delete('A', App), CollectLinkEagerly('A', 0), CollectBlob(0, 0), Purge];
    Scenario::new(World::live(1), tasks)
        .holds("mounted while the source is deleted", &[(0, "mounted"), (0, "not mounted"), (1, "put")]);
}

#[test]
fn mounted_and_uploaded_at_once() {
    let tasks = [Mount, Upload('B', "U1"), Delete('A', App), CollectLinkEagerly('A', 0), CollectBlob(0, 0)];
    Scenario::new(World::live(1), tasks)
        .holds("mounted and uploaded, the source is deleted", &[(0, "mounted"), (1, "committed")]);
}

#[test]
fn mounted_into_a_repository_that_is_collected() {
    let tasks = [Mount, Put('B', App), CollectLinkEagerly('B', 0), CollectLink('A', 0), CollectBlob(0, 0)];
    Scenario::new(World::live(1), tasks)
        .holds("mounted where it is collected", &[(0, "mounted"), (1, "put"), (3, "needed")]);
}

#[test]
fn undeleted_while_it_is_purged() {
    let tasks = [Undelete('A'), Upload('B', "U1"), CollectLink('A', 0), CollectBlob(0, 0), Purge];
    Scenario::new(World::dead(), tasks).losses(1).holds(
        "undeleted while purged, uploaded elsewhere",
        &[(0, "undeleted"), (0, "lost"), (1, "committed")],
    );
}

#[test]
fn undeleted_and_deleted_again() {
    let tasks =
        [Undelete('A'), Delete('A', App), CollectLinkEagerly('A', 0), CollectBlob(0, 100), Purge, Purge];
    Scenario::new(World::dead(), tasks)
        .holds("undeleted and deleted again, two windows", &[(0, "undeleted"), (3, "dead"), (4, "purged")]);
}

#[test]
fn tombstones_are_dropped() {
    let tasks = [
        Put('A', App),
        Upload('A', "U1"),
        ForgetManifest('A', App),
        ForgetLink('A'),
        ForgetBlob,
        CollectLinkEagerly('A', 0),
    ];
    let purged = World::with('A', 1, State::Purged, State::Dead, State::Dead);
    Scenario::new(purged, tasks)
        .holds("tombstones are dropped under writers", &[(0, "put"), (1, "committed"), (2, "forgotten")]);
}

#[test]
fn abandoned_records_are_swept_under_their_writers() {
    let tasks =
        [Upload('A', "U1"), Put('A', App), Sweep('A', App), CollectLinkEagerly('A', 0), CollectBlob(0, 0)];
    let left = World::with('A', 1, State::Live, State::Pending, State::Pending);
    Scenario::new(left, tasks)
        .holds("pending records are swept under their writers", &[(1, "put"), (2, "swept"), (3, "dead")]);
}

#[test]
fn a_blob_is_deleted_by_a_client() {
    let tasks = [Upload('A', "U1"), Put('A', App), DeleteBlob('A'), CollectBlob(0, 0), Purge];
    let unused = World::with('A', 1, State::Live, State::Live, State::Dead);
    Scenario::new(unused, tasks)
        .holds("a client deletes the blob", &[(1, "put"), (2, "dead"), (2, "needed")]);
}

#[test]
fn an_index_and_its_child() {
    let tasks =
        [Put('A', Index), Put('A', App), Delete('A', App), CollectLinkEagerly('A', 0), Delete('A', Index)];
    Scenario::new(World::live(1), tasks)
        .losses(1)
        .holds("an index, and its child deleted and pushed", &[(0, "put"), (0, "missing"), (1, "put")]);
}

#[test]
fn a_tag_is_moved_and_deleted() {
    let tasks = [PutTagged('A', Index), PutTagged('A', App), Delete('A', App), Untag('A')];
    Scenario::new(World::live(1), tasks)
        .losses(1)
        .holds("a tag is moved and deleted", &[(0, "put"), (1, "put"), (2, "deleted")]);
}

#[test]
fn a_tag_is_pushed_while_its_manifest_is_deleted() {
    let tasks = [PutTagged('A', App), Delete('A', App), SweepTag('A', App), SweepTag('A', App)];
    Scenario::new(World::live(1), tasks).losses(1).holds(
        "a tag is pushed while its manifest is deleted, and swept",
        &[(0, "put"), (1, "deleted"), (2, "deleted"), (3, "kept")],
    );
}

fn in_two_repositories() -> World {
    let mut world = World::live(1);
    world.put_link('B', 0, State::Live);
    world
}

/// R-STO-6: corruption is found beside writers.
#[test]
fn bad_bytes_are_set_aside_beside_uploads() {
    let tasks = [SetAside, Upload('A', "U1"), Mount];
    Scenario::new(World::live(1), tasks).losses(1).holds(
        "bad bytes are set aside beside an upload and a mount",
        &[(0, "set aside"), (2, "not mounted")],
    );
    let tasks = [SetAside, Upload('A', "U1"), Upload('B', "U2"), CollectBlob(0, 0)];
    Scenario::new(in_two_repositories(), tasks).holds(
        "bad bytes are set aside beside two uploads",
        &[(0, "set aside"), (2, "committed"), (3, "linked")],
    );
    let tasks = [SetAside, Upload('B', "U1"), Put('B', App), CollectBlob(0, 0)];
    Scenario::new(in_two_repositories(), tasks)
        .holds("bad bytes are set aside where it is pushed", &[(0, "set aside"), (2, "put"), (2, "missing")]);
}

/// R-STO-6: bytes that no record names are deleted under their uploader.
#[test]
fn orphans_are_reclaimed_under_their_uploader() {
    let tasks = [Upload('A', "U1"), Reclaim("U1"), Put('A', App), CollectBlob(0, 0)];
    Scenario::new(World::default(), tasks).losses(1).holds(
        "orphans are reclaimed under their uploader",
        &[(0, "committed"), (0, "lost"), (1, "reclaimed"), (1, "named"), (2, "put")],
    );
}

#[test]
fn a_manifest_with_two_blobs() {
    let tasks = [
        Put('A', App),
        Delete('A', App),
        CollectLinkEagerly('A', 0),
        CollectLinkEagerly('A', 1),
        CollectBlob(1, 0),
    ];
    Scenario::new(World::live(2), tasks)
        .blobs(2)
        .holds("a manifest with two blobs", &[(0, "put"), (0, "missing"), (4, "dead")]);
}
