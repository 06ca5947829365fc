//! What the tables of this crate share: evidence as the real tools wrote it (`vectors/make.sh` says how), policies in a
//! word, and what somebody who may write to a registry can do to either.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    dead_code,
    reason = "test code; not every table needs all of it"
)]

pub(crate) mod pen;

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use berth_registry_core::{Digest, ImageReference};
use berth_trust::{
    Artifact, Authority, Bounds, By, Evidence, Facts, Finding, Judgement, Policy, PublicKey, Quorum,
    Requirement, Unmatched, Verdict,
};
use jiff::Timestamp;
use serde::Deserialize;

#[derive(Deserialize)]
struct Vector {
    subject: Digest,
    artifacts: Vec<VectorArtifact>,
}

#[derive(Deserialize)]
struct VectorArtifact {
    manifest: String,
    layers: BTreeMap<Digest, String>,
}

pub(crate) fn file(name: &str) -> String {
    let path = format!("{}/tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

pub(crate) fn evidence(name: &str) -> Evidence {
    let vector: Vector = serde_json::from_str(&file(&format!("{name}.json"))).unwrap();
    let artifacts = vector.artifacts.into_iter().map(|artifact| Artifact {
        manifest: artifact.manifest.into_bytes(),
        layers: artifact.layers.into_iter().map(|(digest, text)| (digest, text.into_bytes())).collect(),
    });
    about(&vector.subject, artifacts.collect())
}

/// Evidence that was found beside an image.
pub(crate) fn about(subject: &Digest, artifacts: Vec<Artifact>) -> Evidence {
    Evidence { subject: subject.clone(), described: None, artifacts, indexes: Vec::new() }
}

pub(crate) fn key(name: &str) -> PublicKey {
    PublicKey::from_pem(&file(&format!("{name}.pub"))).unwrap()
}

/// `NAME=KEY` or `KEY`, for good.
pub(crate) fn authority(text: &str) -> Authority {
    let (name, of) = text.split_once('=').unwrap_or((text, text));
    Authority { name: name.to_owned(), by: By::Key { key: key(of), log: None }, valid_until: None }
}

pub(crate) fn quorum(threshold: usize, authorities: &[&str]) -> Quorum {
    Quorum::new(threshold, authorities.iter().map(|text| authority(text)).collect(), None).unwrap()
}

pub(crate) fn signature(threshold: usize, authorities: &[&str]) -> Requirement {
    Requirement::Signature(quorum(threshold, authorities))
}

/// A policy over all images.
pub(crate) fn requiring(requirements: Vec<Requirement>) -> Policy {
    Policy::new(vec!["**".parse().unwrap()], Unmatched::Allow, requirements, Vec::new()).unwrap()
}

pub(crate) fn policy(threshold: usize, authorities: &[&str]) -> Policy {
    requiring(vec![signature(threshold, authorities)])
}

pub(crate) fn image() -> ImageReference {
    "r.svc/team/app:v1".parse().unwrap()
}

/// An instant, whichever.
pub(crate) fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

pub(crate) fn facts(policy: &Policy, evidence: &Evidence) -> Facts {
    Facts::establish(evidence, policy.anchors(), &Bounds::default()).unwrap()
}

pub(crate) fn judgement(policy: &Policy, evidence: &Evidence, now: Timestamp) -> Judgement {
    policy.verdict(&image(), &facts(policy, evidence), now)
}

pub(crate) fn judge(policy: &Policy, evidence: &Evidence) -> Verdict {
    match Facts::establish(evidence, policy.anchors(), &Bounds::default()) {
        Ok(facts) => policy.verdict(&image(), &facts, now()).verdict,
        Err(error) => error.into(),
    }
}

/// Everything that is found wrong.
pub(crate) fn findings(verdict: &Verdict) -> BTreeSet<Finding> {
    match verdict {
        Verdict::Deny { findings, .. } => findings.clone(),
        other => panic!("{other:?}"),
    }
}

/// Changes the text of one layer and everything that names it, as somebody who may write to the registry can.
pub(crate) fn rewrite(evidence: &mut Evidence, change: impl Fn(&str) -> String) {
    for artifact in &mut evidence.artifacts {
        let mut manifest = String::from_utf8(artifact.manifest.clone()).unwrap();
        let layers = std::mem::take(&mut artifact.layers);
        for (digest, bytes) in layers {
            let changed = change(std::str::from_utf8(&bytes).unwrap());
            let new = Digest::sha256(changed.as_bytes());
            manifest = manifest.replace(&digest.to_string(), &new.to_string());
            artifact.layers.insert(new, changed.into_bytes());
        }
        artifact.manifest = manifest.into_bytes();
    }
}

/// The payload of a bundle, decoded, changed and put back; the signature stays.
pub(crate) fn rewrite_payload(evidence: &mut Evidence, change: impl Fn(&str) -> String) {
    rewrite(evidence, |text| {
        let mut bundle: serde_json::Value = serde_json::from_str(text).unwrap();
        let payload = &mut bundle["dsseEnvelope"]["payload"];
        let decoded = String::from_utf8(STANDARD.decode(payload.as_str().unwrap()).unwrap()).unwrap();
        *payload = STANDARD.encode(change(&decoded)).into();
        bundle.to_string()
    });
}
