//! Decisions are written down and come out again as they were; whoever changes one is found out (R-OPR-9).

use berth_trust::{Artifact, Bounds, Evidence};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;

/// Evidence as the real tools wrote it.
const SIGNED: &str = include_str!("../../../../registry/trust/tests/vectors/bundle-p256.json");
const UNSIGNED: &str = include_str!("../../../../registry/trust/tests/vectors/unsigned.json");
const RELEASE: &str = include_str!("../../../../registry/trust/tests/vectors/p256.pub");
const OTHER: &str = include_str!("../../../../registry/trust/tests/vectors/other.pub");

fn spec(keys: &[Value]) -> ImagePolicySpec {
    let authorities: Vec<_> = keys
        .iter()
        .enumerate()
        .map(|(index, key)| json!({"name": format!("k{index}"), "key": key}))
        .collect();
    let signature = json!({"threshold": keys.len(), "authorities": authorities});
    let spec = json!({"mode": "Enforce", "images": ["r.io/**"], "require": [{"signature": signature}]});
    serde_json::from_value(spec).unwrap()
}

fn secrets() -> BTreeMap<String, Material> {
    let material = Material::of([(&"cosign.pub".to_owned(), RELEASE.as_bytes())]);
    [("cosign".to_owned(), material)].into()
}

fn seen(vector: &str, spec: &ImagePolicySpec) -> Look {
    let vector: Value = serde_json::from_str(vector).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let artifacts = vector["artifacts"].as_array().unwrap().iter().map(|artifact| Artifact {
        manifest: text(&artifact["manifest"]).into_bytes(),
        layers: artifact["layers"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(digest, layer)| (digest.parse().unwrap(), text(layer).into_bytes()))
            .collect(),
    });
    let subject = text(&vector["subject"]).parse().unwrap();
    let evidence = Evidence { subject, described: None, artifacts: artifacts.collect(), indexes: Vec::new() };
    let policy = Rules::new(spec, &secrets()).policy.unwrap();
    Look::Seen(Facts::establish(&evidence, policy.anchors(), &Bounds::default()).unwrap())
}

fn decision(spec: &ImagePolicySpec, look: Look) -> Decision {
    let image = "r.io/app:v1".parse().unwrap();
    let now = "2026-11-21T20:00:00Z".parse().unwrap();
    Decision::new("team-a/signed", spec, &secrets(), &image, look, now).unwrap()
}

fn unsigned() -> Decision {
    let spec = spec(&[json!({"secretName": "cosign"})]);
    decision(&spec, seen(UNSIGNED, &spec))
}

fn unseen() -> Look {
    Look::Unseen {
        reason: "Unreachable".into(),
        message: "r.io cannot be reached: gone".into(),
        transient: true,
    }
}

#[rstest]
#[case::signed(SIGNED, &[json!({"secretName": "cosign"})], "Admitted")]
#[case::unsigned(UNSIGNED, &[json!({"secretName": "cosign"})], "Unsigned")]
#[case::other_key(SIGNED, &[json!({"pem": OTHER})], "UnknownSigner")]
#[case::one_of_two(SIGNED, &[json!({"secretName": "cosign"}), json!({"pem": OTHER})], "ThresholdNotMet")]
fn a_stored_decision_is_made_again_byte_for_byte(
    #[case] vector: &str,
    #[case] keys: &[Value],
    #[case] reason: &str,
) {
    let spec = spec(keys);
    let made = decision(&spec, seen(vector, &spec));
    assert_eq!(made.reason, reason);
    let stored = Decision::decode(&made.id(), &made.encode().unwrap()).unwrap();
    assert_eq!(stored, made);
    let replay = stored.replay().unwrap();
    assert!(stored.agrees(&replay));
    assert_eq!(replay.message.as_bytes(), made.message.as_bytes());
}

#[rstest]
#[case::no_image(Look::NoSuchImage, "ImageNotFound")]
#[case::no_answer(unseen(), "Unreachable")]
fn what_could_not_be_seen_is_recorded_too(#[case] look: Look, #[case] reason: &str) {
    let made = decision(&spec(&[json!({"pem": OTHER})]), look);
    let stored = Decision::decode(&made.id(), &made.encode().unwrap()).unwrap();
    assert_eq!((stored.reason.as_str(), stored.agrees(&stored.replay().unwrap())), (reason, true));
}

/// The same denial an hour later is the same decision; any other difference makes another one.
#[test]
fn the_id_leaves_out_the_time_and_nothing_else() {
    let made = unsigned();
    let later = Decision { now: "2026-11-22T00:00:00Z".parse().unwrap(), ..made.clone() };
    assert_eq!(made.id(), later.id());
    let other_spec = spec(&[json!({"pem": RELEASE})]);
    let changed = [
        Decision { policy: "team-b/signed".into(), ..made.clone() },
        Decision { spec: other_spec, ..made.clone() },
        Decision { secrets: BTreeMap::new(), ..made.clone() },
        Decision { image: "r.io/app:v2".into(), ..made.clone() },
        Decision { look: Look::NoSuchImage, ..made.clone() },
        Decision { reason: "Admitted".into(), ..made.clone() },
        Decision { message: String::new(), ..made.clone() },
    ];
    for other in changed {
        assert_ne!(other.id(), made.id(), "{other:?}");
        let read = Decision::decode(&made.id(), &other.encode().unwrap());
        assert!(matches!(read, Err(DecisionError::Altered { .. })), "{read:?}");
    }
}

/// Whoever also gives the record a fitting id is found out by judging again.
#[test]
fn a_forged_verdict_does_not_come_out_again() {
    let forged = Decision { message: "r.io/app:v1 is signed by k0".into(), ..unsigned() };
    let read = Decision::decode(&forged.id(), &forged.encode().unwrap()).unwrap();
    let replay = read.replay().unwrap();
    assert!(!read.agrees(&replay) && replay.reason == "Unsigned", "{replay:?}");
}

/// Of a Secret, a record holds what policies read, and never a private key.
#[test]
fn nothing_secret_is_recorded() {
    let data = [
        ("cosign.pub".to_owned(), "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nhidden\n"),
        ("cosign.key".to_owned(), "hidden"),
        ("cosign.password".to_owned(), "hidden"),
    ];
    let material = Material::of(data.iter().map(|(key, value)| (key, value.as_bytes())));
    let made = Decision { secrets: [("cosign".to_owned(), material)].into(), ..unsigned() };
    assert!(!serde_json::to_string(&made).unwrap().contains("hidden"));
}

#[test]
fn records_are_bounded() {
    let noise = |length: usize| -> String {
        // Does not compress.
        let mut state = 1_u32;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            char::from(b'!' + u8::try_from(state % 90).unwrap_or_default())
        };
        (0..length).map(|_| next()).collect()
    };
    let large = Decision { message: noise(MAX_ENCODED), ..unsigned() };
    assert!(matches!(large.encode(), Err(DecisionError::TooLarge { .. })));
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    let chunk = vec![b' '; 1024 * 1024];
    for _ in 0..17 {
        bomb.write_all(&chunk).unwrap();
    }
    let bomb = BASE64_STANDARD.encode(bomb.finish().unwrap());
    let read = Decision::decode(&unsigned().id(), &bomb);
    assert!(matches!(read, Err(DecisionError::Malformed(_))), "{read:?}");
}

#[test]
fn ids_name_events() {
    let id = unsigned().id();
    assert_eq!(DecisionId::of_event(&id.event_name()), Some(id.clone()));
    assert_eq!(id.to_string().parse(), Ok(id));
    for text in ["", "0123", "0123456789AB", "0123456789abc", "../../../etc"] {
        assert_eq!(text.parse::<DecisionId>(), Err(InvalidDecisionId));
    }
}

proptest! {
    #[test]
    fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let id = "0123456789ab".parse().unwrap();
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&bytes).unwrap();
        prop_assert!(Decision::decode(&id, &BASE64_STANDARD.encode(packed.finish().unwrap())).is_err());
        prop_assert!(Decision::decode(&id, &String::from_utf8_lossy(&bytes)).is_err());
    }
}
