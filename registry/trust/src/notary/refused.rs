//! Why a Notary Project signature does not count, with the cure. A message continues "a signature was found, but …".

use jiff::Timestamp;

use super::MAX_ENVELOPE;
use super::chain::MAX_CHAIN;

/// Why a signature does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Neither JWS nor COSE.
    #[error("its media type {0:?} is no signature envelope: sign with `notation sign`")]
    MediaType(String),
    /// More bytes than are looked at.
    #[error("its envelope has {0} bytes, more than the limit of {MAX_ENVELOPE}: sign without added data")]
    TooLarge(usize),
    /// No envelope as the specification has it.
    #[error("its envelope is malformed: {0}; sign the image again")]
    Malformed(String),
    /// The header's algorithm is not that of the signing key.
    #[error("its header says {said}, but its certificate's key signs with {key}: sign the image again")]
    Algorithm {
        /// What the header says.
        said: &'static str,
        /// What the key demands.
        key: &'static str,
    },
    /// The signature does not verify.
    #[error("its content or signature was altered: restore or sign the image again")]
    Altered,
    /// A critical attribute that is not understood, or that is not there.
    #[error("it demands that its attribute {0:?} be understood, which is not possible here: sign without it")]
    Critical(String),
    /// An attribute that must be critical is not.
    #[error("its attribute {0} is not marked critical: sign with a tool that follows the specification")]
    NotCritical(&'static str),
    /// Another signing scheme.
    #[error("its signing scheme {0:?} is unknown: sign with the scheme notary.x509")]
    Scheme(String),
    /// An attribute that the scheme demands is missing, or one that it forbids is there.
    #[error("its signing scheme {scheme} does not go with{} {attribute}: sign the image again", if *.missing { "out" } else { "" })]
    Attribute {
        /// The scheme.
        scheme: &'static str,
        /// The attribute.
        attribute: &'static str,
        /// Missing rather than forbidden.
        missing: bool,
    },
    /// What is signed is something else than an artifact.
    #[error("its content type {0:?} is unknown: sign an image with `notation sign`")]
    ContentType(String),
    /// It expired before it was made.
    #[error("it expires at {expiry}, not after it was signed at {signed}: sign again with a later expiry")]
    Expiry {
        /// When it expires.
        expiry: Timestamp,
        /// When it was signed.
        signed: Timestamp,
    },
    /// More certificates than are looked at.
    #[error("its chain has {0} certificates, and 1 to {MAX_CHAIN} are allowed: sign with a shorter chain")]
    ChainLength(usize),
    /// A certificate does not meet the specification's requirements.
    #[error("its certificate {0}")]
    Certificate(#[from] UnfitCertificate),
    /// The chain does not lead to a root that is trusted.
    #[error(
        "its certificates lead to the root {0:?}, which is not in the trust store: add that root if you trust it"
    )]
    UnknownRoot(String),
    /// A signing authority signed, and none is trusted.
    #[error(
        "a signing authority signed it, and the policy trusts none: name its root, or sign with your own key"
    )]
    NoSigningAuthorities,
    /// It is for another artifact.
    #[error("it is for {media_type} {digest} of {size} bytes, not for this image: sign this image")]
    OtherArtifact {
        /// Media type of what is signed.
        media_type: String,
        /// Digest of what is signed.
        digest: String,
        /// Size of what is signed.
        size: u64,
    },
    /// The countersignature does not count.
    #[error("its timestamp {0}")]
    Timestamp(#[from] TimestampFault),
    /// Some certificate was not valid when it signed.
    #[error(
        "it was signed at {at}, and its certificates were valid from {from} to {until}: sign again with valid ones"
    )]
    NotValidThen {
        /// The proven time.
        at: Timestamp,
        /// Begin of the time at which all certificates are valid.
        from: Timestamp,
        /// End of it.
        until: Timestamp,
    },
}

/// A certificate that does not meet the requirements.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{subject:?} {fault}")]
pub struct UnfitCertificate {
    /// Whose.
    pub subject: String,
    /// What is wrong with it.
    pub fault: CertificateFault,
}

/// What is wrong with a certificate (specification: "Certificate Requirements").
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// An extension cannot be read, or stands there twice.
    #[error("cannot be read: issue it anew")]
    Malformed,
    /// Signed with SHA-1 or something unknown.
    #[error("is signed with {0}: issue it anew with SHA-256 or better")]
    SignatureAlgorithm(String),
    /// A key that is too weak or of another kind.
    #[error(
        "has a key that is neither RSA of 2048 bits or more nor ECDSA on P-256, P-384 or P-521: issue it anew"
    )]
    Key,
    /// A leaf whose key has no signature algorithm.
    #[error(
        "has a key that cannot sign: use RSA of 2048, 3072 or 4096 bits, or ECDSA on P-256, P-384 or P-521"
    )]
    SigningKey,
    /// Key usage missing or not critical.
    #[error("has no critical key usage: issue it anew with one")]
    NoKeyUsage,
    /// A leaf that may do other things than sign.
    #[error("has a key usage other than digitalSignature alone: issue it anew")]
    KeyUsage,
    /// An authority that may not issue.
    #[error("issued another and has no key usage keyCertSign: issue it anew")]
    NotForIssuing,
    /// Extended key usage for other things.
    #[error("has an extended key usage that is not for {0}: issue it anew for that")]
    ExtendedKeyUsage(&'static str),
    /// A leaf that is an authority.
    #[error("is a certificate authority: sign with a certificate that it issued")]
    Authority,
    /// An authority that is none.
    #[error("issued another and has no critical basic constraint `CA: true`: issue it anew")]
    NotAuthority,
    /// Too many certificates below.
    #[error(
        "allows {allowed} authorities below it, and the chain has {below}: issue directly, or raise the limit"
    )]
    PathLength {
        /// Its path length constraint.
        allowed: u32,
        /// How many there are.
        below: usize,
    },
    /// Not by the next in the chain.
    #[error("was not issued by the next one: give the chain in order, signer first and root last")]
    Issuer,
    /// A root that is not last.
    #[error("is self-signed, but not the last one: leave out what follows")]
    SelfSigned,
    /// The last is no root.
    #[error("is the last one, but not self-signed: append the certificates up to the root")]
    NotRoot,
}

/// Why an RFC 3161 countersignature does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimestampFault {
    /// Cannot be read.
    #[error("is no RFC 3161 token with one signer and signed attributes: have it made again")]
    Malformed,
    /// SHA-1 or something unknown.
    #[error(
        "uses an algorithm other than SHA-256, SHA-384 or SHA-512 with RSA or ECDSA: use another authority"
    )]
    Algorithm,
    /// About something else.
    #[error("is for another signature: sign the image again")]
    OtherSignature,
    /// The authority's certificate is not there, or not the one that is named.
    #[error(
        "does not hold the certificate that its signed attribute signing-certificate-v2 names: use another authority"
    )]
    NoCertificate,
    /// The token's signature does not verify.
    #[error("was altered: sign the image again")]
    Altered,
    /// A certificate of the authority does not meet the requirements.
    #[error("is by an authority whose certificate {0}")]
    Certificate(#[from] UnfitCertificate),
    /// No trusted root.
    #[error("is by {0:?}, which leads to none of the trusted timestamp roots: add its root if you trust it")]
    UnknownRoot(String),
    /// The authority's certificates were not valid.
    #[error("is of {0}, when its authority's certificates were not valid: use another authority")]
    NotValidThen(Timestamp),
}
