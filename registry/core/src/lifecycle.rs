//! Lifecycle rules: which images of a repository go, and why (the semantics are those of ECR's lifecycle policies).
//! The prune job asks for each repository and deletes what is answered; nothing is kept between two runs.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use jiff::{SignedDuration, Timestamp};

use crate::{
    config::{LifecycleRule, TagStatus},
    digest::Digest,
    name::{RepositoryName, Tag},
};

/// An image of a repository, as lifecycle rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its manifest.
    pub digest: Digest,
    /// Its tags, sorted.
    pub tags: Vec<Tag>,
    /// When the manifest was pushed first, or again after a deletion.
    pub pushed_at: Timestamp,
    /// The manifests that it is made of, if it is an index.
    pub children: Vec<Digest>,
    /// The manifest that it is attached to, if it is a signature, SBOM or the like.
    pub subject: Option<Digest>,
}

/// An image that is to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Its manifest.
    pub digest: Digest,
    /// Its tags, which go with it.
    pub tags: Vec<Tag>,
    /// Priority of the rule that asks for it.
    pub rule: u32,
    /// Why, for people.
    pub reason: String,
}

/// Which images of a repository the rules remove, in an order in which they can be deleted: an index before the
/// manifests that it is made of, an image before what is attached to it.
///
/// Rules speak about images that stand for themselves. What is part of an index or attached to an image stays and
/// goes with it: as long as one of them is kept, it is kept, whatever a rule says about its tags. An image is judged by
/// the first rule, by priority, that selects it; `keepLast` counts all images that its rule selects, also those that an
/// earlier rule has judged.
pub fn evaluate(
    rules: &[LifecycleRule],
    repository: &RepositoryName,
    images: &[Image],
    now: Timestamp,
) -> Vec<Verdict> {
    let graph = Graph::new(images);
    let mut removed = graph.judge(rules, repository, now);
    // What follows others is removed unless one of them is kept; and what is needed is kept, down to the leaves.
    let followers =
        images.iter().filter(|image| !graph.stands_alone(image)).map(|image| image.digest.clone());
    let mut going: BTreeSet<Digest> = removed.keys().cloned().chain(followers).collect();
    loop {
        let stays = |digest: &&Digest| graph.anchors(digest).any(|anchor| !going.contains(anchor));
        let kept: BTreeSet<Digest> = going.iter().filter(stays).cloned().collect();
        if kept.is_empty() {
            break;
        }
        going.retain(|digest| !kept.contains(digest));
    }
    removed.retain(|digest, _| going.contains(digest));
    let mut verdicts = Vec::with_capacity(going.len());
    let mut left: Vec<&Image> = images.iter().filter(|image| going.contains(&image.digest)).collect();
    left.sort_by_key(|image| (image.pushed_at, &image.digest));
    while !left.is_empty() {
        // A manifest names others by digest, so there is no circle, and each round finds something to take.
        let waiting: BTreeSet<&Digest> = left.iter().map(|image| &image.digest).collect();
        let (later, next): (Vec<_>, Vec<_>) = left
            .into_iter()
            .partition(|image| graph.anchors(&image.digest).any(|anchor| waiting.contains(anchor)));
        if next.is_empty() {
            break;
        }
        for image in next {
            let anchor =
                graph.anchors(&image.digest).find_map(|anchor| Some((anchor, removed.get(anchor)?.0)));
            let (rule, reason) = match (removed.get(&image.digest), anchor) {
                (Some(own), _) => own.clone(),
                (None, Some((anchor, rule))) => (rule, format!("it belongs to {anchor}, which is removed")),
                (None, None) => continue,
            };
            removed.insert(image.digest.clone(), (rule, reason.clone()));
            verdicts.push(Verdict { digest: image.digest.clone(), tags: image.tags.clone(), rule, reason });
        }
        left = later;
    }
    verdicts
}

/// What belongs to what in one repository.
struct Graph<'a> {
    images: &'a [Image],
    /// For each manifest, those in the repository that it is a part of or attached to.
    anchors: BTreeMap<&'a Digest, BTreeSet<&'a Digest>>,
    /// The tags under which clients without the referrers API attach something, and what they attach it to.
    referrers_tags: BTreeMap<String, &'a Digest>,
}

impl<'a> Graph<'a> {
    fn new(images: &'a [Image]) -> Self {
        let present: BTreeSet<&Digest> = images.iter().map(|image| &image.digest).collect();
        let referrers_tags =
            images.iter().map(|image| (image.digest.referrers_tag(), &image.digest)).collect();
        let mut graph = Self { images, anchors: BTreeMap::new(), referrers_tags };
        for image in images {
            for child in &image.children {
                graph.anchors.entry(child).or_default().insert(&image.digest);
            }
            let tagged = image.tags.iter().filter_map(|tag| graph.attached_by(tag));
            let subjects: Vec<&Digest> =
                image.subject.iter().filter(|subject| present.contains(subject)).chain(tagged).collect();
            graph.anchors.entry(&image.digest).or_default().extend(subjects);
        }
        // An index of referrers under such a tag must not hold on to itself.
        for (digest, anchors) in &mut graph.anchors {
            anchors.remove(digest);
        }
        graph
    }

    /// `sha256-<hex>`, or `sha256-<hex>.sig` and the like: the image that such a tag attaches something to.
    fn attached_by(&self, tag: &Tag) -> Option<&'a Digest> {
        let base = tag.as_str().split('.').next().unwrap_or_default();
        self.referrers_tags.get(base).copied()
    }

    fn anchors(&self, digest: &Digest) -> impl Iterator<Item = &'a Digest> + use<'a, '_> {
        self.anchors.get(digest).into_iter().flatten().copied()
    }

    fn own_tags(&self, image: &'a Image) -> impl Iterator<Item = &'a Tag> + use<'a, '_> {
        image.tags.iter().filter(|tag| self.attached_by(tag).is_none())
    }

    /// Whether rules speak about it: it has a tag of its own, or belongs to nothing.
    fn stands_alone(&self, image: &'a Image) -> bool {
        self.own_tags(image).next().is_some() || self.anchors(&image.digest).next().is_none()
    }

    fn selected(&self, rule: &LifecycleRule, image: &'a Image) -> bool {
        let tagged = self.own_tags(image).next().is_some();
        let by_status = match rule.tag_status {
            Some(TagStatus::Tagged) => tagged,
            Some(TagStatus::Untagged) => !tagged,
            Some(TagStatus::Any) => true,
            None => tagged || rule.tag_patterns.is_empty(),
        };
        let by_tag = rule.tag_patterns.is_empty()
            || self
                .own_tags(image)
                .any(|tag| rule.tag_patterns.iter().any(|pattern| pattern.matches(tag.as_str())));
        by_status && by_tag
    }

    /// Every image that a rule asks to remove, with the rule and the reason.
    fn judge(
        &self,
        rules: &[LifecycleRule],
        repository: &RepositoryName,
        now: Timestamp,
    ) -> BTreeMap<Digest, (u32, String)> {
        let mut rules: Vec<&LifecycleRule> = rules
            .iter()
            .filter(|rule| {
                rule.repositories.is_empty()
                    || rule.repositories.iter().any(|p| p.matches(repository.as_str()))
            })
            .collect();
        rules.sort_by_key(|rule| rule.priority);
        let (mut judged, mut removed) = (BTreeSet::new(), BTreeMap::new());
        for rule in rules {
            let mut selected: Vec<&Image> = self
                .images
                .iter()
                .filter(|image| self.stands_alone(image) && self.selected(rule, image))
                .collect();
            selected.sort_by_key(|image| (Reverse(image.pushed_at), &image.digest));
            for (position, image) in selected.into_iter().enumerate() {
                if !judged.insert(&image.digest) {
                    continue;
                }
                if let Some(reason) = reason(rule, image, position, now) {
                    removed.insert(image.digest.clone(), (rule.priority, reason));
                }
            }
        }
        removed
    }
}

/// Why a rule removes the image at this position, from the newest; `None` if it keeps it.
fn reason(rule: &LifecycleRule, image: &Image, position: usize, now: Timestamp) -> Option<String> {
    if let Some(keep) = rule.keep_last {
        let keep = usize::try_from(keep).unwrap_or(usize::MAX);
        return (position >= keep)
            .then(|| format!("it is number {} from the newest, the rule keeps {keep}", position + 1));
    }
    let limit = rule.older_than?;
    let age = now.duration_since(image.pushed_at);
    (age > SignedDuration::from_secs(limit.as_secs()))
        .then(|| format!("it was pushed at {}, more than {limit} ago", image.pushed_at))
}

#[cfg(test)]
mod tests;
