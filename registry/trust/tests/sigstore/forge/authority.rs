//! A Fulcio of the tests: one root, which issues certificates for ten minutes, and has a certificate log see them.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose as Purpose, IsCa, Issuer, KeyPair, KeyUsagePurpose as Usage, SanType,
    SerialNumber, SubjectPublicKeyInfo,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Log, NOW, Secret, base64};

const ISSUER: &[u64] = &[1, 3, 6, 1, 4, 1, 57264, 1, 8];
const SCT_LIST: &[u64] = &[1, 3, 6, 1, 4, 1, 11129, 2, 4, 2];

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

fn params(name: &str, from: i64, until: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |seconds: i64| epoch + std::time::Duration::from_secs(u64::try_from(seconds).unwrap());
    (params.not_before, params.not_after) = (at(from), at(until));
    params
}

fn octets(bytes: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    match (high, low) {
        (0, 0..=0x7f) => [&[0x04, low], bytes].concat(),
        (0, _) => [&[0x04, 0x81, low], bytes].concat(),
        _ => [&[0x04, 0x82, high, low], bytes].concat(),
    }
}

fn vector(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = params("fulcio", NOW - 86_400, NOW + 86_400);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![Usage::KeyCertSign];
        params.extended_key_usages = vec![Purpose::CodeSigning];
        let certificate = params.self_signed(&key).unwrap().der().to_vec();
        let (_, parsed) = X509Certificate::from_der(&certificate).unwrap();
        let spki = parsed.public_key().raw.to_vec();
        Self { issuer: Issuer::new(params, key), key: spki, certificate }
    }

    /// As a trust root names it.
    pub(crate) fn trusted(&self) -> Value {
        json!({
            "subject": {"organization": "example", "commonName": "fulcio"}, "uri": "https://fulcio.example",
            "certChain": {"certificates": [{"rawBytes": base64(&self.certificate)}]},
            "validFor": {"start": "2025-01-01T00:00:00Z"},
        })
    }

    /// A certificate for the key, and who saw it before; a log may see it at another time, or something else instead.
    pub(crate) fn issue(&self, holder: &Secret, seen_by: &[(&Log, i64, bool)]) -> Vec<u8> {
        let mut params = params("", NOW - 300, NOW + 300);
        params.distinguished_name = DistinguishedName::new();
        params.serial_number = Some(SerialNumber::from(7_u64));
        params.key_usages = vec![Usage::DigitalSignature];
        params.extended_key_usages = vec![Purpose::CodeSigning];
        params.subject_alt_names = vec![SanType::Rfc822Name("alice@example.com".try_into().unwrap())];
        let issuer = b"https://issuer.example";
        let issuer = [&[0x0c, u8::try_from(issuer.len()).unwrap()], &issuer[..]].concat();
        params.custom_extensions.push(CustomExtension::from_oid_content(ISSUER, issuer));
        let key = SubjectPublicKeyInfo::from_der(holder.spki()).unwrap();
        let seen = params.clone().signed_by(&key, &self.issuer).unwrap();
        let (_, seen) = X509Certificate::from_der(seen.der()).unwrap();
        let seen = seen.tbs_certificate.as_ref();
        let stamps: Vec<u8> = seen_by
            .iter()
            .flat_map(|(log, time, honest)| {
                let time = u64::try_from(time * 1000).unwrap().to_be_bytes();
                let length = u32::try_from(seen.len()).unwrap().to_be_bytes();
                let key = Sha256::digest(if *honest { &self.key[..] } else { b"another" });
                let signed = [&[0, 0][..], &time, &[0, 1], &key, &length[1..], seen, &[0, 0]].concat();
                // SHA-256 with ECDSA, whatever the log's key is: what logs by RFC 6962 say.
                let signature = [&[4, 3][..], &vector(&log.sign(&signed))].concat();
                vector(&[&[0], log.id(), &time, &[0, 0], &signature].concat())
            })
            .collect();
        if !stamps.is_empty() {
            let list = octets(&vector(&stamps));
            params.custom_extensions.push(CustomExtension::from_oid_content(SCT_LIST, list));
        }
        params.signed_by(&key, &self.issuer).unwrap().der().to_vec()
    }
}
