//! Somebody with a key and a chain of certificates.

use aws_lc_rs::{
    encoding::AsDer as _,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::der::{algorithm, boolean, element, explicit, integer, name, octets, oid, sequence, time};

pub(crate) const ECDSA_SHA256: &str = "1.2.840.10045.4.3.2";

const COUNTRY: &str = "2.5.4.6";
const STATE: &str = "2.5.4.8";
const ORGANIZATION: &str = "2.5.4.10";
const COMMON_NAME: &str = "2.5.4.3";

/// What a certificate is to look like.
#[derive(Clone)]
pub(crate) struct Profile {
    /// DER.
    pub(crate) subject: Vec<u8>,
    pub(crate) from: &'static str,
    pub(crate) until: &'static str,
    /// `Extension`s in DER.
    pub(crate) extensions: Vec<Vec<u8>>,
    /// What the certificate says that it is signed with: inside and outside of what is signed.
    pub(crate) algorithms: (&'static str, &'static str),
    /// A `SubjectPublicKeyInfo` in place of the real one.
    pub(crate) key: Option<Vec<u8>>,
    /// An issuer in place of the real one.
    pub(crate) issuer: Option<Vec<u8>>,
}

impl Profile {
    fn new(common_name: &str, extensions: Vec<Vec<u8>>) -> Self {
        let subject = [(COUNTRY, "US"), (STATE, "WA"), (ORGANIZATION, "acme"), (COMMON_NAME, common_name)];
        Self {
            subject: name(&subject),
            from: "20240101000000Z",
            until: "20340101000000Z",
            extensions,
            algorithms: (ECDSA_SHA256, ECDSA_SHA256),
            key: None,
            issuer: None,
        }
    }

    pub(crate) fn authority(common_name: &str) -> Self {
        Self::new(common_name, vec![basic_constraints(true, true, None), key_usage(true, &[KEY_CERT_SIGN])])
    }

    pub(crate) fn signer() -> Self {
        Self::new("signer", vec![key_usage(true, &[0]), extended_key_usage(false, &[CODE_SIGNING])])
    }

    pub(crate) fn clock() -> Self {
        Self::new("clock", vec![key_usage(true, &[0]), extended_key_usage(true, &[TIME_STAMPING])])
    }

    pub(crate) fn with(self, extensions: Vec<Vec<u8>>) -> Self {
        Self { extensions, ..self }
    }

    pub(crate) fn valid(self, from: &'static str, until: &'static str) -> Self {
        Self { from, until, ..self }
    }
}

const KEY_CERT_SIGN: u8 = 5;
pub(crate) const CODE_SIGNING: &str = "1.3.6.1.5.5.7.3.3";
pub(crate) const TIME_STAMPING: &str = "1.3.6.1.5.5.7.3.8";

fn extension(kind: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { boolean(true) } else { Vec::new() };
    sequence(&[&oid(kind), &critical, &octets(value)])
}

/// With these bits (RFC 5280, 4.2.1.3).
pub(crate) fn key_usage(critical: bool, bits: &[u8]) -> Vec<u8> {
    let mut bytes = [0_u8; 2];
    for bit in bits {
        bytes[usize::from(bit / 8)] |= 0x80 >> (bit % 8);
    }
    let bytes = if bytes[1] == 0 { &bytes[..1] } else { &bytes[..] };
    let unused = u8::try_from(bytes.last().unwrap().trailing_zeros().min(7)).unwrap();
    extension("2.5.29.15", critical, &element(0x03, &[&[unused], bytes]))
}

pub(crate) fn extended_key_usage(critical: bool, purposes: &[&str]) -> Vec<u8> {
    let purposes: Vec<Vec<u8>> = purposes.iter().map(|purpose| oid(purpose)).collect();
    let purposes: Vec<&[u8]> = purposes.iter().map(Vec::as_slice).collect();
    extension("2.5.29.37", critical, &sequence(&purposes))
}

pub(crate) fn basic_constraints(critical: bool, ca: bool, path_length: Option<u8>) -> Vec<u8> {
    let ca = if ca { boolean(true) } else { Vec::new() };
    let path_length = path_length.map(integer).unwrap_or_default();
    extension("2.5.29.19", critical, &sequence(&[&ca, &path_length]))
}

/// An RSA key of so many bits that nobody can sign with.
pub(crate) fn rsa_key(bits: usize) -> Vec<u8> {
    let modulus = [&[0][..], &vec![0xff; bits / 8]].concat();
    let key = sequence(&[&element(0x02, &[&modulus]), &element(0x02, &[&[1, 0, 1]])]);
    let kind = sequence(&[&oid("1.2.840.113549.1.1.1"), &element(0x05, &[])]);
    sequence(&[&kind, &element(0x03, &[&[0], &key])])
}

pub(crate) struct Party {
    /// Signs envelopes.
    fixed: EcdsaKeyPair,
    /// Signs certificates and timestamps.
    asn1: EcdsaKeyPair,
    profile: Profile,
    /// DER, the party's own first.
    pub(crate) chain: Vec<Vec<u8>>,
}

impl Party {
    pub(crate) fn root(profile: Profile) -> Self {
        Self::new(profile, None)
    }

    pub(crate) fn issue(&self, profile: Profile) -> Self {
        Self::new(profile, Some(self))
    }

    fn new(profile: Profile, issuer: Option<&Self>) -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = |algorithm| EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref()).unwrap();
        let (fixed, asn1) = (pair(&ECDSA_P256_SHA256_FIXED_SIGNING), pair(&ECDSA_P256_SHA256_ASN1_SIGNING));
        let key =
            profile.key.clone().unwrap_or_else(|| fixed.public_key().as_der().unwrap().as_ref().to_vec());
        let issuer_name = issuer.map_or(&profile.subject, |issuer| &issuer.profile.subject);
        let body = sequence(&[
            &explicit(0, &[&integer(2)]),
            &integer(1),
            &algorithm(profile.algorithms.0),
            profile.issuer.as_ref().unwrap_or(issuer_name),
            &sequence(&[&time(profile.from), &time(profile.until)]),
            &profile.subject,
            &key,
            &explicit(3, &[&sequence(&profile.extensions.iter().map(Vec::as_slice).collect::<Vec<_>>())]),
        ]);
        let signature = sign(issuer.map_or(&asn1, |issuer| &issuer.asn1), &body);
        let signature = element(0x03, &[&[0], &signature]);
        let certificate = sequence(&[&body, &algorithm(profile.algorithms.1), &signature]);
        let above = issuer.map(|issuer| issuer.chain.clone()).unwrap_or_default();
        Self { fixed, asn1, profile, chain: [vec![certificate], above].concat() }
    }

    pub(crate) fn certificate(&self) -> &[u8] {
        &self.chain[0]
    }

    pub(crate) fn pem(&self) -> String {
        let certificate = STANDARD.encode(self.certificate());
        format!("-----BEGIN CERTIFICATE-----\n{certificate}\n-----END CERTIFICATE-----\n")
    }

    /// As envelopes have it: both numbers, in full length.
    pub(crate) fn sign_fixed(&self, message: &[u8]) -> Vec<u8> {
        sign(&self.fixed, message)
    }

    /// As certificates and CMS have it.
    pub(crate) fn sign_asn1(&self, message: &[u8]) -> Vec<u8> {
        sign(&self.asn1, message)
    }
}

fn sign(key: &EcdsaKeyPair, message: &[u8]) -> Vec<u8> {
    key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
}
