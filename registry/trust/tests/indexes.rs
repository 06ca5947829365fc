//! Indexes and their children. Shows R-TRUST: what is stated about an index is stated about what it lists, what is stated
//! about a child only about that child, and only the index that it says it is counts.

#![allow(clippy::unwrap_used, reason = "all of this crate is test code")]

mod support;

use berth_registry_core::Digest;
use berth_trust::{Artifact, Evidence, Ground, Index, Policy, Verdict, What};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;
use support::{about, judge, pen::Pen, requiring};

fn child(n: u8) -> Digest {
    Digest::sha256(&[n])
}

/// An index that lists some children.
fn index(children: &[Digest]) -> Vec<u8> {
    let children: Vec<_> = children
        .iter()
        .map(|digest| {
            json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1,
                "platform": {"os": "linux", "architecture": "amd64"}})
        })
        .collect();
    json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": children})
        .to_string()
        .into_bytes()
}

fn above(subject: &Digest, manifest: &[u8], artifacts: Vec<Artifact>) -> Evidence {
    let index = Index { digest: Digest::sha256(manifest), manifest: manifest.to_vec(), artifacts };
    Evidence { indexes: vec![index], ..about(subject, Vec::new()) }
}

fn signed_by(pen: &Pen) -> Policy {
    let quorum = berth_trust::Quorum::new(1, vec![pen.authority("release")], None).unwrap();
    requiring(vec![berth_trust::Requirement::Signature(quorum)])
}

#[test]
fn a_signed_index_covers_its_children() {
    let pen = Pen::new(1);
    let manifest = index(&[child(1), child(2)]);
    let digest = Digest::sha256(&manifest);
    for artifact in [pen.signs(&digest), pen.signs_classic(&digest)] {
        let verdict = judge(&signed_by(&pen), &above(&child(2), &manifest, vec![artifact.clone()]));
        let by = "release".to_owned();
        let ground = Ground::Stated { what: What::Signature, by, index: Some(digest.clone()) };
        assert_eq!(verdict, Verdict::Admit { grounds: [ground].into() });
        // Also where it was found beside the child.
        let mut beside = above(&child(2), &manifest, Vec::new());
        beside.artifacts.push(artifact);
        assert_eq!(judge(&signed_by(&pen), &beside), verdict);
    }
}

#[test]
fn a_signed_child_is_no_signed_index() {
    let pen = Pen::new(1);
    let manifest = index(&[child(1), child(2)]);
    let signature = pen.signs(&child(1));
    let of = |subject: &Digest, evidence: Evidence| {
        judge(&signed_by(&pen), &Evidence { subject: subject.clone(), ..evidence })
    };
    assert_eq!(of(&child(1), about(&child(1), vec![signature.clone()])).reason(), "Admitted");
    assert_eq!(of(&child(2), above(&child(2), &manifest, vec![signature.clone()])).reason(), "OtherDigest");
    let digest = Digest::sha256(&manifest);
    assert_eq!(of(&digest, about(&digest, vec![signature])).reason(), "OtherDigest");
}

#[rstest]
#[case::lists_others(index(&[child(1)]), None)]
#[case::lists_nothing(index(&[]), None)]
#[case::other_bytes(index(&[child(1), child(2)]), Some(Digest::sha256(b"called so")))]
#[case::no_index(br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#.to_vec(), None)]
#[case::nonsense(b"{".to_vec(), None)]
#[case::twice(
    String::from_utf8(index(&[child(2)])).unwrap().replacen('{', r#"{"schemaVersion":2,"#, 1).into_bytes(),
    None
)]
fn an_index_must_be_what_it_is_called_and_list_the_image(
    #[case] manifest: Vec<u8>,
    #[case] digest: Option<Digest>,
) {
    let pen = Pen::new(1);
    let digest = digest.unwrap_or_else(|| Digest::sha256(&manifest));
    let artifacts = vec![pen.signs(&digest)];
    let evidence = Evidence {
        indexes: vec![Index { digest: digest.clone(), manifest, artifacts }],
        ..about(&child(2), vec![pen.signs(&digest)])
    };
    assert!(!judge(&signed_by(&pen), &evidence).is_admitted());
}

/// A configuration or a layer that has the image's digest makes no index of a manifest.
#[test]
fn only_children_are_covered() {
    let pen = Pen::new(1);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "x", "digest": child(2), "size": 1},
        "layers": [{"mediaType": "x", "digest": child(2), "size": 1}],
        "subject": {"mediaType": "x", "digest": child(2), "size": 1},
        "manifests": [{"mediaType": "x", "digest": child(2), "size": 1}],
    })
    .to_string()
    .into_bytes();
    let signature = pen.signs(&Digest::sha256(&manifest));
    assert!(!judge(&signed_by(&pen), &above(&child(2), &manifest, vec![signature])).is_admitted());
}

#[test]
fn what_is_beside_indexes_is_bounded_with_the_rest() {
    let pen = Pen::new(1);
    let manifest = index(&[child(2)]);
    let many = (0..101).map(|n| pen.attests(&child(2), &n.to_string(), &json!({}))).collect();
    assert_eq!(judge(&signed_by(&pen), &above(&child(2), &manifest, many)).reason(), "TooMuchEvidence");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// The order of indexes never matters.
    #[test]
    fn order_never_matters(listing in proptest::collection::vec((1_u8..4, any::<bool>()), 0..4)) {
        let pen = Pen::new(1);
        let indexes: Vec<_> = listing.iter().zip(10..).map(|((lists, signed), n)| {
            let manifest = index(&[child(*lists), child(n)]);
            let digest = Digest::sha256(&manifest);
            let artifacts = signed.then(|| pen.signs(&digest)).into_iter().collect();
            Index { digest, manifest, artifacts }
        }).collect();
        let forward = Evidence { indexes, ..about(&child(2), Vec::new()) };
        let mut backward = forward.clone();
        backward.indexes.reverse();
        let verdict = judge(&signed_by(&pen), &forward);
        prop_assert_eq!(&verdict, &judge(&signed_by(&pen), &backward));
        prop_assert_eq!(verdict.is_admitted(), listing.contains(&(2, true)));
    }
}
