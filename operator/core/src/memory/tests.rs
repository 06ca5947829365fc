//! R-SIG-1, R-SIG-6: what is remembered, for how long, and what makes it go.

use super::*;
use berth_registry_core::RepositoryName;
use berth_trust::{Bounds, Evidence};

const HOST: &str = "registry.team-a.svc.cluster.local";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn digest(text: &str) -> Digest {
    Digest::sha256(text.as_bytes())
}

fn facts(text: &str) -> Facts {
    let evidence =
        Evidence { subject: digest(text), described: None, artifacts: Vec::new(), indexes: Vec::new() };
    Facts::establish(&evidence, &berth_trust::Anchors::default(), &Bounds::default()).unwrap()
}

fn repository(name: &str) -> RepositoryName {
    name.parse().unwrap()
}

fn place<'a>(scope: &'a str, repository: &'a RepositoryName) -> Place<'a> {
    Place { scope, host: HOST, repository }
}

fn is_known(memory: &Memory, place: &Place<'_>, text: &str, now: i64) -> bool {
    !matches!(memory.facts(place, &digest(text), at(now)), Belief::None)
}

#[test]
fn what_was_learnt_is_known() {
    let memory = Memory::new(1 << 20);
    let (app, tag) = (repository("app"), "v1".parse().unwrap());
    let place = place("", &app);
    assert_eq!(memory.digest(&place, &tag, at(0)), Belief::None);
    let asked = memory.moment();
    memory.learn(&place, &facts("one"), asked, at(0));
    memory.learn_tag(&place, &tag, &digest("one"), asked, at(0));
    assert_eq!(memory.digest(&place, &tag, at(1)), Belief::Sure(digest("one")));
    assert!(is_known(&memory, &place, "one", 1) && !is_known(&memory, &place, "two", 1));
    assert_eq!(memory.size().0, 1);
}

/// A change of one repository makes what is known of it go, and nothing else.
#[test]
fn a_change_takes_away_what_was_asked_for_before() {
    let memory = Memory::new(1 << 20);
    let (app, other) = (repository("app"), repository("other"));
    let (app, other) = (place("", &app), place("", &other));
    let asked = memory.moment();
    for place in [&app, &other] {
        memory.learn(place, &facts("one"), asked, at(0));
    }
    memory.repository_changed(HOST, "app");
    assert!(!is_known(&memory, &app, "one", 1) && is_known(&memory, &other, "one", 1));
    memory.learn(&app, &facts("one"), memory.moment(), at(1));
    assert!(is_known(&memory, &app, "one", 1));
    memory.host_changed(HOST);
    assert!(!is_known(&memory, &app, "one", 1) && !is_known(&memory, &other, "one", 1));
}

/// An answer that was under way when the change came may be of before it: whoever waits has it, nobody after.
#[test]
fn what_was_under_way_during_a_change_is_not_kept() {
    let memory = Memory::new(1 << 20);
    let (app, tag) = (repository("app"), "v1".parse().unwrap());
    let place = place("", &app);
    let asked = memory.moment();
    memory.repository_changed(HOST, "app");
    let known = memory.learn(&place, &facts("one"), asked, at(0));
    memory.learn_tag(&place, &tag, &digest("one"), asked, at(0));
    assert_eq!((known.subject(), known.facts().unwrap()), (digest("one"), facts("one")));
    assert!(!is_known(&memory, &place, "one", 0));
    assert_eq!(memory.digest(&place, &tag, at(0)), Belief::None);
}

/// What one tenant's credentials showed is not known to another.
#[test]
fn scopes_do_not_share() {
    let memory = Memory::new(1 << 20);
    let app = repository("app");
    memory.learn(&place("team-a", &app), &facts("one"), memory.moment(), at(0));
    assert!(is_known(&memory, &place("team-a", &app), "one", 0));
    assert!(
        !is_known(&memory, &place("team-b", &app), "one", 0)
            && !is_known(&memory, &place("", &app), "one", 0)
    );
}

/// Old knowledge is fetched anew by one of those who use it; should that fail, by another one half a minute later.
#[test]
fn one_refreshes_what_is_old_and_in_the_end_nobody_believes_it() {
    let memory = Memory::new(1 << 20);
    let app = repository("app");
    let place = place("", &app);
    memory.learn(&place, &facts("one"), memory.moment(), at(0));
    let ask = |now: i64| memory.facts(&place, &digest("one"), at(now));
    assert!(matches!(ask(239), Belief::Sure(_)));
    assert!(matches!(ask(300), Belief::Due(_)) && matches!(ask(300), Belief::Sure(_)));
    assert!(matches!(ask(329), Belief::Sure(_)) && matches!(ask(330), Belief::Due(_)));
    let day = 24 * 3600;
    assert!(is_known(&memory, &place, "one", day - 1) && !is_known(&memory, &place, "one", day));
}

#[test]
fn tags_of_foreign_registries_are_not_remembered() {
    let memory = Memory::new(1 << 20);
    let (app, tag) = (repository("app"), "v1".parse().unwrap());
    let place = place("team-a", &app);
    memory.learn_tag(&place, &tag, &digest("one"), memory.moment(), at(0));
    assert_eq!(memory.digest(&place, &tag, at(0)), Belief::None);
}

/// However many digests are seen, memory stays within its bytes.
#[test]
fn memory_is_bounded_by_bytes() {
    const BYTES: u64 = 256 * 1024;
    let memory = Memory::new(BYTES);
    let app = repository("app");
    let place = place("", &app);
    for number in 0..2000 {
        memory.learn(&place, &facts(&number.to_string()), memory.moment(), at(0));
    }
    let (digests, bytes) = memory.size();
    assert!(bytes <= BYTES && (50..2000).contains(&digests), "{digests} digests in {bytes} bytes");
}

/// A verdict holds for one revision of a policy, the same facts, and the same way to name the image, until its time.
#[test]
fn verdicts_are_judged_once() {
    let memory = Memory::new(1 << 20);
    let app = repository("app");
    let learn = || memory.learn(&place("", &app), &facts("one"), memory.moment(), at(0));
    let (known, again) = (learn(), learn());
    let by_tag: ImageReference = format!("{HOST}/app:v1").parse().unwrap();
    let by_digest = by_tag.pinned(digest("one"));
    let judged = std::cell::Cell::new(0);
    let ask = |policy: u64, known: &Known, image: &ImageReference, now: i64| {
        memory.verdict(policy, known, image, at(now), || {
            judged.set(judged.get() + 1);
            Judgement { verdict: Verdict::image_not_found(), until: Some(at(10)) }
        });
        judged.get()
    };
    assert_eq!([ask(1, &known, &by_tag, 0), ask(1, &known, &by_tag, 9)], [1, 1]);
    assert_eq!(ask(1, &known, &by_tag, 10), 2, "its time is over");
    assert_eq!(ask(2, &known, &by_tag, 0), 3, "another revision");
    assert_eq!(ask(1, &again, &by_tag, 0), 4, "facts were established again");
    assert_eq!(ask(1, &known, &by_digest, 0), 5, "another way to name it");
}

#[test]
fn that_something_could_not_be_checked_is_not_remembered() {
    let memory = Memory::new(1 << 20);
    let app = repository("app");
    let known = memory.learn(&place("", &app), &facts("one"), memory.moment(), at(0));
    let image: ImageReference = format!("{HOST}/app:v1").parse().unwrap();
    for _ in 0..2 {
        let unknown = Verdict::could_not_check("X", "", true);
        let judged = memory.verdict(1, &known, &image, at(0), || Judgement { verdict: unknown, until: None });
        assert_eq!(judged.verdict.reason(), "X");
    }
    let judged = memory
        .verdict(1, &known, &image, at(0), || Judgement { verdict: Verdict::image_not_found(), until: None });
    assert_eq!(judged.verdict.reason(), "ImageNotFound");
}
