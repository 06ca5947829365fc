//! R-SIG-1, R-OPR-6: what of memory is kept across restarts, how much, and that it is doubtful afterwards.

use std::collections::BTreeSet;

use berth_registry_core::{RepositoryName, Tag};
use berth_trust::{Anchors, Bounds, Evidence};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::super::{Belief, Place, Shapes};
use super::*;

const HOST: &str = "registry.team-a.svc.cluster.local";
const BYTES: u64 = 1 << 30;
const DAY: i64 = 24 * 3600;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn digest(text: &str) -> Digest {
    Digest::sha256(text.as_bytes())
}

fn facts(text: &str) -> Facts {
    let evidence =
        Evidence { subject: digest(text), described: None, artifacts: Vec::new(), indexes: Vec::new() };
    Facts::establish(&evidence, &Anchors::default(), &Bounds::default()).unwrap()
}

/// `learn`s an image in the repository of its name, `NAME:v1`.
fn learn(memory: &Memory, name: &str, seen: i64) {
    let (repository, tag) = (name.parse().unwrap(), "v1".parse().unwrap());
    let place = Place { scope: "", host: HOST, repository: &repository };
    memory.learn(&place, &facts(name), memory.moment(), at(seen));
    memory.learn_tag(&place, &tag, &digest(name), memory.moment(), at(seen));
}

fn packed(memory: &Memory, now: i64) -> Vec<Packed> {
    memory.shards(at(now)).iter().map(|shard| shard.pack().unwrap()).collect()
}

/// What another process makes of it.
fn restart(memory: &Memory, now: i64) -> Memory {
    let restored = Memory::new(BYTES);
    for shard in packed(memory, now) {
        assert_eq!(restored.restore(&shard.bytes, at(now)), Ok(shard.entries));
    }
    restored
}

/// What is believed of `NAME:v1`, and of its digest.
fn belief(memory: &Memory, name: &str, now: i64) -> [Belief<()>; 2] {
    let (repository, tag): (RepositoryName, Tag) = (name.parse().unwrap(), "v1".parse().unwrap());
    let place = Place { scope: "", host: HOST, repository: &repository };
    let by_tag = memory.digest(&place, &tag, at(now)).map(|found| assert_eq!(found, digest(name)));
    let known = memory.facts(&place, &digest(name), at(now));
    [by_tag, known.map(|known| assert_eq!(known.facts(), Some(facts(name))))]
}

const DOUBTFUL: [Belief<()>; 2] = [Belief::Doubtful(()); 2];
const NOTHING: [Belief<()>; 2] = [Belief::None; 2];

#[test]
fn what_is_kept_is_doubtful_after_a_restart() {
    let memory = Memory::new(BYTES);
    learn(&memory, "app", 3600);
    let restored = restart(&memory, 3600);
    assert_eq!(belief(&restored, "app", 3600 + DAY - 1), DOUBTFUL);
    assert_eq!(belief(&restored, "app", 3600 + DAY), NOTHING, "a day after it was seen");
    assert_eq!(belief(&restored, "other", 3600), NOTHING);
    assert_eq!(belief(&restart(&restored, 3600), "app", 3600), DOUBTFUL, "however often");
}

#[test]
fn a_registry_that_confirms_takes_the_doubt_away() {
    let memory = Memory::new(BYTES);
    learn(&memory, "app", 0);
    let restored = restart(&memory, 0);
    learn(&restored, "app", 60);
    assert_eq!(belief(&restored, "app", 60), [Belief::Sure(()); 2]);
}

/// A change makes it go for good: from memory, from what is kept, and from what was kept before and is read once more.
#[rstest]
#[case::of_the_repository("app")]
#[case::of_anything("")]
fn what_changed_is_not_believed_again(#[case] repository: &str) {
    let memory = Memory::new(BYTES);
    learn(&memory, "app", 0);
    let before = packed(&memory, 0);
    let restored = restart(&memory, 0);
    for memory in [&memory, &restored] {
        match repository {
            "" => memory.host_changed(HOST),
            repository => memory.repository_changed(HOST, repository),
        }
        assert_eq!(belief(memory, "app", 0), NOTHING);
        assert!(packed(memory, 0).iter().all(|shard| shard.entries == 0));
        assert!(before.iter().all(|shard| memory.restore(&shard.bytes, at(0)) == Ok(0)));
        assert_eq!(belief(memory, "app", 0), NOTHING);
    }
}

#[test]
fn what_a_registry_denies_is_not_kept() {
    let memory = Memory::new(BYTES);
    learn(&memory, "app", 0);
    let restored = restart(&memory, 0);
    let repository: RepositoryName = "app".parse().unwrap();
    let place = Place { scope: "", host: HOST, repository: &repository };
    for image in [format!("{HOST}/app:v1"), format!("{HOST}/app@{}", digest("app"))] {
        restored.forget(&place, &image.parse().unwrap());
    }
    assert_eq!(belief(&restored, "app", 0), NOTHING);
}

/// What a Pod's pull secrets showed is for those who have them.
#[test]
fn what_is_foreign_is_not_kept() {
    let memory = Memory::new(BYTES);
    let repository: RepositoryName = "app".parse().unwrap();
    let place = Place { scope: "team-a\0default", host: "outside.example.com", repository: &repository };
    memory.learn(&place, &facts("app"), memory.moment(), at(0));
    assert!(packed(&memory, 0).iter().all(|shard| shard.entries == 0));
}

/// What this process learnt itself is not replaced by what was kept, and is no news.
#[test]
fn what_is_known_already_stays() {
    let memory = Memory::new(BYTES);
    learn(&memory, "app", 0);
    for shard in packed(&memory, 0) {
        assert_eq!(memory.restore(&shard.bytes, at(0)), Ok(0));
    }
    assert_eq!(belief(&memory, "app", 0), [Belief::Sure(()); 2]);
}

#[test]
fn what_is_from_the_future_is_left_out() {
    let memory = Memory::new(BYTES);
    learn(&memory, "app", 2 * DAY);
    let restored = Memory::new(BYTES);
    assert!(packed(&memory, 2 * DAY).iter().all(|shard| restored.restore(&shard.bytes, at(DAY)) == Ok(0)));
}

/// To look again at what stays the same changes nothing for an hour, and neither does a restart.
#[test]
fn the_same_is_written_the_same() {
    let memory = Memory::new(BYTES);
    for (index, name) in ["a", "b", "c"].into_iter().enumerate() {
        learn(&memory, name, 7200 + i64::try_from(index).unwrap());
    }
    let first = packed(&memory, 7300);
    learn(&memory, "b", 10_799);
    assert_eq!(packed(&memory, 10_799), first);
    assert_eq!(packed(&restart(&memory, 10_799), 10_800), first);
    learn(&memory, "b", 10_800);
    assert_ne!(packed(&memory, 10_800), first);
}

/// A part never outgrows a Secret, and what was seen first is what it leaves out.
#[test]
fn the_oldest_are_left_out() {
    let (mut shard, shapes) = (Shard::default(), Shapes::default());
    for number in 0..12_000_u16 {
        let name = format!("app-{number}");
        let repository: RepositoryName = name.parse().unwrap();
        let place = Place { scope: "", host: HOST, repository: &repository };
        let facts = facts(&name);
        let (key, subject) = (place.digest(facts.subject()), facts.subject().into());
        let age = Age::doubtful(place.changes(), i64::from(number) * GRAIN);
        let written = shapes.write(&facts).ok();
        shard.facts.push((key, Arc::new(Known { subject, written, id: 0, age })));
    }
    let packed = shard.pack().unwrap();
    assert!(packed.bytes.len() <= MAX_PACKED && packed.bytes.len() > MAX_PACKED / 2);
    assert!((1_000..12_000).contains(&packed.entries), "{}", packed.entries);
    let text = unpack(&packed.bytes).unwrap();
    let kept: BTreeSet<i64> = text
        .lines()
        .skip(1)
        .map(|line| serde_json::from_str::<Entry<'_>>(line).unwrap().seen / GRAIN)
        .collect();
    assert_eq!(kept.len(), packed.entries);
    assert_eq!(
        (kept.first(), kept.last()),
        (Some(&(12_000 - i64::try_from(packed.entries).unwrap())), Some(&11_999))
    );
}

/// One image with a large statement does not cost the others their place.
#[test]
fn what_is_too_large_is_left_out() {
    let shard_with = |length: usize| {
        let repository: RepositoryName = "app".parse().unwrap();
        let place = Place { scope: "", host: HOST, repository: &repository };
        let refusal = json!({"at": {"manifest": digest("signature")}, "cause": {"malformed": {"why": "x".repeat(length)}}});
        let facts = json!({"subject": digest("app"), "anchors": [], "statements": [], "refusals": [refusal]});
        let written = Shapes::default().write(&serde_json::from_value(facts).unwrap()).ok();
        let age = Age::doubtful(place.changes(), 0);
        let known = Known { subject: (&digest("app")).into(), written, id: 0, age };
        Shard { facts: vec![(place.digest(&digest("app")), Arc::new(known))], tags: Vec::new() }
    };
    assert_eq!(shard_with(MAX_ENTRY / 2).pack().unwrap().entries, 1);
    assert_eq!(shard_with(MAX_ENTRY).pack().unwrap().entries, 0);
}

fn compressed(text: &str) -> Vec<u8> {
    compress(&text.lines().map(str::to_owned).collect::<Vec<_>>()).unwrap()
}

fn without_header(text: &str) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap()
}

#[rstest]
#[case::nothing(Vec::new(), "Malformed")]
#[case::text(b"berth".to_vec(), "Malformed")]
#[case::no_line(without_header(""), "Malformed")]
#[case::another_file(without_header("{\"auths\":{}}"), "Malformed")]
#[case::no_text(without_header("\u{0}"), "Malformed")]
#[case::another_release(without_header("berth facts 1 0.0.1\n"), "OtherRelease")]
#[case::another_form(without_header("berth facts 2 0.1.0\nx"), "OtherRelease")]
#[case::no_entry(compressed("{}"), "Malformed")]
#[case::a_bomb(compressed(&" ".repeat(MAX_UNPACKED)), "TooLarge")]
fn what_is_not_ours_is_refused(#[case] packed: Vec<u8>, #[case] expected: &str) {
    let memory = Memory::new(BYTES);
    let error = memory.restore(&packed, at(0)).unwrap_err();
    assert!(format!("{error:?}").starts_with(expected), "{error:?}");
    assert_eq!(memory.size().0, 0);
}

#[rstest]
#[case::short_key(r#"{"key":"AAAA","seen":0,"places":[0,0],"what":{"tag":"DIGEST"}}"#)]
#[case::no_key(r#"{"key":"?","seen":0,"places":[0,0],"what":{"tag":"DIGEST"}}"#)]
#[case::no_digest(r#"{"key":"KEY","seen":0,"places":[0,0],"what":{"tag":"latest"}}"#)]
#[case::no_facts(r#"{"key":"KEY","seen":0,"places":[0,0],"what":{"facts":{}}}"#)]
#[case::no_places(r#"{"key":"KEY","seen":0,"places":[70000,0],"what":{"tag":"DIGEST"}}"#)]
#[case::more(r#"{"key":"KEY","seen":0,"places":[0,0],"what":{"tag":"DIGEST"},"more":1}"#)]
#[case::deep(&"[".repeat(100_000))]
fn one_bad_entry_spoils_its_part(#[case] line: &str) {
    let key = format!("{}=", "A".repeat(43));
    let line = line.replace("KEY", &key).replace("DIGEST", digest("x").as_str());
    let memory = Memory::new(BYTES);
    let good = format!(r#"{{"key":"{key}","seen":0,"places":[0,0],"what":{{"tag":"{}"}}}}"#, digest("x"));
    assert_eq!(memory.restore(&compressed(&good), at(0)), Ok(1));
    let memory = Memory::new(BYTES);
    let result = memory.restore(&compressed(&format!("{good}\n{line}")), at(0));
    assert!(matches!(result, Err(ShardError::Malformed(_))), "{result:?}");
    assert_eq!(memory.revision(), Memory::new(BYTES).revision());
}

#[test]
fn a_part_that_was_cut_off_is_refused() {
    let memory = Memory::new(BYTES);
    for number in 0..100 {
        learn(&memory, &format!("app-{number}"), 0);
    }
    for shard in packed(&memory, 0) {
        for length in [1, shard.bytes.len() / 2, shard.bytes.len() - 1] {
            let restored = Memory::new(BYTES);
            assert!(restored.restore(&shard.bytes[..length], at(0)).is_err());
            assert_eq!(restored.size().0, 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever order things are learnt in, and whatever is learnt twice, the bytes are the same, and all of it comes back.
    #[test]
    fn order_does_not_matter(names in prop::collection::btree_set("[a-z]{1,6}", 0..40), seed: u64) {
        let sorted: Vec<_> = names.iter().collect();
        let mut shuffled = sorted.clone();
        shuffled.sort_by_key(|name| Digest::sha256(format!("{seed}{name}").as_bytes()));
        let (one, other) = (Memory::new(BYTES), Memory::new(BYTES));
        for name in sorted.iter().chain(&sorted) {
            learn(&one, name, 0);
        }
        for name in shuffled {
            learn(&other, name, 1);
        }
        prop_assert_eq!(packed(&one, 1), packed(&other, 1));
        let restored = restart(&other, 1);
        for name in names {
            prop_assert_eq!(belief(&restored, &name, 1), DOUBTFUL);
        }
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,200}") {
        let memory = Memory::new(BYTES);
        let _ = memory.restore(&bytes, at(0));
        let _ = memory.restore(&compressed(&text), at(0));
    }

    /// A damaged byte is either noticed or changes nothing.
    #[test]
    fn damage_is_noticed(at_byte: prop::sample::Index, mask in 1_u8..) {
        let memory = Memory::new(BYTES);
        learn(&memory, "app", 0);
        for shard in packed(&memory, 0).into_iter().filter(|shard| shard.entries > 0) {
            let mut bytes = shard.bytes.clone();
            let index = at_byte.index(bytes.len());
            bytes[index] ^= mask;
            if let Ok(entries) = Memory::new(BYTES).restore(&bytes, at(0)) {
                prop_assert_eq!(entries, shard.entries);
            }
        }
    }
}
