//! The files of an image, sorted by path, and their tar. A program brings the shared libraries it needs.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tar::{Builder, EntryType, Header};

use super::{ImageError, io_at, read};

/// The files of an image, by path.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    entries: BTreeMap<PathBuf, Entry>,
}

#[derive(Debug, Clone)]
enum Entry {
    Folder { mode: u32 },
    Bytes { mode: u32, bytes: Vec<u8> },
    Copy { mode: u32, from: PathBuf },
    Link { target: PathBuf },
}

impl Contents {
    /// What every image has: a user `nonroot`, a `/tmp` that all may write to.
    pub fn base() -> Self {
        let mut base = Self::default();
        base.bytes(
            "/etc/passwd",
            0o644,
            "root:x:0:0::/:/sbin/nologin\nnonroot:x:65532:65532::/tmp:/sbin/nologin\n",
        );
        base.bytes("/etc/group", 0o644, "root:x:0:\nnonroot:x:65532:\n");
        base.folder("/tmp", 0o1777);
        base
    }

    /// Every file below a folder.
    pub fn of_folder(folder: &Path) -> Result<Self, ImageError> {
        fn walk(folder: &Path, prefix: &Path, contents: &mut Contents) -> Result<(), ImageError> {
            for entry in fs::read_dir(folder).map_err(io_at(folder))? {
                let entry = entry.map_err(io_at(folder))?;
                let (path, inside) = (entry.path(), prefix.join(entry.file_name()));
                if path.is_dir() {
                    walk(&path, &inside, contents)?;
                } else {
                    contents.insert(&inside, Entry::Copy { mode: 0o644, from: path });
                }
            }
            Ok(())
        }
        let mut contents = Self::default();
        walk(folder, Path::new("/"), &mut contents)?;
        Ok(contents)
    }

    /// Adds an empty folder.
    pub fn folder(&mut self, path: &str, mode: u32) {
        self.insert(Path::new(path), Entry::Folder { mode });
    }

    /// Adds a file with the given content.
    pub fn bytes(&mut self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) {
        self.insert(Path::new(path), Entry::Bytes { mode, bytes: bytes.into() });
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.insert(Path::new(path), Entry::Link { target: target.into() });
    }

    /// Adds a program of this machine at `path`, and the shared libraries and the loader that it needs at
    /// their own places.
    pub fn program(&mut self, path: &str, from: &Path) -> Result<(), ImageError> {
        self.insert(Path::new(path), Entry::Copy { mode: 0o755, from: from.to_owned() });
        // `ldd` refuses programs without a loader: those bring everything along.
        if let Ok(list) = crate::command::run(Command::new("ldd").arg(from)) {
            for library in list.lines().filter_map(shared_library) {
                self.insert(library, Entry::Copy { mode: 0o755, from: library.to_owned() });
            }
        }
        Ok(())
    }

    fn insert(&mut self, path: &Path, entry: Entry) {
        let path = path.strip_prefix("/").unwrap_or(path);
        for parent in path.ancestors().skip(1).filter(|parent| *parent != Path::new("")) {
            self.entries.entry(parent.to_owned()).or_insert(Entry::Folder { mode: 0o755 });
        }
        self.entries.insert(path.to_owned(), entry);
    }

    /// Writes a tar: sorted, owned by root, without times.
    pub(super) fn write_tar<W: Write>(&self, into: W) -> Result<W, ImageError> {
        let mut tar = Builder::new(into);
        for (path, entry) in &self.entries {
            let mut header = Header::new_gnu();
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            let (kind, mode, bytes) = match entry {
                Entry::Folder { mode } => (EntryType::Directory, *mode, Vec::new()),
                Entry::Bytes { mode, bytes } => (EntryType::Regular, *mode, bytes.clone()),
                Entry::Copy { mode, from } => (EntryType::Regular, *mode, read(from)?),
                Entry::Link { .. } => (EntryType::Symlink, 0o777, Vec::new()),
            };
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(bytes.len() as u64);
            match entry {
                Entry::Link { target } => tar.append_link(&mut header, path, target),
                _ => tar.append_data(&mut header, path, bytes.as_slice()),
            }
            .map_err(io_at(path))?;
        }
        tar.into_inner().map_err(io_at(Path::new("tar")))
    }
}

/// The file in a line of `ldd`: `libc.so.6 => /lib/libc.so.6 (0x…)`, or the loader's `/lib64/ld.so.2 (0x…)`.
fn shared_library(line: &str) -> Option<&Path> {
    let line = line.trim();
    let path = line.split_once("=> ").map_or(line, |(_, path)| path);
    let (path, _) = path.rsplit_once(" (")?;
    path.starts_with('/').then(|| Path::new(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_lines_of_ldd() {
        let read = |line| shared_library(line).map(|path| path.to_str().unwrap());
        assert_eq!(
            read("\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)"),
            Some("/lib/x86_64-linux-gnu/libc.so.6")
        );
        assert_eq!(read("\t/lib64/ld-linux-x86-64.so.2 (0x00007f)"), Some("/lib64/ld-linux-x86-64.so.2"));
        assert_eq!(read("\tlinux-vdso.so.1 (0x00007f)"), None);
        assert_eq!(read("\tstatically linked"), None);
    }

    #[test]
    fn folders_come_before_what_is_in_them() {
        let mut contents = Contents::default();
        contents.bytes("/usr/local/bin/a", 0o755, "");
        let paths: Vec<_> = contents.entries.keys().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(paths, ["usr", "usr/local", "usr/local/bin", "usr/local/bin/a"]);
    }
}
