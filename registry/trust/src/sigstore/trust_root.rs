//! Trust roots (`trusted_root.json` of the sigstore project): which authorities issue certificates, which logs record
//! them and signatures, who timestamps, and when each of them was to be believed. Data of a policy, never fetched here.

use std::{collections::BTreeMap, fmt, sync::Arc};

use berth_registry_core::Digest;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use sigstore_verify::{
    trust_root::{TimeRange, TrustedRoot},
    types::HashAlgorithm,
};
use webpki::anchor_from_trusted_cert;

use super::{MAX_CHAIN, issued::Issuer, leaf};
use crate::{json, key::PublicKey, validity::Validity};

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
    issuers: Vec<Issuer>,
    logs: Logs,
    certificate_logs: Logs,
    timestamp_authorities: Vec<TimestampAuthority>,
}

/// Somebody who says when, while that is to be believed.
pub(super) struct TimestampAuthority {
    /// Its own first, the root last.
    pub(super) certificates: Vec<Vec<u8>>,
    pub(super) valid: TimeRange,
}

/// By what they are known by.
type Logs = BTreeMap<Vec<u8>, Log>;

/// A log that is believed while it is valid.
pub(super) struct Log {
    pub(super) key: PublicKey,
    valid: Option<TimeRange>,
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
        Self::new(Digest::sha256(&canonical), &root)
    }

    fn new(id: Digest, root: &TrustedRoot) -> Result<Self, InvalidTrustRoot> {
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
        let mut issuers = Vec::new();
        for authority in &root.certificate_authorities {
            let chain: Vec<_> =
                authority.cert_chain.certificates.iter().map(|it| it.raw_bytes.as_bytes()).collect();
            let valid = Some(window(&chain, authority.valid_for, &authority.uri)?);
            for der in chain {
                let der = CertificateDer::from(der);
                let anchor = anchor_from_trusted_cert(&der).map_err(unusable)?.to_owned();
                let key = leaf::read(&der).map_err(unusable)?.public_key().raw.to_vec();
                issuers.push(Issuer { anchor, key, valid });
            }
        }
        let mut timestamp_authorities = Vec::new();
        for authority in &root.timestamp_authorities {
            let name = authority.uri.as_deref().unwrap_or("of timestamps");
            let chain: Vec<_> =
                authority.cert_chain.certificates.iter().map(|it| it.raw_bytes.as_bytes()).collect();
            let valid = window(&chain, authority.valid_for, name)?;
            let certificates = chain.into_iter().map(<[u8]>::to_vec).collect();
            timestamp_authorities.push(TimestampAuthority { certificates, valid });
        }
        let (mut logs, mut certificate_logs) = (Logs::new(), Logs::new());
        for log in &root.tlogs {
            let key = &log.public_key;
            let id = log.log_id.key_id.as_bytes();
            add(&mut logs, id, key.raw_bytes.as_bytes(), key.valid_for, log.hash_algorithm)?;
        }
        for log in &root.ctlogs {
            let key = &log.public_key;
            let id = log.log_id.key_id.as_bytes();
            add(&mut certificate_logs, id, key.raw_bytes.as_bytes(), key.valid_for, log.hash_algorithm)?;
        }
        Ok(Self(Arc::new(Inner { id, issuers, logs, certificate_logs, timestamp_authorities })))
    }

    /// SHA-256 of its canonical JSON (RFC 8785): the same content in another spelling is the same trust root.
    pub fn id(&self) -> &Digest {
        &self.0.id
    }

    pub(super) fn issuers(&self) -> &[Issuer] {
        &self.0.issuers
    }

    pub(super) fn timestamp_authorities(&self) -> &[TimestampAuthority] {
        &self.0.timestamp_authorities
    }

    pub(super) fn log(&self, id: &[u8]) -> Option<&Log> {
        self.0.logs.get(id)
    }

    pub(super) fn certificate_log(&self, id: &[u8]) -> Option<&Log> {
        self.0.certificate_logs.get(id)
    }

    pub(super) fn has_logs(&self) -> bool {
        !self.0.logs.is_empty()
    }

    pub(super) fn has_certificate_logs(&self) -> bool {
        !self.0.certificate_logs.is_empty()
    }

    pub(super) fn has_authorities(&self) -> bool {
        !self.0.issuers.is_empty()
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

fn unusable(cause: impl fmt::Display) -> InvalidTrustRoot {
    InvalidTrustRoot::Unusable(cause.to_string().chars().take(200).collect())
}

/// When an authority is believed, narrowed to when all of its certificates are valid (CVE-2026-24122).
fn window(chain: &[&[u8]], valid: Option<TimeRange>, name: &str) -> Result<TimeRange, InvalidTrustRoot> {
    bound("certificates in one chain", chain.len(), MAX_CHAIN)?;
    let mut window = None;
    for der in chain {
        let own = leaf::read(der).and_then(|certificate| leaf::validity(&certificate)).map_err(unusable)?;
        window = Some(narrowed(window.or(valid), own));
    }
    let window = window.ok_or_else(|| unusable("an authority without certificates"))?;
    if window.end.is_some_and(|end| end < window.start) {
        return Err(InvalidTrustRoot::NeverValid(name.chars().take(100).collect()));
    }
    Ok(window)
}

fn add(
    logs: &mut Logs,
    id: &[u8],
    key: &[u8],
    valid: Option<TimeRange>,
    hash: HashAlgorithm,
) -> Result<(), InvalidTrustRoot> {
    // No log hashes its tree with anything else, nor does any client of theirs read that.
    if hash != HashAlgorithm::Sha2256 {
        return Err(unusable(format_args!("a log hashes with {hash}, and only SHA2_256 is read")));
    }
    if valid.is_some_and(|window| window.end.is_some_and(|end| end < window.start)) {
        return Err(unusable("the window of a log ends before it begins"));
    }
    if id.len() != 32 {
        return Err(unusable("the logId of a log has not 32 bytes"));
    }
    let key = PublicKey::from_der(key).or_else(|e| PublicKey::from_pkcs1(key).map_err(|_| e));
    let log = Log { key: key.map_err(unusable)?, valid };
    match logs.insert(id.to_vec(), log) {
        None => Ok(()),
        Some(_) => Err(unusable("a duplicate logId: two logs are known by one")),
    }
}

fn narrowed(window: Option<TimeRange>, by: Validity) -> TimeRange {
    let start = window.map_or(by.from, |window| window.start.max(by.from));
    let end = window.and_then(|window| window.end).map_or(by.until, |end| end.min(by.until));
    TimeRange::new(start, Some(end))
}
