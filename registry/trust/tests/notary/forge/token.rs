//! An RFC 3161 token that is to be.

use aws_lc_rs::digest::{SHA256, digest};

use super::{
    Party,
    der::{algorithm, element, explicit, integer, octets, oid, sequence, set, time},
    party::ECDSA_SHA256,
};

pub(crate) const SHA_256: &str = "2.16.840.1.101.3.4.2.1";
pub(crate) const SHA_1: &str = "1.3.14.3.2.26";
const TST_INFO: &str = "1.2.840.113549.1.9.16.1.4";

/// Parts of a token, each of which can be replaced.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) version: u8,
    pub(crate) policy: &'static str,
    pub(crate) imprint_algorithm: &'static str,
    pub(crate) imprint: Vec<u8>,
    pub(crate) time: &'static str,
    /// DER of what follows the time: accuracy, ordering, nonce, authority, extensions.
    pub(crate) rest: Vec<u8>,
    pub(crate) content_type: &'static str,
    pub(crate) signed_content_type: &'static str,
    pub(crate) digest_algorithm: &'static str,
    pub(crate) signature_algorithm: &'static str,
    /// In place of the content's.
    pub(crate) message_digest: Option<Vec<u8>>,
    /// The attribute that names the signer's certificate: its type, and DER before the hash in `ESSCertIDv2`.
    pub(crate) names_certificate: (&'static str, Vec<u8>),
    pub(crate) certificates: Vec<Vec<u8>>,
    /// DER of more signed attributes.
    pub(crate) more_attributes: Vec<u8>,
    /// Of `SignedData`.
    pub(crate) data_version: u8,
    /// How often the signer's information is in there.
    pub(crate) signers: usize,
}

impl Token {
    /// A good one, for the second of June 2025.
    pub(crate) fn new(clock: &Party, signature: &[u8]) -> Self {
        Self {
            version: 1,
            policy: "1.2.3.4",
            imprint_algorithm: SHA_256,
            imprint: digest(&SHA256, signature).as_ref().to_vec(),
            time: "20250602000000Z",
            rest: Vec::new(),
            content_type: TST_INFO,
            signed_content_type: TST_INFO,
            digest_algorithm: SHA_256,
            signature_algorithm: ECDSA_SHA256,
            message_digest: None,
            names_certificate: ("1.2.840.113549.1.9.16.2.47", Vec::new()),
            certificates: clock.chain.clone(),
            more_attributes: Vec::new(),
            data_version: 3,
            signers: 1,
        }
    }

    pub(crate) fn sign(&self, clock: &Party) -> Vec<u8> {
        self.sign_with(clock, |message| clock.sign_asn1(message))
    }

    /// By the holder of this certificate, with a key of another kind.
    pub(crate) fn sign_with(&self, clock: &Party, sign: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        let imprint = sequence(&[&algorithm(self.imprint_algorithm), &octets(&self.imprint)]);
        let info = sequence(&[
            &integer(self.version),
            &oid(self.policy),
            &imprint,
            &integer(7),
            &time(self.time),
            &self.rest,
        ]);
        let own_digest = digest(&SHA256, &info).as_ref().to_vec();
        let message_digest = self.message_digest.as_ref().unwrap_or(&own_digest);
        let named = digest(&SHA256, clock.certificate());
        let certificate = sequence(&[&self.names_certificate.1, &octets(named.as_ref())]);
        let attribute = |kind: &str, value: &[u8]| sequence(&[&oid(kind), &set(&[value])]);
        let attributes = [
            attribute("1.2.840.113549.1.9.3", &oid(self.signed_content_type)),
            attribute("1.2.840.113549.1.9.4", &octets(message_digest)),
            attribute(self.names_certificate.0, &sequence(&[&sequence(&[&certificate])])),
            self.more_attributes.clone(),
        ]
        .concat();
        let signature = sign(&element(0x31, &[&attributes]));
        let signer = sequence(&[
            &integer(1),
            &sequence(&[]),
            &algorithm(self.digest_algorithm),
            &explicit(0, &[&attributes]),
            &algorithm(self.signature_algorithm),
            &octets(&signature),
        ]);
        let data = sequence(&[
            &integer(self.data_version),
            &set(&[&algorithm(self.digest_algorithm)]),
            &sequence(&[&oid(self.content_type), &explicit(0, &[&octets(&info)])]),
            &explicit(0, &[&self.certificates.concat()]),
            &set(&vec![signer.as_slice(); self.signers]),
        ]);
        sequence(&[&oid("1.2.840.113549.1.7.2"), &explicit(0, &[&data])])
    }
}
