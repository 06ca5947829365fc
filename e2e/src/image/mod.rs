//! Container images without a container engine: our own code packs files into one gzip layer and writes
//! an OCI image layout, as a folder and as a tar. The same files always give the same digest.

mod contents;
mod set;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::digest::{hex, sha256};

pub use contents::Contents;
pub use set::{node, pack_all, release};

/// The user that every image runs as unless a Pod says otherwise: `nonroot`.
const USER: &str = "65532";

/// Why an image cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program's shared libraries could not be found out.
    #[error(transparent)]
    Command(#[from] crate::command::CommandError),
    /// The program is not on this machine.
    #[error("{0} is not installed")]
    Missing(String),
    /// A Go program of the set is missing.
    #[error(transparent)]
    Tool(#[from] crate::tools::ToolError),
}

/// What an image is made of.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Full name with tag, for example `localhost/busybox:1`.
    pub name: String,
    /// Command that a container runs unless told otherwise.
    pub entrypoint: Vec<String>,
    /// Variables, as `NAME=value`.
    pub env: Vec<String>,
    /// The files.
    pub contents: Contents,
}

/// An image on disk.
#[derive(Debug, Clone)]
pub struct Image {
    /// Full name with tag.
    pub name: String,
    /// Digest of the manifest, `sha256:…`.
    pub digest: String,
    /// OCI image layout, a folder.
    pub layout: PathBuf,
    /// The same layout as a tar, for `ctr images import`.
    pub tar: PathBuf,
}

impl Recipe {
    /// Packs the image as `folder/NAME/` and `folder/NAME.tar`, see [`file_name`].
    pub fn pack(&self, folder: &Path) -> Result<Image, ImageError> {
        let file_name = file_name(&self.name);
        let layout = folder.join(&file_name);
        let blobs = layout.join("blobs/sha256");
        let _ = fs::remove_dir_all(&layout);
        fs::create_dir_all(&blobs).map_err(io_at(&blobs))?;

        let (layer, diff_id) = self.write_layer(&blobs)?;
        let config = write_json(&blobs, "application/vnd.oci.image.config.v1+json", &self.config(&diff_id))?;
        let manifest_type = "application/vnd.oci.image.manifest.v1+json";
        let mut manifest = write_json(
            &blobs,
            manifest_type,
            &json!({"schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": [layer]}),
        )?;
        let digest = manifest["digest"].as_str().unwrap_or_default().to_owned();
        // Without this annotation containerd imports the content but gives it no name.
        manifest["annotations"] = json!({"io.containerd.image.name": self.name});
        let index_type = "application/vnd.oci.image.index.v1+json";
        let index = json!({"schemaVersion": 2, "mediaType": index_type, "manifests": [manifest]});
        for (name, content) in [("index.json", index), ("oci-layout", json!({"imageLayoutVersion": "1.0.0"}))]
        {
            let path = layout.join(name);
            fs::write(&path, content.to_string()).map_err(io_at(&path))?;
        }

        let tar = folder.join(format!("{file_name}.tar"));
        Contents::of_folder(&layout)?.write_tar(File::create(&tar).map_err(io_at(&tar))?)?;
        Ok(Image { name: self.name.clone(), digest, layout, tar })
    }

    /// Writes the layer and returns its descriptor, and the digest of the tar inside.
    fn write_layer(&self, blobs: &Path) -> Result<(Value, String), ImageError> {
        let unfinished = blobs.join("layer");
        let file = File::create(&unfinished).map_err(io_at(&unfinished))?;
        // The header holds neither name nor time, so that the digest depends on the files alone.
        let gzip = GzBuilder::new().write(Hashing::new(file), Compression::fast());
        let tar = self.contents.write_tar(Hashing::new(gzip))?;
        let (gzip, diff_id, _) = tar.finish();
        let (_, digest, size) = gzip.finish().map_err(io_at(&unfinished))?.finish();
        let blob = blobs.join(&digest);
        fs::rename(&unfinished, &blob).map_err(io_at(&blob))?;
        Ok((
            descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &digest, size),
            format!("sha256:{diff_id}"),
        ))
    }

    fn config(&self, diff_id: &str) -> Value {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        json!({
            "architecture": architecture,
            "os": "linux",
            "config": {"User": USER, "Entrypoint": self.entrypoint, "Env": self.env, "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        })
    }
}

/// The name of an image's files: `busybox-1` for `localhost/busybox:1`.
pub fn file_name(image: &str) -> String {
    image.rsplit('/').next().unwrap_or(image).replace(':', "-")
}

fn write_json(blobs: &Path, media_type: &str, value: &Value) -> Result<Value, ImageError> {
    let bytes = value.to_string().into_bytes();
    let digest = sha256(&bytes);
    let path = blobs.join(&digest);
    fs::write(&path, &bytes).map_err(io_at(&path))?;
    Ok(descriptor(media_type, &digest, bytes.len() as u64))
}

fn descriptor(media_type: &str, digest: &str, size: u64) -> Value {
    json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size})
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> ImageError {
    move |source| ImageError::Io { path: path.to_owned(), source }
}

fn read(path: &Path) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(io_at(path))?;
    Ok(bytes)
}

/// Hashes and counts what passes through to the writer inside.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), size: 0 }
    }

    /// The writer inside, the digest in hex, the number of bytes.
    fn finish(self) -> (W, String, u64) {
        (self.inner, hex(self.hash.finalize()), self.size)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(env: &str) -> Recipe {
        let mut contents = Contents::base();
        contents.bytes("/etc/motd", 0o644, "hello");
        contents.link("/bin/sh", "busybox");
        Recipe {
            name: "localhost/test:1".into(),
            entrypoint: vec!["/bin/sh".into()],
            env: vec![env.into()],
            contents,
        }
    }

    #[test]
    fn packing_twice_gives_the_same_digest() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = recipe("A=1").pack(one.path()).unwrap();
        let second = recipe("A=1").pack(two.path()).unwrap();
        assert_eq!(first.digest, second.digest);
        assert_eq!(fs::read(first.tar).unwrap(), fs::read(second.tar).unwrap());
        assert_ne!(recipe("A=2").pack(two.path()).unwrap().digest, first.digest);
    }

    #[test]
    fn every_blob_is_named_by_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let image = recipe("A=1").pack(folder.path()).unwrap();
        let mut blobs = 0;
        for blob in fs::read_dir(image.layout.join("blobs/sha256")).unwrap() {
            let blob = blob.unwrap();
            let digest = sha256(fs::read(blob.path()).unwrap());
            assert_eq!(blob.file_name().to_str(), Some(digest.as_str()));
            blobs += 1;
        }
        assert_eq!(blobs, 3, "a layer, a configuration, a manifest");
    }
}
