//! What a manifest refers to (OCI image-spec "Image Manifest", "Image Index"; Docker schema 2).
//! Only references and annotations are read; the stored bytes are never changed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The largest manifest that is accepted, in bytes (distribution-spec, "Pushing manifests").
pub const MAX_MANIFEST: usize = 4 * 1024 * 1024;

/// Media type of an OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of a Docker schema 2 manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Media type of a Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Media type of the empty JSON object, used as a config without content.
pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Media types of the configs of images. Some tools write them as the type of what an index lists.
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// How the media types of layers begin that runtimes unpack.
const LAYERS: [&str; 2] = ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."];

/// A content descriptor (image-spec, "Descriptor"); unknown fields are dropped, the manifest's bytes keep them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content.
    pub media_type: String,
    /// Digest of the content.
    pub digest: Digest,
    /// Size of the content in bytes.
    pub size: u64,
    /// Where else a non-distributable layer may be found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Type of the artifact that the descriptor points to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Annotations of the content.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Platform, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<serde_json::Value>,
}

/// Whether a manifest holds blobs or other manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An image or artifact manifest: config and layers.
    Image,
    /// An index or manifest list: child manifests.
    Index,
}

/// A parsed manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its media type: as announced, else as written in the body.
    pub media_type: String,
    /// Blobs or manifests.
    pub kind: Kind,
    /// The config descriptor of an image.
    pub config: Option<Descriptor>,
    /// Layers of an image.
    pub layers: Vec<Descriptor>,
    /// Children of an index.
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one is attached to.
    pub subject: Option<Descriptor>,
    /// `artifactType`, else the config's media type, as the referrers API lists it.
    pub artifact_type: Option<String>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
}

/// A body that is no manifest; the message says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidManifest {
    /// More than [`MAX_MANIFEST`] bytes.
    #[error("the manifest has {0} bytes, more than the limit of {MAX_MANIFEST}")]
    TooLarge(usize),
    /// No JSON object of the expected form.
    #[error("the manifest is malformed: {0}")]
    Json(String),
    /// Neither header nor body names a type.
    #[error("the manifest names no media type: set Content-Type or the field mediaType")]
    NoMediaType,
    /// Header and body contradict each other.
    #[error("Content-Type is {header:?} but the field mediaType is {body:?}")]
    MediaTypeMismatch {
        /// As announced.
        header: String,
        /// As written.
        body: String,
    },
    /// A type that this registry does not store.
    #[error(
        "manifests of type {0:?} are not supported: push an OCI or Docker schema 2 image manifest or index"
    )]
    Unsupported(String),
    /// Only schema version 2 exists.
    #[error("schemaVersion must be 2")]
    SchemaVersion,
    /// More descriptors than [`MAX_DESCRIPTORS`].
    #[error("the manifest refers to {0} objects, more than the limit of {MAX_DESCRIPTORS}")]
    TooManyDescriptors(usize),
}

/// The most descriptors a manifest may hold.
pub const MAX_DESCRIPTORS: usize = 4096;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    schema_version: Option<u64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl Manifest {
    /// Reads a manifest; `content_type` is the announced media type, if any (parameters are ignored).
    pub fn parse(content_type: Option<&str>, bytes: &[u8]) -> Result<Self, InvalidManifest> {
        if bytes.len() > MAX_MANIFEST {
            return Err(InvalidManifest::TooLarge(bytes.len()));
        }
        let body: Body = serde_json::from_slice(bytes).map_err(|e| InvalidManifest::Json(e.to_string()))?;
        if body.schema_version != Some(2) {
            return Err(InvalidManifest::SchemaVersion);
        }
        let header = content_type.map(|t| t.split(';').next().unwrap_or(t).trim()).filter(|t| !t.is_empty());
        let media_type = match (header, &body.media_type) {
            (Some(header), Some(body)) if header != body => {
                return Err(InvalidManifest::MediaTypeMismatch {
                    header: header.to_owned(),
                    body: body.clone(),
                });
            }
            (Some(header), _) => header.to_owned(),
            (None, Some(body)) => body.clone(),
            (None, None) => return Err(InvalidManifest::NoMediaType),
        };
        let kind = match media_type.as_str() {
            OCI_MANIFEST | DOCKER_MANIFEST => Kind::Image,
            OCI_INDEX | DOCKER_LIST => Kind::Index,
            _ => return Err(InvalidManifest::Unsupported(media_type)),
        };
        let missing = |field: &str| InvalidManifest::Json(format!("missing field `{field}`"));
        let (config, layers, manifests) = match kind {
            Kind::Image => (
                Some(body.config.ok_or_else(|| missing("config"))?),
                body.layers.ok_or_else(|| missing("layers"))?,
                Vec::new(),
            ),
            Kind::Index => (None, Vec::new(), body.manifests.ok_or_else(|| missing("manifests"))?),
        };
        let count = layers.len() + manifests.len();
        if count > MAX_DESCRIPTORS {
            return Err(InvalidManifest::TooManyDescriptors(count));
        }
        let artifact_type = body
            .artifact_type
            .filter(|t| !t.is_empty())
            .or_else(|| config.as_ref().map(|c| c.media_type.clone()));
        Ok(Self {
            media_type,
            kind,
            config,
            layers,
            manifests,
            subject: body.subject,
            artifact_type,
            annotations: body.annotations.unwrap_or_default(),
        })
    }

    /// The blobs that must be in the repository: config and layers, but not layers kept elsewhere (`urls`).
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.config.iter().chain(self.layers.iter().filter(|layer| layer.urls.is_empty()))
    }

    /// Whether a container could come of it: an image with layers of a file system, or an index of something that is not
    /// said to be an artifact. Signatures and attestations are none.
    pub fn is_runnable(&self) -> bool {
        let is_layer = |media_type: &str| {
            LAYERS.iter().any(|kind| {
                media_type.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind))
            })
        };
        let is_image = |kind: &str| CONFIGS.iter().any(|config| config.eq_ignore_ascii_case(kind));
        match self.kind {
            Kind::Image => self.layers.iter().any(|layer| is_layer(&layer.media_type)),
            Kind::Index => {
                self.manifests.iter().any(|child| child.artifact_type.as_deref().is_none_or(is_image))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn image(extra: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,{extra}"config":{{"mediaType":"{OCI_EMPTY}","digest":"{D}","size":2}},"layers":[]}}"#
        )
    }

    #[test]
    fn reads_an_artifact() {
        let text = image(&format!(
            r#""mediaType":"{OCI_MANIFEST}","artifactType":"a/b","subject":{{"mediaType":"{OCI_MANIFEST}","digest":"{D}","size":1}},"#
        ));
        let manifest = Manifest::parse(None, text.as_bytes()).unwrap();
        assert_eq!(manifest.artifact_type.as_deref(), Some("a/b"));
        assert_eq!(manifest.subject.unwrap().digest.to_string(), D);
        assert_eq!(manifest.kind, Kind::Image);
    }

    /// R-OPR-6: what a runtime unpacks is an image, whatever else its manifest says that it is.
    #[rstest]
    #[case::layer("", &["application/vnd.oci.image.layer.v1.tar+gzip"], true)]
    #[case::docker("", &["application/vnd.docker.image.rootfs.diff.tar.gzip"], true)]
    #[case::foreign("", &["application/vnd.docker.image.rootfs.foreign.diff.tar"], true)]
    #[case::loud("", &["Application/vnd.OCI.image.layer.v1.tar"], true)]
    #[case::disguised(r#""artifactType":"application/vnd.dev.sigstore.bundle.v0.3+json","#, &["application/vnd.oci.image.layer.v1.tar"], true)]
    #[case::among_others("", &["application/vnd.in-toto+json", "application/vnd.oci.image.layer.v1.tar"], true)]
    #[case::nothing("", &[], false)]
    #[case::signature("", &["application/vnd.dev.cosign.simplesigning.v1+json"], false)]
    #[case::attestation("", &["application/vnd.in-toto+json"], false)]
    #[case::chart("", &["application/vnd.cncf.helm.chart.content.v1.tar+gzip"], false)]
    fn what_can_run(#[case] extra: &str, #[case] layers: &[&str], #[case] runs: bool) {
        let layers: Vec<_> = layers
            .iter()
            .map(|kind| format!(r#"{{"mediaType":"{kind}","digest":"{D}","size":1}}"#))
            .collect();
        let text = image(extra).replace(r#""layers":[]"#, &format!(r#""layers":[{}]"#, layers.join(",")));
        assert_eq!(Manifest::parse(Some(OCI_MANIFEST), text.as_bytes()).unwrap().is_runnable(), runs);
    }

    #[rstest]
    #[case("", false)]
    #[case(r#"{"mediaType":"m","digest":"D","size":1,"artifactType":"a/b"}"#, false)]
    #[case(r#"{"mediaType":"m","digest":"D","size":1,"artifactType":"a/b"},{"mediaType":"m","digest":"D","size":1}"#, true)]
    #[case(r#"{"mediaType":"m","digest":"D","size":1,"artifactType":"application/vnd.oci.image.config.v1+json"}"#, true)]
    #[case(r#"{"mediaType":"m","digest":"D","size":1,"artifactType":"application/vnd.docker.container.image.v1+JSON"}"#, true)]
    fn what_an_index_may_lead_to(#[case] children: &str, #[case] runs: bool) {
        let children = children.replace("\"D\"", &format!("\"{D}\""));
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{children}]}}"#);
        assert_eq!(Manifest::parse(Some(OCI_INDEX), text.as_bytes()).unwrap().is_runnable(), runs);
    }

    #[test]
    fn the_config_type_stands_in_for_the_artifact_type() {
        let manifest = Manifest::parse(Some(OCI_MANIFEST), image("").as_bytes()).unwrap();
        assert_eq!(manifest.artifact_type.as_deref(), Some(OCI_EMPTY));
        assert_eq!(manifest.blobs().count(), 1);
    }

    #[rstest]
    #[case(None, "", "malformed")]
    #[case(None, "[]", "malformed")]
    #[case(None, "{}", "schemaVersion")]
    #[case(None, r#"{"schemaVersion":1}"#, "schemaVersion")]
    #[case(None, r#"{"schemaVersion":2}"#, "no media type")]
    #[case(Some("text/plain"), r#"{"schemaVersion":2}"#, "not supported")]
    #[case(Some(OCI_MANIFEST), r#"{"schemaVersion":2}"#, "missing field `config`")]
    #[case(Some(OCI_INDEX), r#"{"schemaVersion":2}"#, "missing field `manifests`")]
    #[case(Some(OCI_INDEX), r#"{"schemaVersion":2,"mediaType":"x","manifests":[]}"#, "but the field")]
    #[case(
        Some(OCI_INDEX),
        r#"{"schemaVersion":2,"manifests":[{"mediaType":"a","digest":"sha256:1","size":1}]}"#,
        "digest"
    )]
    #[case(Some(OCI_INDEX), r#"{"schemaVersion":2,"manifests":[{"mediaType":"a","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":-1}]}"#, "malformed")]
    fn refuses(#[case] content_type: Option<&str>, #[case] body: &str, #[case] says: &str) {
        let error = Manifest::parse(content_type, body.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
