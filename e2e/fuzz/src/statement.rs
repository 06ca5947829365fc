//! What lies behind a good signature: somebody with a key may sign whatever they like, which the target does for the
//! fuzzer, so that payloads are read and judged. Input: a form, a payload about [`IMAGE`].

use std::{collections::BTreeMap, sync::LazyLock};

use aws_lc_rs::{
    encoding::AsDer as _,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use berth_registry_core::Digest;
use berth_trust::{
    Artifact, Authority, Bounds, By, Condition, Evidence, Facts, Policy, PublicKey, Quorum, Requirement,
    Unmatched, Verdict, kind,
};
use serde_json::{Value, json};

/// The image has this digest, `sha256:6105d6cc…`.
pub(crate) const IMAGE: &[u8] = b"image";
const PAYLOAD: &str = "application/vnd.in-toto+json";

pub(crate) struct Pen {
    pair: EcdsaKeyPair,
    pub(crate) key: PublicKey,
}

static SIGNER: LazyLock<Pen> = LazyLock::new(Pen::new);
/// Signs nothing, here or elsewhere.
pub(crate) static SILENT: LazyLock<Pen> = LazyLock::new(Pen::new);
static POLICIES: LazyLock<[Policy; 2]> = LazyLock::new(|| {
    let attestation = |conditions: &[&str]| Requirement::Attestation {
        predicate_type: "https://cosign.sigstore.dev/attestation/vuln/v1".to_owned(),
        quorum: quorum(&[&SIGNER]),
        conditions: conditions.iter().map(|text| Condition::compile(text).unwrap()).collect(),
    };
    let of = |requirements| {
        Policy::new(vec!["**".parse().unwrap()], Unmatched::Allow, requirements, Vec::new()).unwrap()
    };
    let conditions = ["predicate.scanner.result.all(r, r.severity != 'CRITICAL')", "predicate.n < 2.5"];
    [
        of(vec![Requirement::Signature(quorum(&[&SIGNER])), attestation(&conditions)]),
        of(vec![Requirement::Signature(quorum(&[&SIGNER, &SILENT]))]),
    ]
});

pub(crate) fn run(mut input: &[u8]) {
    let (form, payload) = (crate::part(&mut input), input);
    let artifact = match form {
        b"bundle" => layer(
            kind::BUNDLE,
            json!({"mediaType": kind::BUNDLE, "dsseEnvelope": SIGNER.envelope(payload)}),
            &json!({}),
        ),
        b"envelope" => layer(kind::ENVELOPE, SIGNER.envelope(payload), &json!({})),
        _ => {
            let signature = SIGNER.sign(payload);
            artifact(kind::SIMPLE_SIGNING, payload, &json!({"dev.cosignproject.cosign/signature": signature}))
        }
    };
    let evidence = Evidence {
        subject: Digest::sha256(IMAGE),
        described: None,
        artifacts: vec![artifact],
        indexes: Vec::new(),
    };
    let image = "r.svc/team/app:v1".parse().unwrap();
    let anchors = POLICIES.iter().flat_map(|policy| policy.anchors().clone()).collect();
    let facts = Facts::establish(&evidence, &anchors, &Bounds::default()).unwrap();
    crate::evidence::check(&facts, &anchors);
    assert!(facts.statements().all(|statement| statement.by.anchor() == SIGNER.key.id()));
    for policy in POLICIES.iter() {
        let judgement = policy.verdict(&image, &facts, "2026-06-01T00:00:00Z".parse().unwrap());
        let verdict = judgement.verdict;
        // One statement is no two, neither of kinds nor of signers.
        assert!(matches!(verdict, Verdict::Deny { .. }), "{verdict:?}");
        assert!(!verdict.explain(&image, Some(facts.subject())).is_empty());
        serde_json::to_vec(&verdict).unwrap();
    }
}

impl Pen {
    fn new() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let spki = STANDARD.encode(pair.public_key().as_der().unwrap().as_ref());
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{spki}\n-----END PUBLIC KEY-----\n");
        Self { pair, key: PublicKey::from_pem(&pem).unwrap() }
    }

    /// In base64.
    fn sign(&self, message: &[u8]) -> String {
        STANDARD.encode(self.pair.sign(&SystemRandom::new(), message).unwrap())
    }

    fn envelope(&self, payload: &[u8]) -> Value {
        let head = format!("DSSEv1 {} {PAYLOAD} {} ", PAYLOAD.len(), payload.len());
        let sig = self.sign(&[head.as_bytes(), payload].concat());
        json!({"payload": STANDARD.encode(payload), "payloadType": PAYLOAD, "signatures": [{"sig": sig}]})
    }
}

/// All of them have to sign.
fn quorum(pens: &[&Pen]) -> Quorum {
    let authorities = pens.iter().enumerate().map(|(number, pen)| Authority {
        name: number.to_string(),
        by: By::Key { key: pen.key.clone(), log: None },
        valid_until: None,
    });
    Quorum::new(pens.len(), authorities.collect(), None).unwrap()
}

#[allow(clippy::needless_pass_by_value, reason = "a document made for this call")]
fn layer(media_type: &str, document: Value, annotations: &Value) -> Artifact {
    artifact(media_type, document.to_string().as_bytes(), annotations)
}

/// A manifest with one layer.
fn artifact(media_type: &str, layer: &[u8], annotations: &Value) -> Artifact {
    let digest = Digest::sha256(layer);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::sha256(b"{}"), "size": 2},
        "layers": [{"mediaType": media_type, "digest": digest, "size": layer.len(), "annotations": annotations}],
    });
    Artifact {
        manifest: manifest.to_string().into_bytes(),
        layers: BTreeMap::from([(digest, layer.to_vec())]),
    }
}
