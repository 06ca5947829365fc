//! Certificates by authorities of the user's own, made here: which chains count, and from when to when.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use berth_registry_core::Descriptor;
use berth_trust::{
    Validity, kind,
    sigstore::{ByCertificate, CertificateAuthorities, InvalidAuthorities, Presented, Refused},
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose as Purpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose as Usage, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
    SanType, SignatureAlgorithm, SigningKey as _, date_time_ymd,
};
use rstest::rstest;

use crate::material::outcome;

/// A certificate, its key and what it was made from.
struct Made {
    pem: String,
    params: CertificateParams,
    key: KeyPair,
}

/// Valid from the first day of one year to that of another.
fn params(name: &str, from: i32, until: i32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "example");
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    params
}

fn authority(name: &str, from: i32, until: i32, by: Option<&Made>) -> Made {
    authority_with(KeyPair::generate().unwrap(), name, from, until, by)
}

fn authority_with(key: KeyPair, name: &str, from: i32, until: i32, by: Option<&Made>) -> Made {
    let mut params = params(name, from, until);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![Usage::KeyCertSign];
    issue(params, key, by)
}

fn issue(params: CertificateParams, key: KeyPair, by: Option<&Made>) -> Made {
    let certificate = match by {
        Some(by) => params.signed_by(&key, &Issuer::new(by.params.clone(), &by.key)),
        None => params.self_signed(&key),
    };
    Made { pem: certificate.unwrap().pem(), params, key }
}

fn holder(by: &Made) -> Made {
    holder_with(by, &PKCS_ECDSA_P256_SHA256, |_| ())
}

/// Somebody who may sign from 2024 to 2030.
fn holder_with(
    by: &Made,
    algorithm: &'static SignatureAlgorithm,
    change: impl FnOnce(&mut CertificateParams),
) -> Made {
    let mut params = params("Build", 2024, 2030);
    params.subject_alt_names = vec![SanType::Rfc822Name("build@example.com".try_into().unwrap())];
    params.key_usages = vec![Usage::DigitalSignature];
    params.extended_key_usages = vec![Purpose::CodeSigning];
    change(&mut params);
    issue(params, KeyPair::generate_for(algorithm).unwrap(), Some(by))
}

/// A classic signature, which may bring certificates along.
fn signed(holder: &Made, chain: &[&Made]) -> Result<Presented, Refused> {
    let payload = b"{}";
    let signature = STANDARD.encode(holder.key.sign(payload).unwrap());
    let chain: String = chain.iter().map(|made| made.pem.as_str()).collect();
    let annotations = [
        ("dev.cosignproject.cosign/signature", signature.as_str()),
        ("dev.sigstore.cosign/certificate", &holder.pem),
        ("dev.sigstore.cosign/chain", &chain),
    ];
    let annotations: BTreeMap<_, _> = annotations.into_iter().filter(|(_, text)| !text.is_empty()).collect();
    let layer: Descriptor = serde_json::from_value(serde_json::json!({
        "mediaType": kind::SIMPLE_SIGNING, "size": payload.len(), "annotations": annotations,
        "digest": berth_registry_core::Digest::sha256(payload),
    }))
    .unwrap();
    Presented::classic(&layer, payload)
}

fn trusting(authorities: &[&Made]) -> CertificateAuthorities {
    let pem: String = authorities.iter().map(|made| made.pem.as_str()).collect();
    CertificateAuthorities::from_pem(&pem).unwrap()
}

fn by(holder: &Made, chain: &[&Made], authorities: &[&Made]) -> Result<ByCertificate, Refused> {
    signed(holder, chain)?.by_certificate(&trusting(authorities), None)
}

fn years(from: i32, until: i32) -> Validity {
    let year = |year: i32| format!("{year}-01-01T00:00:00Z").parse().unwrap();
    Validity { from: year(from), until: year(until) }
}

#[rstest]
#[case(&PKCS_ECDSA_P256_SHA256)]
#[case(&PKCS_ECDSA_P384_SHA384)]
#[case(&PKCS_ED25519)]
fn a_chain_leads_from_the_holder_to_a_root(#[case] algorithm: &'static SignatureAlgorithm) {
    let root = authority("root", 2020, 2040, None);
    let middle = authority("middle", 2021, 2029, Some(&root));
    let direct = holder_with(&root, algorithm, |_| ());
    let below = holder_with(&middle, algorithm, |_| ());
    assert_eq!(by(&direct, &[], &[&root]).unwrap().valid, Some(years(2024, 2030)));
    // The intermediate comes from the policy or from the signature, and shortens the time.
    let found = by(&below, &[], &[&middle, &root]).unwrap();
    assert_eq!(
        (found.subject.as_str(), found.proven, found.valid),
        ("build@example.com", None, Some(years(2024, 2029)))
    );
    assert_eq!(by(&below, &[&middle, &root], &[&root]).unwrap(), found);
    assert_eq!(outcome(by(&below, &[], &[&root])), "UntrustedCertificate");
    // An intermediate alone is trusted as it is.
    assert_eq!(by(&below, &[], &[&middle]).unwrap(), found);
    // A root that comes along is nobody's root; one of the same name is another.
    let impostor = authority("root", 2020, 2040, None);
    assert_eq!(outcome(by(&below, &[&middle, &root], &[&impostor])), "UntrustedCertificate");
    // The certificate of one, the signature of another.
    let stolen = Made { pem: below.pem.clone(), ..holder_with(&middle, algorithm, |_| ()) };
    assert_eq!(outcome(by(&stolen, &[&middle], &[&root])), "BadSignature");
}

/// CVE-2026-24122: a chain counts while all of it is valid.
#[test]
fn the_whole_chain_is_valid_at_once() {
    let root = authority("root", 2020, 2027, None);
    let middle = authority("middle", 2021, 2026, Some(&root));
    let below = holder(&middle);
    assert_eq!(by(&below, &[&middle], &[&root]).unwrap().valid, Some(years(2024, 2026)));
    assert_eq!(by(&holder(&root), &[], &[&root]).unwrap().valid, Some(years(2024, 2027)));
    // Two certificates of one intermediate: whichever lasts longer.
    let key = KeyPair::from_pem(&middle.key.serialize_pem()).unwrap();
    let renewed = authority_with(key, "middle", 2025, 2035, Some(&root));
    assert_eq!(by(&below, &[], &[&middle, &renewed, &root]).unwrap().valid, Some(years(2025, 2027)));
    // Expired before the holder's began.
    for late in [authority("late", 2020, 2023, Some(&root)), authority("early", 2031, 2040, Some(&root))] {
        assert_eq!(outcome(by(&holder(&late), &[&late], &[&root])), "NotValidThen");
    }
    let old = authority("old", 2010, 2023, None);
    assert_eq!(outcome(by(&holder(&old), &[], &[&old])), "UntrustedCertificate");
}

/// Whoever may write to a registry chooses what comes along. Ten authorities of one name, each above all others, make a
/// million ways that lead nowhere.
#[test]
fn what_comes_along_leads_one_way() {
    let root = authority("root", 2020, 2040, None);
    let middle = authority("middle", 2021, 2029, Some(&root));
    let again = authority("middle", 2021, 2028, Some(&root));
    let below = holder(&middle);
    assert_eq!(outcome(by(&below, &[&middle, &root], &[&root])), "counts");
    assert_eq!(outcome(by(&below, &[&middle, &again], &[&root])), "Unsupported");
}

#[rstest]
#[case::purpose(|p: &mut CertificateParams| p.extended_key_usages = vec![Purpose::ServerAuth], "UntrustedCertificate")]
#[case::no_purpose(|p: &mut CertificateParams| p.extended_key_usages.clear(), "UntrustedCertificate")]
#[case::usage(|p: &mut CertificateParams| p.key_usages = vec![Usage::KeyAgreement], "UntrustedCertificate")]
#[case::no_usage(|p: &mut CertificateParams| p.key_usages.clear(), "counts")]
#[case::authority(|p: &mut CertificateParams| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained), "UntrustedCertificate")]
#[case::two_names(|p: &mut CertificateParams| p.subject_alt_names.push(SanType::URI("https://example.com".try_into().unwrap())), "NoIdentity")]
#[case::address(|p: &mut CertificateParams| p.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())], "NoIdentity")]
#[case::line_break(|p: &mut CertificateParams| p.subject_alt_names = vec![SanType::Rfc822Name("a\nb".try_into().unwrap())], "NoIdentity")]
fn a_certificate_is_for_signing_and_names_one_holder(
    #[case] change: fn(&mut CertificateParams),
    #[case] expected: &str,
) {
    let root = authority("root", 2020, 2040, None);
    let holder = holder_with(&root, &PKCS_ECDSA_P256_SHA256, change);
    assert_eq!(outcome(by(&holder, &[], &[&root])), expected);
}

#[test]
fn without_another_name_the_distinguished_name_is_the_holders() {
    let root = authority("root", 2020, 2040, None);
    let holder = holder_with(&root, &PKCS_ECDSA_P256_SHA256, |params| params.subject_alt_names.clear());
    assert_eq!(by(&holder, &[], &[&root]).unwrap().subject, "O=example, CN=Build");
}

#[test]
fn authorities_are_known_by_their_content() {
    let (one, other) = (authority("one", 2020, 2040, None), authority("other", 2020, 2040, None));
    assert_eq!(trusting(&[&one, &other]), trusting(&[&other, &one, &one]));
    assert_ne!(trusting(&[&one]).id(), trusting(&[&one, &other]).id());

    let error = |pem: &str| CertificateAuthorities::from_pem(pem).unwrap_err();
    assert_eq!(error("nothing"), InvalidAuthorities::NoPem);
    assert_eq!(error(&(one.pem.clone() + &one.key.serialize_pem())), InvalidAuthorities::Private);
    assert!(error(&holder(&one).pem).to_string().contains("certificate 1 cannot be an authority's"));
    assert!(error(&" ".repeat(300_000)).to_string().contains("limit of 262144"));
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(error(&(one.pem.clone() + garbage)).to_string().contains("certificate 2"));
}
