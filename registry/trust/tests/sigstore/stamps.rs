//! RFC 3161 timestamps by authorities of a trust root, which say when a signature by key was made: with keys of every kind,
//! as whole answers or tokens alone, with the certificates or without. Which authority signs is known beforehand.

use berth_trust::sigstore::{Presented, TrustRoot};
use rstest::rstest;
use serde_json::{Value, json};

use crate::{
    forge::{Kind, Secret, base64},
    logs::{Logged, Signed},
    material::outcome,
    workshop::{
        Party, Profile, Token,
        der::{element, integer, sequence},
        extended_key_usage,
        party::CODE_SIGNING,
    },
};

const RSA_SHA256: &str = "1.2.840.113549.1.1.11";

struct Instance {
    root: Party,
    clock: Party,
    secret: Secret,
    signed: Signed,
}

impl Instance {
    fn new(clock: Profile) -> Self {
        let (root, secret) = (Party::root(Profile::authority("root")), Secret::new(Kind::P256));
        let clock = root.issue(Profile::authority("intermediate")).issue(clock);
        Self { root, clock, signed: Signed::new(Logged::Dsse, &secret, None), secret }
    }

    fn token(&self) -> Token {
        Token::new(&self.clock, self.signed.signature())
    }

    /// What becomes of the signature with this timestamp, if these certificates are trusted.
    fn proven(&self, token: &[u8], chain: &[Vec<u8>], change: impl FnOnce(&mut Value)) -> String {
        let chain: Vec<_> = chain.iter().map(|der| json!({"rawBytes": base64(der)})).collect();
        let mut document = json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "timestampAuthorities": [{
                "subject": {}, "certChain": {"certificates": chain}, "validFor": {"start": "2025-01-01T00:00:00Z"},
            }],
        });
        change(&mut document["timestampAuthorities"][0]);
        let root = TrustRoot::parse(document.to_string().as_bytes()).unwrap();
        let mut bundle: Value = serde_json::from_str(&self.signed.bundle(&[])).unwrap();
        bundle["verificationMaterial"]["timestampVerificationData"] =
            json!({"rfc3161Timestamps": [{"signedTimestamp": base64(token)}]});
        let proven =
            Presented::bundle(bundle.to_string().as_bytes()).unwrap().proven(&root, &self.secret.key());
        proven.map_or_else(|refused| outcome::<()>(Err(refused)).to_owned(), |time| time.to_string())
    }
}

const TIME: &str = "2025-06-02T00:00:00Z";

#[rstest]
#[case::good(|_: &mut Token| (), TIME)]
// An authority is known by its certificate, so nobody needs to send it, or to name it as one does today.
#[case::without_certificates(|t: &mut Token| t.certificates.clear(), TIME)]
#[case::named_in_the_way_of_old(|t: &mut Token| t.names_certificate.0 = "1.2.840.113549.1.9.16.2.12", TIME)]
#[case::another_signature(|t: &mut Token| t.imprint = vec![0; 32], "BadTimestamp")]
#[case::altered(|t: &mut Token| t.message_digest = Some(vec![0; 32]), "BadTimestamp")]
#[case::no_timestamp(|t: &mut Token| t.content_type = "1.2.840.113549.1.7.1", "BadTimestamp")]
#[case::two_signers(|t: &mut Token| t.signers = 2, "BadTimestamp")]
#[case::before_the_authority(|t: &mut Token| t.time = "20231231235959Z", "BadTimestamp")]
#[case::before_it_was_believed(|t: &mut Token| t.time = "20241231235959Z", "BadTimestamp")]
fn what_an_authority_of_the_trust_root_says(#[case] change: fn(&mut Token), #[case] expected: &str) {
    let instance = Instance::new(Profile::clock());
    let mut token = instance.token();
    change(&mut token);
    let token = token.sign(&instance.clock);
    assert_eq!(instance.proven(&token, &instance.clock.chain, |_| ()), expected);
}

#[test]
fn the_authority_is_the_one_that_the_trust_root_names() {
    let instance = Instance::new(Profile::clock());
    let token = instance.token().sign(&instance.clock);
    let proven = |chain: &[Vec<u8>]| instance.proven(&token, chain, |_| ());
    assert_eq!(proven(&instance.clock.chain), TIME);
    // What stands last is trusted as it is.
    assert_eq!(proven(&instance.clock.chain[..2]), TIME);
    // Another clock of the same authority; one that nobody issued.
    let other = instance.root.issue(Profile::clock());
    assert_eq!(proven(&other.chain), "BadTimestamp");
    let alone = [instance.clock.chain[..1].to_vec(), other.chain[1..].to_vec()].concat();
    assert_eq!(proven(&alone), "BadTimestamp");
    let ended = |authority: &mut Value| authority["validFor"]["end"] = "2025-06-01T23:59:59Z".into();
    assert_eq!(instance.proven(&token, &instance.clock.chain, ended), "BadTimestamp");
    let other = Instance::new(Profile::clock().with(vec![extended_key_usage(true, &[CODE_SIGNING])]));
    let token = other.token().sign(&other.clock);
    assert_eq!(other.proven(&token, &other.clock.chain, |_| ()), "BadTimestamp");
}

/// `TimeStampResp`: the authority granted it (0), granted it with changes (1), or rejected it (2).
#[rstest]
#[case(0, TIME)]
#[case(1, TIME)]
#[case(2, "BadTimestamp")]
fn an_answer_is_a_token_if_it_was_granted(#[case] status: u8, #[case] expected: &str) {
    let instance = Instance::new(Profile::clock());
    let token = instance.token().sign(&instance.clock);
    let answer = sequence(&[&sequence(&[&integer(status)]), &token]);
    assert_eq!(instance.proven(&answer, &instance.clock.chain, |_| ()), expected);
}

/// Most commercial authorities sign with RSA.
#[test]
fn an_authority_with_an_rsa_key() {
    let rsa = Secret::new(Kind::Rsa);
    let instance = Instance::new(Profile { key: Some(rsa.spki().to_vec()), ..Profile::clock() });
    let token = Token { signature_algorithm: RSA_SHA256, ..instance.token() };
    let chain = &instance.clock.chain;
    let by = |secret: &Secret| token.sign_with(&instance.clock, |message| secret.sign(message));
    assert_eq!(instance.proven(&by(&rsa), chain, |_| ()), TIME);
    assert_eq!(instance.proven(&by(&Secret::new(Kind::Rsa)), chain, |_| ()), "BadTimestamp");
    assert_eq!(instance.proven(&element(0x30, &[]), chain, |_| ()), "BadTimestamp");
}
