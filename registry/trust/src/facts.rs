//! Facts: which keys signed a digest, established once by looking at the evidence with the keys of all policies that
//! care. The order of checks is fixed: what the bytes are called, the signature over them, and only then what they say.

use std::collections::{BTreeMap, BTreeSet};

use berth_registry_core::{
    Digest, Manifest,
    manifest::{InvalidManifest, MAX_MANIFEST, OCI_MANIFEST},
};

use crate::{
    bounds::{Bounds, BoundsExceeded},
    bundle, classic,
    evidence::{Artifact, Evidence, kind},
    json,
    key::{KeyId, PublicKey, ids},
};

/// A signature as read, before anything is known about it.
pub(crate) struct Signed {
    /// The bytes that the signature is over.
    pub(crate) message: Vec<u8>,
    /// The document that those bytes carry.
    pub(crate) payload: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

/// What a verified document says.
pub(crate) struct Claims {
    /// The manifests that it speaks about.
    pub(crate) subjects: Vec<Digest>,
    /// Whether it is an image signature rather than an attestation.
    pub(crate) is_signature: bool,
    /// Its type, for messages.
    pub(crate) kind: String,
}

/// How a signature is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// cosign's classic format.
    Classic,
    /// A sigstore bundle.
    Bundle,
    /// A manifest that could not be read as either.
    Unknown,
}

/// What became of one signature.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It is by this key, for this digest.
    Good(KeyId),
    /// It is by this key, for another digest.
    OtherDigest(KeyId, Digest),
    /// It is by this key, and says something else than "this image is signed".
    NotASignature(KeyId, String),
    /// It is by none of the keys, or it or its payload was altered.
    UnknownKey,
    /// It cannot be read; the text says why.
    Malformed(String),
}

/// One signature that was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signature {
    /// How it is stored.
    pub format: Format,
    /// What became of it.
    pub outcome: Outcome,
}

/// What is known about one digest in one repository, with respect to some keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    subject: Digest,
    keys: BTreeSet<KeyId>,
    signatures: Vec<Signature>,
}

impl Facts {
    /// Looks at the evidence with the given keys. Every signature is tried with every key; what cannot be read is a
    /// fact, too. Fails only when there is more evidence than we look at.
    pub fn establish<'a>(
        evidence: &Evidence,
        keys: impl IntoIterator<Item = &'a PublicKey>,
        bounds: &Bounds,
    ) -> Result<Self, BoundsExceeded> {
        // One of each key, in a fixed order.
        let keys: BTreeMap<_, _> = keys.into_iter().map(|key| (key.id().clone(), key)).collect();
        let artifacts: BTreeSet<_> = evidence.artifacts.iter().collect();
        if artifacts.len() > bounds.referrers {
            return Err(BoundsExceeded { what: "referrers", bound: bounds.referrers });
        }
        let mut signatures = Vec::new();
        for artifact in artifacts {
            for (format, signed) in read(artifact, bounds) {
                let outcome = match signed {
                    Ok(signed) => judge(format, &signed, &evidence.subject, keys.values().copied()),
                    Err(cause) => Outcome::Malformed(cause),
                };
                signatures.push(Signature { format, outcome });
                if signatures.len() > bounds.referrers {
                    return Err(BoundsExceeded { what: "signatures", bound: bounds.referrers });
                }
            }
        }
        signatures.sort();
        Ok(Self { subject: evidence.subject.clone(), keys: keys.into_keys().collect(), signatures })
    }

    /// The digest that this is about.
    pub fn subject(&self) -> &Digest {
        &self.subject
    }

    /// Every signature that was found, sorted.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// The keys by which the digest is signed.
    pub fn signers(&self) -> BTreeSet<&KeyId> {
        self.signatures
            .iter()
            .filter_map(|signature| match &signature.outcome {
                Outcome::Good(key) => Some(key),
                _ => None,
            })
            .collect()
    }

    /// Whether the evidence was looked at with all of these keys; if not, it says nothing about them.
    pub fn covers<'a>(&self, keys: impl IntoIterator<Item = &'a PublicKey>) -> bool {
        ids(keys).is_subset(&self.keys)
    }
}

type Found = (Format, Result<Signed, String>);

/// All signatures of one artifact. A manifest of another kind holds none; an unreadable one holds one that is malformed.
fn read(artifact: &Artifact, bounds: &Bounds) -> Vec<Found> {
    let manifest = match parse(&artifact.manifest) {
        Ok(manifest) => manifest,
        Err(cause) => return vec![(Format::Unknown, Err(cause))],
    };
    let mut found = Vec::new();
    for layer in &manifest.layers {
        let format = match layer.media_type.as_str() {
            kind::SIMPLE_SIGNING => Format::Classic,
            media_type if kind::is_bundle(media_type) => Format::Bundle,
            _ => continue,
        };
        let bytes = bytes_of(artifact, &layer.digest, bounds);
        let signed = bytes.and_then(|bytes| match format {
            Format::Classic => classic::read(layer, bytes),
            _ => bundle::read(bytes),
        });
        found.push((format, signed));
        if found.len() > bounds.referrers {
            break;
        }
    }
    let bundles = found.iter().filter(|(format, _)| *format == Format::Bundle).count();
    if bundles > 1 {
        return vec![(
            Format::Bundle,
            Err(format!("its manifest holds {bundles} bundles, and one is allowed")),
        )];
    }
    found
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

/// The signature first, by each key; then what the verified payload says.
fn judge<'a>(
    format: Format,
    signed: &Signed,
    subject: &Digest,
    mut keys: impl Iterator<Item = &'a PublicKey>,
) -> Outcome {
    let Some(key) = keys.find(|key| key.verifies(&signed.message, &signed.signature)) else {
        return Outcome::UnknownKey;
    };
    let claims = match format {
        Format::Classic => classic::claims(&signed.payload),
        _ => bundle::claims(&signed.payload),
    };
    let claims = match claims {
        Ok(claims) => claims,
        Err(cause) => return Outcome::Malformed(format!("its signed payload is malformed: {cause}")),
    };
    let key = key.id().clone();
    if !claims.subjects.contains(subject) {
        return match claims.subjects.into_iter().min() {
            Some(other) => Outcome::OtherDigest(key, other),
            None => Outcome::Malformed("its signed payload names no digest".to_owned()),
        };
    }
    if claims.is_signature {
        Outcome::Good(key)
    } else {
        Outcome::NotASignature(key, bundle::clip(&claims.kind))
    }
}
