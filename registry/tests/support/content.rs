//! Generated content: bytes that no other test has, and the manifests built on them.
//! Each value is fresh, so that cases need no order and can run twice against one registry.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha512};

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// A number that no other call in any process returned, for names and content.
pub(crate) fn unique() -> u64 {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    let start = u64::try_from(now & u128::from(u64::MAX)).unwrap_or_default();
    mix(start ^ (u64::from(std::process::id()) << 40)).wrapping_add(COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// `SplitMix64`: spreads a counter over all bits.
fn mix(seed: u64) -> u64 {
    let a = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let b = (a ^ (a >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    b ^ (b >> 31)
}

/// `sha256:…` of the bytes.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// `sha512:…` of the bytes.
pub(crate) fn sha512(bytes: &[u8]) -> String {
    format!("sha512:{}", hex(&Sha512::digest(bytes)))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A digest that names nothing.
pub(crate) fn unknown_digest() -> String {
    sha256(&unique().to_be_bytes())
}

/// Bytes, their digest, and the media type with which a manifest names them.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    pub(crate) bytes: Bytes,
    pub(crate) digest: String,
    pub(crate) media_type: String,
}

impl Blob {
    pub(crate) fn new(bytes: impl Into<Bytes>, media_type: &str) -> Self {
        let bytes = bytes.into();
        Self { digest: sha256(&bytes), bytes, media_type: media_type.into() }
    }

    /// A layer of so many bytes that nobody has seen.
    pub(crate) fn random(length: usize) -> Self {
        let mut state = unique();
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            bytes.extend_from_slice(&mix(state).to_le_bytes());
        }
        bytes.truncate(length);
        Self::new(bytes, OCI_LAYER)
    }

    /// The same bytes under their sha512 digest.
    pub(crate) fn as_sha512(&self) -> Self {
        Self { digest: sha512(&self.bytes), ..self.clone() }
    }

    /// An image configuration that nobody has seen.
    pub(crate) fn config() -> Self {
        let text = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []},
            "history": [], "author": format!("{:016x}", unique())});
        Self::new(text.to_string(), OCI_CONFIG)
    }

    /// The empty JSON object that artifacts use where they have no configuration.
    pub(crate) fn empty_json() -> Self {
        Self::new("{}", OCI_EMPTY)
    }

    pub(crate) fn with_type(self, media_type: &str) -> Self {
        Self { media_type: media_type.into(), ..self }
    }

    /// The descriptor of these bytes.
    pub(crate) fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

/// A manifest as it is sent, with all blobs that must be pushed before it.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    pub(crate) document: Value,
    pub(crate) media_type: String,
    pub(crate) blobs: Vec<Blob>,
}

impl Manifest {
    /// An image: a configuration and layers.
    pub(crate) fn image_of(config: Blob, layers: Vec<Blob>) -> Self {
        let document = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": config.descriptor(),
            "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        });
        let blobs = std::iter::once(config).chain(layers).collect();
        Self { document, media_type: OCI_MANIFEST.into(), blobs }
    }

    /// A small fresh image.
    pub(crate) fn image() -> Self {
        Self::image_of(Blob::config(), vec![Blob::random(700), Blob::random(300)])
    }

    /// A small fresh artifact of the given type, in the form that the image specification advises.
    pub(crate) fn artifact(artifact_type: &str) -> Self {
        Self::image_of(Blob::empty_json(), vec![Blob::random(64).with_type(artifact_type)])
            .with("artifactType", json!(artifact_type))
    }

    /// An index of other manifests; they must be pushed before it.
    pub(crate) fn index_of(children: &[&Manifest]) -> Self {
        let document = json!({
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": children.iter().map(|child| child.descriptor()).collect::<Vec<_>>(),
            // Keeps two indexes of the same children apart.
            "annotations": {"dev.berth.test": format!("{:016x}", unique())},
        });
        Self { document, media_type: OCI_INDEX.into(), blobs: Vec::new() }
    }

    /// The same manifest in Docker's words.
    pub(crate) fn dockerized(mut self) -> Self {
        let is_index = self.media_type == OCI_INDEX;
        self.media_type = if is_index { DOCKER_LIST } else { DOCKER_MANIFEST }.into();
        self.document["mediaType"] = json!(self.media_type);
        if !is_index {
            self.document["config"]["mediaType"] = json!("application/vnd.docker.container.image.v1+json");
            for layer in self.document["layers"].as_array_mut().into_iter().flatten() {
                layer["mediaType"] = json!("application/vnd.docker.image.rootfs.diff.tar.gzip");
            }
        }
        self
    }

    /// The same manifest with one field set.
    pub(crate) fn with(mut self, field: &str, value: Value) -> Self {
        self.document[field] = value;
        self
    }

    /// The same manifest, attached to another.
    pub(crate) fn about(self, subject: &Manifest) -> Self {
        self.with("subject", subject.descriptor())
    }

    /// The same manifest with annotations.
    pub(crate) fn annotated(self, annotations: &[(&str, &str)]) -> Self {
        self.with("annotations", json!(annotations.iter().copied().collect::<BTreeMap<_, _>>()))
    }

    /// The exact bytes that are sent.
    pub(crate) fn bytes(&self) -> Bytes {
        Bytes::from(self.document.to_string())
    }

    pub(crate) fn digest(&self) -> String {
        sha256(&self.bytes())
    }

    pub(crate) fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest(), "size": self.bytes().len()})
    }
}
