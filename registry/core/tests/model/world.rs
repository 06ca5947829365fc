//! What the store holds: records under compare-and-swap, bytes, trash, tags and their hints, of one or two blobs in
//! two repositories. Every operation on it is atomic, as the store's are.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{Hash, Hasher},
    sync::Arc,
};

use berth_registry_core::{
    Digest,
    manifest::{OCI_INDEX, OCI_MANIFEST},
    protocol::{Body, Observed, Version},
    record::{Blob, Link, ManifestRecord, State},
};
use bytes::Bytes;
use jiff::Timestamp;

/// `'A'` or `'B'`; mounts go from A to B.
pub(crate) type Repo = char;

/// The two manifests of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Image {
    /// Refers to the blobs.
    App,
    /// Lists `App`.
    Index,
}

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Key {
    Link(Repo, usize),
    Blob(usize),
    Manifest(Repo, Image),
}

/// The key of the first blob's bytes, which a scrub may find to be bad.
pub(crate) const BAD: &str = "K0";

/// Bytes that may be deleted: of which blob, under which key, when. The same may be on record more than once.
pub(crate) type Trash = (usize, String, Timestamp);

#[derive(Clone, Debug, PartialEq, Default)]
pub(crate) struct World {
    pub(crate) records: BTreeMap<Key, (Arc<Body>, u32)>,
    /// Keys of the bytes that are there.
    pub(crate) data: BTreeSet<String>,
    pub(crate) trash: BTreeMap<Trash, u8>,
    /// Where the one tag of a repository points, and its version.
    pub(crate) tags: BTreeMap<Repo, (Image, u32)>,
    pub(crate) hints: BTreeSet<(Repo, Image)>,
    versions: u32,
}

/// Before everything that happens in a scenario.
pub(crate) fn old() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

/// What is younger is spared by collectors that honour the lease.
pub(crate) fn lease() -> Timestamp {
    Timestamp::from_second(100).unwrap_or_default()
}

/// The time of a scenario.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(200).unwrap_or_default()
}

/// After a scenario has ended.
pub(crate) fn later() -> Timestamp {
    Timestamp::from_second(300).unwrap_or_default()
}

pub(crate) fn blob_digest(blob: usize) -> Digest {
    Digest::sha256(format!("blob {blob}").as_bytes())
}

pub(crate) fn image_digest(image: Image) -> Digest {
    Digest::sha256(format!("{image:?}").as_bytes())
}

/// A manifest that was pushed at this time; `App` refers to so many blobs.
pub(crate) fn manifest(image: Image, blobs: usize, state: State, pushed: Timestamp) -> ManifestRecord {
    let (media_type, blobs, manifests) = match image {
        Image::App => (OCI_MANIFEST, (0..blobs).map(blob_digest).collect(), Vec::new()),
        Image::Index => (OCI_INDEX, Vec::new(), vec![image_digest(Image::App)]),
    };
    ManifestRecord {
        state,
        media_type: media_type.to_owned(),
        blobs,
        manifests,
        subject: None,
        artifact_type: None,
        author: None,
        pushed,
        died: (state == State::Dead).then(old),
        sparse: false,
    }
}

impl World {
    /// Blobs with bytes `K0`, `K1`… in a repository, all in these states, and `App` that refers to them.
    pub(crate) fn with(repo: Repo, blobs: usize, blob: State, link: State, app: State) -> Self {
        let mut world = Self::default();
        for index in 0..blobs {
            world.put_blob(index, blob);
            world.put_link(repo, index, link);
        }
        world.put_manifest(repo, Image::App, blobs, app);
        world
    }

    /// All of it live, and tagged.
    pub(crate) fn live(blobs: usize) -> Self {
        let mut world = Self::with('A', blobs, State::Live, State::Live, State::Live);
        world.put_tag('A', Image::App);
        world.hints.insert(('A', Image::App));
        world
    }

    /// All of it dead, and not purged yet.
    pub(crate) fn dead() -> Self {
        Self::with('A', 1, State::Dead, State::Dead, State::Dead)
    }

    pub(crate) fn put_blob(&mut self, blob: usize, state: State) {
        let data = format!("K{blob}");
        let until = (state == State::Dead).then(old);
        if state != State::Purged {
            self.data.insert(data.clone());
        }
        if state == State::Dead {
            self.discard((blob, data.clone(), old()));
        }
        self.write(Key::Blob(blob), Body::Blob(Blob { state, size: 1, data, until }));
    }

    pub(crate) fn discard(&mut self, trash: Trash) {
        *self.trash.entry(trash).or_default() += 1;
    }

    pub(crate) fn drop_trash(&mut self, trash: &Trash) {
        match self.trash.get_mut(trash) {
            Some(records) if *records > 1 => *records -= 1,
            _ => drop(self.trash.remove(trash)),
        }
    }

    /// What is due.
    pub(crate) fn due(&self) -> impl Iterator<Item = &Trash> {
        self.trash.keys().filter(|(.., due)| *due <= now())
    }

    /// Records and tags that were written.
    pub(crate) fn writes(&self) -> u32 {
        self.versions
    }

    pub(crate) fn put_link(&mut self, repo: Repo, blob: usize, state: State) {
        let link = Link { state, size: 1, data: format!("K{blob}"), since: old() };
        self.write(Key::Link(repo, blob), Body::Link(link));
    }

    pub(crate) fn put_manifest(&mut self, repo: Repo, image: Image, blobs: usize, state: State) {
        let record = manifest(image, blobs, state, old());
        self.write(Key::Manifest(repo, image), Body::Manifest(record, Bytes::new()));
    }

    pub(crate) fn put_tag(&mut self, repo: Repo, image: Image) {
        self.versions += 1;
        self.tags.insert(repo, (image, self.versions));
    }

    /// Where the tag points, and its version.
    pub(crate) fn tag(&self, repo: Repo) -> Option<(Image, Version)> {
        self.tags.get(&repo).map(|(image, version)| (*image, name(*version)))
    }

    pub(crate) fn state(&self, key: Key) -> Option<State> {
        self.records.get(&key).map(|(body, _)| body.state())
    }

    pub(crate) fn is_visible(&self, key: Key) -> bool {
        self.state(key).is_some_and(State::is_visible)
    }

    /// The links to a blob.
    pub(crate) fn links(&self, blob: usize) -> Vec<Key> {
        let links = self.records.keys().filter(|key| matches!(key, Key::Link(_, to) if *to == blob));
        links.copied().collect()
    }

    pub(crate) fn blob(&self, blob: usize) -> Option<&Blob> {
        match self.records.get(&Key::Blob(blob)).map(|(body, _)| body.as_ref()) {
            Some(Body::Blob(blob)) => Some(blob),
            _ => None,
        }
    }

    pub(crate) fn version(&self, key: Key) -> Option<Version> {
        self.records.get(&key).map(|(_, version)| name(*version))
    }

    pub(crate) fn read(&self, key: Key) -> Observed {
        self.records.get(&key).map_or(Observed::Absent, |(body, version)| {
            Observed::Found(body.as_ref().clone(), name(*version))
        })
    }

    pub(crate) fn write(&mut self, key: Key, body: Body) -> Observed {
        self.versions += 1;
        self.records.insert(key, (Arc::new(body), self.versions));
        Observed::Written(name(self.versions))
    }

    pub(crate) fn create(&mut self, key: Key, body: Body) -> Observed {
        if self.records.contains_key(&key) { Observed::Lost } else { self.write(key, body) }
    }

    pub(crate) fn replace(&mut self, key: Key, version: &str, body: Body) -> Observed {
        if self.version(key).as_deref() == Some(version) { self.write(key, body) } else { Observed::Lost }
    }

    /// Removes this version, or whatever is there.
    pub(crate) fn remove(&mut self, key: Key, version: Option<&str>) -> Observed {
        match self.version(key) {
            Some(there) if version.is_some_and(|version| there != version) => Observed::Lost,
            _ => {
                self.records.remove(&key);
                Observed::Done
            }
        }
    }
}

/// Versions are names: this character begins one, and nothing else.
const MARK: u8 = b'@';

fn name(version: u32) -> Version {
    format!("{}{version}", char::from(MARK))
}

/// Hashes a state up to the names of versions: they are only ever compared with each other, so two states that differ
/// by a renaming go on alike, and one of them need be explored.
pub(crate) struct Renaming<'a, H> {
    hasher: &'a mut H,
    world: &'a World,
    /// Versions that were replaced, in the order in which they are met. They are met in one actor: no one compares his
    /// with another's.
    stale: Vec<u32>,
}

impl<'a, H: Hasher> Renaming<'a, H> {
    pub(crate) fn new(hasher: &'a mut H, world: &'a World) -> Self {
        Self { hasher, world, stale: Vec::new() }
    }

    /// The world without its versions.
    pub(crate) fn world(&mut self) {
        let World { records, data, trash, tags, hints, versions: _ } = self.world;
        for (key, (body, _)) in records {
            (key, body).hash(self);
        }
        for (repo, (image, _)) in tags {
            (repo, image).hash(self);
        }
        (data, trash, hints).hash(self);
    }

    pub(crate) fn version(&mut self, version: u32) {
        let current = self.world.records.iter().find(|(_, (_, there))| *there == version);
        if let Some((key, _)) = current {
            (1u8, key).hash(self);
        } else if self.world.tags.values().any(|(_, there)| *there == version) {
            2u8.hash(self);
        } else {
            let place = self.stale.iter().position(|there| *there == version).unwrap_or(self.stale.len());
            if place == self.stale.len() {
                self.stale.push(version);
            }
            (3u8, place).hash(self);
        }
    }
}

impl<H: Hasher> Hasher for Renaming<'_, H> {
    fn finish(&self) -> u64 {
        self.hasher.finish()
    }

    fn write(&mut self, bytes: &[u8]) {
        match bytes.split_first() {
            Some((&MARK, digits)) => {
                let version = digits.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
                self.version(version);
            }
            _ => self.hasher.write(bytes),
        }
    }

    // Numbers are no names.
    fn write_u8(&mut self, number: u8) {
        self.hasher.write_u8(number);
    }

    fn write_u32(&mut self, number: u32) {
        self.hasher.write_u32(number);
    }

    fn write_u64(&mut self, number: u64) {
        self.hasher.write_u64(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.hasher.write_usize(number);
    }

    fn write_i32(&mut self, number: i32) {
        self.hasher.write_i32(number);
    }

    fn write_i64(&mut self, number: i64) {
        self.hasher.write_i64(number);
    }

    fn write_isize(&mut self, number: isize) {
        self.hasher.write_isize(number);
    }
}
