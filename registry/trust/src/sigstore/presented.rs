//! A signature as it is presented: with its certificate or without, its log entries and timestamps. Read once from any
//! of the formats, bounded, into the form that the library takes; then looked at with each trust root.

use jiff::Timestamp;
use sigstore_verify::{
    VerificationPolicy,
    types::{
        Artifact, ArtifactDigest, Bundle, DerCertificate, DsseEnvelope, HashAlgorithm, SignatureContent,
        Statement, VerificationMaterialContent,
    },
};

use super::{MAX_CHAIN, leaf, log, refused::Refused, trust_root::TrustRoot};
use crate::{bounds::MAX_PAYLOAD, json};

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

/// A signature with all that came along with it; nothing of it is believed yet.
#[derive(Clone, Debug)]
pub struct Presented {
    bundle: Bundle,
    artifact: Content,
}

/// What the signature is over.
#[derive(Clone, Debug)]
enum Content {
    /// An envelope of the bundle; the library wants one of the digests that its statement names, and which of them is
    /// the image's is for the reader of the verified statement to decide.
    Envelope(ArtifactDigest),
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
            return Err(Refused::Unsupported(
                "it signs bytes without saying what they are: sign images with `cosign sign`".to_owned(),
            ));
        };
        let artifact = Content::Envelope(named(envelope)?);
        bounded(&bundle)?;
        Ok(Self { bundle, artifact })
    }

    /// The document that is signed. Believe it only after one of the other methods has verified it.
    pub fn payload(&self) -> &[u8] {
        match &self.bundle.content {
            SignatureContent::DsseEnvelope(envelope) => envelope.payload.as_bytes(),
            _ => &[],
        }
    }

    /// Who signed without a key of their own, and when. Every certificate up to the root was valid at every proven
    /// time; a log of the trust root holds this very signature, if the trust root names logs; a certificate log knows
    /// the certificate, if the trust root names any.
    pub fn keyless(&self, root: &TrustRoot) -> Result<Keyless, Refused> {
        let certificate = self.certificate().ok_or(Refused::NoCertificate)?;
        if !root.has_authorities() {
            return Err(Refused::UntrustedCertificate("the trust root names no authority".to_owned()));
        }
        let mut policy = VerificationPolicy::any_identity();
        if !root.has_certificate_logs() {
            policy = policy.skip_sct();
        }
        if !root.has_logs() {
            policy = policy.skip_tlog_unsafe();
        }
        let verified = root.verifier().verify(self.artifact(), &self.bundle, &policy)?;
        let times = verified.verified_timestamps();
        log::check(&self.bundle.verification_material.tlog_entries, times, root)?;
        let issuer = verified
            .issuer()
            .ok_or_else(|| Refused::NoIdentity("it names no OpenID Connect issuer".to_owned()))?;
        Ok(Keyless {
            issuer: leaf::visible(issuer)?,
            subject: leaf::subject(certificate.as_bytes())?,
            proven: times.iter().max().copied().ok_or(Refused::NoProvenTime)?,
        })
    }

    fn certificate(&self) -> Option<&DerCertificate> {
        self.bundle.signing_certificate()
    }

    fn artifact(&self) -> Artifact<'_> {
        match &self.artifact {
            Content::Envelope(digest) => digest.clone().into(),
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
