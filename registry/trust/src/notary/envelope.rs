//! What both forms of envelope have in common: the signed attributes and the rules for them (specification: "Signed
//! Attributes"), and the signed payload.

use berth_registry_core::Digest;
use jiff::Timestamp;
use serde::Deserialize;

use super::{Target, algorithm::Algorithm, refused::Refused};
use crate::{bounds::clip, json};

pub(super) const SCHEME: &str = "io.cncf.notary.signingScheme";
pub(super) const SIGNING_TIME: &str = "io.cncf.notary.signingTime";
pub(super) const AUTHENTIC_SIGNING_TIME: &str = "io.cncf.notary.authenticSigningTime";
pub(super) const EXPIRY: &str = "io.cncf.notary.expiry";
pub(super) const TIMESTAMP: &str = "io.cncf.notary.timestampSignature";
pub(super) const PLUGIN: &str = "io.cncf.notary.verificationPlugin";

const X509: &str = "notary.x509";
const SIGNING_AUTHORITY: &str = "notary.x509.signingAuthority";
const PAYLOAD_TYPE: &str = "application/vnd.cncf.notary.payload.v1+json";

/// An envelope as read; nothing in it is believed yet.
pub(super) struct Envelope {
    /// The bytes that the signature is over; they hold the attributes and the payload.
    pub(super) message: Vec<u8>,
    pub(super) signature: Vec<u8>,
    pub(super) algorithm: Algorithm,
    pub(super) attributes: Attributes,
    pub(super) payload: Vec<u8>,
    /// DER, signer first. Not signed.
    pub(super) chain: Vec<Vec<u8>>,
    /// RFC 3161 token. Not signed.
    pub(super) timestamp: Option<Vec<u8>>,
}

/// The signed attributes as they stand there.
pub(super) struct Attributes {
    pub(super) content_type: String,
    pub(super) critical: Vec<String>,
    pub(super) scheme: String,
    pub(super) signing_time: Option<Timestamp>,
    pub(super) authentic_signing_time: Option<Timestamp>,
    pub(super) expiry: Option<Timestamp>,
    /// Whether a plugin is to take part in the verification.
    pub(super) plugin: bool,
}

/// Who vouches for the time of signing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// Nobody but a countersignature.
    X509,
    /// The signer, because it is an authority for that.
    SigningAuthority,
}

/// What the attributes say, once they follow the rules.
pub(super) struct Terms {
    pub(super) scheme: Scheme,
    /// By the signer's word.
    pub(super) time: Timestamp,
    pub(super) expiry: Option<Timestamp>,
}

impl Attributes {
    pub(super) fn check(&self) -> Result<Terms, Refused> {
        if self.content_type != PAYLOAD_TYPE {
            return Err(Refused::ContentType(clip(&self.content_type)));
        }
        let (scheme, name, time, needed, forbidden) = match self.scheme.as_str() {
            X509 => (
                Scheme::X509,
                X509,
                self.signing_time,
                SIGNING_TIME,
                self.authentic_signing_time.map(|_| AUTHENTIC_SIGNING_TIME),
            ),
            SIGNING_AUTHORITY => (
                Scheme::SigningAuthority,
                SIGNING_AUTHORITY,
                self.authentic_signing_time,
                AUTHENTIC_SIGNING_TIME,
                self.signing_time.map(|_| SIGNING_TIME),
            ),
            other => return Err(Refused::Scheme(clip(other))),
        };
        if let Some(attribute) = forbidden {
            return Err(Refused::Attribute { scheme: name, attribute, missing: false });
        }
        let time = time.ok_or(Refused::Attribute { scheme: name, attribute: needed, missing: true })?;
        self.check_critical()?;
        if let Some(expiry) = self.expiry.filter(|expiry| *expiry <= time) {
            return Err(Refused::Expiry { expiry, signed: time });
        }
        Ok(Terms { scheme, time, expiry: self.expiry })
    }

    /// What is critical must be understood and be there (RFC 7515, 4.1.11; RFC 9052, 3.1), and what the specification
    /// calls critical must be marked so.
    fn check_critical(&self) -> Result<(), Refused> {
        let present = [
            (SCHEME, true),
            (SIGNING_TIME, self.signing_time.is_some()),
            (AUTHENTIC_SIGNING_TIME, self.authentic_signing_time.is_some()),
            (EXPIRY, self.expiry.is_some()),
        ];
        for (position, name) in self.critical.iter().enumerate() {
            let understood = present.iter().any(|(known, there)| known == name && *there);
            if !understood || self.critical[..position].contains(name) {
                return Err(Refused::Critical(clip(name)));
            }
        }
        let must_be = [
            (SCHEME, true),
            (AUTHENTIC_SIGNING_TIME, self.authentic_signing_time.is_some()),
            (EXPIRY, self.expiry.is_some()),
            (PLUGIN, self.plugin),
        ];
        match must_be.iter().find(|(name, there)| *there && !self.critical.iter().any(|c| c == name)) {
            Some((name, _)) => Err(Refused::NotCritical(name)),
            None => Ok(()),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    target_artifact: Signed,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Signed {
    media_type: String,
    digest: Digest,
    size: u64,
}

/// Compares the whole descriptor, not only its digest (CVE-2023-33959).
pub(super) fn check_payload(payload: &[u8], target: Target<'_>) -> Result<(), Refused> {
    let Payload { target_artifact: signed } = json::read(payload, payload.len())
        .map_err(|e| Refused::Malformed(format!("its payload: {}", clip(&e))))?;
    if signed.media_type == target.media_type && signed.digest == *target.digest && signed.size == target.size
    {
        return Ok(());
    }
    Err(Refused::OtherArtifact {
        media_type: clip(&signed.media_type),
        digest: signed.digest.to_string(),
        size: signed.size,
    })
}
