//! Lifecycle rules: which images of a repository go, and why. The semantics are those of ECR's lifecycle policies:
//! every rule counts over all images that it selects, but only the first rule by priority that selects an image may
//! remove it. What belongs to an image (children of an index, signatures, SBOMs) stays and goes with it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

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
    /// Its tags.
    pub tags: Vec<Tag>,
    /// Priority of the rule that asks for it.
    pub rule: u32,
    /// Why, for people.
    pub reason: String,
}

/// What becomes of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Its manifest.
    pub digest: Digest,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// Whether it is to be removed.
    pub remove: bool,
    /// Priority of the rule that decided, if one did.
    pub rule: Option<u32>,
    /// Why, for people.
    pub reason: String,
}

/// The images that the rules remove, in the order of `images`.
pub fn evaluate(
    rules: &[LifecycleRule],
    repository: &RepositoryName,
    images: &[Image],
    now: Timestamp,
) -> Vec<Verdict> {
    judge(rules, repository, images, now)
        .into_iter()
        .filter(|judgement| judgement.remove)
        .filter_map(|Judgement { digest, tags, rule, reason, .. }| {
            Some(Verdict { digest, tags, rule: rule?, reason })
        })
        .collect()
}

/// What becomes of each image, in the order of `images`.
pub fn judge(
    rules: &[LifecycleRule],
    repository: &RepositoryName,
    images: &[Image],
    now: Timestamp,
) -> Vec<Judgement> {
    let mut rules: Vec<&LifecycleRule> = rules.iter().filter(|rule| speaks_about(rule, repository)).collect();
    rules.sort_by_key(|rule| rule.priority);
    let owners = owners(images);
    // What has a name of its own, or belongs to nothing, is judged by the rules; the rest follows its owners.
    let judged =
        |index: usize| owners[index].is_empty() || images[index].tags.iter().any(|tag| !is_attachment(tag));

    let mut fates: Vec<Option<Fate>> = vec![None; images.len()];
    for rule in rules {
        let mut selected: Vec<usize> =
            (0..images.len()).filter(|&i| judged(i) && selects(rule, &images[i])).collect();
        selected.sort_by_key(|&i| (std::cmp::Reverse(images[i].pushed_at), &images[i].digest));
        for (rank, index) in selected.into_iter().enumerate() {
            if fates[index].is_none() {
                fates[index] = Some(apply(rule, &images[index], rank, now));
            }
        }
    }
    for (index, fate) in fates.iter_mut().enumerate() {
        if fate.is_none() && judged(index) {
            *fate = Some(Fate { remove: false, rule: None, reason: "no rule speaks about it".to_owned() });
        }
    }
    follow(images, &owners, &mut fates);
    images
        .iter()
        .zip(fates)
        .filter_map(|(image, fate)| {
            let Fate { remove, rule, reason } = fate?;
            Some(Judgement { digest: image.digest.clone(), tags: image.tags.clone(), remove, rule, reason })
        })
        .collect()
}

#[derive(Clone, Debug)]
struct Fate {
    remove: bool,
    rule: Option<u32>,
    reason: String,
}

fn speaks_about(rule: &LifecycleRule, repository: &RepositoryName) -> bool {
    rule.repositories.is_empty()
        || rule.repositories.iter().any(|pattern| pattern.matches(repository.as_str()))
}

/// As in ECR, an image is selected if each pattern matches one of its tags.
fn selects(rule: &LifecycleRule, image: &Image) -> bool {
    let patterns = &rule.tag_patterns;
    let status =
        rule.tag_status.unwrap_or(if patterns.is_empty() { TagStatus::Any } else { TagStatus::Tagged });
    match status {
        TagStatus::Untagged => image.tags.is_empty(),
        TagStatus::Any if patterns.is_empty() => true,
        TagStatus::Tagged | TagStatus::Any => {
            !image.tags.is_empty()
                && patterns.iter().all(|pattern| image.tags.iter().any(|tag| pattern.matches(tag.as_str())))
        }
    }
}

fn apply(rule: &LifecycleRule, image: &Image, rank: usize, now: Timestamp) -> Fate {
    let (remove, reason) = match (rule.keep_last, rule.older_than) {
        (Some(count), _) if rank < count as usize => (false, format!("one of the {count} newest")),
        (Some(count), _) => (true, format!("not one of the {count} newest")),
        (None, Some(age)) => {
            let seconds = now.as_second().saturating_sub(image.pushed_at.as_second());
            if seconds > age.as_secs() {
                (true, format!("pushed {}, longer than {age} ago", image.pushed_at))
            } else {
                (false, format!("pushed {}, not longer than {age} ago", image.pushed_at))
            }
        }
        (None, None) => (false, "the rule sets no limit".to_owned()),
    };
    Fate { remove, rule: Some(rule.priority), reason }
}

/// The digest that a tag of the referrers tag schema, or one of cosign's, is about.
fn attached_to(tag: &Tag) -> Option<Digest> {
    let (algorithm, rest) = tag.as_str().split_once('-')?;
    let hex = match rest.split_once('.') {
        Some((hex, "sig" | "att" | "sbom")) => hex,
        Some(_) => return None,
        None => rest,
    };
    format!("{algorithm}:{hex}").parse().ok()
}

fn is_attachment(tag: &Tag) -> bool {
    attached_to(tag).is_some()
}

/// For each image the images that it belongs to: its subject, indexes that list it, what its tags are about.
fn owners(images: &[Image]) -> Vec<BTreeSet<usize>> {
    let index: BTreeMap<&Digest, usize> =
        images.iter().enumerate().map(|(i, image)| (&image.digest, i)).collect();
    let mut owners = vec![BTreeSet::new(); images.len()];
    for (i, image) in images.iter().enumerate() {
        owners[i].extend(image.subject.iter().filter_map(|subject| index.get(subject)));
        owners[i].extend(image.tags.iter().filter_map(attached_to).filter_map(|digest| index.get(&digest)));
        for child in image.children.iter().filter_map(|child| index.get(child)) {
            owners[*child].insert(i);
        }
    }
    for (i, owners) in owners.iter_mut().enumerate() {
        owners.remove(&i);
    }
    owners
}

/// What belongs to a kept image is kept; what follows removed images only goes with them.
fn follow(images: &[Image], owners: &[BTreeSet<usize>], fates: &mut [Option<Fate>]) {
    keep_what_belongs(images, owners, fates);
    let mut changed = true;
    while changed {
        changed = false;
        for index in 0..fates.len() {
            if fates[index].is_some() || !owners[index].iter().all(|owner| fates[*owner].is_some()) {
                continue;
            }
            let Some(owner) = owners[index].first() else { continue };
            let rule = fates[*owner].as_ref().and_then(|fate| fate.rule);
            let reason = format!("belongs to {}, which is removed", images[*owner].digest);
            fates[index] = Some(Fate { remove: true, rule, reason });
            changed = true;
        }
    }
    // What is left belongs to itself in a circle: nothing asks for its removal.
    for fate in fates.iter_mut().filter(|fate| fate.is_none()) {
        *fate = Some(Fate { remove: false, rule: None, reason: "its owner belongs to it".to_owned() });
    }
    keep_what_belongs(images, owners, fates);
}

fn keep_what_belongs(images: &[Image], owners: &[BTreeSet<usize>], fates: &mut [Option<Fate>]) {
    let is_kept = |fate: &Option<Fate>| fate.as_ref().is_some_and(|fate| !fate.remove);
    let mut changed = true;
    while changed {
        changed = false;
        for index in 0..fates.len() {
            if is_kept(&fates[index]) {
                continue;
            }
            if let Some(owner) = owners[index].iter().find(|owner| is_kept(&fates[**owner])) {
                let reason = format!("belongs to {}, which is kept", images[*owner].digest);
                fates[index] = Some(Fate { remove: false, rule: None, reason });
                changed = true;
            }
        }
    }
}

#[cfg(test)]
mod tests;
