//! The calls that change what is on the disk. Everything that a power loss could undo goes through here, so that a test
//! can write down in which order it was asked for, and try what is left of it after every step.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
    time::SystemTime,
};

/// The file system; the methods as they stand are what production uses.
pub(super) trait Disk: std::fmt::Debug + Send + Sync + 'static {
    /// Creates a file that must not be there.
    fn create(&self, path: &Path) -> io::Result<File> {
        File::create_new(path)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn set_len(&self, file: &File, size: u64) -> io::Result<()> {
        file.set_len(size)
    }

    fn set_modified(&self, file: &File, time: SystemTime) -> io::Result<()> {
        file.set_modified(time)
    }

    /// Makes the bytes, the size and the times of a file durable; not its name.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    /// Makes the bytes and the size of a file durable.
    fn sync_data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    /// Makes the names in a directory durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    /// Makes everything durable that was done to the file system of this directory.
    fn sync_everything(&self, root: &Path) -> io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(root)?)?)
    }
}

/// The real one.
#[derive(Debug)]
pub(super) struct SystemDisk;

impl Disk for SystemDisk {}
