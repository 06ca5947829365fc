//! What a replica of the webhook remembers: facts by digest, digests by tag, and verdicts while nothing they rest on
//! has changed. `webhook::looks` (in the operator) asks here first, fetches what is missing, and brings it back. Bounded
//! by bytes; no clock and no network: time comes in, and what to fetch goes out as an answer.

mod changes;
mod compact;
mod key;
mod shard;
mod terms;

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use berth_registry_core::{Digest, ImageReference, Tag};
use berth_trust::{Facts, Judgement, Verdict};
use jiff::Timestamp;
use quick_cache::{Weighter, sync::Cache};

pub use changes::Moment;
pub use key::{Key, Place};
pub use shard::{Packed, SHARDS, Shard, ShardError};
pub use terms::Belief;

use changes::{Changes, Places};
use compact::{CompactDigest, Shapes, Written};
use terms::Terms;

/// For the first allocation only.
const EXPECTED: usize = 1024;

/// Beside what it holds, an entry costs a slot in a table, a list element and two counts.
const OVERHEAD: usize = 80;

/// Verdicts that are kept. They are recomputed in microseconds, so only the images of the day are.
const VERDICTS: usize = 16_384;

/// Facts as they were established at some time, written small: they are read again only to be judged anew.
#[derive(Debug)]
pub struct Known {
    subject: CompactDigest,
    /// Nothing, if it could not be written.
    written: Option<Written>,
    id: u64,
    age: Age,
}

impl Known {
    /// The digest that they are about.
    pub fn subject(&self) -> Digest {
        (&self.subject).into()
    }

    /// What is known; `None` if it could not be written, so that it is looked at again.
    pub fn facts(&self) -> Option<Facts> {
        serde_json::from_str(&self.written.as_ref()?.text(&self.subject()).ok()?).ok()
    }

    /// When the registry was asked, to the second.
    pub fn seen(&self) -> Timestamp {
        Timestamp::from_second(self.age.seen).unwrap_or_default()
    }
}

/// A digest that a tag pointed to.
#[derive(Debug)]
struct Tagged {
    digest: CompactDigest,
    age: Age,
}

/// How long something may be believed.
#[derive(Debug)]
struct Age {
    /// What had happened when the registry was asked.
    asked: Moment,
    /// Where later changes would show.
    places: Places,
    /// When the registry was asked, in seconds.
    seen: i64,
    /// When it is to be fetched anew, in seconds; moved on by whoever does it.
    due: AtomicI64,
    terms: Terms,
    /// It is from before this process, which was not told of the changes since then.
    doubtful: bool,
}

/// Stands for all that is known at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revision(u64, Moment);

/// Everything that is remembered. Shared by all reviews.
pub struct Memory {
    changes: Changes,
    shapes: Shapes,
    facts: Cache<Key, Arc<Known>, Weight>,
    tags: Cache<Key, Arc<Tagged>, Weight>,
    /// By policy, facts, and whether the image was named by digest.
    verdicts: Cache<(u64, u64, bool), Arc<Judgement>>,
    next: AtomicU64,
}

#[derive(Clone)]
struct Weight;

impl Weighter<Key, Arc<Known>> for Weight {
    fn weight(&self, _: &Key, known: &Arc<Known>) -> u64 {
        (size_of::<(Key, Known)>() + known.written.as_ref().map_or(0, Written::weight) + OVERHEAD) as u64
    }
}

impl Weighter<Key, Arc<Tagged>> for Weight {
    fn weight(&self, _: &Key, _: &Arc<Tagged>) -> u64 {
        (size_of::<(Key, Tagged)>() + OVERHEAD) as u64
    }
}

impl Memory {
    /// Of about so many bytes, three tenths of them for tags.
    pub fn new(bytes: u64) -> Self {
        let tags = bytes / 10 * 3;
        Self {
            changes: Changes::default(),
            shapes: Shapes::default(),
            facts: Cache::with_weighter(EXPECTED, bytes - tags, Weight),
            tags: Cache::with_weighter(EXPECTED, tags, Weight),
            verdicts: Cache::new(VERDICTS),
            next: AtomicU64::new(0),
        }
    }

    /// To be taken before a registry is asked, so that an answer from before a change is not kept after it.
    pub fn moment(&self) -> Moment {
        self.changes.moment()
    }

    /// Content of a repository changed: nothing that was asked for before counts any more.
    pub fn repository_changed(&self, host: &str, repository: &str) {
        self.changes.of(host, repository);
    }

    /// Any content of a registry may have changed.
    pub fn host_changed(&self, host: &str) {
        self.changes.of(host, "");
    }

    /// Whether something happened to the repository since then.
    pub fn changed_since(&self, place: &Place<'_>, moment: Moment) -> bool {
        self.changes.since(moment, place.changes())
    }

    /// The digest that a tag points to, as far as it is known.
    pub fn digest(&self, place: &Place<'_>, tag: &Tag, now: Timestamp) -> Belief<Digest> {
        let Some(tagged) = self.tags.get(&place.tag(tag)) else { return Belief::None };
        self.believed(&tagged.age, now).map(|()| (&tagged.digest).into())
    }

    /// The facts about a digest, as far as they are known.
    pub fn facts(&self, place: &Place<'_>, digest: &Digest, now: Timestamp) -> Belief<Arc<Known>> {
        let Some(known) = self.facts.get(&place.digest(digest)) else { return Belief::None };
        self.believed(&known.age, now).map(|()| known)
    }

    fn believed(&self, age: &Age, now: Timestamp) -> Belief<()> {
        if !self.holds(age, now) {
            return Belief::None;
        }
        if age.doubtful {
            return Belief::Doubtful(());
        }
        let now = now.as_second();
        let due = age.due.load(Ordering::Relaxed);
        // One of all that see it fetches anew; should that fail, another one does, a while later.
        let mine = now >= due
            && age
                .due
                .compare_exchange(due, now + terms::RETRY, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if mine { Belief::Due(()) } else { Belief::Sure(()) }
    }

    fn holds(&self, age: &Age, now: Timestamp) -> bool {
        now.as_second() < age.end() && !self.changes.since(age.asked, age.places)
    }

    /// Takes note of what a registry showed when asked at `asked`. Kept unless the repository changed since; returned in
    /// any case, because whoever asked began before the change.
    pub fn learn(&self, place: &Place<'_>, facts: &Facts, asked: Moment, now: Timestamp) -> Arc<Known> {
        let key = place.digest(facts.subject());
        let known = Arc::new(Known {
            subject: facts.subject().into(),
            written: self.shapes.write(facts).ok(),
            id: self.next_id(),
            age: Age::new(place, key, asked, now),
        });
        if !self.changed_since(place, asked) {
            self.facts.insert(key, known.clone());
        }
        known
    }

    /// Takes note of where a tag pointed, as [`Memory::learn`] does of facts.
    pub fn learn_tag(&self, place: &Place<'_>, tag: &Tag, digest: &Digest, asked: Moment, now: Timestamp) {
        let key = place.tag(tag);
        let age = Age::new(place, key, asked, now);
        if age.terms == Terms::Own && !self.changed_since(place, asked) {
            self.tags.insert(key, Arc::new(Tagged { digest: digest.into(), age }));
        }
    }

    /// A registry answered that it has no such image.
    pub fn forget(&self, place: &Place<'_>, image: &ImageReference) {
        match (&image.digest, &image.tag) {
            (Some(digest), _) => drop(self.facts.remove(&place.digest(digest))),
            (None, Some(tag)) => drop(self.tags.remove(&place.tag(tag))),
            (None, None) => {}
        }
    }

    /// What the policy with this number says; `judge` is asked unless it said so about the same facts before.
    pub fn verdict(
        &self,
        policy: u64,
        known: &Known,
        image: &ImageReference,
        now: Timestamp,
        judge: impl FnOnce() -> Judgement,
    ) -> Arc<Judgement> {
        let key = (policy, known.id, image.digest.is_some());
        if let Some(judged) = self.verdicts.get(&key)
            && judged.until.is_none_or(|until| now < until)
        {
            return judged;
        }
        let judged = Arc::new(judge());
        // "Could not check" is no knowledge.
        if !matches!(judged.verdict, Verdict::CouldNotCheck { .. }) {
            self.verdicts.insert(key, judged.clone());
        }
        judged
    }

    fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The same as long as nothing was learnt and nothing changed.
    pub fn revision(&self) -> Revision {
        Revision(self.next.load(Ordering::Relaxed), self.moment())
    }

    /// Digests with facts, and the bytes that all memory takes.
    pub fn size(&self) -> (usize, u64) {
        (self.facts.len(), self.facts.weight() + self.tags.weight())
    }
}

impl Age {
    fn new(place: &Place<'_>, key: Key, asked: Moment, now: Timestamp) -> Self {
        let (terms, seen) = (Terms::of(place.scope), now.as_second());
        // Spread, so that what was learnt together is not fetched together for ever.
        let spread = i64::from(key.spread()) * terms.fresh() / 5 / i64::from(u8::MAX);
        let due = AtomicI64::new(seen + terms.fresh() - spread);
        Self { asked, places: place.changes(), seen, due, terms, doubtful: false }
    }

    /// Of something that another process learnt from one of this cluster's own Registries.
    fn doubtful(places: Places, seen: i64) -> Self {
        let (asked, terms) = (Moment::BEGINNING, Terms::Own);
        Self { asked, places, seen, due: AtomicI64::new(seen), terms, doubtful: true }
    }

    fn end(&self) -> i64 {
        self.seen.saturating_add(self.terms.kept())
    }
}

#[cfg(test)]
mod tests;
