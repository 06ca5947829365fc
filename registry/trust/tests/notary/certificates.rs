//! The requirements for certificates, one broken at a time, and what a store may hold.

use std::sync::LazyLock;

use berth_trust::{
    Validity,
    notary::{CertificateFault as Fault, InvalidStore, NotaryStore, Refused, UnfitCertificate},
};
use proptest::prelude::*;
use rstest::rstest;

use crate::forge::{
    Draft, Form, Party, Profile, basic_constraints, extended_key_usage, key_usage,
    party::{CODE_SIGNING, TIME_STAMPING},
    rsa_key,
};

const SERVER_AUTH: &str = "1.3.6.1.5.5.7.3.1";
const CLIENT_AUTH: &str = "1.3.6.1.5.5.7.3.2";
const EMAIL: &str = "1.3.6.1.5.5.7.3.4";
const OCSP: &str = "1.3.6.1.5.5.7.3.9";
const ANY: &str = "2.5.29.37.0";
const OTHER: &str = "1.3.6.1.4.1.311.10.3.13";
const ECDSA_SHA1: &str = "1.2.840.10045.4.1";
const RSA_SHA1: &str = "1.2.840.113549.1.1.5";

/// Root, intermediate, signer.
struct Profiles {
    root: Profile,
    middle: Profile,
    signer: Profile,
}

impl Profiles {
    fn new() -> Self {
        Self {
            root: Profile::authority("root"),
            middle: Profile::authority("middle"),
            signer: Profile::signer(),
        }
    }

    fn parties(self) -> [Party; 3] {
        let root = Party::root(self.root);
        let middle = root.issue(self.middle);
        let signer = middle.issue(self.signer);
        [root, middle, signer]
    }
}

fn outcome(profiles: Profiles) -> Result<(), Refused> {
    let [root, _, signer] = profiles.parties();
    let store = NotaryStore::new(&root.pem()).unwrap();
    Draft::new(&signer).verify(Form::Cose, &signer, &store).map(|_| ())
}

fn unfit(common_name: &str, fault: Fault) -> Result<(), Refused> {
    let subject = format!("C=US, ST=WA, O=acme, CN={common_name}");
    Err(Refused::Certificate(UnfitCertificate { subject, fault }))
}

#[rstest]
#[case::none(vec![], true)]
#[case::critical(vec![extended_key_usage(true, &[CODE_SIGNING])], true)]
#[case::another_besides(vec![extended_key_usage(false, &[CODE_SIGNING, OTHER])], true)]
#[case::another_alone(vec![extended_key_usage(false, &[OTHER])], true)]
#[case::any(vec![extended_key_usage(false, &[CODE_SIGNING, ANY])], false)]
#[case::server(vec![extended_key_usage(false, &[CODE_SIGNING, SERVER_AUTH])], false)]
#[case::client(vec![extended_key_usage(false, &[CLIENT_AUTH])], false)]
#[case::email(vec![extended_key_usage(false, &[CODE_SIGNING, EMAIL])], false)]
#[case::timestamps(vec![extended_key_usage(false, &[TIME_STAMPING])], false)]
#[case::ocsp(vec![extended_key_usage(false, &[CODE_SIGNING, OCSP])], false)]
fn extended_key_usage_of_the_signer(#[case] extension: Vec<Vec<u8>>, #[case] good: bool) {
    let mut profiles = Profiles::new();
    profiles.signer = profiles.signer.with([vec![key_usage(true, &[0])], extension].concat());
    let expected = if good { Ok(()) } else { unfit("signer", Fault::ExtendedKeyUsage("codeSigning")) };
    assert_eq!(outcome(profiles), expected);
}

#[rstest]
#[case::alone(vec![key_usage(true, &[0])], None)]
#[case::non_repudiation_besides(vec![key_usage(true, &[0, 1])], None)]
#[case::explicitly_no_authority(vec![key_usage(true, &[0]), basic_constraints(false, false, None)], None)]
#[case::absent(vec![], Some(Fault::NoKeyUsage))]
#[case::not_critical(vec![key_usage(false, &[0])], Some(Fault::NoKeyUsage))]
#[case::twice(vec![key_usage(true, &[0]), key_usage(true, &[0])], Some(Fault::Malformed))]
#[case::no_signature(vec![key_usage(true, &[1])], Some(Fault::KeyUsage))]
#[case::key_encipherment(vec![key_usage(true, &[0, 2])], Some(Fault::KeyUsage))]
#[case::data_encipherment(vec![key_usage(true, &[0, 3])], Some(Fault::KeyUsage))]
#[case::key_agreement(vec![key_usage(true, &[0, 4])], Some(Fault::KeyUsage))]
#[case::certificates(vec![key_usage(true, &[0, 5])], Some(Fault::KeyUsage))]
#[case::revocation_lists(vec![key_usage(true, &[0, 6])], Some(Fault::KeyUsage))]
#[case::encipher_only(vec![key_usage(true, &[0, 7])], Some(Fault::KeyUsage))]
#[case::decipher_only(vec![key_usage(true, &[0, 8])], Some(Fault::KeyUsage))]
#[case::authority(vec![key_usage(true, &[0]), basic_constraints(true, true, None)], Some(Fault::Authority))]
fn key_usage_of_the_signer(#[case] extensions: Vec<Vec<u8>>, #[case] fault: Option<Fault>) {
    let mut profiles = Profiles::new();
    profiles.signer = profiles.signer.with(extensions);
    assert_eq!(outcome(profiles), fault.map_or(Ok(()), |fault| unfit("signer", fault)));
}

#[rstest]
#[case::usual(vec![basic_constraints(true, true, None), key_usage(true, &[5, 6])], None)]
#[case::short_path(vec![basic_constraints(true, true, Some(0)), key_usage(true, &[5])], None)]
#[case::no_constraints(vec![key_usage(true, &[5])], Some(Fault::NotAuthority))]
#[case::constraints_not_critical(
    vec![basic_constraints(false, true, None), key_usage(true, &[5])],
    Some(Fault::NotAuthority)
)]
#[case::no_authority(vec![basic_constraints(true, false, None), key_usage(true, &[5])], Some(Fault::NotAuthority))]
#[case::no_usage(vec![basic_constraints(true, true, None)], Some(Fault::NoKeyUsage))]
#[case::usage_not_critical(
    vec![basic_constraints(true, true, None), key_usage(false, &[5])],
    Some(Fault::NoKeyUsage)
)]
#[case::for_signatures_only(
    vec![basic_constraints(true, true, None), key_usage(true, &[0])],
    Some(Fault::NotForIssuing)
)]
fn authorities(#[case] extensions: Vec<Vec<u8>>, #[case] fault: Option<Fault>) {
    let mut profiles = Profiles::new();
    profiles.middle = profiles.middle.with(extensions);
    assert_eq!(outcome(profiles), fault.map_or(Ok(()), |fault| unfit("middle", fault)));
}

#[rstest]
#[case(Some(1), None)]
#[case(Some(0), Some(Fault::PathLength { allowed: 0, below: 1 }))]
fn path_length_of_the_root(#[case] length: Option<u8>, #[case] fault: Option<Fault>) {
    let mut profiles = Profiles::new();
    profiles.root = profiles.root.with(vec![basic_constraints(true, true, length), key_usage(true, &[5])]);
    assert_eq!(outcome(profiles), fault.map_or(Ok(()), |fault| unfit("root", fault)));
}

#[rstest]
#[case::sha1((ECDSA_SHA1, ECDSA_SHA1), Fault::SignatureAlgorithm("SHA-1".to_owned()))]
#[case::rsa_with_sha1((RSA_SHA1, RSA_SHA1), Fault::SignatureAlgorithm("SHA-1".to_owned()))]
#[case::unknown(("1.2.3", "1.2.3"), Fault::SignatureAlgorithm("1.2.3".to_owned()))]
fn signature_algorithms_of_certificates(
    #[case] algorithms: (&'static str, &'static str),
    #[case] fault: Fault,
    #[values("signer", "middle", "root")] of: &str,
) {
    let mut profiles = Profiles::new();
    match of {
        "signer" => profiles.signer.algorithms = algorithms,
        "middle" => profiles.middle.algorithms = algorithms,
        _ => profiles.root.algorithms = algorithms,
    }
    // A root that is not self-signed is no root, but an authority: the store takes it.
    assert_eq!(outcome(profiles), unfit(of, fault));
}

/// What is not signed has one spelling: the algorithm that is signed, again, and whole bytes.
#[test]
fn the_frame_of_a_certificate_is_exact() {
    let malformed = Err(Refused::Malformed("certificate 2 of its chain is no X.509".to_owned()));
    let mut profiles = Profiles::new();
    profiles.middle.algorithms = ("1.2.840.10045.4.3.3", "1.2.840.10045.4.3.2");
    assert_eq!(outcome(profiles), malformed);

    let [root, middle, signer] = &*PARTIES;
    let store = NotaryStore::new(&root.pem()).unwrap();
    let length = middle.certificate().len();
    for position in (0..8).chain(length - 100..length) {
        for change in [0x01, 0x07, 0x20, 0x80] {
            let mut draft = Draft::new(signer);
            draft.chain[1][position] ^= change;
            assert!(draft.verify(Form::Cose, signer, &store).is_err(), "{position} {change}");
        }
    }
}

#[test]
fn keys_that_are_too_weak_or_of_no_use() {
    let mut profiles = Profiles::new();
    profiles.middle.key = Some(rsa_key(1024));
    assert_eq!(outcome(profiles), unfit("middle", Fault::Key));
    for bits in [1024, 2560] {
        let mut profiles = Profiles::new();
        profiles.signer.key = Some(rsa_key(bits));
        assert_eq!(outcome(profiles), unfit("signer", Fault::SigningKey));
    }
    // The header follows the key, and the key is not the signer's.
    let mut profiles = Profiles::new();
    profiles.signer.key = Some(rsa_key(2048));
    assert_eq!(outcome(profiles), Err(Refused::Algorithm { said: "ES256", key: "PS256" }));
}

static PARTIES: LazyLock<[Party; 3]> = LazyLock::new(|| Profiles::new().parties());

#[test]
fn order_and_completeness() {
    let [root, middle, signer] = &*PARTIES;
    let store = NotaryStore::new(&root.pem()).unwrap();
    let stranger = Party::root(Profile::authority("stranger"));
    let parts = [signer.certificate(), middle.certificate(), root.certificate(), stranger.certificate()];
    let verify = |order: &[usize]| {
        let mut draft = Draft::new(signer);
        draft.chain = order.iter().map(|part| parts[*part].to_vec()).collect();
        draft.verify(Form::Jws, signer, &store).map(|_| ())
    };
    assert_eq!(verify(&[0, 1, 2]), Ok(()));
    assert_eq!(verify(&[0, 1]), unfit("middle", Fault::NotRoot));
    assert_eq!(verify(&[0]), unfit("signer", Fault::NotRoot));
    assert_eq!(verify(&[0, 2]), unfit("signer", Fault::Issuer));
    assert_eq!(verify(&[0, 2, 1]), unfit("signer", Fault::Issuer));
    assert_eq!(verify(&[0, 1, 1, 2]), unfit("middle", Fault::Issuer));
    assert_eq!(verify(&[0, 1, 2, 2]), unfit("root", Fault::SelfSigned));
    assert_eq!(verify(&[0, 1, 2, 3]), unfit("root", Fault::SelfSigned));
    assert_eq!(verify(&[0, 1, 3]), unfit("middle", Fault::Issuer));
    // Another key than the one that signed comes first.
    assert_eq!(verify(&[1, 2]), Err(Refused::Altered));
}

#[test]
fn an_issuer_is_known_by_name_and_key() {
    let mut profiles = Profiles::new();
    profiles.signer.issuer = Some(Profile::authority("another").subject);
    assert_eq!(outcome(profiles), unfit("signer", Fault::Issuer));

    let [root, _, signer] = &*PARTIES;
    let store = NotaryStore::new(&root.pem()).unwrap();
    let impostor = root.issue(Profile::authority("middle"));
    let mut draft = Draft::new(signer);
    draft.chain = [vec![signer.certificate().to_vec()], impostor.chain].concat();
    let refused = draft.verify(Form::Jws, signer, &store).map(|_| ());
    assert_eq!(refused, unfit("signer", Fault::Issuer));
}

#[test]
fn a_store_may_hold_the_root_or_an_intermediate() {
    let [_, middle, signer] = &*PARTIES;
    let draft = Draft::new(signer);
    let store = NotaryStore::new(&middle.pem()).unwrap();
    assert!(draft.verify(Form::Jws, signer, &store).is_ok());
    // Same name, other key.
    let impostor = Party::root(Profile::authority("root"));
    let store = NotaryStore::new(&impostor.pem()).unwrap();
    let root = "C=US, ST=WA, O=acme, CN=root".to_owned();
    assert_eq!(draft.verify(Form::Jws, signer, &store), Err(Refused::UnknownRoot(root)));
}

#[test]
fn a_single_certificate_is_a_signer_and_its_own_root() {
    let alone = Party::root(Profile::signer());
    let store = NotaryStore::new(&alone.pem()).unwrap();
    assert!(Draft::new(&alone).verify(Form::Jws, &alone, &store).is_ok());
    let authority = Party::root(Profile::authority("signer"));
    let store = NotaryStore::new(&authority.pem()).unwrap();
    let refused = Draft::new(&authority).verify(Form::Jws, &authority, &store).map(|_| ());
    assert_eq!(refused, unfit("signer", Fault::Authority));
}

/// CVE-2026-24122: every certificate of the chain must be valid, so what they have in common is given back.
#[test]
fn the_window_is_what_all_certificates_have_in_common() {
    let mut profiles = Profiles::new();
    profiles.middle = profiles.middle.valid("20250301000000Z", "20250901000000Z");
    profiles.signer = profiles.signer.valid("20250101000000Z", "20260101000000Z");
    let [root, _, signer] = profiles.parties();
    let store = NotaryStore::new(&root.pem()).unwrap();
    let by = Draft::new(&signer).verify(Form::Cose, &signer, &store).unwrap();
    let from = "2025-03-01T00:00:00Z".parse().unwrap();
    let until = "2025-09-01T00:00:00Z".parse().unwrap();
    assert_eq!(by.valid, Some(Validity { from, until }));
}

#[test]
fn stores_are_known_by_what_they_hold() {
    let [root, middle, signer] = &*PARTIES;
    let store = |pem: &str| NotaryStore::new(pem);
    let both = store(&(root.pem() + &middle.pem())).unwrap();
    let swapped = store(&format!("a comment\n{}{}{}", middle.pem(), root.pem(), root.pem())).unwrap();
    assert_eq!((both.id(), &both), (swapped.id(), &swapped));
    let one = store(&root.pem()).unwrap();
    let ids = [
        both.id(),
        one.id(),
        one.clone().with_signing_authorities(&root.pem()).unwrap().id(),
        one.clone().with_timestamp_authorities(&root.pem()).unwrap().id(),
    ];
    for (position, id) in ids.iter().enumerate() {
        assert!(!ids[..position].contains(id));
    }

    assert_eq!(store(""), Err(InvalidStore::NoPem));
    assert_eq!(store("-----BEGIN PRIVATE KEY-----\n"), Err(InvalidStore::Private));
    let subject = "C=US, ST=WA, O=acme, CN=signer".to_owned();
    assert_eq!(store(&(root.pem() + &signer.pem())), Err(InvalidStore::NotRoot(subject)));
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(store(&(root.pem() + garbage)), Err(InvalidStore::Malformed(2)));
    assert_eq!(store(&" ".repeat(1024 * 1024 + 1)), Err(InvalidStore::TooLarge(1024 * 1024 + 1)));
}

proptest! {
    /// The chain is not signed by the signer: any byte of it can be another, and none of that helps.
    #[test]
    fn an_altered_chain_never_counts(
        certificate in 1_usize..3,
        position in any::<prop::sample::Index>(),
        change in 1_u8..,
    ) {
        let [root, _, signer] = &*PARTIES;
        let mut draft = Draft::new(signer);
        let der = &mut draft.chain[certificate];
        let position = position.index(der.len());
        der[position] ^= change;
        let store = NotaryStore::new(&root.pem()).unwrap();
        prop_assert!(draft.verify(Form::Cose, signer, &store).is_err());
    }

    #[test]
    fn arbitrary_certificates_never_panic(der in prop::collection::vec(any::<u8>(), 0..300)) {
        let [root, _, signer] = &*PARTIES;
        let mut draft = Draft::new(signer);
        draft.chain[1] = der;
        let store = NotaryStore::new(&root.pem()).unwrap();
        prop_assert!(draft.verify(Form::Cose, signer, &store).is_err());
    }
}
