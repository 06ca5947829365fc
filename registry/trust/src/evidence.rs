//! Evidence as it comes from a registry: manifests and their layers, as bytes. Nothing in it is believed; what a byte
//! string is called (its digest) is checked when facts are established.

use std::collections::BTreeMap;

use berth_registry_core::{Descriptor, Digest, Manifest};

/// Artifact and media types of signed statements.
pub mod kind {
    /// A layer of a classic cosign signature.
    pub const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
    /// A layer of a classic cosign attestation.
    pub const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";
    /// The config of a classic cosign signature that is attached as a referrer.
    pub const CLASSIC_REFERRER: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
    /// The same of a classic attestation.
    pub const CLASSIC_ATTESTATION_REFERRER: &str = "application/vnd.dev.cosign.artifact.att.v1+json";
    /// An artifact that holds a Notary Project signature.
    pub const NOTARY: &str = crate::notary::ARTIFACT_TYPE;
    /// A sigstore bundle.
    pub const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

    /// Whether a type is that of a sigstore bundle, in any of its spellings.
    pub fn is_bundle(media_type: &str) -> bool {
        const OLD: &str = "application/vnd.dev.sigstore.bundle+json;version=";
        let compact: String = media_type.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        compact == BUNDLE || matches!(compact.strip_prefix(OLD), Some("0.1" | "0.2" | "0.3"))
    }

    /// Whether a layer of this type is a signed statement, wherever it stands.
    pub(super) fn is_statement(media_type: &str) -> bool {
        matches!(media_type, SIMPLE_SIGNING | ENVELOPE) || is_bundle(media_type)
    }

    /// Whether an artifact of this type holds signed statements.
    pub fn is_evidence(artifact_type: &str) -> bool {
        matches!(artifact_type, CLASSIC_REFERRER | CLASSIC_ATTESTATION_REFERRER | NOTARY)
            || is_statement(artifact_type)
    }
}

/// One manifest that may hold signed statements, with its layers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Artifact {
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// Bytes of its layers, by the digest that was asked for. A missing one makes its statement malformed.
    pub layers: BTreeMap<Digest, Vec<u8>>,
}

impl Artifact {
    /// Whether a manifest may hold statements that [`Facts`](crate::Facts) understands. Decided by the manifest
    /// itself: what an index says about it is only a hint.
    pub fn is_evidence(manifest: &Manifest) -> bool {
        manifest.artifact_type.as_deref().is_some_and(kind::is_evidence)
            || Self::statements(manifest).next().is_some()
    }

    /// The layers of a manifest that are statements, with their places.
    pub fn statements(manifest: &Manifest) -> impl Iterator<Item = (usize, &Descriptor)> {
        let notary = Self::is_notary(manifest);
        let layers = manifest.layers.iter().enumerate();
        layers.filter(move |(_, layer)| notary || kind::is_statement(&layer.media_type))
    }

    /// Whether a manifest holds a Notary Project signature. It signs media type and size of the image, too, so that
    /// [`Evidence::described`] is needed.
    pub fn is_notary(manifest: &Manifest) -> bool {
        manifest.artifact_type.as_deref() == Some(kind::NOTARY)
    }
}

/// All evidence for one image in one repository. The order of artifacts and indexes has no meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The manifest that the evidence is to be about.
    pub subject: Digest,
    /// What that manifest is, if it was fetched.
    pub described: Option<Described>,
    /// What was found beside it.
    pub artifacts: Vec<Artifact>,
    /// What was found beside indexes above it.
    pub indexes: Vec<Index>,
}

/// What a manifest is, besides its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its media type, as the registry announced it.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
}

/// An index that may list the subject: what is stated about the index is then stated about the subject, too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Index {
    /// What it is called.
    pub digest: Digest,
    /// Its bytes.
    pub manifest: Vec<u8>,
    /// What was found beside it.
    pub artifacts: Vec<Artifact>,
}
