use std::collections::BTreeSet;

use proptest::prelude::*;
use rstest::rstest;

use super::*;

const DAY: i64 = 86_400;
const NOW: i64 = 1_000 * DAY;

fn digest(name: &str) -> Digest {
    Digest::sha256(name.as_bytes())
}

fn image(name: &str, days_ago: i64, tags: &[&str]) -> Image {
    let mut tags: Vec<Tag> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
    tags.sort();
    Image {
        digest: digest(name),
        tags,
        pushed_at: Timestamp::from_second(NOW - days_ago * DAY).unwrap(),
        children: vec![],
        subject: None,
    }
}

fn rule(priority: u32) -> LifecycleRule {
    LifecycleRule {
        priority,
        description: None,
        repositories: vec![],
        tag_patterns: vec![],
        tag_status: None,
        keep_last: None,
        older_than: None,
    }
}

fn keep(priority: u32, patterns: &[&str], count: u32) -> LifecycleRule {
    let tag_patterns = patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
    LifecycleRule { tag_patterns, keep_last: Some(count), ..rule(priority) }
}

fn older(priority: u32, status: TagStatus, age: &str) -> LifecycleRule {
    LifecycleRule { tag_status: Some(status), older_than: Some(age.parse().unwrap()), ..rule(priority) }
}

fn removed(rules: &[LifecycleRule], images: &[Image]) -> BTreeSet<Digest> {
    let now = Timestamp::from_second(NOW).unwrap();
    evaluate(rules, &"team/app".parse().unwrap(), images, now)
        .into_iter()
        .map(|verdict| verdict.digest)
        .collect()
}

fn digests(names: &[&str]) -> BTreeSet<Digest> {
    names.iter().map(|name| digest(name)).collect()
}

#[test]
fn the_newest_are_kept() {
    let images =
        [image("a", 3, &["v1"]), image("b", 2, &["v2"]), image("c", 1, &["v3"]), image("d", 9, &["x"])];
    assert_eq!(removed(&[keep(10, &["v*"], 2)], &images), digests(&["a"]));
    assert_eq!(removed(&[keep(10, &["v*"], 0)], &images), digests(&["a", "b", "c"]));
    assert_eq!(removed(&[keep(10, &[], 1)], &images), digests(&["a", "b", "d"]));
}

#[rstest]
#[case("14d", &["old"])]
#[case("20d", &[])]
#[case("1d", &["old", "new"])]
fn age_is_compared(#[case] age: &str, #[case] gone: &[&str]) {
    let images = [image("old", 20, &[]), image("new", 2, &[]), image("tagged", 99, &["t"])];
    assert_eq!(removed(&[older(1, TagStatus::Untagged, age)], &images), digests(gone));
}

#[test]
fn an_image_is_judged_once_by_the_lowest_priority_number() {
    let images = [image("a", 100, &["v1"]), image("b", 50, &["dev"])];
    let rules = [older(20, TagStatus::Any, "30d"), keep(10, &["v*"], 1)];
    // Rule 10 keeps v1, so rule 20 may not remove it, whatever the order in which they are written.
    assert_eq!(removed(&rules, &images), digests(&["b"]));
}

#[test]
fn a_rule_counts_images_that_another_rule_governs() {
    // As in ECR: what a rule of higher priority governs still takes its place in the count.
    let images = [image("a", 1, &["prod-1"]), image("b", 2, &["prod-2"]), image("c", 3, &["beta"])];
    let rules = [keep(1, &["prod-*"], 2), keep(2, &["**"], 2)];
    assert_eq!(removed(&rules, &images), digests(&["c"]));
}

#[test]
fn every_pattern_must_match_one_of_the_tags() {
    let images = [image("a", 1, &["alpha", "beta"]), image("b", 2, &["alpha"]), image("c", 3, &["beta"])];
    assert_eq!(removed(&[keep(1, &["alpha", "beta"], 0)], &images), digests(&["a"]));
}

#[test]
fn rules_speak_about_their_repositories() {
    let images = [image("a", 1, &["v1"])];
    let elsewhere = LifecycleRule { repositories: vec!["other/**".parse().unwrap()], ..keep(1, &[], 0) };
    assert!(removed(&[elsewhere], &images).is_empty());
    let here = LifecycleRule { repositories: vec!["team/*".parse().unwrap()], ..keep(1, &[], 0) };
    assert_eq!(removed(&[here], &images), digests(&["a"]));
}

#[test]
fn children_and_signatures_stay_with_a_kept_image_and_go_with_a_removed_one() {
    // R-LIFE-3
    let tag_of = |name: &str, suffix: &str| format!("{}{suffix}", digest(name).referrers_tag());
    let set = |name: &str, days: i64, tag: &str| {
        vec![
            Image { children: vec![digest(&format!("{name}-amd64"))], ..image(name, days, &[tag]) },
            image(&format!("{name}-amd64"), days, &[]),
            image(&format!("{name}-sig"), days, &[&tag_of(name, ".sig")]),
            image(&format!("{name}-att"), days, &[&tag_of(name, ".att")]),
            image(&format!("{name}-fallback"), days, &[&tag_of(name, "")]),
            Image { subject: Some(digest(name)), ..image(&format!("{name}-sbom"), days, &[]) },
            Image {
                subject: Some(digest(&format!("{name}-sbom"))),
                ..image(&format!("{name}-sbomsig"), days, &[])
            },
        ]
    };
    let images: Vec<Image> = set("old", 90, "v1").into_iter().chain(set("new", 89, "v2")).collect();
    let rules = [keep(1, &["v*"], 1), older(2, TagStatus::Untagged, "1d"), older(3, TagStatus::Any, "1d")];
    let gone = removed(&rules, &images);
    let old: BTreeSet<_> = images.iter().take(7).map(|image| image.digest.clone()).collect();
    assert_eq!(gone, old);
}

#[test]
fn a_tagged_referrer_stays_with_its_subject_but_goes_alone() {
    let attached = Image { subject: Some(digest("a")), ..image("chart", 50, &["sbom"]) };
    let old = [keep(1, &["v*"], 1), older(2, TagStatus::Any, "30d")];
    assert!(removed(&old, &[image("a", 90, &["v1"]), attached.clone()]).is_empty());
    assert_eq!(removed(&[keep(1, &["sbom"], 0)], &[image("a", 1, &["v1"]), attached]), digests(&[]));
}

#[test]
fn an_orphaned_signature_is_judged_like_any_image() {
    let tag = format!("{}.sig", digest("gone").referrers_tag());
    let images =
        [image("sig", 90, &[&tag]), Image { subject: Some(digest("gone")), ..image("sbom", 90, &[]) }];
    assert_eq!(removed(&[older(1, TagStatus::Any, "30d")], &images), digests(&["sig", "sbom"]));
    assert_eq!(removed(&[older(1, TagStatus::Untagged, "30d")], &images), digests(&["sbom"]));
}

#[test]
fn tags_that_only_look_like_signatures_are_names() {
    for tag in ["sha256-abc.sig", "sha256-abc", "latest.sig"] {
        assert!(!is_attachment(&tag.parse().unwrap()), "{tag}");
    }
    let odd = format!("{}.exe", digest("a").referrers_tag());
    assert!(!is_attachment(&odd.parse().unwrap()));
}

#[test]
fn images_that_own_each_other_are_left_alone() {
    let tag_of = |name: &str| format!("{}.sig", digest(name).referrers_tag());
    let images = [image("a", 90, &[&tag_of("b")]), image("b", 90, &[&tag_of("a")])];
    assert!(removed(&[keep(1, &[], 0)], &images).is_empty());
}

#[test]
fn every_image_is_told_why() {
    let images = [image("a", 3, &["v1"]), image("b", 2, &["v2"]), image("c", 1, &["x"])];
    let now = Timestamp::from_second(NOW).unwrap();
    let judgements = judge(&[keep(10, &["v*"], 1)], &"r".parse().unwrap(), &images, now);
    let told: Vec<_> = judgements.iter().map(|j| (j.remove, j.rule, j.reason.as_str())).collect();
    assert_eq!(
        told,
        [
            (true, Some(10), "not one of the 1 newest"),
            (false, Some(10), "one of the 1 newest"),
            (false, None, "no rule speaks about it")
        ]
    );
}

fn arbitrary_images() -> impl Strategy<Value = Vec<Image>> {
    let tags = proptest::collection::btree_set(proptest::sample::select(vec!["v1", "v2", "dev", "x"]), 0..3);
    let one =
        (0_i64..100, tags, proptest::option::of(0_usize..12), proptest::collection::vec(0_usize..12, 0..3));
    proptest::collection::vec(one, 0..12).prop_map(|rows| {
        let names: Vec<String> = (0..12).map(|i| format!("image {i}")).collect();
        rows.into_iter()
            .enumerate()
            .map(|(i, (days, tags, subject, children))| Image {
                // Content is named by its hash, so nothing refers to what came later.
                subject: subject.filter(|s| *s < i).map(|s| digest(&names[s])),
                children: children.into_iter().filter(|c| *c < i).map(|c| digest(&names[c])).collect(),
                ..image(&names[i], days, &tags.into_iter().collect::<Vec<_>>())
            })
            .collect()
    })
}

fn arbitrary_rules() -> impl Strategy<Value = Vec<LifecycleRule>> {
    let patterns = proptest::collection::vec(proptest::sample::select(vec!["v*", "dev", "**"]), 0..2);
    let limit = prop_oneof![(0_u32..5).prop_map(Ok), (0_u32..100).prop_map(Err)];
    proptest::collection::vec((patterns, limit, 0_u8..4), 0..4).prop_map(|rows| {
        rows.into_iter()
            .enumerate()
            .map(|(i, (patterns, limit, status))| {
                let mut rule = keep(u32::try_from(i).unwrap(), &patterns, 0);
                rule.keep_last = limit.ok();
                rule.older_than = limit.err().map(|days| format!("{days}d").parse().unwrap());
                rule.tag_status =
                    [None, Some(TagStatus::Any), Some(TagStatus::Tagged), Some(TagStatus::Untagged)]
                        [status as usize];
                rule
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn nothing_that_a_kept_image_needs_is_removed(images in arbitrary_images(), rules in arbitrary_rules()) {
        let gone = removed(&rules, &images);
        for image in images.iter().filter(|image| !gone.contains(&image.digest)) {
            for child in &image.children {
                prop_assert!(!gone.contains(child));
            }
            for referrer in images.iter().filter(|other| other.subject.as_ref() == Some(&image.digest)) {
                prop_assert!(!gone.contains(&referrer.digest));
            }
        }
    }

    #[test]
    fn the_order_of_images_and_rules_does_not_matter(images in arbitrary_images(), rules in arbitrary_rules()) {
        let forth = removed(&rules, &images);
        let back = removed(
            &rules.into_iter().rev().collect::<Vec<_>>(),
            &images.into_iter().rev().collect::<Vec<_>>(),
        );
        prop_assert_eq!(forth, back);
    }

    #[test]
    fn each_image_is_judged_once_and_removals_name_their_rule(images in arbitrary_images(), rules in arbitrary_rules()) {
        let now = Timestamp::from_second(NOW).unwrap();
        let judgements = judge(&rules, &"r".parse().unwrap(), &images, now);
        prop_assert_eq!(judgements.len(), images.len());
        for judgement in judgements {
            prop_assert!(!judgement.reason.is_empty());
            prop_assert!(!judgement.remove || judgement.rule.is_some());
        }
    }

    #[test]
    fn without_rules_nothing_goes(images in arbitrary_images()) {
        prop_assert!(removed(&[], &images).is_empty());
    }

    #[test]
    fn a_second_run_removes_nothing_more_by_age(images in arbitrary_images(), days in 0_u32..100) {
        let rules = [older(1, TagStatus::Any, &format!("{days}d"))];
        let gone = removed(&rules, &images);
        let left: Vec<Image> = images.into_iter().filter(|image| !gone.contains(&image.digest)).collect();
        prop_assert!(removed(&rules, &left).is_empty());
    }
}
