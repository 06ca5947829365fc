//! Files and their durability: names, versions, atomic replacement, the lock that keeps a second process out.

use std::{
    collections::hash_map::DefaultHasher,
    fs,
    hash::{Hash as _, Hasher as _},
    io::{self, Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use jiff::Timestamp;
use ulid::Ulid;

use super::{
    super::{Etag, Meta, PutMode, StoreError},
    memory::{LARGEST, Memory, Remembered},
};

const LOCK_FILE: &str = ".lock";
const TEMPORARY: &str = ".tmp";
const PARTS: &str = ".parts";
const STRIPES: usize = 4096;

/// The files of a store.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    /// Holds the lock as long as it is open.
    _lock: fs::File,
    /// Who changes a key holds its stripe until the change is durable and remembered: compare and swap are then one
    /// step. Who reads a file to remember it shares the stripe, so that it remembers neither what is not durable yet
    /// nor what has been replaced.
    stripes: Vec<RwLock<()>>,
    memory: Memory,
    /// The last modification time given out, in nanoseconds: none is given twice.
    clock: AtomicU64,
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

/// An object that was found.
pub(super) enum Opened {
    /// Whole, in memory.
    Small(Arc<Remembered>),
    /// To be read from its file.
    Large(fs::File, Meta),
}

impl Files {
    pub(super) fn open(root: PathBuf) -> Result<Self, StoreError> {
        let shown = root.display().to_string();
        let at = |error: io::Error| match failed(&shown, &error) {
            StoreError::NotFound(_) => {
                StoreError::Invalid(format!("directory {shown} cannot be created: {error}"))
            }
            error => error,
        };
        fs::create_dir_all(&root).map_err(at)?;
        let lock = fs::File::create(root.join(LOCK_FILE)).map_err(at)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(StoreError::Locked(shown)),
            Err(fs::TryLockError::Error(error)) => return Err(at(error)),
        }
        // What a killed process was writing was never acknowledged.
        match fs::remove_dir_all(root.join(TEMPORARY)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(error)),
            _ => {}
        }
        fs::create_dir_all(root.join(TEMPORARY)).map_err(at)?;
        fs::create_dir_all(root.join(PARTS)).map_err(at)?;
        Ok(Self {
            root,
            _lock: lock,
            stripes: (0..STRIPES).map(|_| RwLock::new(())).collect(),
            memory: Memory::new(),
            clock: AtomicU64::new(0),
        })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The file of a multipart upload.
    pub(super) fn parts(&self, id: &str) -> PathBuf {
        self.root.join(PARTS).join(id)
    }

    fn path(&self, key: &str) -> Result<PathBuf, StoreError> {
        let bad = |part: &str| part.is_empty() || part == "." || part == ".." || part.contains('\0');
        if key.starts_with('.') || key.split('/').any(bad) {
            return Err(StoreError::Other(format!("{key:?} is no key")));
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
        if meta.size > LARGEST {
            return Ok(Opened::Large(file, meta));
        }
        let mut body = Vec::with_capacity(usize::try_from(meta.size).unwrap_or_default());
        file.read_to_end(&mut body).map_err(at)?;
        Ok(Opened::Small(self.memory.put(key, body.into(), meta)))
    }

    pub(super) fn head(&self, key: &str) -> Result<Meta, StoreError> {
        let _shared = self.stripe(key).read().unwrap_or_else(PoisonError::into_inner);
        self.meta(key)
    }

    /// The caller holds the key's stripe.
    fn meta(&self, key: &str) -> Result<Meta, StoreError> {
        if let Some(object) = self.recall(key) {
            return Ok(object.meta.clone());
        }
        let meta = fs::metadata(self.path(key)?).map_err(|e| failed(key, &e))?;
        if meta.is_dir() { Err(StoreError::NotFound(key.to_owned())) } else { Ok(describe(&meta)) }
    }

    fn etag(&self, key: &str) -> Result<Option<Etag>, StoreError> {
        match self.meta(key) {
            Ok(meta) => Ok(Some(meta.etag)),
            Err(StoreError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn put(&self, key: &str, body: &[u8], mode: &PutMode) -> Result<Etag, StoreError> {
        let path = self.path(key)?;
        let temporary = self.root.join(TEMPORARY).join(Ulid::generate().to_string());
        let write = || -> io::Result<Meta> {
            let mut file = fs::File::create_new(&temporary)?;
            file.write_all(body)?;
            self.seal(&file)
        };
        let result = write().map_err(|e| failed(key, &e)).and_then(|meta| {
            let _guard = self.lock(key);
            let allowed = match mode {
                PutMode::Overwrite => true,
                PutMode::Create => self.etag(key)?.is_none(),
                PutMode::Update(expected) => self.etag(key)?.as_ref() == Some(expected),
            };
            if !allowed {
                return Err(StoreError::Precondition(key.to_owned()));
            }
            let etag = meta.etag.clone();
            self.publish(key, &temporary, &path, Some((body, meta)))?;
            Ok(etag)
        });
        if result.is_err() {
            // Else the next start removes it.
            let _ = fs::remove_file(&temporary);
        }
        result
    }

    /// Makes a finished file the object of a key; its first `size` bytes count.
    pub(super) fn adopt(&self, key: &str, from: &Path, size: u64) -> Result<(), StoreError> {
        let path = self.path(key)?;
        let finish = || -> io::Result<bool> {
            let file = fs::OpenOptions::new().write(true).open(from)?;
            if file.metadata()?.len() < size {
                return Ok(false);
            }
            file.set_len(size)?;
            self.seal(&file)?;
            Ok(true)
        };
        if !finish().map_err(|e| failed(key, &e))? {
            return Err(StoreError::Precondition(key.to_owned()));
        }
        let _guard = self.lock(key);
        self.publish(key, from, &path, None)
    }

    /// Gives a file a modification time of its own, which is its version, and brings it to the disk.
    fn seal(&self, file: &fs::File) -> io::Result<Meta> {
        let now = UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        let last =
            self.clock.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(now.max(last + 1)));
        let time = now.max(last.unwrap_or_else(|last| last) + 1);
        let time: SystemTime = UNIX_EPOCH + Duration::from_nanos(time);
        file.set_modified(time)?;
        file.sync_all()?;
        Ok(describe(&file.metadata()?))
    }

    /// Makes a file the object of a key, and what is given of it the truth in memory. The caller holds the stripe.
    fn publish(
        &self,
        key: &str,
        from: &Path,
        to: &Path,
        object: Option<(&[u8], Meta)>,
    ) -> Result<(), StoreError> {
        let parent = to.parent().unwrap_or(&self.root);
        let publish = || -> io::Result<()> {
            self.create_directories(parent)?;
            fs::rename(from, to)?;
            sync(parent)
        };
        let published = publish();
        match object {
            Some((body, meta)) if published.is_ok() && meta.size <= LARGEST => {
                // A copy: the caller's bytes may be a slice of something much larger.
                self.memory.put(key, Bytes::copy_from_slice(body), meta);
            }
            _ => self.memory.forget(key),
        }
        published.map_err(|e| failed(key, &e))
    }

    /// Creates the missing directories, each one durable before something is put into it.
    fn create_directories(&self, path: &Path) -> io::Result<()> {
        if path == self.root || path.is_dir() {
            return Ok(());
        }
        let parent = path.parent().unwrap_or(&self.root);
        self.create_directories(parent)?;
        match fs::create_dir(path) {
            Ok(()) => sync(parent),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn sync_parent(&self, path: &Path) -> Result<(), StoreError> {
        sync(path.parent().unwrap_or(&self.root)).map_err(|e| failed(&path.display().to_string(), &e))
    }

    /// Directories stay: removing them would race with writers, and an empty one costs nothing.
    pub(super) fn delete(&self, key: &str, expected: Option<&str>) -> Result<(), StoreError> {
        let path = self.path(key)?;
        let _guard = self.lock(key);
        if let Some(expected) = expected
            && self.etag(key)?.is_some_and(|etag| etag != expected)
        {
            return Err(StoreError::Precondition(key.to_owned()));
        }
        match fs::remove_file(&path) {
            Ok(()) => {
                let synced = self.sync_parent(&path);
                self.memory.forget(key);
                synced
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed(key, &error)),
        }
    }
}

fn sync(directory: &Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
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
