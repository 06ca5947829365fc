//! Verdicts on what the real tools wrote, and on what an attacker would make of it. Shows R-TRUST: both cosign formats,
//! all key kinds, thresholds by key, and different words for different causes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of this crate is test code")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use berth_registry_core::{Digest, ImageReference};
use berth_trust::{
    Artifact, Bounds, Cause, Evidence, Facts, Finding, Ground, InvalidKey, InvalidPolicy, Policy, PublicKey,
    Quorum, Unmatched, Verdict, What,
};
use proptest::prelude::*;
use rstest::rstest;
use support::{
    about, authority, evidence, facts, file, findings, image, judge, key, now, policy, requiring, rewrite,
    rewrite_payload, signature,
};

#[rstest]
fn what_cosign_signs_is_admitted(
    #[values("classic", "bundle")] format: &str,
    #[values("p256", "p384", "p521", "rsa", "ed25519")] name: &str,
) {
    let evidence = evidence(&format!("{format}-{name}"));
    let verdict = judge(&policy(1, &[name]), &evidence);
    let signed = Ground::Stated { what: What::Signature, by: name.to_owned(), index: None };
    assert_eq!(verdict, Verdict::Admit { grounds: [signed].into() });
    // Any other key of any kind is another key.
    for other in
        ["other", "p256", "p384", "p521", "rsa", "ed25519"].into_iter().filter(|other| *other != name)
    {
        assert_eq!(judge(&policy(1, &[other]), &evidence).reason(), "UnknownSigner", "{other}");
    }
}

#[test]
fn classic_signatures_are_found_as_referrers_too() {
    assert_eq!(judge(&policy(1, &["p256"]), &evidence("classic-referrer")).reason(), "Admitted");
}

#[rstest]
#[case("classic-two")]
#[case("bundle-two")]
#[case("both")]
fn a_threshold_of_two_is_met_by_two_keys(#[case] name: &str) {
    let evidence = evidence(name);
    assert_eq!(judge(&policy(2, &["p256", "other"]), &evidence).reason(), "Admitted");
    assert_eq!(judge(&policy(2, &["p256", "other", "rsa"]), &evidence).reason(), "Admitted");
    assert_eq!(judge(&policy(3, &["p256", "other", "rsa"]), &evidence).reason(), "ThresholdNotMet");
    assert_eq!(judge(&policy(2, &["p256", "rsa"]), &evidence).reason(), "ThresholdNotMet");
}

#[rstest]
#[case("classic-twice")]
#[case("bundle-twice")]
fn two_signatures_by_one_key_are_one(#[case] name: &str) {
    let evidence = evidence(name);
    let facts = facts(&policy(1, &["p256", "other"]), &evidence);
    let signers: BTreeSet<_> = facts.statements().map(|statement| &statement.by).collect();
    assert_eq!((facts.statements().count(), signers.len()), (2, 1));
    assert_eq!(judge(&policy(1, &["p256", "other"]), &evidence).reason(), "Admitted");
    assert_eq!(judge(&policy(2, &["p256", "other"]), &evidence).reason(), "ThresholdNotMet");
}

#[test]
fn two_names_for_one_key_count_once() {
    let doubled = ["release=p256", "ci=p256-compressed", "other"];
    assert_eq!(key("p256"), key("p256-compressed"), "a spelling is no other key");
    let verdict = judge(&policy(2, &doubled), &evidence("bundle-p256"));
    assert_eq!(verdict.reason(), "ThresholdNotMet");
    let authorities = ["release=p256", "ci=p256"].map(authority);
    let error = Quorum::new(2, authorities.to_vec(), None).unwrap_err();
    assert_eq!(error, InvalidPolicy::ThresholdTooHigh { threshold: 2, signers: 1 });
}

#[test]
fn all_requirements_must_hold() {
    let both = requiring(vec![signature(1, &["p256"]), signature(1, &["other"])]);
    assert_eq!(judge(&both, &evidence("both")).reason(), "Admitted");
    assert_eq!(judge(&both, &evidence("bundle-p256")).reason(), "UnknownSigner");
}

#[rstest]
#[case("classic-p256")]
#[case("bundle-p256")]
fn a_signature_for_another_digest_is_told_apart(#[case] name: &str) {
    let mut evidence = evidence(name);
    let signed = evidence.subject.clone();
    evidence.subject = Digest::sha256(b"another image");
    let expected = Finding::OtherDigest { authority: "p256".into(), digest: signed };
    assert_eq!(findings(&judge(&policy(1, &["p256"]), &evidence)), [expected].into());
    // By a key that nobody asked about, it is merely a foreign signature.
    assert_eq!(judge(&policy(1, &["rsa"]), &evidence).reason(), "UnknownSigner");
}

#[test]
fn an_attestation_is_no_signature() {
    let verdict = judge(&policy(1, &["p256"]), &evidence("attested"));
    let kind = "https://example.com/review/v1".to_owned();
    let expected = Finding::OtherStatement { authority: "p256".into(), kind, what: What::Signature };
    assert_eq!(findings(&verdict), [expected].into());
}

#[test]
fn a_payload_that_was_altered_is_not_believed() {
    let target = Digest::sha256(b"malware");
    for name in ["classic-p256", "bundle-p256"] {
        let mut evidence = evidence(name);
        let signed = std::mem::replace(&mut evidence.subject, target.clone());
        let change = |text: &str| text.replace(signed.hex(), target.hex());
        if name.starts_with("classic") {
            rewrite(&mut evidence, change);
        } else {
            rewrite_payload(&mut evidence, change);
        }
        assert_eq!(judge(&policy(1, &["p256"]), &evidence).reason(), "UnknownSigner", "{name}");
    }
    // The predicate type of an attestation turned into that of a signature.
    let mut evidence = evidence("attested");
    rewrite_payload(&mut evidence, |text| {
        text.replace("https://example.com/review/v1", "https://sigstore.dev/cosign/sign/v1")
    });
    assert_eq!(judge(&policy(1, &["p256"]), &evidence).reason(), "UnknownSigner");
}

#[test]
fn an_annotation_of_the_manifest_does_not_make_a_signature() {
    let mut evidence = evidence("attested");
    for artifact in &mut evidence.artifacts {
        let manifest = String::from_utf8(artifact.manifest.clone()).unwrap();
        let manifest =
            manifest.replace("https://example.com/review/v1", "https://sigstore.dev/cosign/sign/v1");
        artifact.manifest = manifest.into_bytes();
    }
    assert_eq!(judge(&policy(1, &["p256"]), &evidence).reason(), "NotASignature");
}

#[rstest]
#[case("classic-p256")]
#[case("bundle-p256")]
fn evidence_that_is_cut_or_missing_is_malformed(#[case] name: &str) {
    let reason = |change: &dyn Fn(&mut Artifact)| {
        let mut evidence = evidence(name);
        evidence.artifacts.iter_mut().for_each(change);
        judge(&policy(1, &["p256"]), &evidence).reason().to_owned()
    };
    assert_eq!(reason(&|artifact| artifact.layers.clear()), "MalformedEvidence");
    assert_eq!(reason(&|artifact| artifact.manifest.truncate(100)), "MalformedEvidence");
    let truncate =
        |artifact: &mut Artifact| artifact.layers.values_mut().for_each(|bytes| bytes.truncate(50));
    assert_eq!(reason(&truncate), "MalformedEvidence");
    let mut cut = evidence(name);
    rewrite(&mut cut, |text| text[..100].to_owned());
    let expected = if name.starts_with("classic") { "UnknownSigner" } else { "MalformedEvidence" };
    assert_eq!(judge(&policy(1, &["p256"]), &cut).reason(), expected);
}

#[test]
fn bundles_of_another_form_are_malformed() {
    let says = |from: &str, to: &str| {
        let mut evidence = evidence("bundle-p256");
        rewrite(&mut evidence, |text| {
            assert!(text.contains(from), "{from} in {text}");
            text.replacen(from, to, 1)
        });
        findings(&judge(&policy(1, &["p256"]), &evidence)).first().unwrap().to_string()
    };
    assert!(says("bundle.v0.3+json", "bundle.v9+json").contains("mediaType"));
    assert!(says("application/vnd.in-toto+json", "text/plain").contains("payloadType"));
    assert!(says("\"dsseEnvelope\"", "\"messageSignature\"").contains("dsseEnvelope"));
    assert!(says("\"signatures\":[", "\"signatures\":[{\"sig\":\"AAAA\"},").contains("exactly one"));
    assert!(says("\"signatures\":[", "\"signatures\":[],\"x\":[").contains("exactly one"));
    assert!(says("{", "{\"mediaType\":\"x\",").contains("appears twice"));
    // An older spelling of the media type changes nothing that is signed.
    let mut old = evidence("bundle-p256");
    rewrite(&mut old, |text| text.replacen("bundle.v0.3+json", "bundle+json;version=0.3", 1));
    assert_eq!(judge(&policy(1, &["p256"]), &old).reason(), "Admitted");
}

#[test]
fn oversized_evidence_names_the_bound() {
    let limit = Bounds { layer: 100, ..Bounds::default() };
    let policy = policy(1, &["p256"]);
    let facts = Facts::establish(&evidence("bundle-p256"), policy.anchors(), &limit).unwrap();
    let refusal = facts.refusals().next().unwrap();
    assert!(matches!(&refusal.cause, Cause::Malformed { by: None, why } if why.contains("limit of 100")));

    let mut large = evidence("classic-p256");
    rewrite(&mut large, |text| format!("{text}{}", " ".repeat(1024 * 1024)));
    assert!(findings(&judge(&policy, &large)).first().unwrap().to_string().contains("limit of 1048576"));

    let mut many = evidence("bundle-p256");
    let artifact = many.artifacts[0].clone();
    many.artifacts.extend((0..100).map(|n| {
        let mut manifest = artifact.manifest.clone();
        manifest.extend(format!("{:n$}", "").bytes());
        manifest.push(b'\n');
        Artifact { manifest, ..artifact.clone() }
    }));
    let verdict = judge(&policy, &many);
    assert!(
        matches!(&verdict, Verdict::CouldNotCheck { reason, message, transient: false }
        if reason == "TooMuchEvidence" && message.contains("100")),
        "{verdict:?}"
    );
}

#[test]
fn facts_say_nothing_about_keys_that_were_not_tried() {
    let facts = facts(&policy(1, &["other"]), &evidence("bundle-p256"));
    let verdict = policy(1, &["p256"]).verdict(&image(), &facts, now()).verdict;
    assert!(matches!(verdict, Verdict::CouldNotCheck { .. }), "{verdict:?}");
}

#[test]
fn unusable_keys_are_refused() {
    let read = |name: &str| PublicKey::from_pem(&file(name)).unwrap_err();
    assert_eq!(read("rsa1024.pub"), InvalidKey::Unsupported);
    let x25519 = format!(
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VuAyEA{}=\n-----END PUBLIC KEY-----\n",
        "A".repeat(43)
    );
    assert_eq!(PublicKey::from_pem(&x25519).unwrap_err(), InvalidKey::Unsupported);
    assert_eq!(read("unsigned.json"), InvalidKey::NoPem);
    let two = format!("{}{}", file("p256.pub"), file("other.pub"));
    assert_eq!(PublicKey::from_pem(&two).unwrap_err(), InvalidKey::SeveralKeys(2));
    let private =
        "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----";
    assert_eq!(PublicKey::from_pem(private).unwrap_err(), InvalidKey::Private);
}

#[test]
fn policies_speak_about_normalised_names() {
    let image = |text: &str| text.parse::<ImageReference>().unwrap();
    let on = |pattern: &str| {
        let required = vec![signature(1, &["p256"])];
        Policy::new(vec![pattern.parse().unwrap()], Unmatched::Allow, required, Vec::new()).unwrap()
    };
    assert!(on("r.svc/team/*").applies_to(&image("R.svc:443/team/app:v1")));
    assert!(!on("r.svc/team/*").applies_to(&image("r.svc/team/a/b:v1")));
    assert!(!on("r.svc/team/*").applies_to(&image("r.svc.evil/team/app")));
    assert!(on("docker.io/library/*").applies_to(&image("alpine")));
    let empty = Policy::new(Vec::new(), Unmatched::Allow, Vec::new(), Vec::new());
    assert_eq!(empty.unwrap_err(), InvalidPolicy::NoRequirements);
}

#[test]
fn words_say_what_was_found_what_is_missing_and_the_cure() {
    let mut lines = Vec::new();
    let mut tell = |case: &str, threshold: usize, authorities: &[&str], evidence: &Evidence| {
        let verdict = judge(&policy(threshold, authorities), evidence);
        // Digests and keys differ from run to run of make.sh; the words do not.
        let subject = evidence.subject.clone();
        let line = verdict.explain(&image(), Some(&subject)).replace(subject.hex(), "SUBJECT");
        lines.push(format!("{case} [{}]\n  {line}", verdict.reason()));
    };
    let mut other_digest = evidence("classic-p256");
    let signed = std::mem::replace(&mut other_digest.subject, Digest::sha256(b"another"));
    let mut cut = evidence("bundle-p256");
    cut.artifacts[0].layers.clear();
    tell("signed", 1, &["p256"], &evidence("bundle-p256"));
    tell("unsigned", 1, &["release=p256", "ci=rsa"], &evidence("unsigned"));
    tell("other key", 1, &["release=p256"], &evidence("classic-rsa"));
    tell("other digest", 1, &["release=p256"], &other_digest);
    tell("attestation", 1, &["release=p256"], &evidence("attested"));
    tell("threshold", 2, &["release=p256", "ci=rsa"], &evidence("both"));
    let missing = cut.artifacts[0].manifest.clone();
    tell("malformed", 1, &["release=p256"], &cut);
    lines.push(format!("missing\n  {}", Verdict::image_not_found().explain(&image(), None)));
    let layer = serde_json::from_slice::<serde_json::Value>(&missing).unwrap()["layers"][0]["digest"].clone();
    let text = lines.join("\n").replace(signed.hex(), "SIGNED").replace(layer.as_str().unwrap(), "LAYER");
    insta::assert_snapshot!(text);
}

const ALL: [&str; 8] = [
    "classic-p256",
    "bundle-p256",
    "classic-rsa",
    "bundle-two",
    "classic-twice",
    "attested",
    "both",
    "classic-two",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The order of artifacts, authorities and requirements never matters.
    #[test]
    fn order_never_matters(
        picks in proptest::sample::subsequence(ALL.to_vec(), 0..=ALL.len()).prop_shuffle(),
        authorities in proptest::sample::subsequence(vec!["p256", "other", "rsa"], 1..=3).prop_shuffle(),
    ) {
        // All evidence is laid beside one image: some of it speaks about others.
        let subject = evidence("both").subject;
        let artifacts: Vec<_> = picks.iter().flat_map(|name| evidence(name).artifacts).collect();
        let forward = about(&subject, artifacts);
        let mut backward = forward.clone();
        backward.artifacts.reverse();
        let mut reversed = authorities.clone();
        reversed.reverse();
        for threshold in 1..=authorities.len() {
            let one = judge(&policy(threshold, &authorities), &forward);
            prop_assert_eq!(&one, &judge(&policy(threshold, &reversed), &backward));
            // More evidence never turns yes into no.
            let mut less = forward.clone();
            less.artifacts.pop();
            if judge(&policy(threshold, &authorities), &less).is_admitted() {
                prop_assert!(one.is_admitted());
            }
        }
    }

    /// A byte changed anywhere never admits what the change was not harmless for, and never panics.
    #[test]
    fn a_changed_byte_in_the_signed_bytes_is_never_admitted(at in 0_usize..10_000, to in any::<u8>()) {
        let mut changed = evidence("classic-p256");
        for artifact in &mut changed.artifacts {
            for bytes in artifact.layers.values_mut() {
                let at = at % bytes.len();
                if bytes[at] == to { return Ok(()) }
                bytes[at] = to;
            }
        }
        prop_assert!(!judge(&policy(1, &["p256"]), &changed).is_admitted());
        // With the manifest rewritten to name the changed layer, only the signature stands in the way.
        let layer = changed.artifacts[0].layers.values().next().unwrap().clone();
        let mut renamed = evidence("classic-p256");
        let old = renamed.artifacts[0].layers.keys().next().unwrap().to_string();
        let new = Digest::sha256(&layer);
        let manifest = String::from_utf8(renamed.artifacts[0].manifest.clone()).unwrap();
        renamed.artifacts[0].manifest = manifest.replace(&old, &new.to_string()).into_bytes();
        renamed.artifacts[0].layers = [(new, layer)].into();
        let verdict = judge(&policy(1, &["p256"]), &renamed);
        prop_assert_eq!(verdict.reason(), "UnknownSigner");
    }

    #[test]
    fn garbage_never_panics_and_never_admits(
        manifest in proptest::collection::vec(any::<u8>(), 0..300),
        layer in proptest::collection::vec(any::<u8>(), 0..300),
        text in ".{0,200}",
    ) {
        let digest = Digest::sha256(&layer);
        let shaped = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"x","digest":"{digest}","size":1}},"layers":[{{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","digest":"{digest}","size":1}},{{"mediaType":"application/vnd.dev.cosign.simplesigning.v1+json","digest":"{digest}","size":1}}]}}"#
        );
        let layers = BTreeMap::from([(digest, layer)]);
        let artifacts = [manifest, shaped.into_bytes(), text.clone().into_bytes()]
            .map(|manifest| Artifact { manifest, layers: layers.clone() });
        let evidence = about(&Digest::sha256(b""), artifacts.to_vec());
        let verdict = judge(&policy(1, &["p256"]), &evidence);
        prop_assert!(!verdict.is_admitted(), "{:?}", verdict);
        prop_assert!(PublicKey::from_pem(&text).is_err());
    }
}
