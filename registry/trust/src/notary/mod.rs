//! Notary Project signatures (R-SIG-3): an envelope, JWS or COSE, that carries its certificates → who signed the image,
//! when, and until when that counts. Order of checks: the envelope's form, the signature over its bytes, what its signed
//! attributes demand, the certificates, the roots of the [`NotaryStore`], what is signed, and last the time.
//! Nothing here asks for the present time: what must be judged then is handed back.

mod algorithm;
mod cbor;
mod certificate;
mod chain;
mod cose;
mod envelope;
mod jws;
mod name;
mod refused;
mod store;
pub(crate) mod timestamp;

use berth_registry_core::Digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::validity::Validity;

use algorithm::Algorithm;
use chain::{Chain, Purpose};
use envelope::Scheme;
pub use name::{DistinguishedName, Identities, InvalidIdentity};
pub use refused::{CertificateFault, Refused, TimestampFault, UnfitCertificate};
pub use store::{InvalidStore, NotaryStore};

/// Artifact type (or, in older manifests, the config's media type) of a signature's manifest.
pub const ARTIFACT_TYPE: &str = "application/vnd.cncf.notary.signature";
/// Media type of a layer that is a JWS envelope.
pub const JWS: &str = "application/jose+json";
/// Media type of a layer that is a COSE envelope.
pub const COSE: &str = "application/cose";

/// Bytes of one envelope.
const MAX_ENVELOPE: usize = 1024 * 1024;

/// What a signature must be for: the manifest as it was fetched, whose bytes hash to `digest`.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Its media type.
    pub media_type: &'a str,
    /// The digest of its bytes.
    pub digest: &'a Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// A good signature: by whom, and what is left to be judged at the present time. Whether the signer is one of those that
/// a policy names is the business of [`Identities`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByNotary {
    /// The signing certificate's subject, as [`Identities::hold`] reads it.
    pub subject: String,
    /// SHA-256 of the signing certificate, to show it. Signers are told apart by their subjects: an ECDSA signature has
    /// two forms, and so whoever stores a certificate can choose between two fingerprints for it.
    pub fingerprint: Digest,
    /// When the signer says that it signed; no one vouches for it.
    pub claimed: Option<Timestamp>,
    /// The latest moment at which it can have been signed, by the word of a timestamp authority or a signing authority;
    /// all certificates were valid then.
    pub proven: Option<Timestamp>,
    /// From this moment on the signature no longer counts, by the signer's own will.
    pub expiry: Option<Timestamp>,
    /// When nothing is proven: the signature counts only while all certificates are valid.
    pub valid: Option<Validity>,
}

/// Verifies one signature (specification: "Signature Verification", steps integrity to authentic timestamp, with
/// `verifyTimestamp` as `always` when the signature has a countersignature and the store has timestamp roots).
pub fn verify(
    store: &NotaryStore,
    media_type: &str,
    envelope: &[u8],
    target: Target<'_>,
) -> Result<ByNotary, Refused> {
    if envelope.len() > MAX_ENVELOPE {
        return Err(Refused::TooLarge(envelope.len()));
    }
    let envelope = match media_type {
        JWS => jws::read(envelope)?,
        COSE => cose::read(envelope)?,
        other => return Err(Refused::MediaType(crate::bounds::clip(other))),
    };
    let chain = Chain::parse(&envelope.chain)?;
    let leaf = chain.leaf();

    let algorithm = Algorithm::of(leaf.key()).ok_or_else(|| leaf.unfit(CertificateFault::SigningKey))?;
    if envelope.algorithm != algorithm {
        return Err(Refused::Algorithm { said: envelope.algorithm.name(), key: algorithm.name() });
    }
    if !algorithm.verifies(leaf.key(), &envelope.message, &envelope.signature) {
        return Err(Refused::Altered);
    }
    let terms = envelope.attributes.check()?;
    chain.check(Purpose::CodeSigning)?;
    let roots = match terms.scheme {
        Scheme::X509 => store.authorities(),
        Scheme::SigningAuthority if store.signing_authorities().is_empty() => {
            return Err(Refused::NoSigningAuthorities);
        }
        Scheme::SigningAuthority => store.signing_authorities(),
    };
    if !chain.meets(roots) {
        return Err(Refused::UnknownRoot(chain.root().subject()));
    }
    envelope::check_payload(&envelope.payload, target)?;

    let valid = chain.validity();
    let span = match (terms.scheme, &envelope.timestamp) {
        (Scheme::SigningAuthority, _) => Some(Validity::at(terms.time)),
        (Scheme::X509, Some(token)) if !store.timestamp_authorities().is_empty() => {
            Some(timestamp::verify(token, &envelope.signature, store.timestamp_authorities())?)
        }
        (Scheme::X509, _) => None,
    };
    if let Some(span) = span.filter(|span| !valid.contains(*span)) {
        return Err(Refused::NotValidThen { at: span.until, from: valid.from, until: valid.until });
    }
    Ok(ByNotary {
        subject: leaf.subject(),
        fingerprint: Digest::sha256(leaf.der()),
        claimed: (terms.scheme == Scheme::X509).then_some(terms.time),
        proven: span.map(|span| span.until),
        expiry: terms.expiry,
        valid: span.is_none().then_some(valid),
    })
}
