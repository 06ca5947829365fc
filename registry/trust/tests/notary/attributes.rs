//! The rules for signed attributes and for the two forms of envelope, one broken at a time.

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use berth_trust::notary::{NotaryStore, Refused};
use jiff::Timestamp;
use rstest::rstest;
use serde_json::{Value, json};

use crate::forge::{Draft, Form, Party, Profile, cbor, envelope::verify_bytes};

struct World {
    signer: Party,
    store: NotaryStore,
    /// The same root, trusted as a signing authority only.
    authority: NotaryStore,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let root = Party::root(Profile::authority("root"));
    let other = Party::root(Profile::authority("other"));
    World {
        signer: root.issue(Profile::signer()),
        store: NotaryStore::new(&root.pem()).unwrap(),
        authority: NotaryStore::new(&other.pem()).unwrap().with_signing_authorities(&root.pem()).unwrap(),
    }
});

fn draft() -> Draft {
    Draft::new(&WORLD.signer)
}

const SCHEME: &str = "io.cncf.notary.signingScheme";
const TIME: &str = "io.cncf.notary.signingTime";
const AUTHENTIC: &str = "io.cncf.notary.authenticSigningTime";
const EXPIRY: &str = "io.cncf.notary.expiry";
const PLUGIN: &str = "io.cncf.notary.verificationPlugin";

fn remove(protected: &mut Value, name: &str) {
    protected.as_object_mut().unwrap().remove(name);
}

fn by_authority(protected: &mut Value) {
    remove(protected, TIME);
    protected[SCHEME] = "notary.x509.signingAuthority".into();
    protected[AUTHENTIC] = "2025-06-01T00:00:00Z".into();
    protected["crit"] = json!([SCHEME, AUTHENTIC]);
}

/// An empty text means that the signature is good.
#[rstest]
#[case::plain(|_: &mut Value| {}, "")]
#[case::unknown_and_not_critical(|p: &mut Value| p["com.example.x"] = "y".into(), "")]
#[case::expiry(|p: &mut Value| { p[EXPIRY] = "2025-06-02T00:00:00Z".into(); p["crit"] = json!([SCHEME, EXPIRY]); }, "")]
#[case::signing_time_critical(|p: &mut Value| p["crit"] = json!([SCHEME, TIME]), "")]
#[case::content_type(|p: &mut Value| p["cty"] = "text/plain".into(), "content type \"text/plain\" is unknown")]
#[case::nothing_critical(|p: &mut Value| p["crit"] = json!([]), "signingScheme is not marked critical")]
#[case::crit_missing(|p: &mut Value| remove(p, "crit"), "malformed")]
#[case::unknown_and_critical(
    |p: &mut Value| { p["com.example.x"] = "y".into(); p["crit"] = json!([SCHEME, "com.example.x"]); },
    "\"com.example.x\" be understood"
)]
#[case::critical_and_absent(|p: &mut Value| p["crit"] = json!([SCHEME, EXPIRY]), "expiry\" be understood")]
#[case::critical_twice(|p: &mut Value| p["crit"] = json!([SCHEME, SCHEME]), "signingScheme\" be understood")]
#[case::critical_and_registered(|p: &mut Value| p["crit"] = json!([SCHEME, "alg"]), "\"alg\" be understood")]
#[case::critical_by_number(|p: &mut Value| p["crit"] = json!([SCHEME, 4]), "")]
#[case::scheme(|p: &mut Value| p[SCHEME] = "notary.x509.other".into(), "scheme \"notary.x509.other\" is unknown")]
#[case::scheme_missing(|p: &mut Value| remove(p, SCHEME), "malformed")]
#[case::no_time(|p: &mut Value| remove(p, TIME), "does not go without io.cncf.notary.signingTime")]
#[case::authentic_time(
    |p: &mut Value| p[AUTHENTIC] = "2025-06-01T00:00:00Z".into(),
    "does not go with io.cncf.notary.authenticSigningTime"
)]
#[case::expiry_not_critical(|p: &mut Value| p[EXPIRY] = "2025-06-02T00:00:00Z".into(), "expiry is not marked critical")]
#[case::expiry_at_signing(
    |p: &mut Value| { p[EXPIRY] = "2025-06-01T00:00:00Z".into(); p["crit"] = json!([SCHEME, EXPIRY]); },
    "not after it was signed"
)]
#[case::plugin(|p: &mut Value| { p[PLUGIN] = "x".into(); p["crit"] = json!([SCHEME, PLUGIN]); }, "verificationPlugin\" be understood")]
#[case::plugin_not_critical(|p: &mut Value| p[PLUGIN] = "x".into(), "verificationPlugin is not marked critical")]
#[case::algorithm_of_another_key(|p: &mut Value| p["alg"] = "ES384".into(), "says ES384, but its certificate's key signs with ES256")]
#[case::pkcs1(|p: &mut Value| p["alg"] = "RS256".into(), "malformed")]
#[case::symmetric(|p: &mut Value| p["alg"] = "HS256".into(), "malformed")]
#[case::none(|p: &mut Value| p["alg"] = "none".into(), "malformed")]
#[case::no_algorithm(|p: &mut Value| remove(p, "alg"), "malformed")]
#[case::authority_unknown(by_authority, "the policy trusts none")]
fn signed_attributes(
    #[case] edit: fn(&mut Value),
    #[case] says: &str,
    #[values(Form::Jws, Form::Cose)] form: Form,
) {
    let mut draft = draft();
    edit(&mut draft.protected);
    let numbered = draft.protected["crit"].as_array().is_some_and(|crit| crit.iter().any(Value::is_number));
    let says = match (numbered, form) {
        (false, _) => says,
        (true, Form::Jws) => "malformed",
        (true, Form::Cose) => "\"4\" be understood",
    };
    match draft.verify(form, &WORLD.signer, &WORLD.store) {
        Ok(_) => assert_eq!(says, ""),
        Err(refused) => assert!(!says.is_empty() && refused.to_string().contains(says), "{refused}"),
    }
}

/// Whoever may sign may not for that reason say when: a signing authority has roots of its own.
#[rstest]
fn signing_authorities(#[values(Form::Jws, Form::Cose)] form: Form) {
    let verify = |edit: &dyn Fn(&mut Value), store: &NotaryStore| {
        let mut draft = draft();
        by_authority(&mut draft.protected);
        edit(&mut draft.protected);
        draft.verify(form, &WORLD.signer, store)
    };
    let by = verify(&|_| {}, &WORLD.authority).unwrap();
    let time: Timestamp = "2025-06-01T00:00:00Z".parse().unwrap();
    assert_eq!((by.proven, by.claimed, by.valid), (Some(time), None, None));

    assert_eq!(verify(&|_| {}, &WORLD.store), Err(Refused::NoSigningAuthorities));
    let other = Party::root(Profile::authority("other"));
    let elsewhere = WORLD.store.clone().with_signing_authorities(&other.pem()).unwrap();
    assert!(matches!(verify(&|_| {}, &elsewhere), Err(Refused::UnknownRoot(_))));
    // And its roots are for nothing else.
    assert!(matches!(draft().verify(form, &WORLD.signer, &WORLD.authority), Err(Refused::UnknownRoot(_))));

    let missing = verify(&|p| remove(p, AUTHENTIC), &WORLD.authority);
    assert!(matches!(missing, Err(Refused::Attribute { attribute: AUTHENTIC, missing: true, .. })));
    let both = verify(&|p| p[TIME] = "2025-06-01T00:00:00Z".into(), &WORLD.authority);
    assert!(matches!(both, Err(Refused::Attribute { attribute: TIME, missing: false, .. })));
    let plain = verify(&|p| p["crit"] = json!([SCHEME]), &WORLD.authority);
    assert_eq!(plain, Err(Refused::NotCritical(AUTHENTIC)));
    let early = verify(&|p| p[AUTHENTIC] = "2023-12-31T23:59:59Z".into(), &WORLD.authority);
    assert!(matches!(early, Err(Refused::NotValidThen { .. })));
}

/// CVE-2023-33959: the whole descriptor is compared, and only what is signed is read.
#[rstest]
#[case(r#"{"targetArtifact":ARTIFACT}"#, "")]
#[case(r#"{"targetArtifact":ARTIFACT,"com.example":1}"#, "")]
#[case("{}", "its payload")]
#[case(r#"{"targetArtifact":{}}"#, "its payload")]
#[case(r#"{"targetArtifact":ARTIFACT,"targetArtifact":ARTIFACT}"#, "appears twice")]
#[case(r#"{"targetArtifact":{"mediaType":"a","digest":"sha256:0","size":1}}"#, "its payload")]
#[case(r#"{"targetArtifact":{"mediaType":"a","digest":"DIGEST","size":-1}}"#, "its payload")]
#[case(r#"{"targetArtifact":{"mediaType":"a","digest":"DIGEST","size":1.5}}"#, "its payload")]
#[case(r#"{"targetArtifact":{"mediaType":"a","digest":"DIGEST","size":9}}"#, "not for this image")]
#[case("", "its payload")]
fn payloads(#[case] payload: &str, #[case] says: &str, #[values(Form::Jws, Form::Cose)] form: Form) {
    let mut draft = draft();
    let good: Value = serde_json::from_slice(&draft.payload).unwrap();
    let artifact = &good["targetArtifact"];
    let payload = payload.replace("ARTIFACT", &artifact.to_string());
    draft.payload = payload.replace("DIGEST", artifact["digest"].as_str().unwrap()).into_bytes();
    match draft.verify(form, &WORLD.signer, &WORLD.store) {
        Ok(_) => assert_eq!(says, ""),
        Err(refused) => assert!(!says.is_empty() && refused.to_string().contains(says), "{refused}"),
    }
}

#[rstest]
#[case::field_of_no_standard(|e: &mut Value| e["extra"] = 1.into(), "unknown field")]
#[case::no_header(|e: &mut Value| remove(e, "header"), "missing field")]
#[case::no_chain(|e: &mut Value| remove(&mut e["header"], "x5c"), "missing field")]
#[case::empty_chain(|e: &mut Value| e["header"]["x5c"] = json!([]), "chain has 0 certificates")]
#[case::chain_not_base64(|e: &mut Value| e["header"]["x5c"][0] = "%".into(), "x5c is no base64")]
#[case::padded(|e: &mut Value| e["signature"] = format!("{}=", e["signature"].as_str().unwrap()).into(), "signature is no base64")]
#[case::no_signature(|e: &mut Value| e["signature"] = "".into(), "altered")]
#[case::general_serialization(|e: &mut Value| { let s = e["signature"].take(); e["signatures"] = json!([s]); }, "malformed")]
#[case::header_not_json(|e: &mut Value| e["protected"] = URL_SAFE_NO_PAD.encode("x").into(), "protected")]
#[case::header_twice(
    |e: &mut Value| e["protected"] = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","alg":"ES256"}"#).into(),
    "appears twice"
)]
#[case::time_of_no_kind(
    |e: &mut Value| e["protected"] = URL_SAFE_NO_PAD.encode(draft().protected.to_string().replace("2025-06-01T", "yesterday")).into(),
    "protected"
)]
fn forms_of_jws(#[case] edit: fn(&mut Value), #[case] says: &str) {
    let mut envelope: Value = serde_json::from_slice(&draft().sign(Form::Jws, &WORLD.signer)).unwrap();
    edit(&mut envelope);
    let refused =
        verify_bytes(Form::Jws, envelope.to_string().as_bytes(), &WORLD.store).unwrap_err().to_string();
    assert!(refused.contains(says), "{refused}");
}

/// Each edit is of the good envelope's bytes, which begin with tag 18 and an array of four.
#[rstest]
#[case::good(|_: &mut Vec<u8>| {}, "")]
#[case::untagged(|e: &mut Vec<u8>| { e.remove(0); }, "no COSE_Sign1_Tagged")]
#[case::other_tag(|e: &mut Vec<u8>| e[0] = 0xd1, "no COSE_Sign1_Tagged")]
#[case::not_an_array(|e: &mut Vec<u8>| e[1] = 0x64, "malformed")]
#[case::three_parts(|e: &mut Vec<u8>| e[1] = 0x83, "malformed")]
#[case::endless(|e: &mut Vec<u8>| e[1] = 0x9f, "no definite length")]
#[case::longer(|e: &mut Vec<u8>| e.push(0), "bytes follow")]
fn forms_of_cose(#[case] edit: fn(&mut Vec<u8>), #[case] says: &str) {
    let mut envelope = draft().sign(Form::Cose, &WORLD.signer);
    assert_eq!(&envelope[..2], &[0xd2, 0x84]);
    edit(&mut envelope);
    match verify_bytes(Form::Cose, &envelope, &WORLD.store) {
        Ok(_) => assert_eq!(says, ""),
        Err(refused) => assert!(!says.is_empty() && refused.to_string().contains(says), "{refused}"),
    }
}

/// A label stands in one of the two headers, and the chain may stand in either.
#[test]
fn headers_of_cose() {
    let verify = |edit: &dyn Fn(&mut Draft)| {
        let mut draft = draft();
        edit(&mut draft);
        let refused = draft.verify(Form::Cose, &WORLD.signer, &WORLD.store).err();
        refused.map(|refused| refused.to_string()).unwrap_or_default()
    };
    let chain = cbor::array(&WORLD.signer.chain.iter().map(|der| cbor::bytes(der)).collect::<Vec<_>>());
    let in_protected = |draft: &mut Draft| draft.more_protected.push((cbor::int(33), chain.clone()));
    assert!(verify(&in_protected).contains("appears protected and unprotected"));
    assert_eq!(
        verify(&|draft| {
            in_protected(draft);
            draft.chain.clear();
        }),
        ""
    );
    assert!(verify(&|draft| draft.chain.clear()).contains("no array of certificates"));
    let again = |draft: &mut Draft| draft.more_unprotected.push((cbor::int(1), cbor::int(-7)));
    assert!(verify(&again).contains("appears protected and unprotected"));
    let twice = |draft: &mut Draft| draft.more_protected.push((cbor::int(1), cbor::int(-7)));
    assert!(verify(&twice).contains("appears twice"));
    let token = |draft: &mut Draft| {
        let label = cbor::text("io.cncf.notary.timestampSignature");
        draft.more_unprotected.push((label, cbor::text("x")));
    };
    assert!(verify(&token).contains("timestampSignature is no byte string"));
}

#[rstest]
#[case::seconds(cbor::tag(1, &cbor::int(1_748_736_000)), "")]
#[case::untagged(cbor::int(1_748_736_000), "no time in whole seconds")]
#[case::other_tag(cbor::tag(0, &cbor::int(1_748_736_000)), "no time in whole seconds")]
#[case::text(cbor::tag(0, &cbor::text("2025-06-01T00:00:00Z")), "no time in whole seconds")]
#[case::float(cbor::tag(1, &[0xf9, 0x3c, 0x00]), "no time in whole seconds")]
fn times_of_cose(#[case] time: Vec<u8>, #[case] says: &str) {
    let mut draft = draft();
    remove(&mut draft.protected, TIME);
    draft.more_protected.push((cbor::text(TIME), time));
    match draft.verify(Form::Cose, &WORLD.signer, &WORLD.store) {
        Ok(_) => assert_eq!(says, ""),
        Err(refused) => assert!(!says.is_empty() && refused.to_string().contains(says), "{refused}"),
    }
}

#[test]
fn sizes_are_bounded() {
    let refused = verify_bytes(Form::Jws, &vec![b' '; 1024 * 1024 + 1], &WORLD.store).unwrap_err();
    assert_eq!(refused, Refused::TooLarge(1024 * 1024 + 1));
    let mut draft = draft();
    draft.chain = vec![draft.chain[0].clone(); 11];
    assert_eq!(draft.verify(Form::Cose, &WORLD.signer, &WORLD.store), Err(Refused::ChainLength(11)));
}
