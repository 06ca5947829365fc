//! A manifest becomes visible: its record (`pending`), then the state of everything that it refers to, then `live`.

use bytes::Bytes;

use super::{Action, Body, Observed, Protocol, Slot, Step, Version, only};
use crate::{
    digest::Digest,
    record::{ManifestRecord, State},
};

/// Writes a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PutManifest {
    record: ManifestRecord,
    bytes: Bytes,
    sparse: bool,
    at: At,
}

/// How writing a manifest ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Put {
    /// It is live, with this record.
    Live(ManifestRecord),
    /// The repository lacks these; the manifest was withdrawn.
    Missing(Vec<Digest>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum At {
    Begin,
    Reading,
    /// Creating or replacing the record; it will be in this state.
    Writing(ManifestRecord),
    /// Reading these references; the record has this version.
    Checking(Version, Vec<usize>),
    /// Making these references live again.
    Reviving(Version, Vec<usize>),
    Publishing(ManifestRecord),
    Withdrawing(Vec<Digest>),
}

impl PutManifest {
    /// `record` is pending; `sparse`: what was never here may be missing, but not what was taken away.
    pub fn new(record: ManifestRecord, bytes: Bytes, sparse: bool) -> Self {
        Self { record, bytes, sparse, at: At::Begin }
    }

    fn body(&self, record: &ManifestRecord) -> Body {
        Body::Manifest(record.clone(), self.bytes.clone())
    }

    fn create(&mut self) -> Step<Put> {
        self.at = At::Writing(self.record.clone());
        Step::Do(vec![Action::Create(Slot::Manifest, self.body(&self.record))])
    }

    fn read(&mut self) -> Step<Put> {
        self.at = At::Reading;
        Step::Do(vec![Action::Read(Slot::Manifest)])
    }

    fn replace(&mut self, version: Version, record: ManifestRecord) -> Step<Put> {
        let body = self.body(&record);
        self.at = At::Writing(record);
        Step::Do(vec![Action::Replace(Slot::Manifest, version, body)])
    }

    fn check(&mut self, version: Version, references: Vec<usize>) -> Step<Put> {
        if references.is_empty() {
            return self.publish(version);
        }
        let actions = references.iter().map(|&i| Action::Read(Slot::Reference(i))).collect();
        self.at = At::Checking(version, references);
        Step::Do(actions)
    }

    fn check_all(&mut self, version: Version) -> Step<Put> {
        let count = self.record.blobs.len() + self.record.manifests.len();
        self.check(version, (0..count).collect())
    }

    fn publish(&mut self, version: Version) -> Step<Put> {
        let live = ManifestRecord { state: State::Live, died: None, ..self.record.clone() };
        let body = self.body(&live);
        self.at = At::Publishing(live);
        Step::Do(vec![Action::Replace(Slot::Manifest, version, body)])
    }

    fn withdraw(&mut self, version: Version, missing: Vec<Digest>) -> Step<Put> {
        let dead = ManifestRecord { state: State::Dead, ..self.record.clone() };
        let body = self.body(&dead);
        self.at = At::Withdrawing(missing);
        Step::Do(vec![Action::Replace(Slot::Manifest, version, body)])
    }

    fn digest(&self, reference: usize) -> Option<&Digest> {
        self.record.blobs.iter().chain(&self.record.manifests).nth(reference)
    }

    fn judge(&mut self, version: Version, references: Vec<usize>, observed: Vec<Observed>) -> Step<Put> {
        let (mut missing, mut revive) = (Vec::new(), Vec::new());
        for (index, observed) in references.into_iter().zip(observed) {
            match observed {
                Observed::Found(body, seen) => match body.state() {
                    State::Live => {}
                    State::Condemned => {
                        revive.push((index, Action::Replace(Slot::Reference(index), seen, body.live())));
                    }
                    // Another client is about to push it: as good as absent.
                    State::Pending if self.sparse => {}
                    State::Pending | State::Dead | State::Purged => {
                        missing.extend(self.digest(index).cloned());
                    }
                },
                _ if self.sparse => {}
                _ => missing.extend(self.digest(index).cloned()),
            }
        }
        if !missing.is_empty() {
            return self.withdraw(version, missing);
        }
        if revive.is_empty() {
            return self.publish(version);
        }
        let (indexes, actions) = revive.into_iter().unzip();
        self.at = At::Reviving(version, indexes);
        Step::Do(actions)
    }
}

impl Protocol for PutManifest {
    type Outcome = Put;

    fn next(&mut self, observed: Vec<Observed>) -> Step<Put> {
        match self.at.clone() {
            At::Begin => self.create(),
            At::Checking(version, references) => self.judge(version, references, observed),
            At::Reviving(version, references) => {
                let again = references
                    .into_iter()
                    .zip(observed)
                    .filter(|(_, observed)| !matches!(observed, Observed::Written(_)))
                    .map(|(index, _)| index)
                    .collect();
                self.check(version, again)
            }
            at => match (at, only(observed)) {
                (At::Writing(record), Some(Observed::Written(version))) => match record.state {
                    State::Live => Step::Done(Put::Live(record)),
                    _ => self.check_all(version),
                },
                (At::Reading, Some(Observed::Absent)) => self.create(),
                (At::Reading, Some(Observed::Found(Body::Manifest(there, _), version))) => {
                    self.record.died = there.died;
                    match there.state {
                        State::Live => Step::Done(Put::Live(there)),
                        State::Condemned => {
                            self.replace(version, ManifestRecord { state: State::Live, ..there })
                        }
                        // Another writer's reference, or one left by a crash, serves as well as our own.
                        State::Pending if there.refers_alike(&self.record) => self.check_all(version),
                        State::Pending | State::Dead | State::Purged => {
                            self.replace(version, self.record.clone())
                        }
                    }
                }
                (At::Publishing(live), Some(Observed::Written(_))) => Step::Done(Put::Live(live)),
                (At::Withdrawing(missing), Some(Observed::Written(_))) => Step::Done(Put::Missing(missing)),
                _ => self.read(),
            },
        }
    }
}

impl Body {
    /// Where the record stands.
    pub fn state(&self) -> State {
        match self {
            Self::Link(link) => link.state,
            Self::Blob(blob) => blob.state,
            Self::Manifest(record, _) => record.state,
        }
    }

    fn live(mut self) -> Self {
        match &mut self {
            Self::Link(link) => link.state = State::Live,
            Self::Blob(blob) => blob.state = State::Live,
            Self::Manifest(record, _) => record.state = State::Live,
        }
        self
    }
}
