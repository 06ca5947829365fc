//! A signature as it is presented: with its certificate or without, its log entries and timestamps. Read once from any
//! of the formats, bounded, into the form that the library takes; then looked at with each anchor of a policy.

use berth_registry_core::{Descriptor, Digest};
use jiff::Timestamp;
use sigstore_verify::{
    PublicKeyVerificationPolicy, VerificationPolicy, VerificationResult,
    types::{
        Artifact, ArtifactDigest, Bundle, DerCertificate, DerPublicKey, DsseEnvelope, HashAlgorithm,
        PublicKeyIdentifier, SignatureContent, Statement, VerificationMaterialContent,
    },
};

use super::{CertificateAuthorities, MAX_CHAIN, classic, leaf, log, refused::Refused, trust_root::TrustRoot};
use crate::{bounds::MAX_PAYLOAD, json, key::PublicKey, validity::Validity};

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
    bundle: Bundle,
    content: Content,
}

/// What the signature is over.
#[derive(Clone, Debug)]
enum Content {
    /// An envelope of the bundle; the library wants one of the digests that its statement names, and which of them is
    /// the image's is for the reader of the verified statement to decide.
    Envelope(ArtifactDigest),
    /// These bytes.
    Bytes(Vec<u8>),
}

impl Presented {
    /// Reads a sigstore bundle (v0.1 to v0.3) around a DSSE envelope. Bundles around a bare message signature are
    /// refused, as cosign refuses them for images: they do not say what they mean.
    pub fn bundle(bytes: &[u8]) -> Result<Self, Refused> {
        let mut document: serde_json::Value = json::read(bytes, MAX_BUNDLE).map_err(Refused::malformed)?;
        if let Some(serde_json::Value::String(media_type)) = document.get_mut("mediaType") {
            media_type.retain(|c| !c.is_ascii_whitespace());
        }
        let bundle: Bundle = serde_json::from_value(document).map_err(Refused::malformed)?;
        let SignatureContent::DsseEnvelope(envelope) = &bundle.content else {
            return Err(Refused::Unsupported("it signs bytes without saying what they are".to_owned()));
        };
        let content = Content::Envelope(named(envelope)?);
        bounded(&bundle)?;
        Ok(Self { bundle, content })
    }

    /// Reads a layer of cosign's classic formats: a simple signature, or the envelope of an attestation.
    pub fn classic(layer: &Descriptor, bytes: &[u8]) -> Result<Self, Refused> {
        let bundle = classic::read(layer, bytes)?;
        let content = match &bundle.content {
            SignatureContent::DsseEnvelope(envelope) => Content::Envelope(named(envelope)?),
            _ => Content::Bytes(bytes.to_vec()),
        };
        bounded(&bundle)?;
        Ok(Self { bundle, content })
    }

    /// The document that is signed. Believe it only after one of the other methods has verified it.
    pub fn payload(&self) -> &[u8] {
        match (&self.bundle.content, &self.content) {
            (SignatureContent::DsseEnvelope(envelope), _) => envelope.payload.as_bytes(),
            (_, Content::Bytes(bytes)) => bytes,
            _ => &[],
        }
    }

    /// Who signed without a key of their own, and when. Every certificate up to the root was valid at every proven
    /// time; a log of the trust root holds this very signature, if the trust root names logs; a certificate log knows
    /// the certificate, if the trust root names any.
    pub fn keyless(&self, root: &TrustRoot) -> Result<Keyless, Refused> {
        let certificate = self.certificate()?;
        if !root.has_authorities() {
            return Err(Refused::UntrustedCertificate("the trust root names no authority".to_owned()));
        }
        let mut policy = VerificationPolicy::any_identity();
        if !root.has_certificate_logs() {
            policy = policy.skip_sct();
        }
        let verified = self.certified(root, policy, root.has_logs())?;
        let issuer = verified
            .issuer()
            .ok_or_else(|| Refused::NoIdentity("it names no issuer of identities".to_owned()))?;
        Ok(Keyless {
            issuer: leaf::visible(issuer)?,
            subject: leaf::identity(certificate.as_bytes())?,
            proven: self.latest(&verified, root)?,
        })
    }

    /// Who signed with a certificate of these authorities. With a trust root, a log or timestamp authority of it must
    /// prove when, as in [`Self::proven`].
    pub fn by_certificate(
        &self,
        authorities: &CertificateAuthorities,
        log: Option<&TrustRoot>,
    ) -> Result<ByCertificate, Refused> {
        let certificate = self.certificate()?.as_bytes();
        let key = PublicKey::from_der(leaf::read(certificate)?.public_key().raw)
            .map_err(|e| Refused::Unsupported(e.to_string()))?;
        let (message, signature) = self.signed();
        if !key.verifies(&message, signature) {
            return Err(Refused::BadSignature);
        }
        let subject = leaf::holder(certificate)?;
        let fingerprint = Digest::sha256(certificate);
        let presented = self.intermediates();
        let Some(log) = log else {
            let valid = authorities.vouch(certificate, &presented)?;
            return Ok(ByCertificate { subject, fingerprint, proven: None, valid: Some(valid) });
        };
        // The library would ask for intermediates as Fulcio's are; it is asked for the times alone.
        let policy = VerificationPolicy::any_identity().skip_certificate_chain();
        let verified = self.certified(log, policy, self.is_logged())?;
        for time in verified.verified_timestamps() {
            authorities.vouch_at(certificate, &presented, *time)?;
        }
        let proven = self.latest(&verified, log)?;
        Ok(ByCertificate { subject, fingerprint, proven: Some(proven), valid: None })
    }

    /// When a signature by this key was made, at the latest: a log of the trust root holds this very signature, or a
    /// timestamp authority of it signed this very signature. What came along must all be right.
    pub fn proven(&self, root: &TrustRoot, key: &PublicKey) -> Result<Timestamp, Refused> {
        let mut bundle = self.bundle.clone();
        bundle.verification_material.content =
            VerificationMaterialContent::PublicKey(PublicKeyIdentifier::new(""));
        let mut policy = PublicKeyVerificationPolicy::new(DerPublicKey::from_bytes(key.spki()));
        if !self.is_logged() {
            policy = policy.skip_tlog_unsafe();
        }
        let verified = root.verifier().verify(self.artifact(), &bundle, &policy)?;
        self.latest(&verified, root)
    }

    fn certified(
        &self,
        root: &TrustRoot,
        policy: VerificationPolicy,
        logged: bool,
    ) -> Result<VerificationResult, Refused> {
        let policy = if logged { policy } else { policy.skip_tlog_unsafe() };
        Ok(root.verifier().verify(self.artifact(), &self.bundle, &policy)?)
    }

    /// The latest of the times that are proven, once the log entries are found good.
    fn latest(&self, verified: &VerificationResult, root: &TrustRoot) -> Result<Timestamp, Refused> {
        let times = verified.verified_timestamps();
        log::check(&self.bundle.verification_material.tlog_entries, times, root)?;
        times.iter().max().copied().ok_or(Refused::NoProvenTime)
    }

    fn is_logged(&self) -> bool {
        !self.bundle.verification_material.tlog_entries.is_empty()
    }

    fn certificate(&self) -> Result<&DerCertificate, Refused> {
        self.bundle.signing_certificate().ok_or(Refused::NoCertificate)
    }

    /// What came along to lead from the certificate to a root.
    fn intermediates(&self) -> Vec<&[u8]> {
        match &self.bundle.verification_material.content {
            VerificationMaterialContent::X509CertificateChain { certificates } => {
                certificates.iter().skip(1).map(|certificate| certificate.raw_bytes.as_bytes()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The bytes that are signed, and the signature.
    fn signed(&self) -> (Vec<u8>, &[u8]) {
        match &self.bundle.content {
            SignatureContent::DsseEnvelope(envelope) => (envelope.pae(), envelope.signature.sig.as_bytes()),
            SignatureContent::MessageSignature(signed) => {
                (self.payload().to_vec(), signed.signature.as_bytes())
            }
            _ => (Vec::new(), &[]),
        }
    }

    fn artifact(&self) -> Artifact<'_> {
        match &self.content {
            Content::Envelope(digest) => digest.clone().into(),
            Content::Bytes(bytes) => bytes.into(),
        }
    }
}

/// One of the digests that an envelope's statement names.
fn named(envelope: &DsseEnvelope) -> Result<ArtifactDigest, Refused> {
    let statement: Statement =
        json::read(envelope.payload.as_bytes(), MAX_PAYLOAD).map_err(Refused::malformed)?;
    let digests = statement.subject.iter().flat_map(|subject| {
        let sha256 = subject.digest.sha256.map(ArtifactDigest::sha256);
        let sha512 = subject.digest.sha512.as_ref();
        let sha512 = sha512.and_then(|hash| ArtifactDigest::new(HashAlgorithm::Sha2512, *hash).ok());
        sha256.into_iter().chain(sha512)
    });
    digests.into_iter().next().ok_or_else(|| Refused::malformed("its statement names no digest"))
}

fn bounded(bundle: &Bundle) -> Result<(), Refused> {
    let material = &bundle.verification_material;
    if let VerificationMaterialContent::X509CertificateChain { certificates } = &material.content {
        Refused::bound("certificates", certificates.len(), MAX_CHAIN)?;
    }
    Refused::bound("log entries", material.tlog_entries.len(), MAX_CHAIN)?;
    let timestamps = &material.timestamp_verification_data.rfc3161_timestamps;
    Refused::bound("timestamps", timestamps.len(), MAX_CHAIN)
}
