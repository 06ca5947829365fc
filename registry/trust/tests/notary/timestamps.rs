//! The rules for countersignatures, one broken at a time.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA512, digest};
use berth_trust::{
    Validity,
    notary::{CertificateFault, NotaryStore, Refused, TimestampFault as Fault, UnfitCertificate},
};
use jiff::Timestamp;
use proptest::prelude::*;
use rstest::rstest;

use crate::forge::{
    Draft, Form, Party, Profile, Token, basic_constraints,
    der::{algorithm, boolean, element, explicit, integer, octets, oid, sequence, set},
    envelope::verify_bytes,
    extended_key_usage, key_usage,
    party::{CODE_SIGNING, TIME_STAMPING},
    token::{SHA_1, SHA_256},
};

const MESSAGE_DIGEST: &str = "1.2.840.113549.1.9.4";
const BASELINE: &str = "0.4.0.2023.1.1";

struct World {
    signer: Party,
    clock_root: Party,
    clock: Party,
    store: NotaryStore,
}

/// The signer's certificates are valid in 2025 only.
static WORLD: LazyLock<World> = LazyLock::new(|| {
    let root = Party::root(Profile::authority("root"));
    let clock_root = Party::root(Profile::authority("clocks"));
    let middle = clock_root.issue(Profile::authority("middle"));
    let store = NotaryStore::new(&root.pem()).unwrap();
    World {
        signer: root.issue(Profile::signer().valid("20250101000000Z", "20251231235959Z")),
        clock: middle.issue(Profile::clock()),
        store: store.with_timestamp_authorities(&clock_root.pem()).unwrap(),
        clock_root,
    }
});

/// Verifies a signature with a token that was edited and then signed by `clock`.
fn verify_by(clock: &Party, form: Form, edit: impl FnOnce(&mut Token)) -> Result<Option<Timestamp>, Refused> {
    let mut draft = Draft::new(&WORLD.signer);
    let signature = draft.signature(form, &WORLD.signer);
    let mut token = Token::new(clock, &signature);
    edit(&mut token);
    draft.timestamp = Some(token.sign(clock));
    verify_bytes(form, &draft.envelope(form, &signature), &WORLD.store).map(|by| by.proven)
}

fn verify(edit: impl FnOnce(&mut Token)) -> Result<Option<Timestamp>, Refused> {
    verify_by(&WORLD.clock, Form::Cose, edit)
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[rstest]
#[case::whole_seconds(|_: &mut Token| {}, "2025-06-02T00:00:00Z")]
#[case::fraction(|t: &mut Token| t.time = "20250602000000.25Z", "2025-06-02T00:00:00.25Z")]
#[case::baseline(|t: &mut Token| t.policy = BASELINE, "2025-06-02T00:00:01Z")]
#[case::accuracy(|t: &mut Token| t.rest = sequence(&[&integer(2)]), "2025-06-02T00:00:02Z")]
#[case::fine_accuracy(|t: &mut Token| t.rest = sequence(&[&element(0x80, &[&[0x01, 0xf4]]), &element(0x81, &[&[5]])]),
    "2025-06-02T00:00:00.500005Z"
)]
#[case::accuracy_over_baseline(|t: &mut Token| { t.policy = BASELINE; t.rest = sequence(&[&integer(3)]); },
    "2025-06-02T00:00:03Z"
)]
#[case::everything(|t: &mut Token| t.rest = [
        sequence(&[&integer(1)]),
        boolean(true),
        integer(9),
        explicit(0, &[&integer(1)]),
        explicit(1, &[&sequence(&[&oid("1.2.3"), &octets(b"x")])]),
    ].concat(),
    "2025-06-02T00:00:01Z"
)]
#[case::hash_named(|t: &mut Token| t.names_certificate.1 = algorithm(SHA_256), "2025-06-02T00:00:00Z")]
fn proven(#[case] edit: fn(&mut Token), #[case] time: &str, #[values(Form::Jws, Form::Cose)] form: Form) {
    assert_eq!(verify_by(&WORLD.clock, form, edit), Ok(Some(at(time))));
}

#[rstest]
#[case::version(|t: &mut Token| t.version = 2, Fault::Malformed)]
#[case::imprint(|t: &mut Token| t.imprint[0] ^= 1, Fault::OtherSignature)]
#[case::imprint_by_another_hash(|t: &mut Token| t.imprint = digest(&SHA512, b"").as_ref().to_vec(), Fault::OtherSignature)]
#[case::imprint_sha1(|t: &mut Token| t.imprint_algorithm = SHA_1, Fault::Algorithm)]
#[case::digest_sha1(|t: &mut Token| t.digest_algorithm = SHA_1, Fault::Algorithm)]
#[case::signature_sha1(|t: &mut Token| t.signature_algorithm = "1.2.840.10045.4.1", Fault::Algorithm)]
#[case::signature_of_another_kind(|t: &mut Token| t.signature_algorithm = "1.2.840.113549.1.1.11", Fault::Altered)]
#[case::certificate_by_sha1(|t: &mut Token| t.names_certificate.1 = algorithm(SHA_1), Fault::Algorithm)]
#[case::certificate_by_old_attribute(|t: &mut Token| t.names_certificate.0 = "1.2.840.113549.1.9.16.2.12",
    Fault::NoCertificate
)]
#[case::message_digest(|t: &mut Token| t.message_digest = Some(vec![0; 32]), Fault::Altered)]
#[case::content_type(|t: &mut Token| t.content_type = "1.2.840.113549.1.7.1", Fault::Malformed)]
#[case::signed_content_type(|t: &mut Token| t.signed_content_type = "1.2.840.113549.1.7.1", Fault::Malformed)]
#[case::digest_twice(
    |t: &mut Token| t.more_attributes = sequence(&[&oid(MESSAGE_DIGEST), &set(&[&octets(&[0; 32])])]),
    Fault::Malformed
)]
#[case::data_version(|t: &mut Token| t.data_version = 1, Fault::Malformed)]
#[case::no_signer(|t: &mut Token| t.signers = 0, Fault::Malformed)]
#[case::two_signers(|t: &mut Token| t.signers = 2, Fault::Malformed)]
#[case::no_certificate(|t: &mut Token| { t.certificates.remove(0); }, Fault::NoCertificate)]
#[case::too_many_certificates(|t: &mut Token| t.certificates = vec![t.certificates[0].clone(); 21], Fault::Malformed)]
#[case::no_intermediate(|t: &mut Token| { t.certificates.remove(1); },
    Fault::UnknownRoot("C=US, ST=WA, O=acme, CN=clock".to_owned())
)]
#[case::local_time(|t: &mut Token| t.time = "20250602000000", Fault::Malformed)]
#[case::no_such_day(|t: &mut Token| t.time = "20250632000000Z", Fault::Malformed)]
#[case::no_fraction(|t: &mut Token| t.time = "20250602000000.Z", Fault::Malformed)]
#[case::accuracy_too_fine(|t: &mut Token| t.rest = sequence(&[&element(0x80, &[&[0x03, 0xe8]])]), Fault::Malformed)]
#[case::accuracy_negative(|t: &mut Token| t.rest = sequence(&[&element(0x02, &[&[0xff]])]), Fault::Malformed)]
#[case::critical_extension(|t: &mut Token| t.rest = explicit(1, &[&sequence(&[&oid("1.2.3"), &boolean(true), &octets(b"x")])]),
    Fault::Malformed
)]
#[case::trailing(|t: &mut Token| t.rest = octets(b"x"), Fault::Malformed)]
fn refused(#[case] edit: fn(&mut Token), #[case] fault: Fault) {
    assert_eq!(verify(edit), Err(Refused::Timestamp(fault)));
}

/// The order of certificates in a token has no meaning, and the root may be left out.
#[test]
fn certificates_in_any_order() {
    assert!(verify(|t| t.certificates.reverse()).is_ok());
    assert!(
        verify(|t| {
            t.certificates.pop();
        })
        .is_ok()
    );
}

#[test]
fn signed_by_another_than_it_names() {
    let mut draft = Draft::new(&WORLD.signer);
    let signature = draft.signature(Form::Cose, &WORLD.signer);
    let impostor = Party::root(Profile::clock());
    // Names the real clock's certificate, which hashes to something else than the impostor's.
    draft.timestamp = Some(Token::new(&WORLD.clock, &signature).sign(&impostor));
    let envelope = draft.envelope(Form::Cose, &signature);
    let refused = verify_bytes(Form::Cose, &envelope, &WORLD.store).unwrap_err();
    assert_eq!(refused, Refused::Timestamp(Fault::NoCertificate));

    let unknown = verify_by(&impostor, Form::Cose, |_| {});
    let fault = Fault::UnknownRoot("C=US, ST=WA, O=acme, CN=clock".to_owned());
    assert_eq!(unknown, Err(Refused::Timestamp(fault)));
}

#[rstest]
#[case::usage_not_critical(vec![key_usage(false, &[0]), extended_key_usage(true, &[TIME_STAMPING])], None)]
#[case::no_usage(vec![extended_key_usage(true, &[TIME_STAMPING])], Some(CertificateFault::NoKeyUsage))]
#[case::other_usage(
    vec![key_usage(true, &[0, 5]), extended_key_usage(true, &[TIME_STAMPING])],
    Some(CertificateFault::KeyUsage)
)]
#[case::purpose_not_critical(
    vec![key_usage(true, &[0]), extended_key_usage(false, &[TIME_STAMPING])],
    Some(CertificateFault::ExtendedKeyUsage("timeStamping alone, marked critical"))
)]
#[case::another_purpose(
    vec![key_usage(true, &[0]), extended_key_usage(true, &[TIME_STAMPING, CODE_SIGNING])],
    Some(CertificateFault::ExtendedKeyUsage("timeStamping alone, marked critical"))
)]
#[case::a_private_purpose(
    vec![key_usage(true, &[0]), extended_key_usage(true, &[TIME_STAMPING, "1.2.3"])],
    Some(CertificateFault::ExtendedKeyUsage("timeStamping alone, marked critical"))
)]
#[case::no_purpose(
    vec![key_usage(true, &[0])],
    Some(CertificateFault::ExtendedKeyUsage("timeStamping alone, marked critical"))
)]
#[case::authority(
    vec![key_usage(true, &[0]), extended_key_usage(true, &[TIME_STAMPING]), basic_constraints(true, true, None)],
    Some(CertificateFault::Authority)
)]
fn certificate_of_the_clock(#[case] extensions: Vec<Vec<u8>>, #[case] fault: Option<CertificateFault>) {
    let clock = WORLD.clock_root.issue(Profile::clock().with(extensions));
    let expected = match fault {
        None => Ok(Some(at("2025-06-02T00:00:00Z"))),
        Some(fault) => {
            let subject = "C=US, ST=WA, O=acme, CN=clock".to_owned();
            Err(Refused::Timestamp(UnfitCertificate { subject, fault }.into()))
        }
    };
    assert_eq!(verify_by(&clock, Form::Jws, |_| {}), expected);
}

/// CVE-2026-24122: all certificates, those of the signer and those of the authority, at the proven time; with the
/// accuracy taken into account.
#[test]
fn everybody_must_have_been_valid_then() {
    let from = at("2025-01-01T00:00:00Z");
    let until = at("2025-12-31T23:59:59Z");
    assert_eq!(verify(|t| t.time = "20250101000000Z"), Ok(Some(from)));
    assert_eq!(verify(|t| t.time = "20251231235959Z"), Ok(Some(until)));
    for (time, policy, at) in [
        ("20241231235959Z", "1.2.3.4", "2024-12-31T23:59:59Z"),
        ("20260101000000Z", "1.2.3.4", "2026-01-01T00:00:00Z"),
        ("20250101000000Z", BASELINE, "2025-01-01T00:00:01Z"),
        ("20251231235959Z", BASELINE, "2026-01-01T00:00:00Z"),
    ] {
        let refused = verify(|t| {
            t.time = time;
            t.policy = policy;
        });
        assert_eq!(refused, Err(Refused::NotValidThen { at: self::at(at), from, until }), "{time}");
    }

    let short = WORLD.clock_root.issue(Profile::clock().valid("20250101000000Z", "20250601000000Z"));
    let late = Fault::NotValidThen(at("2025-06-02T00:00:00Z"));
    assert_eq!(verify_by(&short, Form::Jws, |_| {}), Err(Refused::Timestamp(late)));
}

/// Under a signing authority the token is not looked at, and neither is it without timestamp roots.
#[test]
fn who_does_not_ask_a_clock_ignores_its_token() {
    let mut draft = Draft::new(&WORLD.signer);
    draft.timestamp = Some(b"no token".to_vec());
    let refused = draft.verify(Form::Cose, &WORLD.signer, &WORLD.store).unwrap_err();
    assert_eq!(refused, Refused::Timestamp(Fault::Malformed));
    let root = Draft::new(&WORLD.signer).chain[1].clone();
    let store = NotaryStore::new(&pem(&root)).unwrap();
    let valid = Validity { from: at("2025-01-01T00:00:00Z"), until: at("2025-12-31T23:59:59Z") };
    let by = draft.verify(Form::Cose, &WORLD.signer, &store).unwrap();
    assert_eq!((by.proven, by.valid), (None, Some(valid)));
}

fn pem(der: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der))
}

proptest! {
    /// Whatever byte of a token is altered: it is refused, or says the same.
    #[test]
    fn an_altered_token(position in any::<prop::sample::Index>(), change in 1_u8..) {
        let mut draft = Draft::new(&WORLD.signer);
        let signature = draft.signature(Form::Cose, &WORLD.signer);
        let mut token = Token::new(&WORLD.clock, &signature).sign(&WORLD.clock);
        let position = position.index(token.len());
        token[position] ^= change;
        draft.timestamp = Some(token);
        let envelope = draft.envelope(Form::Cose, &signature);
        if let Ok(by) = verify_bytes(Form::Cose, &envelope, &WORLD.store) {
            prop_assert_eq!(by.proven, Some(at("2025-06-02T00:00:00Z")));
        }
    }

    #[test]
    fn arbitrary_tokens_never_panic(token in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut draft = Draft::new(&WORLD.signer);
        draft.timestamp = Some(token);
        prop_assert!(draft.verify(Form::Cose, &WORLD.signer, &WORLD.store).is_err());
    }
}
