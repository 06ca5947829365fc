//! Policies as tenants write them. Input: the spec of an `ImagePolicy` in JSON, an image.

use std::collections::BTreeMap;

use berth_crds::ImagePolicySpec;
use berth_operator_core::image_policy::Rules;
use berth_registry_core::{Digest, ImageReference};
use berth_trust::{Bounds, Evidence, Facts, Verdict};

pub(crate) fn run(mut input: &[u8]) {
    let Ok(spec) = serde_json::from_slice::<ImagePolicySpec>(crate::part(&mut input)) else { return };
    let written = serde_json::to_vec(&spec).unwrap();
    assert_eq!(serde_json::from_slice::<ImagePolicySpec>(&written).unwrap(), spec);
    let rules = Rules::new(&spec, &BTreeMap::new());
    assert!(!rules.images.is_empty());
    let policy = match rules.policy {
        Ok(policy) => policy,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let image = crate::text(&mut input).and_then(|text| text.parse::<ImageReference>().ok());
    let image = image.unwrap_or_else(|| "r.svc/team/app:v1".parse().unwrap());
    let evidence = Evidence {
        subject: image.digest.clone().unwrap_or_else(|| Digest::sha256(b"image")),
        described: None,
        artifacts: Vec::new(),
        indexes: Vec::new(),
    };
    let facts = Facts::establish(&evidence, policy.anchors(), &Bounds::default()).unwrap();
    let verdict = policy.verdict(&image, &facts, "2026-06-01T00:00:00Z".parse().unwrap()).verdict;
    assert!(!verdict.explain(&image, None).is_empty());
    let listed = rules.images.iter().any(|pattern| pattern.matches(&image.name()));
    if listed && image.digest.is_none() && !spec.require.is_empty() {
        assert!(!matches!(verdict, Verdict::Admit { .. }), "without any evidence");
    }
}
