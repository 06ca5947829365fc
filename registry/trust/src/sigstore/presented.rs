//! A signature as it is presented: with its certificate or without, its log entries and timestamps. Read once from any
//! of the formats, bounded; then looked at with each anchor of a policy. Order of checks: times, certificate, certificate
//! log, signature, and last that the log entries are this signature's.

use std::{borrow::Cow, collections::BTreeMap};

use berth_registry_core::{Descriptor, Digest};
use jiff::Timestamp;
use sigstore_verify::types::{
    Bundle, DsseEnvelope, MediaType, SignatureContent, VerificationMaterialContent,
};

use super::{
    CertificateAuthorities, MAX_CHAIN, classic, issued, leaf, log::Entry, record::Maker, refused::Refused,
    trust_root::TrustRoot,
};
use crate::{
    bounds::{MAX_PAYLOAD, clip},
    json,
    key::PublicKey,
    notary::timestamp,
    validity::Validity,
};

/// A payload of the largest size in base64, twice over for the other fields.
const MAX_BUNDLE: usize = MAX_PAYLOAD * 4;

/// A signature that an identity made with a certificate for that one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyless {
    /// Who says who the signer is: the issuer of its identity token.
    pub issuer: String,
    /// Who signed: the certificate's only alternative name.
    pub subject: String,
    /// When, at the latest: no single log or timestamp authority can date a signature back.
    pub proven: Timestamp,
}

/// A signature by the holder of a certificate that an authority of the user's own issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByCertificate {
    /// The holder: the certificate's only alternative name, or else its distinguished name (RFC 4514).
    pub subject: String,
    /// SHA-256 of the certificate.
    pub fingerprint: Digest,
    /// When it was made, at the latest; all certificates were valid then.
    pub proven: Option<Timestamp>,
    /// When nothing is proven: the signature counts only while all certificates are valid.
    pub valid: Option<Validity>,
}

/// A signature with all that came along with it; nothing of it is believed yet.
#[derive(Clone, Debug)]
pub struct Presented {
    pub(super) content: Content,
    pub(super) signature: Vec<u8>,
    /// The signer's, and what leads from it to a root.
    pub(super) certificates: Vec<Vec<u8>>,
    pub(super) entries: Vec<Entry>,
    pub(super) timestamps: Vec<Vec<u8>>,
    /// Whether a log's promise will do, as in the older formats.
    pub(super) promise: bool,
}

/// What the signature is over.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// An envelope, and its bytes as they were made, where they are kept.
    Envelope { envelope: Box<DsseEnvelope>, stored: Option<Vec<u8>> },
    /// These bytes.
    Bytes(Vec<u8>),
}

impl Content {
    /// The content, and the one signature that an envelope brings along.
    pub(super) fn envelope(envelope: DsseEnvelope, stored: Option<Vec<u8>>) -> (Self, Vec<u8>) {
        let signature = envelope.signature.sig.as_bytes().to_vec();
        (Self::Envelope { envelope: Box::new(envelope), stored }, signature)
    }

    /// The bytes that are signed.
    pub(super) fn message(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Envelope { envelope, .. } => envelope.pae().into(),
            Self::Bytes(bytes) => bytes.into(),
        }
    }
}

impl Presented {
    /// Reads a sigstore bundle (v0.1 to v0.3) around a DSSE envelope. Bundles around a bare message signature are
    /// refused, as cosign refuses them for images: they do not say what they mean.
    pub fn bundle(bytes: &[u8]) -> Result<Self, Refused> {
        let mut document: serde_json::Value = json::read(bytes, MAX_BUNDLE).map_err(Refused::malformed)?;
        if let Some(serde_json::Value::String(media_type)) = document.get_mut("mediaType") {
            media_type.retain(|c| !c.is_ascii_whitespace());
        }
        let Bundle { media_type, verification_material: material, content, .. } =
            serde_json::from_value(document).map_err(Refused::malformed)?;
        let SignatureContent::DsseEnvelope(envelope) = content else {
            return Err(Refused::Unsupported("it signs bytes without saying what they are".to_owned()));
        };
        let certificates = match material.content {
            VerificationMaterialContent::Certificate(certificate) => vec![certificate.raw_bytes],
            VerificationMaterialContent::X509CertificateChain { certificates } => {
                if media_type == MediaType::Bundle0_3 {
                    return Err(Refused::malformed("a bundle v0.3 holds one certificate, not a chain"));
                }
                certificates.into_iter().map(|certificate| certificate.raw_bytes).collect()
            }
            _ => Vec::new(),
        };
        let timestamps = material.timestamp_verification_data.rfc3161_timestamps;
        let (content, signature) = Content::envelope(envelope, None);
        let presented = Self {
            content,
            signature,
            certificates: certificates.iter().map(|certificate| certificate.as_bytes().to_vec()).collect(),
            entries: material.tlog_entries.into_iter().map(Entry::from).collect(),
            timestamps: timestamps.iter().map(|it| it.signed_timestamp.as_bytes().to_vec()).collect(),
            promise: media_type == MediaType::Bundle0_1,
        };
        presented.bounded()
    }

    /// Reads a layer of cosign's classic formats: a simple signature, or the envelope of an attestation.
    pub fn classic(layer: &Descriptor, bytes: &[u8]) -> Result<Self, Refused> {
        classic::read(layer, bytes)?.bounded()
    }

    fn bounded(self) -> Result<Self, Refused> {
        let found = [
            ("certificates", self.certificates.len()),
            ("log entries", self.entries.len()),
            ("timestamps", self.timestamps.len()),
        ];
        found.into_iter().try_for_each(|(what, found)| Refused::bound(what, found, MAX_CHAIN))?;
        // With several of one name there are more ways to a root than anybody should have to try.
        let mut names = BTreeMap::new();
        for der in self.certificates.iter().skip(1) {
            let name = leaf::read(der)?.subject().as_raw().to_vec();
            if names.insert(name, der).is_some_and(|other| other != der) {
                let cause = "it brings two certificates of authorities with one name";
                return Err(Refused::Unsupported(cause.to_owned()));
            }
        }
        Ok(self)
    }

    /// The document that is signed. Believe it only after one of the other methods has verified it.
    pub fn payload(&self) -> &[u8] {
        match &self.content {
            Content::Envelope { envelope, .. } => envelope.payload.as_bytes(),
            Content::Bytes(bytes) => bytes,
        }
    }

    /// Who signed without a key of their own, and when. Every certificate up to the root was valid at every proven
    /// time; a log of the trust root holds this very signature, if the trust root names logs; a certificate log knows
    /// the certificate, if the trust root names any.
    pub fn keyless(&self, root: &TrustRoot) -> Result<Keyless, Refused> {
        let (certificate, intermediates) = self.certificate()?;
        if !root.has_authorities() {
            return Err(Refused::UntrustedCertificate("the trust root names no authority".to_owned()));
        }
        if root.has_logs() && self.entries.is_empty() {
            return Err(Refused::NotLogged);
        }
        let times = self.times(root)?;
        let mut issuer_key = Vec::new();
        for time in &times {
            issuer_key = issued::by_authority(certificate, &intermediates, *time, root.issuers())?;
        }
        if root.has_certificate_logs() {
            issued::in_certificate_log(certificate, &issuer_key, root)?;
        }
        let (issuer, subject) = (leaf::issuer(certificate)?, leaf::identity(certificate)?);
        self.signed_by(&leaf::key(certificate)?)?;
        Ok(Keyless { issuer, subject, proven: self.latest(root, &times, Maker::Certificate(certificate))? })
    }

    /// Who signed with a certificate of these authorities. With a trust root, a log or timestamp authority of it must
    /// prove when, as in [`Self::proven`].
    pub fn by_certificate(
        &self,
        authorities: &CertificateAuthorities,
        log: Option<&TrustRoot>,
    ) -> Result<ByCertificate, Refused> {
        let (certificate, intermediates) = self.certificate()?;
        self.signed_by(&leaf::key(certificate)?)?;
        let subject = leaf::holder(certificate)?;
        let fingerprint = Digest::sha256(certificate);
        let Some(log) = log else {
            let valid = authorities.vouch(certificate, &intermediates)?;
            return Ok(ByCertificate { subject, fingerprint, proven: None, valid: Some(valid) });
        };
        let times = self.times(log)?;
        for time in &times {
            authorities.vouch_at(certificate, &intermediates, *time)?;
        }
        let proven = self.latest(log, &times, Maker::Certificate(certificate))?;
        Ok(ByCertificate { subject, fingerprint, proven: Some(proven), valid: None })
    }

    /// When a signature by this key was made, at the latest: a log of the trust root holds this very signature, or a
    /// timestamp authority of it signed this very signature. What came along must all be right.
    pub fn proven(&self, root: &TrustRoot, key: &PublicKey) -> Result<Timestamp, Refused> {
        let times = self.times(root)?;
        self.signed_by(key)?;
        self.latest(root, &times, Maker::Key(key))
    }

    /// Every time that a log or a timestamp authority asserts; one that came along and is wrong is not passed over.
    fn times(&self, root: &TrustRoot) -> Result<Vec<Timestamp>, Refused> {
        if self.entries.is_empty() && self.timestamps.is_empty() {
            return Err(Refused::NotLogged);
        }
        let mut times = Vec::new();
        for token in &self.timestamps {
            times.push(self.stamped(token, root)?);
        }
        for entry in &self.entries {
            times.extend(entry.promised(root)?);
        }
        if times.is_empty() { Err(Refused::NoProvenTime) } else { Ok(times) }
    }

    /// When one of the timestamp authorities saw the signature; it was to be believed then.
    fn stamped(&self, token: &[u8], root: &TrustRoot) -> Result<Timestamp, Refused> {
        let mut cause = "the trust root names none".to_owned();
        for authority in root.timestamp_authorities() {
            match timestamp::by_authority(token, &self.signature, &authority.certificates) {
                Ok(time) if authority.valid.contains(time) => return Ok(time),
                Ok(time) => {
                    cause = format!("the trust root believes its authority at other times, not at {time}");
                }
                Err(fault) => cause = fault.to_string(),
            }
        }
        Err(Refused::BadTimestamp(clip(&cause)))
    }

    /// The latest of the times that are proven, once the log entries are found good.
    fn latest(&self, root: &TrustRoot, times: &[Timestamp], by: Maker<'_>) -> Result<Timestamp, Refused> {
        for entry in &self.entries {
            entry.check(root, times, self.promise, (&self.content, &self.signature, by))?;
        }
        times.iter().max().copied().ok_or(Refused::NoProvenTime)
    }

    fn signed_by(&self, key: &PublicKey) -> Result<(), Refused> {
        let signed = key.verifies(&self.content.message(), &self.signature);
        signed.then_some(()).ok_or(Refused::BadSignature)
    }

    /// The signer's certificate, and what came along to lead from it to a root.
    fn certificate(&self) -> Result<(&[u8], Vec<&[u8]>), Refused> {
        let (certificate, above) = self.certificates.split_first().ok_or(Refused::NoCertificate)?;
        Ok((certificate, above.iter().map(Vec::as_slice).collect()))
    }
}
