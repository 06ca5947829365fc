//! Keys that sign, of every kind that real tools have.

use std::{cell::Cell, fmt, sync::LazyLock};

use aws_lc_rs::{
    encoding::{AsBigEndian as _, AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA256_ASN1_SIGNING,
        ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use berth_trust::PublicKey;
use ed25519_dalek::SigningKey;
use sha2::{Digest as _, Sha512};

use super::pem;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    P256,
    P384,
    P521,
    /// As Rekor v1 and older tools use such a key.
    P521WithSha256,
    Ed25519,
    /// As cosign uses an Ed25519 key where only the digest is handed on.
    Ed25519ph,
    Rsa,
}

pub(crate) struct Secret {
    spki: Vec<u8>,
    sign: Box<Sign>,
}

type Sign = dyn Fn(&[u8]) -> Vec<u8>;

/// They take long to find, so there are two, and a test gets one after the other.
static RSA: LazyLock<[RsaKeyPair; 2]> =
    LazyLock::new(|| [(), ()].map(|()| RsaKeyPair::generate(KeySize::Rsa2048).unwrap()));

thread_local! {
    static ODD: Cell<bool> = const { Cell::new(false) };
}

impl Secret {
    pub(crate) fn new(kind: Kind) -> Self {
        match kind {
            Kind::P256 => Self::ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING),
            Kind::P384 => Self::ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING),
            Kind::P521 => Self::ecdsa(&ECDSA_P521_SHA512_ASN1_SIGNING),
            Kind::P521WithSha256 => Self::ecdsa(&ECDSA_P521_SHA256_ASN1_SIGNING),
            Kind::Ed25519 => {
                let pair = Ed25519KeyPair::generate().unwrap();
                Self::made(&pair.public_key().clone(), move |message| pair.sign(message).as_ref().to_vec())
            }
            Kind::Ed25519ph => {
                let pair = Ed25519KeyPair::generate().unwrap();
                let seed: [u8; 32] = pair.seed().unwrap().as_be_bytes().unwrap().as_ref().try_into().unwrap();
                let key = SigningKey::from_bytes(&seed);
                Self::made(pair.public_key(), move |message| {
                    key.sign_prehashed(Sha512::new_with_prefix(message), None).unwrap().to_bytes().to_vec()
                })
            }
            Kind::Rsa => {
                let pair = &RSA[usize::from(ODD.replace(!ODD.get()))];
                Self::made(pair.public_key(), move |message| {
                    let mut signature = vec![0; pair.public_modulus_len()];
                    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
                    signature
                })
            }
        }
    }

    fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm) -> Self {
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        Self::made(&pair.public_key().clone(), move |message| {
            pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
        })
    }

    fn made(key: &impl AsDer<PublicKeyX509Der<'static>>, sign: impl Fn(&[u8]) -> Vec<u8> + 'static) -> Self {
        Self { spki: key.as_der().unwrap().as_ref().to_vec(), sign: Box::new(sign) }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        (self.sign)(message)
    }

    /// Its public half, as `SubjectPublicKeyInfo`.
    pub(crate) fn spki(&self) -> &[u8] {
        &self.spki
    }

    pub(crate) fn pem(&self) -> String {
        pem("PUBLIC KEY", &self.spki)
    }

    pub(crate) fn key(&self) -> PublicKey {
        PublicKey::from_pem(&self.pem()).unwrap()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.pem())
    }
}
