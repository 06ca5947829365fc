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
pub(crate) struct Found<'a> {
    pub(crate) place: Place,
    pub(crate) content: Result<Content<'a>, String>,
}

pub(crate) enum Content<'a> {
    /// A statement in one of cosign's forms, with the layer that it is.
    Signed { form: Form, signed: Signed, layer: Box<Descriptor>, bytes: &'a [u8] },
    /// An envelope of the Notary Project.
    Notary { media_type: String, envelope: &'a [u8] },
}

/// All statements of one artifact. A manifest of another kind holds none; an unreadable one holds one that is malformed.
pub(crate) fn read<'a>(artifact: &'a Artifact, bounds: &Bounds) -> Vec<Found<'a>> {
    let at = |layer| Place { manifest: Digest::sha256(&artifact.manifest), layer };
    let manifest = match parse(&artifact.manifest) {
        Ok(manifest) => manifest,
        Err(why) => return vec![Found { place: at(None), content: Err(why) }],
    };
    let notary = Artifact::is_notary(&manifest);
    let single = |layer: &Descriptor| notary || kind::is_bundle(&layer.media_type);
    let singles = manifest.layers.iter().filter(|layer| single(layer)).count();
    if singles > 1 {
        let why = format!("its manifest holds {singles} of them, and one is allowed");
        return vec![Found { place: at(None), content: Err(why) }];
    }
    Artifact::statements(&manifest)
        .take(bounds.referrers + 1)
        .map(|(index, layer)| {
            let content = bytes_of(artifact, &layer.digest, bounds).and_then(|bytes| {
                if notary {
                    Ok(Content::Notary { media_type: layer.media_type.clone(), envelope: bytes })
                } else {
                    read_layer(layer, bytes)
                }
            });
            Found { place: at(Some(index)), content }
        })
        .collect()
}

fn read_layer<'a>(layer: &Descriptor, bytes: &'a [u8]) -> Result<Content<'a>, String> {
    let (form, signed) = match layer.media_type.as_str() {
        kind::SIMPLE_SIGNING => (Form::Classic, classic::read(layer, bytes)?),
        kind::ENVELOPE => (Form::Classic, dsse::read(bytes)?),
        _ => (Form::Bundle, bundle::read(bytes)?),
    };
    Ok(Content::Signed { form, signed, layer: Box::new(layer.clone()), bytes })
}

/// A manifest without repeated keys. `mediaType` is optional in the OCI format, so its absence means that format.
pub(crate) fn parse(bytes: &[u8]) -> Result<Manifest, String> {
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
