//! What policies verify with: keys, certificates, trust roots, identities. Input: `pem`, `der`, `root` or `words`, then
//! that. What can be read is used on good evidence, for which it is most likely wrong.

use std::{fmt::Debug, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use berth_trust::{
    Anchor, AnchorId, Anchors, Bounds, Evidence, Facts, Matcher, PublicKey,
    notary::{Identities, NotaryStore},
    sigstore::{CertificateAuthorities, TrustRoot},
};

use crate::evidence;

/// A bundle by an identity, and a signature of notation.
static EVIDENCE: LazyLock<[Evidence; 2]> = LazyLock::new(|| {
    [
        evidence::read(include_bytes!("../corpus/evidence/keyless-v1")),
        evidence::read(include_bytes!("../corpus/evidence/es256-jws")),
    ]
});

pub(crate) fn run(mut input: &[u8]) {
    match crate::part(&mut input) {
        b"pem" => drop(str::from_utf8(input).map(pem)),
        b"der" => {
            let body = STANDARD.encode(input);
            for label in ["CERTIFICATE", "PUBLIC KEY"] {
                pem(&format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"));
            }
        }
        b"root" => read(|| TrustRoot::parse(input).map(Anchor::Sigstore)),
        _ => drop(str::from_utf8(input).map(words)),
    }
}

fn pem(text: &str) {
    read(|| PublicKey::from_pem(text).map(Anchor::Key));
    read(|| CertificateAuthorities::from_pem(text).map(Anchor::Authorities));
    read(|| NotaryStore::new(text).map(Anchor::Notary));
    let doubled = format!("{text}\n{text}");
    let [once, twice] = [text, &doubled].map(|text| NotaryStore::new(text).map(|store| store.id()).ok());
    assert!(once == twice || twice.is_none());
}

fn read<E: Debug>(read: impl Fn() -> Result<Anchor, E>) {
    let Ok(anchor) = read() else { return };
    let id: AnchorId = anchor.id();
    assert_eq!(read().unwrap().id(), id);
    let anchors: Anchors = [anchor].into_iter().collect();
    for evidence in EVIDENCE.iter() {
        evidence::check(&Facts::establish(evidence, &anchors, &Bounds::default()).unwrap(), &anchors);
    }
}

/// The first line is what somebody is called, the others are what a policy may say about it.
fn words(text: &str) {
    let (name, wanted) = text.split_once('\n').unwrap_or((text, ""));
    if let Ok(identities) = Identities::parse(wanted.lines()) {
        identities.hold(name);
    }
    for wanted in wanted.lines() {
        drop((Matcher::exact(wanted), Matcher::regex(wanted)));
    }
}
