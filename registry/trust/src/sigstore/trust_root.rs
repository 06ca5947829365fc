//! Trust roots (`trusted_root.json` of the sigstore project): which authorities issue certificates, which logs record
//! them and signatures, who timestamps, and when each of them was to be believed. Data of a policy, never fetched here.

use std::{collections::BTreeMap, fmt, sync::Arc};

use berth_registry_core::Digest;
use jiff::Timestamp;
use sigstore_verify::{
    Verifier,
    crypto::VerificationKey,
    trust_root::{TimeRange, TrustedRoot},
    types::LogKeyId,
};

use super::{MAX_CHAIN, leaf};
use crate::{json, validity::Validity};

/// The largest known trust root has 32 KiB.
const MAX_TRUST_ROOT: usize = 256 * 1024;
/// Authorities and logs, of each kind.
const MAX_MEMBERS: usize = 100;
const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.trustedroot";

/// A text that is no usable trust root; the message says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTrustRoot {
    /// Not JSON, too large, or not of this shape.
    #[error("it is no trusted_root.json: {0}")]
    Malformed(String),
    /// A document of another kind.
    #[error("its mediaType is {0:?}: take the file trusted_root.json, not the signing config or a key")]
    MediaType(String),
    /// Nothing in it can prove when a signature was made.
    #[error(
        "it names neither a transparency log nor a timestamp authority, so no signature could count: add one"
    )]
    NoTime,
    /// Too many members.
    #[error("it has {found} {what}, more than the limit of {bound}")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        found: usize,
        /// The limit.
        bound: usize,
    },
    /// The certificates of an authority are never valid all at once, or not within its own window.
    #[error(
        "the certificates of its authority {0:?} are never valid together within its validFor: correct the window"
    )]
    NeverValid(String),
    /// A key or certificate in it is unusable.
    #[error("one of its keys or certificates is unusable: {0}")]
    Unusable(String),
}

/// What keyless signatures and logged ones are verified with. Cheap to clone.
#[derive(Clone)]
pub struct TrustRoot(Arc<Inner>);

struct Inner {
    id: Digest,
    root: TrustedRoot,
    verifier: Verifier,
    logs: BTreeMap<Vec<u8>, Log>,
}

/// A transparency log that is believed while it is valid.
pub(super) struct Log {
    pub(super) key: VerificationKey,
    pub(super) valid: Option<TimeRange>,
}

impl TrustRoot {
    /// Reads a `trusted_root.json`.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidTrustRoot> {
        let malformed = |cause: String| InvalidTrustRoot::Malformed(cause.chars().take(200).collect());
        let document: serde_json::Value = json::read(bytes, MAX_TRUST_ROOT).map_err(malformed)?;
        let canonical = serde_json_canonicalizer::to_vec(&document).map_err(|e| malformed(e.to_string()))?;
        match document.get("mediaType").and_then(serde_json::Value::as_str) {
            Some(media_type) if !media_type.starts_with(MEDIA_TYPE) => {
                return Err(InvalidTrustRoot::MediaType(media_type.chars().take(100).collect()));
            }
            _ => {}
        }
        let root = serde_json::from_value(document).map_err(|e| malformed(e.to_string()))?;
        Self::new(Digest::sha256(&canonical), root)
    }

    /// Narrows each authority's window to when all of its certificates are valid: the library takes the certificates
    /// that a trust root names as given and does not look at their dates (CVE-2026-24122).
    fn new(id: Digest, mut root: TrustedRoot) -> Result<Self, InvalidTrustRoot> {
        let members = [
            ("transparency logs", root.tlogs.len()),
            ("certificate logs", root.ctlogs.len()),
            ("certificate authorities", root.certificate_authorities.len()),
            ("timestamp authorities", root.timestamp_authorities.len()),
        ];
        for (what, found) in members {
            bound(what, found, MAX_MEMBERS)?;
        }
        if root.tlogs.is_empty() && root.timestamp_authorities.is_empty() {
            return Err(InvalidTrustRoot::NoTime);
        }
        let authorities = root
            .certificate_authorities
            .iter_mut()
            .map(|ca| (&ca.cert_chain, &mut ca.valid_for, ca.uri.as_str()));
        let timestamps = root
            .timestamp_authorities
            .iter_mut()
            .map(|tsa| (&tsa.cert_chain, &mut tsa.valid_for, tsa.uri.as_deref().unwrap_or("of timestamps")));
        for (chain, valid, name) in authorities.chain(timestamps) {
            bound("certificates in one chain", chain.certificates.len(), MAX_CHAIN)?;
            for certificate in &chain.certificates {
                let own = leaf::read(certificate.raw_bytes.as_bytes())
                    .and_then(|certificate| leaf::validity(&certificate))
                    .map_err(|e| InvalidTrustRoot::Unusable(e.to_string()))?;
                *valid = Some(narrowed(*valid, own));
            }
            if valid.is_some_and(|valid| valid.end.is_some_and(|end| end < valid.start)) {
                return Err(InvalidTrustRoot::NeverValid(name.chars().take(100).collect()));
            }
        }
        let unusable = |e: sigstore_verify::Error| InvalidTrustRoot::Unusable(e.to_string());
        let verifier = Verifier::new(&root).map_err(unusable)?;
        let logs = root.tlogs.iter().map(|log| {
            let key =
                VerificationKey::from_spki(&log.public_key.raw_bytes).map_err(|e| unusable(e.into()))?;
            Ok((log.log_id.key_id.as_bytes().to_vec(), Log { key, valid: log.public_key.valid_for }))
        });
        let logs = logs.collect::<Result<_, InvalidTrustRoot>>()?;
        Ok(Self(Arc::new(Inner { id, root, verifier, logs })))
    }

    /// SHA-256 of its canonical JSON (RFC 8785): the same content in another spelling is the same trust root.
    pub fn id(&self) -> &Digest {
        &self.0.id
    }

    pub(super) fn verifier(&self) -> &Verifier {
        &self.0.verifier
    }

    pub(super) fn log(&self, id: &LogKeyId) -> Option<&Log> {
        self.0.logs.get(id.as_bytes())
    }

    pub(super) fn has_logs(&self) -> bool {
        !self.0.logs.is_empty()
    }

    pub(super) fn has_certificate_logs(&self) -> bool {
        !self.0.root.ctlogs.is_empty()
    }

    pub(super) fn has_authorities(&self) -> bool {
        !self.0.root.certificate_authorities.is_empty()
    }
}

impl fmt::Debug for TrustRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TrustRoot").field(&self.0.id).finish()
    }
}

impl PartialEq for TrustRoot {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for TrustRoot {}

impl Log {
    pub(super) fn believed_at(&self, time: Timestamp) -> bool {
        self.valid.is_none_or(|valid| valid.contains(time))
    }
}

fn bound(what: &'static str, found: usize, bound: usize) -> Result<(), InvalidTrustRoot> {
    if found > bound { Err(InvalidTrustRoot::TooMuch { what, found, bound }) } else { Ok(()) }
}

fn narrowed(window: Option<TimeRange>, by: Validity) -> TimeRange {
    let start = window.map_or(by.from, |window| window.start.max(by.from));
    let end = window.and_then(|window| window.end).map_or(by.until, |end| end.min(by.until));
    TimeRange::new(start, Some(end))
}
