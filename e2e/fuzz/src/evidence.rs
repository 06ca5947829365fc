//! Evidence as a hostile registry may serve it: bundles, envelopes, classic signatures, notation's, with certificates,
//! log entries and timestamps. Input: a manifest with a subject, then its layers; digests and sizes are filled in, so
//! that an altered layer is still looked at.

use std::{collections::BTreeSet, sync::LazyLock};

use berth_registry_core::{Descriptor, Digest};
use berth_trust::{
    Anchor, Anchors, Artifact, Bounds, Described, Evidence, Facts, PublicKey, Says,
    notary::NotaryStore,
    sigstore::{CertificateAuthorities, TrustRoot},
};
use serde_json::{Value, json};

use crate::statement::SILENT;

macro_rules! trust {
    ($file:literal) => {
        include_str!(concat!("../../../registry/trust/tests/", $file))
    };
}

const KEYS: [&str; 7] = [
    trust!("vectors/other.pub"),
    trust!("vectors/ed25519.pub"),
    trust!("vectors/p256.pub"),
    trust!("vectors/p384.pub"),
    trust!("vectors/rsa.pub"),
    trust!("corpus/sigstore/p256.pub"),
    trust!("corpus/sigstore/p384.pub"),
];

static ANCHORS: LazyLock<Anchors> = LazyLock::new(|| {
    let roots = [
        trust!("corpus/notary/root-ec.pem"),
        trust!("corpus/notary/root-rsa.pem"),
        trust!("corpus/notary/self-signed.pem"),
    ];
    let store = NotaryStore::new(&roots.concat()).unwrap();
    let store = store.with_timestamp_authorities(trust!("corpus/notary/tsa-root.pem")).unwrap();
    let keys = KEYS.iter().map(|pem| Anchor::Key(PublicKey::from_pem(pem).unwrap()));
    keys.chain([
        Anchor::Key(SILENT.key.clone()),
        Anchor::Sigstore(TrustRoot::parse(trust!("corpus/sigstore/trusted_root.json").as_bytes()).unwrap()),
        Anchor::Authorities(CertificateAuthorities::from_pem(trust!("corpus/sigstore/own.pem")).unwrap()),
        Anchor::Notary(store),
    ])
    .collect()
});

pub(crate) fn run(input: &[u8]) {
    let evidence = read(input);
    let Ok(facts) = Facts::establish(&evidence, &ANCHORS, &Bounds::default()) else { return };
    check(&facts, &ANCHORS);
    assert!(facts.statements().all(|statement| statement.by.anchor() != SILENT.key.id()));
    let artifacts = [evidence.artifacts.clone(), evidence.artifacts.clone()].concat();
    let again = Facts::establish(&Evidence { artifacts, ..evidence }, &ANCHORS, &Bounds::default());
    assert_eq!(again.as_ref(), Ok(&facts));
}

/// What holds for all facts.
pub(crate) fn check(facts: &Facts, anchors: &Anchors) {
    assert!(facts.covers(anchors));
    let ids: BTreeSet<_> = anchors.ids().collect();
    for statement in facts.statements() {
        assert!(ids.contains(statement.by.anchor()));
        assert_eq!(&statement.about, facts.subject());
        if let Says::Attestation { predicate, .. } = &statement.says {
            serde_json::from_str::<Value>(predicate).unwrap();
        }
    }
    let written = serde_json::to_vec(facts).unwrap();
    assert_eq!(&serde_json::from_slice::<Facts>(&written).unwrap(), facts);
}

/// One artifact beside the image that its manifest names as the subject.
pub(crate) fn read(mut input: &[u8]) -> Evidence {
    let manifest = crate::part(&mut input);
    let mut artifact = Artifact { manifest: manifest.to_vec(), layers: [].into() };
    let mut subject = None;
    if let Ok(mut manifest) = serde_json::from_slice::<Value>(manifest) {
        for layer in manifest["layers"].as_array_mut().into_iter().flatten().filter(|it| it.is_object()) {
            let bytes = crate::part(&mut input).to_vec();
            let digest = Digest::sha256(&bytes);
            (layer["digest"], layer["size"]) = (json!(digest), json!(bytes.len()));
            artifact.layers.insert(digest, bytes);
        }
        subject = serde_json::from_value::<Descriptor>(manifest["subject"].clone()).ok();
        artifact.manifest = manifest.to_string().into_bytes();
    }
    Evidence {
        subject: subject.as_ref().map_or_else(|| Digest::sha256(b"image"), |it| it.digest.clone()),
        described: subject.map(|it| Described { media_type: it.media_type, size: it.size }),
        artifacts: vec![artifact],
        indexes: Vec::new(),
    }
}
