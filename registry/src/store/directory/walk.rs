//! Listing in the order of the keys' bytes, which is not the order in which directories nest: a directory counts as
//! its name with a slash.

use std::{fs, io};

use super::{
    super::{Entry, ListPage, StoreError},
    files::{Files, describe, failed},
};

/// A page of the keys with a prefix.
pub(super) fn list(
    files: &Files,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<ListPage, StoreError> {
    let base = prefix.rfind('/').map_or("", |end| &prefix[..=end]);
    let mut walk = Walk { files, prefix, after, limit, entries: Vec::new() };
    walk.directory(base)?;
    let more = walk.entries.len() > limit;
    walk.entries.truncate(limit);
    Ok(ListPage { entries: walk.entries, more })
}

struct Walk<'a> {
    files: &'a Files,
    prefix: &'a str,
    after: Option<&'a str>,
    limit: usize,
    entries: Vec<Entry>,
}

impl Walk<'_> {
    /// Whether one entry more than asked for was found, which tells that there are more.
    fn is_done(&self) -> bool {
        self.entries.len() > self.limit
    }

    /// `base`: the directory's key with a slash; empty for the root.
    fn directory(&mut self, base: &str) -> Result<(), StoreError> {
        let at = |error: io::Error| failed(base, &error);
        let listing = match fs::read_dir(self.files.root().join(base)) {
            Ok(listing) => listing,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(());
            }
            Err(error) => return Err(at(error)),
        };
        let mut keys = Vec::new();
        for entry in listing {
            let entry = entry.map_err(at)?;
            let name = entry.file_name();
            // Keys are text; what is not, and what begins with a dot, was not put here as an object.
            let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
            let slash = if entry.file_type().map_err(at)?.is_dir() { "/" } else { "" };
            let key = format!("{base}{name}{slash}");
            if self.is_wanted(&key) {
                keys.push(key);
            }
        }
        keys.sort_unstable();
        for key in keys {
            if self.is_done() {
                break;
            }
            if key.ends_with('/') {
                self.directory(&key)?;
                continue;
            }
            match fs::metadata(self.files.root().join(&key)) {
                Ok(meta) => self.entries.push(Entry { meta: describe(&meta), key }),
                // Deleted since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(at(error)),
            }
        }
        Ok(())
    }

    fn is_wanted(&self, key: &str) -> bool {
        let is_directory = key.ends_with('/');
        let in_prefix = key.starts_with(self.prefix) || (is_directory && self.prefix.starts_with(key));
        let is_later = self.after.is_none_or(|after| key > after || (is_directory && after.starts_with(key)));
        in_prefix && is_later
    }
}
