//! Signature algorithms: which one a signing key uses (specification: "Algorithm Selection"), and which ones may stand
//! under a certificate or a timestamp. SHA-1 is in neither table.

use aws_lc_rs::{
    digest,
    rsa::PublicEncryptingKey,
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA384_ASN1, ECDSA_P256_SHA512_ASN1,
        ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_FIXED, ECDSA_P384_SHA512_ASN1,
        ECDSA_P521_SHA256_ASN1, ECDSA_P521_SHA384_ASN1, ECDSA_P521_SHA512_ASN1, ECDSA_P521_SHA512_FIXED,
        ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
        RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, VerificationAlgorithm,
    },
};
use x509_parser::{signature_algorithm::RsaSsaPssParams, x509::AlgorithmIdentifier};

/// The algorithms of an envelope's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
}

/// Each algorithm as JOSE (RFC 7518) and COSE (RFC 9053, RFC 8230) call it.
const NAMES: [(Algorithm, &str, i64); 6] = [
    (Algorithm::Ps256, "PS256", -37),
    (Algorithm::Ps384, "PS384", -38),
    (Algorithm::Ps512, "PS512", -39),
    (Algorithm::Es256, "ES256", -7),
    (Algorithm::Es384, "ES384", -35),
    (Algorithm::Es512, "ES512", -36),
];

impl Algorithm {
    /// The one algorithm for a key (`SubjectPublicKeyInfo`), if there is one.
    pub(super) fn of(key: &[u8]) -> Option<Self> {
        match Key::of(key)? {
            Key::Rsa(2048) => Some(Self::Ps256),
            Key::Rsa(3072) => Some(Self::Ps384),
            Key::Rsa(4096) => Some(Self::Ps512),
            Key::Rsa(_) => None,
            Key::P256 => Some(Self::Es256),
            Key::P384 => Some(Self::Es384),
            Key::P521 => Some(Self::Es512),
        }
    }

    pub(super) fn from_jose(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, jose, _)| *jose == name).map(|(algorithm, ..)| *algorithm)
    }

    pub(super) fn from_cose(label: i64) -> Option<Self> {
        NAMES.iter().find(|(_, _, cose)| *cose == label).map(|(algorithm, ..)| *algorithm)
    }

    pub(super) fn name(self) -> &'static str {
        NAMES.iter().find(|(algorithm, ..)| *algorithm == self).map_or("", |(_, jose, _)| *jose)
    }

    pub(super) fn verifies(self, key: &[u8], message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &'static dyn VerificationAlgorithm = match self {
            Self::Ps256 => &RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &RSA_PSS_2048_8192_SHA512,
            Self::Es256 => &ECDSA_P256_SHA256_FIXED,
            Self::Es384 => &ECDSA_P384_SHA384_FIXED,
            Self::Es512 => &ECDSA_P521_SHA512_FIXED,
        };
        verifies(&[algorithm], key, message, signature)
    }
}

/// The kinds of key that are strong enough for a certificate.
pub(super) enum Key {
    /// With so many bits, at least 2048.
    Rsa(usize),
    P256,
    P384,
    P521,
}

impl Key {
    pub(super) fn of(key: &[u8]) -> Option<Self> {
        // The encrypting key is only asked for its size and the bounds on it: 2048 to 8192 bits.
        if let Ok(rsa) = PublicEncryptingKey::from_der(key) {
            return Some(Self::Rsa(rsa.key_size_bits()));
        }
        let parses =
            |algorithm: &'static dyn VerificationAlgorithm| ParsedPublicKey::new(algorithm, key).is_ok();
        if parses(&ECDSA_P256_SHA256_FIXED) {
            Some(Self::P256)
        } else if parses(&ECDSA_P384_SHA384_FIXED) {
            Some(Self::P384)
        } else {
            parses(&ECDSA_P521_SHA512_FIXED).then_some(Self::P521)
        }
    }
}

/// Algorithms of which the one that fits the key is meant.
pub(super) type Candidates = &'static [&'static dyn VerificationAlgorithm];

const RSA_SHA256: Candidates = &[&RSA_PKCS1_2048_8192_SHA256];
const RSA_SHA384: Candidates = &[&RSA_PKCS1_2048_8192_SHA384];
const RSA_SHA512: Candidates = &[&RSA_PKCS1_2048_8192_SHA512];

/// What an algorithm identifier (RFC 5280, 4.1.1.2) means. A plain `rsaEncryption`, as CMS has it (RFC 3370, 3.2), goes
/// with the digest that stands beside it.
pub(super) fn candidates(
    identifier: &AlgorithmIdentifier<'_>,
    digest: Option<&'static digest::Algorithm>,
) -> Option<Candidates> {
    Some(match identifier.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.1" => match digest? {
            digest if *digest == digest::SHA256 => RSA_SHA256,
            digest if *digest == digest::SHA384 => RSA_SHA384,
            digest if *digest == digest::SHA512 => RSA_SHA512,
            _ => return None,
        },
        "1.2.840.113549.1.1.11" => RSA_SHA256,
        "1.2.840.113549.1.1.12" => RSA_SHA384,
        "1.2.840.113549.1.1.13" => RSA_SHA512,
        "1.2.840.113549.1.1.10" => {
            let parameters = RsaSsaPssParams::try_from(identifier.parameters.as_ref()?).ok()?;
            match hash(&parameters.hash_algorithm_oid().to_id_string())? {
                digest if *digest == digest::SHA256 => &[&RSA_PSS_2048_8192_SHA256],
                digest if *digest == digest::SHA384 => &[&RSA_PSS_2048_8192_SHA384],
                _ => &[&RSA_PSS_2048_8192_SHA512],
            }
        }
        "1.2.840.10045.4.3.2" => &[&ECDSA_P256_SHA256_ASN1, &ECDSA_P384_SHA256_ASN1, &ECDSA_P521_SHA256_ASN1],
        "1.2.840.10045.4.3.3" => &[&ECDSA_P256_SHA384_ASN1, &ECDSA_P384_SHA384_ASN1, &ECDSA_P521_SHA384_ASN1],
        "1.2.840.10045.4.3.4" => &[&ECDSA_P256_SHA512_ASN1, &ECDSA_P384_SHA512_ASN1, &ECDSA_P521_SHA512_ASN1],
        _ => return None,
    })
}

/// The digest that an object identifier names; SHA-1 and older ones are none.
pub(super) fn hash(oid: &str) -> Option<&'static digest::Algorithm> {
    match oid {
        "2.16.840.1.101.3.4.2.1" => Some(&digest::SHA256),
        "2.16.840.1.101.3.4.2.2" => Some(&digest::SHA384),
        "2.16.840.1.101.3.4.2.3" => Some(&digest::SHA512),
        _ => None,
    }
}

/// Whether the signature is by this key (`SubjectPublicKeyInfo`), under the candidate that fits it.
pub(super) fn verifies(
    candidates: &[&'static dyn VerificationAlgorithm],
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    candidates.iter().any(|algorithm| {
        ParsedPublicKey::new(*algorithm, key).is_ok_and(|key| key.verify_sig(message, signature).is_ok())
    })
}
