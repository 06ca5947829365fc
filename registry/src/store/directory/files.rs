//! Objects as files: names, versions, changes one at a time a key, the lock that keeps a second process out. A change is
//! prepared in a file of its own, written to the journal, made visible by a rename, remembered, and then answered.

use std::{
    collections::hash_map::DefaultHasher,
    fs,
    hash::{Hash as _, Hasher as _},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use jiff::Timestamp;
use ulid::Ulid;

use super::{
    super::{Etag, Meta, PutMode, StoreError},
    Sizes,
    disk::Disk,
    journal::{Change, Journal},
    memory::{Memory, Remembered},
};

const LOCK_FILE: &str = ".lock";
const TEMPORARY: &str = ".tmp";
const PARTS: &str = ".parts";
const STRIPES: usize = 4096;
/// Files whose names are made durable by one sync.
const SPARE: usize = 16;
/// Bytes of a path component, on every common file system.
const LONGEST_NAME: usize = 255;

/// The files of a store.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    small: u64,
    disk: Arc<dyn Disk>,
    /// Holds the lock as long as it is open.
    _lock: fs::File,
    journal: Arc<Journal>,
    /// Who changes a key holds its stripe until the change is durable and remembered: compare and swap are then one
    /// step. Who reads a file to remember it shares the stripe, so that it remembers nothing that has been replaced.
    stripes: Vec<RwLock<()>>,
    memory: Memory,
    /// Empty files with durable names, for large objects.
    spare: Mutex<Vec<(PathBuf, fs::File)>>,
    /// The last modification time given out, in nanoseconds: none is given twice.
    clock: AtomicU64,
}

/// An object that was found.
pub(super) enum Opened {
    /// Whole, in memory.
    Small(Arc<Remembered>),
    /// To be read from its file.
    Large(fs::File, Meta),
}

/// A file that nobody sees, and that goes if nobody ever will.
struct Staged<'a> {
    disk: &'a dyn Disk,
    path: PathBuf,
}

impl Staged<'_> {
    fn rename(mut self, to: &Path) -> io::Result<()> {
        self.disk.rename(&std::mem::take(&mut self.path), to)
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // Else the next start removes it.
            let _ = self.disk.remove(&self.path);
        }
    }
}

pub(super) fn failed(key: &str, error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::NotFound => StoreError::NotFound(key.to_owned()),
        io::ErrorKind::InvalidFilename => StoreError::NameTooLong(key.to_owned()),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            StoreError::CredentialsRefused(format!(
                "{key}: {error}; make the directory writable for this user"
            ))
        }
        _ => StoreError::Other(format!("{key}: {error}")),
    }
}

impl Files {
    pub(super) fn open(root: &Path, disk: Arc<dyn Disk>, sizes: Sizes) -> Result<Self, StoreError> {
        let shown = root.display().to_string();
        let at = |error: io::Error| match failed(&shown, &error) {
            StoreError::NotFound(_) => {
                StoreError::Invalid(format!("directory {shown} cannot be created: {error}"))
            }
            error => error,
        };
        create_durably(disk.as_ref(), root).map_err(at)?;
        let lock = fs::File::create(root.join(LOCK_FILE)).map_err(at)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(StoreError::Locked(shown)),
            Err(fs::TryLockError::Error(error)) => return Err(at(error)),
        }
        create_durably(disk.as_ref(), &root.join(TEMPORARY)).map_err(at)?;
        create_durably(disk.as_ref(), &root.join(PARTS)).map_err(at)?;
        let (journal, changes) = Journal::open(&disk, root, sizes).map_err(at)?;
        let files = Self {
            root: root.to_owned(),
            small: sizes.small,
            disk,
            _lock: lock,
            journal,
            stripes: (0..STRIPES).map(|_| RwLock::new(())).collect(),
            memory: Memory::new(),
            spare: Mutex::default(),
            clock: AtomicU64::new(0),
        };
        files.replay(&changes).map_err(at)?;
        files.journal.applied();
        Ok(files)
    }

    /// Brings the files to what the journal says, and removes what was never acknowledged.
    fn replay(&self, changes: &[(Change, Bytes)]) -> io::Result<()> {
        let mut last = std::collections::BTreeMap::new();
        for (change, body) in changes {
            if let Some((Change::Adopt { from, .. }, _)) = last.insert(change.key(), (change, body)) {
                remove_if_there(self.disk.as_ref(), &self.root.join(from))?;
            }
        }
        for (key, (change, body)) in last {
            let path = self.root.join(key);
            match change {
                Change::Put { modified, .. } if !is_written(&path, *modified, body)? => {
                    let (staged, _) = self.stage(body, *modified)?;
                    self.create_directories(&path)?;
                    staged.rename(&path)?;
                }
                Change::Adopt { from, .. } if self.root.join(from).try_exists()? => {
                    self.create_directories(&path)?;
                    self.disk.rename(&self.root.join(from), &path)?;
                }
                Change::Delete { .. } => remove_if_there(self.disk.as_ref(), &path)?,
                Change::Put { .. } | Change::Adopt { .. } => {}
            }
        }
        for entry in fs::read_dir(self.root.join(TEMPORARY))? {
            self.disk.remove(&entry?.path())?;
        }
        Ok(())
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// The file of a multipart upload.
    pub(super) fn parts(&self, id: &str) -> PathBuf {
        self.root.join(PARTS).join(id)
    }

    /// Refuses what no file could be called before anything is done for it.
    fn path(&self, key: &str) -> Result<PathBuf, StoreError> {
        let bad = |part: &str| part.is_empty() || part == "." || part == ".." || part.contains('\0');
        if key.starts_with('.') || key.split('/').any(bad) {
            return Err(StoreError::Other(format!("{key:?} is no key")));
        }
        if key.split('/').any(|part| part.len() > LONGEST_NAME) {
            return Err(StoreError::NameTooLong(key.to_owned()));
        }
        Ok(self.root.join(key))
    }

    fn stripe(&self, key: &str) -> &RwLock<()> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        &self.stripes[usize::try_from(hasher.finish() % STRIPES as u64).unwrap_or_default()]
    }

    pub(super) fn lock(&self, key: &str) -> RwLockWriteGuard<'_, ()> {
        // The lock guards files, which a panic leaves whole: each change is one rename.
        self.stripe(key).write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A small object, if it is in memory. Waits for nobody: until a change is durable, the old object is the truth.
    pub(super) fn recall(&self, key: &str) -> Option<Arc<Remembered>> {
        self.memory.get(key)
    }

    /// As if the memory had needed the room.
    #[cfg(test)]
    pub(super) fn forget(&self, key: &str) {
        self.memory.forget(key);
    }

    /// Reads an object that is not in memory, after the change to it that is under way.
    pub(super) fn read(&self, key: &str) -> Result<Opened, StoreError> {
        let path = self.path(key)?;
        let at = |e: io::Error| failed(key, &e);
        let _shared = self.stripe(key).read().unwrap_or_else(PoisonError::into_inner);
        if let Some(object) = self.recall(key) {
            return Ok(Opened::Small(object));
        }
        let mut file = fs::File::open(path).map_err(at)?;
        let meta = file.metadata().map_err(at)?;
        if meta.is_dir() {
            return Err(StoreError::NotFound(key.to_owned()));
        }
        let meta = describe(&meta);
        if meta.size > self.small {
            return Ok(Opened::Large(file, meta));
        }
        let mut body = Vec::with_capacity(usize::try_from(meta.size).unwrap_or_default());
        file.read_to_end(&mut body).map_err(at)?;
        Ok(Opened::Small(self.memory.put(key, body.into(), meta)))
    }

    pub(super) fn head(&self, key: &str) -> Result<Meta, StoreError> {
        let _shared = self.stripe(key).read().unwrap_or_else(PoisonError::into_inner);
        self.meta(key)?.ok_or_else(|| StoreError::NotFound(key.to_owned()))
    }

    /// What is there now. The caller holds the key's stripe.
    fn meta(&self, key: &str) -> Result<Option<Meta>, StoreError> {
        if let Some(object) = self.recall(key) {
            return Ok(Some(object.meta.clone()));
        }
        match fs::metadata(self.path(key)?) {
            Ok(meta) if meta.is_dir() => Ok(None),
            Ok(meta) => Ok(Some(describe(&meta))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(key, &error)),
        }
    }

    pub(super) fn put(&self, key: &str, body: &[u8], mode: &PutMode) -> Result<Etag, StoreError> {
        let path = self.path(key)?;
        let at = |error: io::Error| failed(key, &error);
        // A large object is brought to disk before its key is locked, and so before it is known to be wanted.
        let large = body.len() as u64 > self.small;
        let large = if large { Some(self.stage_durably(body).map_err(at)?) } else { None };
        let _guard = self.lock(key);
        let there = self.meta(key)?.map(|meta| meta.etag);
        let allowed = match mode {
            PutMode::Overwrite => true,
            PutMode::Create => there.is_none(),
            PutMode::Update(expected) => there.as_ref() == Some(expected),
        };
        if !allowed {
            return Err(StoreError::Precondition(key.to_owned()));
        }
        let existed = there.is_some();
        if let Some((staged, meta)) = large {
            let change = Change::Adopt { key: key.to_owned(), from: self.name(&staged.path) };
            self.publish(&change, &[], existed, &path, || staged.rename(&path))?;
            return Ok(meta.etag);
        }
        let modified = self.tick();
        let change = Change::Put { key: key.to_owned(), modified };
        let meta = if let Some(file) = existed.then(|| self.with_room(&path, body)).flatten() {
            self.publish(&change, body, existed, &path, || self.write(&file, body, modified))?
        } else {
            let (staged, meta) = self.stage(body, modified).map_err(at)?;
            self.publish(&change, body, existed, &path, || staged.rename(&path))?;
            meta
        };
        let etag = meta.etag.clone();
        // A copy: the caller's bytes may be a slice of something much larger.
        self.memory.put(key, Bytes::copy_from_slice(body), meta);
        Ok(etag)
    }

    /// Makes a file of parts the object of a key; its first `size` bytes count.
    pub(super) fn adopt(&self, key: &str, from: &Path, size: u64) -> Result<(), StoreError> {
        let path = self.path(key)?;
        let finish = || -> io::Result<bool> {
            let file = fs::OpenOptions::new().write(true).open(from)?;
            if file.metadata()?.len() < size {
                return Ok(false);
            }
            self.disk.set_len(&file, size)?;
            self.seal(&file)?;
            Ok(true)
        };
        if !finish().map_err(|e| failed(key, &e))? {
            return Err(StoreError::Precondition(key.to_owned()));
        }
        let _guard = self.lock(key);
        let existed = self.meta(key)?.is_some();
        let change = Change::Adopt { key: key.to_owned(), from: self.name(from) };
        self.publish(&change, &[], existed, &path, || self.disk.rename(from, &path))
    }

    /// Makes a change durable, and then visible by `show`. The caller holds the key's stripe.
    fn publish<T>(
        &self,
        change: &Change,
        body: &[u8],
        existed: bool,
        path: &Path,
        show: impl FnOnce() -> io::Result<T>,
    ) -> Result<T, StoreError> {
        let key = change.key();
        let at = |error: io::Error| failed(key, &error);
        if !existed {
            self.create_directories(path).map_err(at)?;
        }
        let unapplied = self.journal.append(change, body).map_err(at)?;
        // A reader who finds nothing in memory waits for the stripe: nobody reads the old object after a listing has
        // shown the new one.
        self.memory.forget(key);
        let shown = show();
        drop(unapplied);
        shown.map_err(|error| {
            // A full disk has no room for the name. Then the journal says so, too, or nothing more.
            let undo = Change::Delete { key: key.to_owned() };
            if existed || self.journal.append(&undo, &[]).is_err() {
                self.journal.fail(&error);
            }
            failed(key, &error)
        })
    }

    /// The file of a small object, if a body can be written over it without room that a full disk may not have. No
    /// reader sees that: small objects are read whole by who shares the stripe. It spares an inode a change: to find a
    /// new one beside many that were freed is what creating a file costs most.
    fn with_room(&self, path: &Path, body: &[u8]) -> Option<fs::File> {
        let file = fs::OpenOptions::new().write(true).open(path).ok()?;
        let meta = file.metadata().ok()?;
        // Another name would be somebody's snapshot.
        let has_room =
            meta.nlink() == 1 && meta.len() <= self.small && body.len() as u64 <= meta.blocks() * 512;
        has_room.then_some(file)
    }

    /// Not durable: the journal has the body.
    fn write(&self, file: &fs::File, body: &[u8], modified: u64) -> io::Result<Meta> {
        self.disk.write_at(file, body, 0)?;
        if file.metadata()?.len() > body.len() as u64 {
            self.disk.set_len(file, body.len() as u64)?;
        }
        self.disk.set_modified(file, UNIX_EPOCH + Duration::from_nanos(modified))?;
        Ok(describe(&file.metadata()?))
    }

    /// Writes a file that nobody sees; not durable.
    fn stage(&self, body: &[u8], modified: u64) -> io::Result<(Staged<'_>, Meta)> {
        let path = self.root.join(TEMPORARY).join(Ulid::generate().to_string());
        let file = self.disk.create(&path)?;
        let staged = Staged { disk: self.disk(), path };
        let meta = self.write(&file, body, modified)?;
        Ok((staged, meta))
    }

    /// Writes a file that nobody sees, and brings it to the disk.
    fn stage_durably(&self, body: &[u8]) -> io::Result<(Staged<'_>, Meta)> {
        let (path, file) = self.spare_file()?;
        let staged = Staged { disk: self.disk(), path };
        self.disk.write_at(&file, body, 0)?;
        let meta = self.seal(&file)?;
        Ok((staged, meta))
    }

    /// How the journal calls a file.
    fn name(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().into_owned()
    }

    fn spare_file(&self) -> io::Result<(PathBuf, fs::File)> {
        let spare = || self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = spare().pop() {
            return Ok(file);
        }
        let directory = self.root.join(TEMPORARY);
        let create = |_| {
            let path = directory.join(Ulid::generate().to_string());
            self.disk.create(&path).map(|file| (path, file))
        };
        let mut files = (0..SPARE).map(create).collect::<io::Result<Vec<_>>>()?;
        self.disk.sync_directory(&directory)?;
        let file = files.pop().ok_or(io::ErrorKind::NotFound)?;
        spare().append(&mut files);
        Ok(file)
    }

    /// A modification time that no other change has, in nanoseconds: with size and inode it is the version.
    fn tick(&self) -> u64 {
        let now = u64::try_from(UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos()).unwrap_or(u64::MAX);
        let next = |last: u64| now.max(last + 1);
        let last = self.clock.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(next(last)));
        next(last.unwrap_or_else(|last| last))
    }

    /// Gives a file its version and brings it to the disk.
    fn seal(&self, file: &fs::File) -> io::Result<Meta> {
        self.disk.set_modified(file, UNIX_EPOCH + Duration::from_nanos(self.tick()))?;
        self.disk.sync(file)?;
        Ok(describe(&file.metadata()?))
    }

    /// Creates the missing directories above a file. The journal makes them durable: replaying creates them again.
    fn create_directories(&self, path: &Path) -> io::Result<()> {
        let Some(parent) = path.parent() else { return Ok(()) };
        if parent == self.root || parent.is_dir() {
            return Ok(());
        }
        self.create_directories(parent)?;
        match self.disk.create_directory(parent) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Directories stay: removing them would race with writers, and an empty one costs nothing.
    pub(super) fn delete(&self, key: &str, expected: Option<&str>) -> Result<(), StoreError> {
        let path = self.path(key)?;
        let _guard = self.lock(key);
        let Some(meta) = self.meta(key)? else { return Ok(()) };
        if expected.is_some_and(|expected| meta.etag != expected) {
            return Err(StoreError::Precondition(key.to_owned()));
        }
        let change = Change::Delete { key: key.to_owned() };
        let _unapplied = self.journal.append(&change, &[]).map_err(|e| failed(key, &e))?;
        self.memory.forget(key);
        self.disk.remove(&path).map_err(|error| {
            self.journal.fail(&error);
            failed(key, &error)
        })
    }
}

/// Creates a directory and the missing ones above it, each one durable before something is put into it.
pub(super) fn create_durably(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_durably(disk, parent)?;
    match disk.create_directory(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => disk.sync_directory(parent),
    }
}

fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    if path.is_file() { disk.remove(path) } else { Ok(()) }
}

/// Whether a file is what a change made it; a power loss may have left the name without the bytes.
fn is_written(path: &Path, modified: u64, body: &[u8]) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(meta) if meta.modified()? == UNIX_EPOCH + Duration::from_nanos(modified) => {
            Ok(meta.len() == body.len() as u64 && fs::read(path)? == body)
        }
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What is known of a file. No two writes of a process have the same time, so time, size and inode name a version.
pub(super) fn describe(meta: &fs::Metadata) -> Meta {
    let (seconds, nanoseconds) = (meta.mtime(), meta.mtime_nsec());
    let modified = Timestamp::new(seconds, i32::try_from(nanoseconds).unwrap_or_default())
        .unwrap_or(Timestamp::UNIX_EPOCH);
    Meta {
        size: meta.len(),
        etag: format!("{seconds:x}.{nanoseconds:x}-{:x}-{:x}", meta.len(), meta.ino()),
        modified,
    }
}
