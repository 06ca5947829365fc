//! Objects as files below one directory, for one process at a time. A write is durable when it is acknowledged: `files`
//! changes keys, `journal` makes the changes durable, `memory` remembers small objects, `disk` is what a power loss is
//! tried on.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use ulid::Ulid;

use super::{Etag, GetOptions, ListPage, Meta, Object, PutMode, Store, StoreError};

mod disk;
mod files;
mod journal;
mod memory;
#[cfg(test)]
#[allow(clippy::similar_names, clippy::unnecessary_wraps)]
pub(crate) mod power;
mod read;
#[cfg(test)]
#[allow(clippy::manual_is_multiple_of)]
mod tests;
mod walk;

use disk::{Disk, SystemDisk};
use files::{Files, Opened};
use memory::Remembered;
use read::Buffers;

/// What is small and what is large.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Objects up to this size are written to the journal and kept in memory.
    small: u64,
    /// Parts are written at multiples of this.
    part: usize,
    /// A journal's segment that is longer is not gone on with.
    segment: u64,
    /// By so much a segment grows.
    step: u64,
}

const SIZES: Sizes = Sizes { small: 64 << 10, part: 4 << 20, segment: 32 << 20, step: 1 << 20 };

/// A store in a directory.
#[derive(Clone, Debug)]
pub struct DirectoryStore {
    files: Arc<Files>,
    part_size: usize,
    buffers: Arc<Buffers>,
    /// Versions of the parts that this process wrote. After a restart nobody else can have written any.
    parts: Arc<Mutex<HashMap<String, Vec<Etag>>>>,
}

impl DirectoryStore {
    /// Opens or creates a directory and keeps other processes out of it until dropped.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        Self::on(&root.into(), Arc::new(SystemDisk), SIZES)
    }

    fn on(root: &Path, disk: Arc<dyn Disk>, sizes: Sizes) -> Result<Self, StoreError> {
        let files = Arc::new(Files::open(root, disk, sizes)?);
        Ok(Self { files, part_size: sizes.part, buffers: Arc::default(), parts: Arc::default() })
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let files = Arc::clone(&self.files);
        tokio::task::spawn_blocking(move || work(&files))
            .await
            .map_err(|e| StoreError::Other(format!("a file operation ended: {e}")))?
    }
}

/// A part's version says how long the part is.
fn part_etag(length: usize) -> Etag {
    format!("{}-{length}", Ulid::generate())
}

fn part_length(etag: &str) -> Option<u64> {
    etag.rsplit_once('-')?.1.parse().ok()
}

fn answer(key: &str, object: &Remembered, options: &GetOptions) -> Result<Object, StoreError> {
    let Remembered { body, meta } = object;
    if options.if_none_match.as_ref() == Some(&meta.etag) {
        return Err(StoreError::NotModified(key.to_owned()));
    }
    let body = match &options.range {
        None => body.clone(),
        Some(range) => super::slice(body, range).ok_or_else(|| super::outside(key, range))?,
    };
    Ok(Object { meta: meta.clone(), body: stream::iter([Ok(body)]).boxed() })
}

#[async_trait]
impl Store for DirectoryStore {
    fn recall(&self, key: &str) -> Option<(Bytes, Meta)> {
        self.files.recall(key).map(|object| (object.body.clone(), object.meta.clone()))
    }

    async fn get(&self, key: &str, options: GetOptions) -> Result<Object, StoreError> {
        if let Some(object) = self.files.recall(key) {
            return answer(key, &object, &options);
        }
        let name = key.to_owned();
        let (file, meta) = match self.run(move |files| files.read(&name)).await? {
            Opened::Small(object) => return answer(key, &object, &options),
            Opened::Large(file, meta) => (file, meta),
        };
        if options.if_none_match.as_ref() == Some(&meta.etag) {
            return Err(StoreError::NotModified(key.to_owned()));
        }
        let range = options.range.unwrap_or(0..meta.size);
        if range.start > range.end || range.end > meta.size {
            return Err(super::outside(key, &range));
        }
        Ok(Object { meta, body: read::stream(key, file, range, &self.buffers) })
    }

    async fn head(&self, key: &str) -> Result<Meta, StoreError> {
        if let Some(object) = self.files.recall(key) {
            return Ok(object.meta.clone());
        }
        let key = key.to_owned();
        self.run(move |files| files.head(&key)).await
    }

    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<Etag, StoreError> {
        let key = key.to_owned();
        self.run(move |files| files.put(&key, &body, &mode)).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let key = key.to_owned();
        self.run(move |files| files.delete(&key, None)).await
    }

    async fn delete_version(&self, key: &str, etag: &str) -> Result<(), StoreError> {
        let (key, etag) = (key.to_owned(), etag.to_owned());
        self.run(move |files| files.delete(&key, Some(&etag))).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.run(move |files| walk::list(files, &prefix, after.as_deref(), limit)).await
    }

    async fn create_multipart(&self, _key: &str) -> Result<String, StoreError> {
        let id = Ulid::generate().to_string();
        let file = id.clone();
        self.run(move |files| {
            let create = || files.disk().create(&files.parts(&file)).map(drop);
            create()
                .and_then(|()| files.disk().sync_directory(&files.parts("")))
                .map_err(|e| files::failed(&file, &e))
        })
        .await?;
        Ok(id)
    }

    async fn put_part(&self, _key: &str, id: &str, index: usize, body: Bytes) -> Result<Etag, StoreError> {
        if body.len() > self.part_size {
            return Err(StoreError::Other(format!("part {index} has more than {} bytes", self.part_size)));
        }
        let etag = part_etag(body.len());
        let offset = (index * self.part_size) as u64;
        let file = id.to_owned();
        self.run(move |files| {
            let write = |path: &Path| -> io::Result<()> {
                let file = fs::OpenOptions::new().write(true).open(path)?;
                files.disk().write_at(&file, &body, offset)?;
                files.disk().sync_data(&file)
            };
            write(&files.parts(&file)).map_err(|e| files::failed(&file, &e))
        })
        .await?;
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = parts.entry(id.to_owned()).or_default();
        parts.resize(parts.len().max(index + 1), String::new());
        parts[index].clone_from(&etag);
        Ok(etag)
    }

    async fn complete_multipart(&self, key: &str, id: &str, parts: &[Etag]) -> Result<(), StoreError> {
        let changed = || StoreError::Precondition(key.to_owned());
        {
            let known = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
            let known = known.get(id).map(Vec::as_slice).unwrap_or_default();
            // An empty entry was written by an earlier process: the lock file vouches for it.
            if known.iter().zip(parts).any(|(known, part)| !known.is_empty() && known != part) {
                return Err(changed());
            }
        }
        let mut size = 0;
        for (index, part) in parts.iter().enumerate() {
            let length = part_length(part).ok_or_else(changed)?;
            if index + 1 < parts.len() && length != self.part_size as u64 {
                return Err(StoreError::Other(format!("part {index} of {key} is short")));
            }
            size += length;
        }
        let (key, file) = (key.to_owned(), id.to_owned());
        self.run(move |files| files.adopt(&key, &files.parts(&file), size)).await?;
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        Ok(())
    }

    async fn abort_multipart(&self, _key: &str, id: &str) -> Result<(), StoreError> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        let file = id.to_owned();
        self.run(move |files| match files.disk().remove(&files.parts(&file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(files::failed(&file, &error)),
            _ => Ok(()),
        })
        .await
    }

    fn part_size(&self) -> usize {
        self.part_size
    }
}
