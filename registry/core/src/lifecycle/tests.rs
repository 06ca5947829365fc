//! What the rules keep and remove, by tables over small repositories.

use super::*;
use crate::age::Age;

fn digest(name: &str) -> Digest {
    Digest::sha256(name.as_bytes())
}

/// An image named `name`, pushed `days` days before [`now`].
fn image(name: &str, tags: &[&str], days: i64) -> Image {
    Image {
        digest: digest(name),
        tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
        pushed_at: now() - SignedDuration::from_hours(24 * days),
        children: Vec::new(),
        subject: None,
    }
}

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

fn rule(priority: u32) -> LifecycleRule {
    LifecycleRule {
        priority,
        description: None,
        repositories: Vec::new(),
        tag_patterns: Vec::new(),
        tag_status: None,
        keep_last: None,
        older_than: None,
    }
}

fn keep(priority: u32, pattern: &str, count: u32) -> LifecycleRule {
    LifecycleRule { tag_patterns: vec![pattern.parse().unwrap()], keep_last: Some(count), ..rule(priority) }
}

fn older(priority: u32, status: TagStatus, days: u64) -> LifecycleRule {
    LifecycleRule {
        tag_status: Some(status),
        older_than: Some(Age::from_secs(days * 86_400)),
        ..rule(priority)
    }
}

/// The names of what goes, in its order, with the rule.
fn removed(rules: &[LifecycleRule], images: &[Image], names: &[&str]) -> Vec<(String, u32)> {
    let name = |digest: &Digest| {
        names.iter().find(|name| self::digest(name) == *digest).map_or("?".to_owned(), ToString::to_string)
    };
    let verdicts = evaluate(rules, &"app/web".parse().unwrap(), images, now());
    verdicts.into_iter().map(|verdict| (name(&verdict.digest), verdict.rule)).collect()
}

fn expect(list: &[(&str, u32)]) -> Vec<(String, u32)> {
    list.iter().map(|(name, rule)| ((*name).to_owned(), *rule)).collect()
}

#[test]
fn the_newest_are_kept() {
    let images = [
        image("a", &["v1"], 3),
        image("b", &["v2"], 2),
        image("c", &["v3", "latest"], 1),
        image("d", &["x"], 9),
    ];
    assert_eq!(removed(&[keep(1, "v*", 2)], &images, &["a", "b", "c", "d"]), expect(&[("a", 1)]));
    assert_eq!(
        removed(&[keep(1, "v*", 0)], &images, &["a", "b", "c"]),
        expect(&[("a", 1), ("b", 1), ("c", 1)])
    );
    assert_eq!(removed(&[], &images, &[]), []);
}

#[test]
fn the_old_go_and_a_day_is_a_day() {
    let images = [image("a", &[], 15), image("b", &[], 14), image("c", &["t"], 100)];
    assert_eq!(removed(&[older(1, TagStatus::Untagged, 14)], &images, &["a", "b", "c"]), expect(&[("a", 1)]));
    assert_eq!(
        removed(&[older(1, TagStatus::Any, 14)], &images, &["a", "b", "c"]),
        expect(&[("c", 1), ("a", 1)])
    );
}

#[test]
fn an_image_is_judged_by_the_first_rule_that_selects_it() {
    let images = [image("a", &["v1"], 30), image("b", &["v2"], 20), image("c", &["dev"], 10)];
    // `a` and `b` are kept by rule 1, so rule 2 may not remove them although it selects them.
    let rules = [older(2, TagStatus::Any, 1), keep(1, "v*", 5)];
    assert_eq!(removed(&rules, &images, &["a", "b", "c"]), expect(&[("c", 2)]));
}

#[test]
fn a_count_includes_what_an_earlier_rule_has_judged() {
    let images = [image("a", &["v1"], 3), image("b", &["v2", "keep"], 2), image("c", &["v3", "keep"], 1)];
    let rules = [keep(1, "keep", 5), keep(2, "v*", 2)];
    assert_eq!(removed(&rules, &images, &["a", "b", "c"]), expect(&[("a", 2)]));
}

#[test]
fn rules_speak_about_their_repositories() {
    let images = [image("a", &["v1"], 3)];
    let elsewhere = LifecycleRule { repositories: vec!["other/**".parse().unwrap()], ..keep(1, "**", 0) };
    let here = LifecycleRule { repositories: vec!["app/*".parse().unwrap()], ..keep(1, "**", 0) };
    assert_eq!(removed(&[elsewhere], &images, &["a"]), []);
    assert_eq!(removed(&[here], &images, &["a"]), expect(&[("a", 1)]));
}

#[test]
fn parts_of_an_index_stay_and_go_with_it() {
    let index = |name: &str, tag: &str, days, children: &[&str]| Image {
        children: children.iter().map(|child| digest(child)).collect(),
        ..image(name, &[tag], days)
    };
    let images = [
        image("amd64", &[], 50),
        image("arm64-old", &[], 50),
        index("old", "v1", 50, &["amd64", "arm64-old"]),
        image("arm64-new", &[], 1),
        index("new", "v2", 1, &["amd64", "arm64-new"]),
        image("orphan", &[], 50),
    ];
    let names = ["amd64", "arm64-old", "arm64-new", "old", "new", "orphan"];
    let untagged = older(2, TagStatus::Untagged, 14);
    assert_eq!(removed(std::slice::from_ref(&untagged), &images, &names), expect(&[("orphan", 2)]));
    let order = removed(&[keep(1, "v*", 1), untagged], &images, &names);
    let position = |name: &str| order.iter().position(|(removed, _)| removed == name);
    assert_eq!(order.len(), 3, "{order:?}");
    assert!(position("old") < position("arm64-old"), "{order:?}");
    assert!(position("orphan").is_some() && position("amd64").is_none(), "{order:?}");
}

#[test]
fn a_tagged_part_of_a_kept_index_is_kept() {
    let index = Image { children: vec![digest("part")], ..image("index", &["v9"], 1) };
    let images = [index, image("part", &["old"], 50)];
    assert_eq!(removed(&[keep(1, "old", 0)], &images, &["index", "part"]), []);
}

#[test]
fn what_is_attached_to_a_kept_image_is_kept() {
    let attached = |name: &str, to: &str| Image { subject: Some(digest(to)), ..image(name, &[], 50) };
    let legacy = |name: &str, to: &str, suffix: &str| {
        let tag = format!("{}{suffix}", digest(to).referrers_tag());
        image(name, &[tag.as_str()], 50)
    };
    let images = [
        image("kept", &["v2"], 1),
        attached("kept.sbom", "kept"),
        attached("kept.sbom.sig", "kept.sbom"),
        legacy("kept.sig", "kept", ".sig"),
        image("gone", &["v1"], 50),
        attached("gone.sbom", "gone"),
        legacy("gone.sig", "gone", ".sig"),
        legacy("gone.index", "gone", ""),
        attached("dangling", "nowhere"),
    ];
    let names = [
        "kept",
        "kept.sbom",
        "kept.sbom.sig",
        "kept.sig",
        "gone",
        "gone.sbom",
        "gone.sig",
        "gone.index",
        "dangling",
    ];
    let rules = [keep(1, "v*", 1), older(2, TagStatus::Any, 14)];
    let mut gone = removed(&rules, &images, &names);
    gone.sort();
    assert_eq!(
        gone,
        expect(&[("dangling", 2), ("gone", 1), ("gone.index", 1), ("gone.sbom", 1), ("gone.sig", 1)])
    );
}
