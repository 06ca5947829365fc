//! The scenarios of `holds.rs` with more actors and lost answers: minutes, not seconds.

use berth_registry_core::record::State;

use crate::{
    actor::Task::{
        CollectBlob, CollectLink, CollectLinkEagerly, Delete, DeleteBlob, ForgetBlob, ForgetLink,
        ForgetManifest, Mount, Purge, Put, Repeat, Sweep, Undelete, Upload,
    },
    scenario::Scenario,
    world::{Image::App, World},
};

#[test]
#[ignore = "minutes"]
fn uploads() {
    let collectors = [CollectLinkEagerly('A', 0), CollectBlob(0, 0), Purge, ForgetBlob];
    let [link, blob, purge, forget] = collectors;
    let two = [Upload('A', "U1"), Upload('A', "U2"), Put('A', App), link, blob];
    Scenario::new(World::default(), two).holds("two uploads and a manifest", &[(2, "put")]);
    // Two rounds at both levels at once are more than a machine with 6 GiB to spare can remember.
    let rounds = [Upload('A', "U1"), Upload('A', "U2"), link, link, blob, purge];
    Scenario::new(World::default(), rounds).holds("two uploads, two rounds over links", &[(0, "lost")]);
    let rounds = [Upload('A', "U1"), Upload('A', "U2"), link, blob, blob, purge];
    Scenario::new(World::default(), rounds).holds("two uploads, two rounds over blobs", &[(0, "lost")]);
    let again = [Upload('A', "U1"), Repeat('A', "U1", "U2"), link, blob, purge, forget];
    Scenario::new(World::default(), again).holds("the last step repeated, forgotten", &[(1, "lost")]);
    let again = [Upload('B', "U1"), Repeat('B', "U1", "U2"), CollectLinkEagerly('B', 0), blob, purge];
    Scenario::new(World::dead(), again).holds("the last step repeated over a dead blob", &[(1, "committed")]);
}

#[test]
#[ignore = "minutes"]
fn pushed_again() {
    let client = [Delete('A', App), Upload('A', "U1"), Put('A', App)];
    let [delete, upload, put] = client;
    let (link, blob) = (CollectLinkEagerly('A', 0), CollectBlob(0, 0));
    Scenario::new(World::live(1), [delete, upload, put, link, blob])
        .losses(1)
        .holds("deleted and pushed again, an answer is lost", &[(2, "put")]);
    Scenario::new(World::live(1), [delete, upload, put, link, blob, Purge, ForgetBlob])
        .holds("deleted, pushed again and forgotten", &[(2, "put")]);
    Scenario::new(World::live(1), [delete, upload, put, CollectLink('A', 0), blob, Purge])
        .losses(1)
        .holds("patient collectors, an answer is lost", &[(2, "put")]);
    Scenario::new(World::live(1), [delete, put, link, link, blob, blob])
        .holds("two rounds of collectors at both levels", &[(1, "put")]);
}

#[test]
#[ignore = "minutes"]
fn mounted() {
    let collectors = [CollectLinkEagerly('A', 0), CollectLinkEagerly('B', 0), CollectBlob(0, 0)];
    let [a, b, blob] = collectors;
    Scenario::new(World::live(1), [Mount, Put('B', App), Delete('A', App), a, b, blob, Purge])
        .holds("mounted while all is collected", &[(1, "put")]);
    Scenario::new(World::live(1), [Mount, Upload('B', "U1"), Put('B', App), Delete('A', App), a, blob])
        .holds("mounted and uploaded, the source is deleted", &[(2, "put")]);
}

#[test]
#[ignore = "minutes"]
fn undeleted() {
    let tasks = [
        Undelete('A'),
        Upload('A', "U1"),
        Delete('A', App),
        CollectLinkEagerly('A', 0),
        CollectBlob(0, 100),
        Purge,
    ];
    Scenario::new(World::dead(), tasks).holds("undeleted, uploaded and deleted again", &[(0, "undeleted")]);
}

#[test]
#[ignore = "minutes"]
fn swept() {
    let purged = World::with('A', 1, State::Purged, State::Dead, State::Dead);
    let forget = [ForgetManifest('A', App), ForgetLink('A'), ForgetBlob];
    let tasks =
        [Put('A', App), Upload('A', "U1"), forget[0], forget[1], forget[2], CollectLinkEagerly('A', 0)];
    Scenario::new(purged, tasks).losses(1).holds("tombstones dropped, an answer is lost", &[(0, "put")]);
    let left = World::with('A', 1, State::Live, State::Pending, State::Pending);
    let tasks =
        [Upload('A', "U1"), Put('A', App), Sweep('A', App), CollectLinkEagerly('A', 0), CollectBlob(0, 0)];
    Scenario::new(left, tasks).losses(1).holds("pending records swept, an answer is lost", &[(1, "put")]);
    let unused = World::with('A', 1, State::Live, State::Live, State::Dead);
    let tasks = [Upload('A', "U1"), Put('A', App), DeleteBlob('A'), CollectBlob(0, 0), Purge];
    Scenario::new(unused, tasks)
        .losses(1)
        .holds("a client deletes the blob, an answer is lost", &[(1, "put")]);
}
