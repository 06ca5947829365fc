//! Public keys as cosign writes them: PEM with a `SubjectPublicKeyInfo`. A key is known by what it is, not by how it is
//! written, so that the same key under two names or spellings still counts once.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    encoding::AsDer as _,
    rsa::PublicEncryptingKey,
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P521_SHA256_ASN1,
        ECDSA_P521_SHA512_ASN1, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, VerificationAlgorithm,
    },
};
use ed25519_dalek::VerifyingKey;
use rustls_pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};
use sha2::{Digest as _, Sha512};

use crate::{
    anchor::AnchorId,
    der::{BIT_STRING, SEQUENCE, element},
};

/// A public key that verifies signatures: ECDSA P-256, P-384 or P-521, Ed25519, RSA of 2048 bits or more.
#[derive(Clone)]
pub struct PublicKey {
    /// SHA-256 of the canonical `SubjectPublicKeyInfo`.
    id: AnchorId,
    /// The key under each algorithm that signatures by such a key come in.
    verifiers: Arc<[Verifier]>,
}

enum Verifier {
    Plain(ParsedPublicKey),
    /// Ed25519 over the SHA-512 of the message (RFC 8032, Ed25519ph), which is how cosign uses such keys.
    /// aws-lc-rs has only the plain form.
    Ed25519ph(VerifyingKey),
}

impl Verifier {
    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Plain(key) => key.verify_sig(message, signature).is_ok(),
            Self::Ed25519ph(key) => ed25519_dalek::Signature::from_slice(signature).is_ok_and(|signature| {
                key.verify_prehashed_strict(Sha512::new_with_prefix(message), None, &signature).is_ok()
            }),
        }
    }
}

/// A text that holds no usable public key; the message says what to provide.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// No `PUBLIC KEY` block.
    #[error("it holds no PEM block `PUBLIC KEY`: take the .pub file that `cosign generate-key-pair` writes")]
    NoPem,
    /// More than one; which one would count?
    #[error("it holds {0} PEM blocks `PUBLIC KEY`: write one key for each authority")]
    SeveralKeys(usize),
    /// A key for something else.
    #[error(
        "its key is of no supported kind: ECDSA P-256, P-384 or P-521, Ed25519, or RSA of at least 2048 bits"
    )]
    Unsupported,
    /// A secret where everybody can read it.
    #[error("it holds a private key: remove it, consider it stolen, and write the public key")]
    Private,
}

/// Longer texts hold no single key.
const MAX_PEM: usize = 64 * 1024;

/// `SubjectPublicKeyInfo` of an Ed25519 key up to its 32 raw bytes (RFC 8410).
const ED25519_PREFIX: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// `rsaEncryption` and NULL (RFC 3279).
const RSA_ENCRYPTION: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// Whether a text in PEM has a private key in it, of whatever kind.
pub fn holds_private_key(pem: &str) -> bool {
    pem.contains("PRIVATE KEY-----")
}

impl PublicKey {
    /// Reads a key from PEM.
    pub fn from_pem(text: &str) -> Result<Self, InvalidKey> {
        if holds_private_key(text) {
            return Err(InvalidKey::Private);
        }
        let text = text.get(..MAX_PEM).unwrap_or(text).as_bytes();
        let keys: Vec<_> = SubjectPublicKeyInfoDer::pem_slice_iter(text)
            .collect::<Result<_, _>>()
            .map_err(|_| InvalidKey::NoPem)?;
        match keys.as_slice() {
            [] => Err(InvalidKey::NoPem),
            [key] => Self::from_der(key.as_ref()),
            several => Err(InvalidKey::SeveralKeys(several.len())),
        }
    }

    /// Reads a key from a DER `SubjectPublicKeyInfo`.
    pub(crate) fn from_der(spki: &[u8]) -> Result<Self, InvalidKey> {
        let parse = |algorithm: &'static dyn VerificationAlgorithm| ParsedPublicKey::new(algorithm, spki);
        let keys: Vec<_> = if let Ok(p256) = parse(&ECDSA_P256_SHA256_ASN1) {
            vec![p256]
        } else if let (Ok(own), Ok(older)) = (parse(&ECDSA_P384_SHA384_ASN1), parse(&ECDSA_P384_SHA256_ASN1))
        {
            // cosign signs with the curve's own hash, and older ones and Rekor with SHA-256.
            vec![own, older]
        } else if let (Ok(own), Ok(older)) = (parse(&ECDSA_P521_SHA512_ASN1), parse(&ECDSA_P521_SHA256_ASN1))
        {
            vec![own, older]
        } else if let Ok(ed25519) = parse(&ED25519) {
            vec![ed25519]
        } else if PublicEncryptingKey::from_der(spki).is_ok() {
            // The encrypting key is only asked for its bounds on the size: 2048 to 8192 bits.
            vec![parse(&RSA_PKCS1_2048_8192_SHA256).map_err(|_| InvalidKey::Unsupported)?]
        } else {
            return Err(InvalidKey::Unsupported);
        };
        let canonical = keys.first().and_then(|key| key.as_der().ok()).ok_or(InvalidKey::Unsupported)?;
        let canonical: &[u8] = canonical.as_ref();
        let prehashed = canonical
            .strip_prefix(ED25519_PREFIX)
            .and_then(|raw| VerifyingKey::from_bytes(raw.try_into().ok()?).ok())
            .map(Verifier::Ed25519ph);
        let verifiers = keys.into_iter().map(Verifier::Plain).chain(prehashed).collect();
        Ok(Self { id: AnchorId::of(canonical), verifiers })
    }

    /// Reads an RSA key from a DER `RSAPublicKey` (PKCS #1), as some trust roots hold them.
    pub(crate) fn from_pkcs1(key: &[u8]) -> Result<Self, InvalidKey> {
        let bits = element(BIT_STRING, &[&[0], key].concat());
        Self::from_der(&element(SEQUENCE, &[&element(SEQUENCE, RSA_ENCRYPTION), &*bits].concat()))
    }

    /// What this key is known by.
    pub fn id(&self) -> &AnchorId {
        &self.id
    }

    /// Whether `signature` over `message` was made with this key's private half.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.verifiers.iter().any(|verifier| verifier.verifies(message, signature))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PublicKey").field(&self.id).finish()
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for PublicKey {}
