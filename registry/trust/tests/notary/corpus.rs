//! The real tool's signatures, as they are and altered.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use berth_registry_core::{Digest, manifest::OCI_MANIFEST};
use berth_trust::notary::{
    ByNotary, COSE, Identities, JWS, NotaryStore, Refused, Target, TimestampFault, verify,
};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use rstest::rstest;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct File {
    image: Image,
    manifest: String,
    envelope: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Image {
    media_type: String,
    digest: Digest,
    size: u64,
}

/// One signature of the corpus.
struct Signature {
    image: Image,
    media_type: String,
    envelope: Vec<u8>,
}

fn text(name: &str) -> String {
    let path = format!("{}/tests/corpus/notary/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

impl Signature {
    fn read(name: &str) -> Self {
        let file: File = serde_json::from_str(&text(&format!("{name}.json"))).unwrap();
        let manifest: Value = serde_json::from_str(&file.manifest).unwrap();
        Self {
            image: file.image,
            media_type: manifest["layers"][0]["mediaType"].as_str().unwrap().to_owned(),
            envelope: STANDARD.decode(file.envelope).unwrap(),
        }
    }

    fn target(&self) -> Target<'_> {
        let Image { media_type, digest, size } = &self.image;
        Target { media_type, digest, size: *size }
    }

    fn verify(&self, store: &NotaryStore) -> Result<ByNotary, Refused> {
        verify(store, &self.media_type, &self.envelope, self.target())
    }

    /// The same with one field of the JWS changed.
    fn edited(mut self, edit: impl FnOnce(&mut Value)) -> Self {
        let mut json: Value = serde_json::from_slice(&self.envelope).unwrap();
        edit(&mut json);
        self.envelope = json.to_string().into_bytes();
        self
    }

    fn field(&self, pointer: &str) -> Value {
        let json: Value = serde_json::from_slice(&self.envelope).unwrap();
        json.pointer(pointer).unwrap().clone()
    }
}

fn store() -> NotaryStore {
    let roots = ["root-ec.pem", "root-rsa.pem", "self-signed.pem"].map(text).concat();
    NotaryStore::new(&roots).unwrap()
}

fn store_with_clock() -> NotaryStore {
    store().with_timestamp_authorities(&text("tsa-root.pem")).unwrap()
}

const BUILDS: &str = "C=US, ST=WA, O=acme, OU=builds, CN=";
const TOOLS: &str = "C=US, ST=WA, O=acme, OU=Tools\\, Inc., CN=";

#[rstest]
fn both_formats_and_every_key(
    #[values("jws", "cose")] format: &str,
    #[values("es256", "es384", "es521", "ps2048", "ps3072", "ps4096")] key: &str,
) {
    let signature = Signature::read(&format!("{key}-{format}"));
    assert_eq!(signature.media_type, if format == "jws" { JWS } else { COSE });
    let by = signature.verify(&store()).unwrap();
    let unit = if key.starts_with("es") { BUILDS } else { TOOLS };
    assert_eq!(by.subject, format!("{unit}{key}"));
    assert!(Identities::parse([format!("x509.subject:{unit}{key}").as_str()]).unwrap().hold(&by.subject));
    let valid = by.valid.unwrap();
    assert!(valid.from <= by.claimed.unwrap() && by.claimed.unwrap() <= valid.until);
    assert_eq!((by.proven, by.expiry), (None, None));
}

#[test]
fn a_self_signed_certificate_is_its_own_root() {
    let signature = Signature::read("self-signed-jws");
    let by = signature.verify(&store()).unwrap();
    assert_eq!(by.subject, "C=US, ST=WA, L=Seattle, O=Notary, CN=self-signed");
    let other = NotaryStore::new(&text("root-ec.pem")).unwrap();
    assert_eq!(signature.verify(&other), Err(Refused::UnknownRoot(by.subject)));
}

/// CVE-2024-23332: what the signer has limited in time does not count for ever.
#[rstest]
#[case("expiring-jws")]
#[case("expiring-cose")]
fn an_expiry_is_given_back(#[case] name: &str) {
    let by = Signature::read(name).verify(&store()).unwrap();
    assert_eq!(by.expiry.unwrap(), by.claimed.unwrap() + SignedDuration::from_hours(24));
}

#[test]
fn added_annotations_do_no_harm() {
    assert!(Signature::read("annotated-cose").verify(&store()).is_ok());
}

#[rstest]
#[case("timestamped-jws")]
#[case("timestamped-cose")]
fn a_countersignature_proves_the_time_and_outlives_the_certificate(#[case] name: &str) {
    let signature = Signature::read(name);
    let by = signature.verify(&store_with_clock()).unwrap();
    let (claimed, proven) = (by.claimed.unwrap(), by.proven.unwrap());
    // The authority says: to the second.
    assert!(proven >= claimed && proven <= claimed + SignedDuration::from_mins(1), "{claimed} {proven}");
    assert_eq!(by.valid, None);

    // Who does not trust a timestamp authority must judge the certificates as they are now.
    let unproven = signature.verify(&store()).unwrap();
    assert_eq!(unproven.proven, None);
    let valid = unproven.valid.unwrap();
    assert_eq!(valid.until.duration_since(valid.from), SignedDuration::from_hours(24));
}

#[test]
fn without_a_countersignature_the_certificates_must_be_valid_now() {
    let by = Signature::read("brief-jws").verify(&store_with_clock()).unwrap();
    assert_eq!(by.proven, None);
    assert!(by.valid.unwrap().until < Timestamp::MAX);
}

#[test]
fn a_timestamp_by_an_unknown_authority_or_for_another_signature() {
    let signature = Signature::read("timestamped-jws");
    let wrong = store().with_timestamp_authorities(&text("root-rsa.pem")).unwrap();
    let unknown = TimestampFault::UnknownRoot("C=US, ST=WA, O=clock, CN=RSA clock".to_owned());
    assert_eq!(signature.verify(&wrong), Err(Refused::Timestamp(unknown)));

    let token = signature.field("/header/io.cncf.notary.timestampSignature");
    let borrowed = Signature::read("brief-jws").edited(|json| {
        json["header"]["io.cncf.notary.timestampSignature"] = token;
    });
    let other = Err(Refused::Timestamp(TimestampFault::OtherSignature));
    assert_eq!(borrowed.verify(&store_with_clock()), other);
}

/// CVE-2023-33959: a signature is for the descriptor, the whole of it.
#[rstest]
fn another_image(#[values("es256-jws", "es256-cose")] name: &str) {
    let signature = Signature::read(name);
    let target = signature.target();
    let other = Digest::sha256(b"other");
    for wrong in [
        Target { digest: &other, ..target },
        Target { size: target.size + 1, ..target },
        Target { media_type: OCI_MANIFEST, ..target },
    ] {
        let refused = verify(&store(), &signature.media_type, &signature.envelope, wrong).unwrap_err();
        assert!(matches!(&refused, Refused::OtherArtifact { .. }), "{refused}");
    }
}

#[test]
fn parts_of_different_signatures_do_not_mix() {
    let other = Signature::read("expiring-jws");
    for field in ["protected", "payload", "signature"] {
        let value = other.field(&format!("/{field}"));
        let same = value == Signature::read("es256-jws").field(&format!("/{field}"));
        let mixed = Signature::read("es256-jws").edited(|json| json[field] = value);
        assert_eq!(mixed.verify(&store()).err(), (!same).then_some(Refused::Altered), "{field}");
    }
    // Another key of the same kind, certified by the same authority.
    let chain = Signature::read("brief-jws").field("/header/x5c");
    let mixed = Signature::read("es256-jws").edited(|json| json["header"]["x5c"] = chain);
    assert_eq!(mixed.verify(&store()), Err(Refused::Altered));
    // A key of another kind than the header says.
    let chain = Signature::read("ps2048-jws").field("/header/x5c");
    let mixed = Signature::read("es256-jws").edited(|json| json["header"]["x5c"] = chain);
    assert_eq!(mixed.verify(&store()), Err(Refused::Algorithm { said: "ES256", key: "PS256" }));
}

#[test]
fn the_media_type_decides_how_an_envelope_is_read() {
    let signature = Signature::read("es256-jws");
    for (media_type, says) in [(COSE, "malformed"), ("application/json", "no signature envelope")] {
        let refused =
            verify(&store(), media_type, &signature.envelope, signature.target()).unwrap_err().to_string();
        assert!(refused.contains(says), "{refused}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever byte is altered: it is refused, or nothing that counts was altered. A timestamp may be lost that way, but
    /// never changed.
    #[test]
    fn an_altered_byte(
        name in prop::sample::select(vec![
            "es256-jws", "es384-cose", "ps2048-jws", "ps3072-cose", "timestamped-jws", "timestamped-cose",
        ]),
        position in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut signature = Signature::read(name);
        let store = store_with_clock();
        let whole = signature.verify(&store).unwrap();
        let position = position.index(signature.envelope.len());
        signature.envelope[position] = byte;
        if let Ok(altered) = signature.verify(&store) {
            let proven = altered.proven.or(whole.proven);
            prop_assert_eq!(ByNotary { proven, valid: whole.valid, ..altered }, whole);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), cose in any::<bool>()) {
        let digest = Digest::sha256(b"");
        let target = Target { media_type: "", digest: &digest, size: 0 };
        let media_type = if cose { COSE } else { JWS };
        prop_assert!(verify(&store(), media_type, &bytes, target).is_err());
    }

    /// The same on bytes that get further: a beginning of something real.
    #[test]
    fn truncation_never_panics(
        name in prop::sample::select(vec!["timestamped-jws", "timestamped-cose"]),
        length in any::<prop::sample::Index>(),
    ) {
        let mut signature = Signature::read(name);
        signature.envelope.truncate(length.index(signature.envelope.len()));
        prop_assert!(signature.verify(&store_with_clock()).is_err());
    }
}
