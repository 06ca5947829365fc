//! What lies behind a good signature of the Notary Project. Anybody can make certificates that sign anything; here the
//! root that issues them is trusted, and the target signs for the fuzzer. Input: `jws` or `cose`; protected attributes;
//! a payload; the name in the certificate and its extensions, in DER.

use std::sync::LazyLock;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use berth_registry_core::{Digest, manifest::OCI_MANIFEST};
use berth_trust::notary::{ByNotary, COSE, JWS, NotaryStore, Target, verify};
use forge::{Party, Profile, cbor};
use serde_json::json;

#[path = "../../../registry/trust/tests/notary/forge/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    clippy::panic,
    clippy::pedantic,
    reason = "a workshop with more tools than are needed here"
)]
mod forge;

static ROOT: LazyLock<Party> = LazyLock::new(|| Party::root(Profile::authority("root")));
static SIGNER: LazyLock<Party> = LazyLock::new(|| ROOT.issue(Profile::signer()));
static STORE: LazyLock<NotaryStore> = LazyLock::new(|| NotaryStore::new(&ROOT.pem()).unwrap());

pub(crate) fn run(mut input: &[u8]) {
    let [form, protected, payload, subject] = [(); 4].map(|()| crate::part(&mut input));
    let made = (!subject.is_empty()).then(|| {
        ROOT.issue(Profile { subject: subject.to_vec(), ..Profile::signer().with(vec![input.to_vec()]) })
    });
    let signer = made.as_ref().unwrap_or(&SIGNER);
    let (media_type, envelope) = if form == b"cose" {
        (COSE, cose(signer, protected, payload))
    } else {
        (JWS, jws(signer, protected, payload))
    };
    let digest = Digest::sha256(b"image");
    let target = Target { media_type: OCI_MANIFEST, digest: &digest, size: 5 };
    let outcome = verify(&STORE, media_type, &envelope, target);
    if let Ok(by) = &outcome {
        assert_eq!(by.fingerprint, Digest::sha256(signer.certificate()));
        assert!(by.valid.is_some() && by.proven.is_none());
        let written = serde_json::to_vec(by).unwrap();
        assert_eq!(&serde_json::from_slice::<ByNotary>(&written).unwrap(), by);
        assert!(String::from_utf8_lossy(payload).contains(digest.hex()));
    }
    let other = Target { size: 6, ..target };
    assert!(verify(&STORE, media_type, &envelope, other).is_err());
}

fn jws(signer: &Party, protected: &[u8], payload: &[u8]) -> Vec<u8> {
    let [protected, payload] = [protected, payload].map(|part| URL_SAFE_NO_PAD.encode(part));
    let signature = signer.sign_fixed(format!("{protected}.{payload}").as_bytes());
    let chain: Vec<String> = signer.chain.iter().map(|der| STANDARD.encode(der)).collect();
    json!({
        "protected": protected, "payload": payload, "header": {"x5c": chain},
        "signature": URL_SAFE_NO_PAD.encode(signature),
    })
    .to_string()
    .into_bytes()
}

fn cose(signer: &Party, protected: &[u8], payload: &[u8]) -> Vec<u8> {
    let [protected, payload] = [protected, payload].map(cbor::bytes);
    let message =
        cbor::array(&[cbor::text("Signature1"), protected.clone(), cbor::bytes(b""), payload.clone()]);
    let chain: Vec<Vec<u8>> = signer.chain.iter().map(|der| cbor::bytes(der)).collect();
    let unprotected = cbor::map(&[(cbor::int(33), cbor::array(&chain))]);
    let signature = cbor::bytes(&signer.sign_fixed(&message));
    cbor::tag(18, &cbor::array(&[protected, unprotected, payload, signature]))
}
