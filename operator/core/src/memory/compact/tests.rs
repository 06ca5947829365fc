//! R-SIG-1: what is held small is read as it was, and is small.

use super::*;
use proptest::prelude::*;
use serde_json::json;

/// What is known about an image that some `manifests` say nothing good of.
fn facts(subject: &str, manifests: &[&str], why: &str) -> Facts {
    let digest = |text: &str| Digest::sha256(text.as_bytes());
    let refused =
        |text: &&str| json!({"at": {"manifest": digest(text)}, "cause": {"malformed": {"why": why}}});
    let refusals: Vec<_> = manifests.iter().map(refused).collect();
    let facts = json!({"subject": digest(subject), "anchors": [], "statements": [], "refusals": refusals});
    serde_json::from_value(facts).unwrap()
}

/// Images that are signed alike, each by a manifest of its own, share all but the digests.
#[test]
fn images_that_are_alike_share_a_shape() {
    let shapes = Shapes::default();
    let one = shapes.write(&facts("one", &["a"], "of no use")).unwrap();
    let two = shapes.write(&facts("two", &["b"], "of no use")).unwrap();
    assert!(Arc::ptr_eq(&two.shape, &one.shape));
    assert_eq!(two.weight(), size_of::<CompactDigest>());
    assert_eq!(one.weight(), two.weight() + one.shape.len());
    let other = shapes.write(&facts("one", &["a"], "of some use")).unwrap();
    assert!(!Arc::ptr_eq(&other.shape, &one.shape));
    assert_eq!(other.weight(), two.weight() + other.shape.len());
}

/// A shape goes with the last that has it.
#[test]
fn shapes_of_no_use_are_let_go() {
    let shapes = Shapes::default();
    for number in 0..1000 {
        let why = format!("for the reason {number}");
        drop(shapes.write(&facts("app", &[], &why)));
        shapes.write(&facts("app", &["a"], &why)).unwrap();
    }
    assert!(shapes.0.lock().unwrap().shapes.len() <= 130);
}

proptest! {
    /// Whatever else they say, digests and marks among it.
    #[test]
    fn what_is_taken_apart_is_put_together(
        manifests in proptest::collection::vec("[a-e]", 0..12),
        why in "[\u{1}\u{2}0-9a-z\"\\\\]{0,20}",
        before in any::<bool>(),
    ) {
        let manifests: Vec<_> = manifests.iter().map(String::as_str).collect();
        let digest = Digest::sha256(b"a");
        let why = if before { format!("{digest}{why}{digest}") } else { format!("{why}{digest}") };
        let facts = facts("a", &manifests, &why);
        let written = Shapes::default().write(&facts).unwrap();
        prop_assert_eq!(serde_json::from_str::<Facts>(&written.text(facts.subject()).unwrap()).unwrap(), facts);
    }
}
