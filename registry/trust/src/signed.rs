//! From an artifact to the signed statements in it, as read and not yet believed. The order of checks is fixed: what
//! the bytes are called, the signature over them, and only then what they say.

use berth_registry_core::{
    Descriptor, Digest, Manifest,
    manifest::{InvalidManifest, MAX_MANIFEST, OCI_MANIFEST},
};
use jiff::Timestamp;

use crate::{
    bounds::Bounds,
    bundle, classic, dsse,
    evidence::{Artifact, kind},
    facts::{Form, Place, Says},
    json,
};

/// A statement as read, before anything is known about it.
pub(crate) struct Signed {
    /// The bytes that the signature is over.
    pub(crate) message: Vec<u8>,
    /// The document that those bytes carry.
    pub(crate) payload: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    /// Reads the payload, once it is verified.
    pub(crate) claims: fn(&[u8]) -> Result<Claims, String>,
}

/// What a verified document says.
pub(crate) struct Claims {
    /// The manifests that it speaks about.
    pub(crate) subjects: Vec<Digest>,
    pub(crate) says: Says,
    /// When, in its own words.
    pub(crate) claimed: Option<Timestamp>,
}

/// Something that was found where statements are: read, or why it cannot be.
pub(crate) struct Found {
    pub(crate) place: Place,
    pub(crate) form: Form,
    pub(crate) signed: Result<Signed, String>,
}

/// All statements of one artifact. A manifest of another kind holds none; an unreadable one holds one that is malformed.
pub(crate) fn read(artifact: &Artifact, bounds: &Bounds) -> Vec<Found> {
    let at = |layer| Place { manifest: Digest::sha256(&artifact.manifest), layer };
    let manifest = match parse(&artifact.manifest) {
        Ok(manifest) => manifest,
        Err(cause) => return vec![Found { place: at(None), form: Form::Unknown, signed: Err(cause) }],
    };
    let bundles = manifest.layers.iter().filter(|layer| kind::is_bundle(&layer.media_type)).count();
    if bundles > 1 {
        let cause = format!("its manifest holds {bundles} bundles, and one is allowed");
        return vec![Found { place: at(None), form: Form::Bundle, signed: Err(cause) }];
    }
    let statements = manifest.layers.iter().enumerate();
    statements
        .filter(|(_, layer)| kind::is_statement(&layer.media_type))
        .take(bounds.referrers + 1)
        .map(|(index, layer)| {
            let form = if kind::is_bundle(&layer.media_type) { Form::Bundle } else { Form::Classic };
            Found { place: at(Some(index)), form, signed: read_layer(artifact, layer, bounds) }
        })
        .collect()
}

fn read_layer(artifact: &Artifact, layer: &Descriptor, bounds: &Bounds) -> Result<Signed, String> {
    let bytes = bytes_of(artifact, &layer.digest, bounds)?;
    match layer.media_type.as_str() {
        kind::SIMPLE_SIGNING => classic::read(layer, bytes),
        kind::ENVELOPE => dsse::read(bytes),
        _ => bundle::read(bytes),
    }
}

/// A manifest without repeated keys. `mediaType` is optional in the OCI format, so its absence means that format.
fn parse(bytes: &[u8]) -> Result<Manifest, String> {
    json::read::<serde::de::IgnoredAny>(bytes, MAX_MANIFEST)?;
    Manifest::parse(None, bytes)
        .or_else(|error| match error {
            InvalidManifest::NoMediaType => Manifest::parse(Some(OCI_MANIFEST), bytes),
            other => Err(other),
        })
        .map_err(|e| e.to_string())
}

fn bytes_of<'a>(artifact: &'a Artifact, digest: &Digest, bounds: &Bounds) -> Result<&'a [u8], String> {
    let bytes = artifact.layers.get(digest).ok_or_else(|| format!("its layer {digest} is missing"))?;
    if bytes.len() > bounds.layer {
        return Err(format!("its layer has {} bytes, more than the limit of {}", bytes.len(), bounds.layer));
    }
    if !digest.matches(bytes) {
        return Err(format!("its layer is not the content that {digest} names"));
    }
    Ok(bytes)
}
