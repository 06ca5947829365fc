//! Power losses, for tests: a disk that writes down what it is asked for, and what may be left of that when the power
//! fails after any step. Durable is what was synced and nothing else: bytes, sizes and times by a sync of the file, names
//! by a sync of the directory. All else may be there, or not, or (bytes) in part, each independently of the others.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, File},
    hash::Hash,
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use super::{DirectoryStore, Sizes, disk::Disk};

/// Small enough that a short workload fills segments, parts and large objects.
pub(crate) const SIZES: Sizes = Sizes { small: 700, part: 4 << 10, segment: 2 << 10, step: 1 << 10 };

type FileId = usize;

#[derive(Clone, Debug)]
enum Step {
    Create(PathBuf, FileId),
    Directory(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    Write(FileId, u64, Vec<u8>),
    SetLen(FileId, u64),
    SetModified(FileId, SystemTime),
    /// Syncs make durable what was done before they began: so many steps.
    Sync(FileId, usize),
    SyncData(FileId, usize),
    SyncDirectory(PathBuf, usize),
    SyncEverything(usize),
    /// Somebody begins to give a subject this value, or was told that it has it.
    Begun(String, Option<String>),
    Acknowledged(String, Option<String>),
}

/// Bytes and modification time.
type Content = (Vec<u8>, Option<SystemTime>);

/// What lies on a disk. Paths are relative to the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Image {
    directories: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, FileId>,
    files: BTreeMap<FileId, Content>,
}

/// What becomes of one change that was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Lost,
    Kept,
    /// Of bytes, the first part in this many is there, or all but that; of anything else: lost.
    Torn(usize, bool),
}

/// How the power fails.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Loss {
    Everything,
    Nothing,
    Bytes,
    Names,
    /// Anything, by this seed.
    Any(u64),
}

impl Loss {
    /// Both extremes, and another one from step to step.
    pub(crate) fn after(step: usize) -> [Self; 3] {
        let other = [Self::Bytes, Self::Names, Self::Any(1), Self::Any(2)][step % 4];
        [Self::Everything, Self::Nothing, other]
    }

    fn fate(self, step: usize, is_name: bool) -> Fate {
        match self {
            Self::Everything => Fate::Lost,
            Self::Bytes if !is_name => Fate::Lost,
            Self::Names if is_name => Fate::Lost,
            Self::Nothing | Self::Bytes | Self::Names => Fate::Kept,
            Self::Any(seed) => {
                // A splitmix64 step: the same fate in every run.
                let mut z = (seed << 32 | step as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                match (z >> 40) % 5 {
                    0 | 1 => Fate::Lost,
                    2 | 3 => Fate::Kept,
                    _ => Fate::Torn(2 + (z >> 50) as usize % 7, z >> 63 == 0),
                }
            }
        }
    }
}

impl Image {
    fn of(root: &Path) -> (Self, HashMap<u64, FileId>) {
        let (mut image, mut inodes) = (Self::default(), HashMap::new());
        let mut left = vec![PathBuf::new()];
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(root.join(&directory)).unwrap() {
                let entry = entry.unwrap();
                let (path, meta) = (directory.join(entry.file_name()), entry.metadata().unwrap());
                if meta.is_dir() {
                    image.directories.insert(path.clone());
                    left.push(path);
                } else {
                    let id = inodes.len();
                    inodes.insert(meta.ino(), id);
                    let content = fs::read(entry.path()).unwrap();
                    image.files.insert(id, (content, Some(meta.modified().unwrap())));
                    image.names.insert(path, id);
                }
            }
        }
        (image, inodes)
    }

    /// Puts the image where nothing is yet.
    fn lay_out(&self, root: &Path) {
        for directory in &self.directories {
            fs::create_dir(root.join(directory)).unwrap();
        }
        let mut placed: HashMap<FileId, PathBuf> = HashMap::new();
        for (name, id) in &self.names {
            let path = root.join(name);
            if let Some(other) = placed.get(id) {
                fs::hard_link(other, &path).unwrap();
                continue;
            }
            let empty = Content::default();
            let (bytes, modified) = self.files.get(id).unwrap_or(&empty);
            let file = File::create_new(&path).unwrap();
            file.write_all_at(bytes, 0).unwrap();
            if let Some(modified) = modified {
                file.set_modified(*modified).unwrap();
            }
            placed.insert(*id, path);
        }
    }

    fn content(&mut self, id: FileId) -> &mut Vec<u8> {
        &mut self.files.entry(id).or_default().0
    }

    /// Whether there is a directory that can hold this.
    fn can_hold(&self, path: &Path) -> bool {
        path.parent().is_some_and(|above| above == Path::new("") || self.directories.contains(above))
    }

    fn apply(&mut self, step: &Step, fate: Fate) {
        let kept = fate == Fate::Kept;
        match step {
            Step::Create(path, id) if kept && self.can_hold(path) => {
                self.names.insert(path.clone(), *id);
                self.files.entry(*id).or_default();
            }
            Step::Directory(path) if kept && self.can_hold(path) => {
                self.directories.insert(path.clone());
            }
            Step::Remove(path) if kept => {
                self.names.remove(path);
            }
            Step::Write(id, offset, bytes) => {
                let part = match fate {
                    Fate::Lost => return,
                    Fate::Kept => 0..bytes.len(),
                    Fate::Torn(share, true) => 0..bytes.len() / share,
                    Fate::Torn(share, false) => bytes.len() / share..bytes.len(),
                };
                let (content, offset) = (self.content(*id), usize::try_from(*offset).unwrap());
                content.resize(content.len().max(offset + part.end), 0);
                content[offset + part.start..offset + part.end].copy_from_slice(&bytes[part]);
            }
            Step::SetLen(id, size) if kept => self.content(*id).resize(usize::try_from(*size).unwrap(), 0),
            Step::SetModified(id, time) if kept => self.files.entry(*id).or_default().1 = Some(*time),
            _ => {}
        }
    }
}

/// A disk that writes down what it does. Its syncs do nothing but that.
#[derive(Debug)]
pub(crate) struct Recorder {
    root: PathBuf,
    before: Image,
    log: Mutex<Log>,
}

#[derive(Debug)]
struct Log {
    steps: Vec<Step>,
    inodes: HashMap<u64, FileId>,
    files: usize,
}

impl Recorder {
    pub(crate) fn new(root: &Path) -> Arc<Self> {
        let (before, inodes) = Image::of(root);
        let log = Mutex::new(Log { steps: Vec::new(), files: inodes.len(), inodes });
        Arc::new(Self { root: root.to_owned(), before, log })
    }

    /// A store on this disk.
    pub(crate) fn store(self: &Arc<Self>) -> DirectoryStore {
        DirectoryStore::on(&self.root, self.clone(), SIZES).unwrap()
    }

    pub(crate) fn begin(&self, subject: &str, value: Option<String>) {
        self.log.lock().unwrap().steps.push(Step::Begun(subject.to_owned(), value));
    }

    pub(crate) fn acknowledge(&self, subject: &str, value: Option<String>) {
        self.log.lock().unwrap().steps.push(Step::Acknowledged(subject.to_owned(), value));
    }

    /// Does a change and writes it down, with no other one in between.
    fn change<T>(
        &self,
        act: impl FnOnce() -> io::Result<T>,
        step: impl FnOnce(&mut Log, &T) -> Step,
    ) -> io::Result<T> {
        let mut log = self.log.lock().unwrap();
        let done = act()?;
        let step = step(&mut log, &done);
        log.steps.push(step);
        Ok(done)
    }

    fn note_sync(&self, step: impl FnOnce(&Log, usize) -> Step) {
        let before = self.log.lock().unwrap().steps.len();
        // Others go on meanwhile, as they do beside a real sync.
        std::thread::sleep(Duration::from_micros(50));
        let mut log = self.log.lock().unwrap();
        let step = step(&log, before);
        log.steps.push(step);
    }

    fn relative(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).unwrap().to_owned()
    }

    pub(crate) fn steps(&self) -> usize {
        self.log.lock().unwrap().steps.len()
    }

    /// What is on the disk if the power fails after so many steps, and which values each subject may have then.
    pub(crate) fn cut(&self, steps: usize, loss: Loss) -> (Image, Allowed) {
        let log = self.log.lock().unwrap();
        let steps = &log.steps[..steps];
        let (mut files, mut names) = (HashMap::<(FileId, bool), usize>::new(), HashMap::new());
        let mut everything = 0;
        let mut allowed = Allowed::new();
        for step in steps {
            match step {
                Step::Sync(id, until) => {
                    reach(&mut files, (*id, true), *until);
                    reach(&mut files, (*id, false), *until);
                }
                Step::SyncData(id, until) => reach(&mut files, (*id, false), *until),
                Step::SyncDirectory(path, until) => reach(&mut names, path.clone(), *until),
                Step::SyncEverything(until) => everything = everything.max(*until),
                Step::Begun(subject, value) => {
                    allowed.entry(subject.clone()).or_insert_with(|| vec![None]).push(value.clone());
                }
                Step::Acknowledged(subject, value) => {
                    allowed.insert(subject.clone(), vec![value.clone()]);
                }
                _ => {}
            }
        }
        let mut image = self.before.clone();
        for (index, step) in steps.iter().enumerate() {
            let durable = |until: Option<&usize>| until.copied().unwrap_or(0).max(everything) > index;
            let is_named = |path: &Path| durable(names.get(path.parent().unwrap()));
            let fate = |is_durable, is_name| if is_durable { Fate::Kept } else { loss.fate(index, is_name) };
            match step {
                Step::Create(path, _) | Step::Directory(path) | Step::Remove(path) => {
                    image.apply(step, fate(is_named(path), true));
                }
                Step::Rename(from, to) => {
                    let Some(id) = image.names.get(from).copied().or_else(|| origin(steps, index)) else {
                        continue;
                    };
                    // Whole or not at all; only the old name may outlive it.
                    if image.can_hold(to) && fate(is_named(to), true) == Fate::Kept {
                        image.apply(&Step::Create(to.clone(), id), Fate::Kept);
                        let gone =
                            if is_named(from) { Fate::Kept } else { loss.fate(index + steps.len(), true) };
                        image.apply(&Step::Remove(from.clone()), gone);
                    }
                }
                Step::Write(id, ..) | Step::SetLen(id, _) => {
                    image.apply(step, fate(durable(files.get(&(*id, false))), false));
                }
                Step::SetModified(id, _) => {
                    image.apply(step, fate(durable(files.get(&(*id, true))), false));
                }
                _ => {}
            }
        }
        (image, allowed)
    }
}

/// Notes up to which step something is durable. Of two syncs at once the earlier one may end later.
fn reach<K: Hash + Eq>(known: &mut HashMap<K, usize>, key: K, until: usize) {
    let known = known.entry(key).or_default();
    *known = until.max(*known);
}

/// The file that a rename moved, should its first name be lost.
fn origin(steps: &[Step], rename: usize) -> Option<FileId> {
    let Step::Rename(from, _) = &steps[rename] else { return None };
    steps[..rename].iter().rev().find_map(|step| match step {
        Step::Create(path, id) if path == from => Some(*id),
        _ => None,
    })
}

/// The values that a subject may have: the one acknowledged last, and those begun since.
pub(crate) type Allowed = BTreeMap<String, Vec<Option<String>>>;

impl Disk for Recorder {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.change(
            || File::create_new(path),
            |log, file| {
                let id = log.files;
                log.files += 1;
                log.inodes.insert(file.metadata().unwrap().ino(), id);
                Step::Create(self.relative(path), id)
            },
        )
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let act = || file.write_all_at(bytes, offset);
        self.change(act, |log, ()| Step::Write(log.id(file), offset, bytes.to_vec()))
    }

    fn set_len(&self, file: &File, size: u64) -> io::Result<()> {
        self.change(|| file.set_len(size), |log, ()| Step::SetLen(log.id(file), size))
    }

    fn set_modified(&self, file: &File, time: SystemTime) -> io::Result<()> {
        self.change(|| file.set_modified(time), |log, ()| Step::SetModified(log.id(file), time))
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.note_sync(|log, until| Step::Sync(log.id(file), until));
        Ok(())
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        self.note_sync(|log, until| Step::SyncData(log.id(file), until));
        Ok(())
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.change(|| fs::create_dir(path), |_, ()| Step::Directory(self.relative(path)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let step = Step::Rename(self.relative(from), self.relative(to));
        self.change(|| fs::rename(from, to), |_, ()| step)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(|| fs::remove_file(path), |_, ()| Step::Remove(self.relative(path)))
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.note_sync(|_, until| Step::SyncDirectory(self.relative(path), until));
        Ok(())
    }

    fn sync_everything(&self, _root: &Path) -> io::Result<()> {
        self.note_sync(|_, until| Step::SyncEverything(until));
        Ok(())
    }
}

impl Log {
    fn id(&self, file: &File) -> FileId {
        self.inodes[&file.metadata().unwrap().ino()]
    }
}

/// A disk that syncs nothing: the power does not fail again.
#[derive(Debug)]
struct Steady;

impl Disk for Steady {
    fn sync(&self, _: &File) -> io::Result<()> {
        Ok(())
    }
    fn sync_data(&self, _: &File) -> io::Result<()> {
        Ok(())
    }
    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn sync_everything(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

impl Image {
    /// The directory as it is found after the power loss.
    pub(crate) fn directory(&self) -> tempfile::TempDir {
        let root = scratch();
        self.lay_out(root.path());
        root
    }
}

/// A directory in memory, where there is that: thousands of disks are laid out.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Opens what a power loss has left.
pub(crate) fn reopen(root: &Path) -> DirectoryStore {
    DirectoryStore::on(root, Arc::new(Steady), SIZES).unwrap()
}
