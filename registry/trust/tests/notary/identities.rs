//! Trusted identities as notation's trust policies write them.

use berth_trust::notary::{DistinguishedName, Identities, InvalidIdentity, NotaryStore};
use proptest::prelude::*;
use rstest::rstest;

use crate::forge::{
    Draft, Form, Party, Profile,
    der::{attribute, element, name, oid, sequence, set},
};

const COUNTRY: (&str, &str) = ("2.5.4.6", "US");
const STATE: (&str, &str) = ("2.5.4.8", "WA");
const ORGANIZATION: (&str, &str) = ("2.5.4.10", "acme");
const UNIT: &str = "2.5.4.11";

/// A subject as `verify` gives it back.
fn subject(name: Vec<u8>) -> String {
    let alone = Party::root(Profile { subject: name, ..Profile::signer() });
    let store = NotaryStore::new(&alone.pem()).unwrap();
    Draft::new(&alone).verify(Form::Cose, &alone, &store).unwrap().subject
}

#[rstest]
#[case("C=US, ST=WA, O=acme", true)]
#[case("O=acme,ST=WA,C=US", true)]
#[case(" C = US , ST = WA , O = acme ", true)]
#[case("C=US, S=WA, O=acme", true)]
#[case("c=US, st=WA, o=acme", true)]
#[case("C=US, ST=WA, O=acme, OU=builds", true)]
#[case("C=US, ST=WA, O=acme, OU=builds\\, all", false)]
#[case("C=US, ST=WA, O=acm\\65", true)]
#[case("C=US, ST=WA, O=Acme", false)]
#[case("C=US, ST=WA, O=acm", false)]
#[case("C=US, ST=WA, O=acme\\ ", false)]
#[case("C=US, ST=WA, O=acme, CN=x", false)]
#[case("C=DE, ST=WA, O=acme", false)]
fn every_named_part_is_equal(#[case] pattern: &str, #[case] holds: bool) {
    let text = subject(name(&[COUNTRY, STATE, ORGANIZATION, (UNIT, "builds")]));
    assert_eq!(text, "C=US, ST=WA, O=acme, OU=builds");
    assert_eq!(pattern.parse::<DistinguishedName>().unwrap().matches(&text), holds);
    let identities = Identities::parse([format!("x509.subject:{pattern}").as_str()]).unwrap();
    assert_eq!(identities.hold(&text), holds);
}

/// What would let one name pass for another.
#[test]
fn subjects_that_are_ambiguous_are_nobodys() {
    let pattern: DistinguishedName = "C=US, ST=WA, O=acme".parse().unwrap();
    let twice = subject(name(&[COUNTRY, STATE, ORGANIZATION, ("2.5.4.10", "other")]));
    assert_eq!(twice, "C=US, ST=WA, O=acme, O=other");
    let together = subject(sequence(&[
        &set(&[&attribute(&COUNTRY)]),
        &set(&[&attribute(&STATE)]),
        &set(&[&attribute(&ORGANIZATION), &attribute(&(UNIT, "x"))]),
    ]));
    assert_eq!(together, "C=US, ST=WA, O=acme+OU=x");
    // One organization whose name looks like three parts.
    let smuggled = subject(name(&[("2.5.4.10", "acme, ST=WA, C=US")]));
    assert_eq!(smuggled, "O=acme\\, ST\\=WA\\, C\\=US");
    // Not text, and of another type that ends in the same name.
    let bytes = sequence(&[&oid("2.5.4.10"), &element(0x04, &[b"acme"])]);
    let binary =
        subject(sequence(&[&set(&[&attribute(&COUNTRY)]), &set(&[&attribute(&STATE)]), &set(&[&bytes])]));
    assert_eq!(binary, "C=US, ST=WA, 2.5.4.10=#61636d65");
    for subject in [&twice, &together, &smuggled, &binary] {
        assert!(!pattern.matches(subject), "{subject}");
        assert!(Identities::Any.hold(subject));
    }
}

#[test]
fn unknown_attributes_are_shown_and_do_no_harm() {
    let text = subject(name(&[COUNTRY, STATE, ORGANIZATION, ("1.2.840.113549.1.9.1", "a@b.c")]));
    assert_eq!(text, "C=US, ST=WA, O=acme, 1.2.840.113549.1.9.1=#6140622e63");
    assert!("C=US, ST=WA, O=acme".parse::<DistinguishedName>().unwrap().matches(&text));
}

#[rstest]
#[case(&[], "no identity is named")]
#[case(&["*", "x509.subject: C=US, ST=WA, O=acme"], "write it alone")]
#[case(&["C=US, ST=WA, O=acme"], "is no identity")]
#[case(&["x509.san: acme"], "is no identity")]
#[case(&["x509.subject:"], "has no `=`")]
#[case(&["x509.subject: C=US, ST=WA"], "has no O")]
#[case(&["x509.subject: C=US, O=acme"], "has no ST")]
#[case(&["x509.subject: ST=WA, O=acme"], "has no C")]
#[case(&["x509.subject: C=US, ST=WA, O="], "has no value")]
#[case(&["x509.subject: C=US, ST=WA, O=acme,"], "has no `=`")]
#[case(&["x509.subject: C=US, ST=WA, O=acme, =x"], "no word")]
#[case(&["x509.subject: C=US, ST=WA, O=acme, C=US"], "named twice")]
#[case(&["x509.subject: C=US, ST=WA, S=WA, O=acme"], "named twice")]
#[case(&["x509.subject: C=US+ST=WA, O=acme"], "several values")]
#[case(&["x509.subject: C=US; ST=WA; O=acme"], "`;` is not escaped")]
#[case(&["x509.subject: C=US, ST=WA, O=#61"], "hexadecimal")]
#[case(&["x509.subject: C=US, ST=WA, O=acme\\"], "ends with a backslash")]
#[case(&["x509.subject: C=US, ST=WA, O=\\xacme"], "needs none")]
#[case(&["x509.subject: C=US, ST=WA, O=\\ff"], "not UTF-8")]
#[case(
    &["x509.subject: C=US, ST=WA, O=acme", "x509.subject: C=US, ST=WA, O=acme, OU=x"],
    "also holds for every signer"
)]
#[case(&["x509.subject: C=US, ST=WA, O=acme", "x509.subject: O=acme, S=WA, C=US"], "also holds")]
fn refused(#[case] texts: &[&str], #[case] says: &str) {
    let refused = Identities::parse(texts.iter().copied()).unwrap_err().to_string();
    assert!(refused.contains(says), "{refused}");
}

#[test]
fn one_of_several_is_enough_and_the_star_is_everybody() {
    let texts = ["x509.subject: C=US, ST=WA, O=acme, OU=a", "x509.subject: C=US, ST=WA, O=acme, OU=b"];
    let identities = Identities::parse(texts).unwrap();
    assert!(identities.hold("C=US, ST=WA, O=acme, OU=b"));
    assert!(!identities.hold("C=US, ST=WA, O=acme, OU=c"));
    assert!(Identities::parse(["*"]).unwrap().hold(""));
    assert_eq!(Identities::parse(["* "]), Err(InvalidIdentity::Kind("* ".to_owned())));
}

proptest! {
    /// What a certificate says is read back as it was, whatever it is.
    #[test]
    fn subjects_are_escaped(value in "\\PC{1,12}|[ #+,;<=>\\\\\"a\\x00-\\x1f]{1,12}") {
        let text = subject(name(&[COUNTRY, STATE, ("2.5.4.10", &value)]));
        let read: DistinguishedName = text.parse().unwrap();
        prop_assert!(read.matches(&text), "{}", text);
        prop_assert_eq!(read.to_string().parse::<DistinguishedName>().unwrap(), read);
        let other = subject(name(&[COUNTRY, STATE, ("2.5.4.10", &format!("{value}x"))]));
        prop_assert!(!text.parse::<DistinguishedName>().unwrap().matches(&other), "{}", other);
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,40}") {
        let _ = text.parse::<DistinguishedName>();
        prop_assert!(!"C=US, ST=WA, O=acme".parse::<DistinguishedName>().unwrap().matches(&text));
    }
}
