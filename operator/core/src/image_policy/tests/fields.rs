//! What each field does to a verdict: one good policy, and for every field the change that makes it refuse
//! (R-OPR-6, R-SIG-4, R-SIG-5; CVE-2025-29778).

use berth_registry_core::ImageReference;
use berth_trust::{Facts, Verdict};
use jiff::Timestamp;

use super::*;

const SUBJECT: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const OTHER: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const PROVENANCE: &str = "https://slsa.dev/provenance/v1";

/// Signed at noon by the release key, with a statement about the builder by the CI key; looked at an hour later.
fn facts() -> Facts {
    let id = |pem: &str| json!(berth_trust::PublicKey::from_pem(pem).unwrap().id());
    let statement = |key: &str, says: Value| {
        json!({
            "at": {"manifest": OTHER}, "form": "bundle", "about": SUBJECT, "by": {"key": id(key)}, "says": says,
            "claimed": "2026-06-01T12:00:00Z",
        })
    };
    let predicate = json!({"builder": "ci", "steps": [{"image": "a"}, {"image": "b"}]}).to_string();
    let attestation = json!({"attestation": {"predicateType": PROVENANCE, "predicate": predicate}});
    serde_json::from_value(json!({
        "subject": SUBJECT, "anchors": [id(RELEASE), id(CI)], "refusals": [],
        "statements": [statement(RELEASE, json!("signature")), statement(CI, attestation)],
    }))
    .unwrap()
}

/// All fields, and what is in the facts holds.
fn strict() -> Value {
    json!({
        "mode": "Enforce",
        "images": ["r.io/team/**"],
        "unmatched": "Deny",
        "require": [
            {"signature": {"threshold": 1, "authorities": [pem("release", RELEASE)], "maxAge": "1d"}},
            {"attestation": {
                "predicateType": PROVENANCE, "threshold": 1, "authorities": [pem("ci", CI)], "maxAge": "1d",
                "conditions": ["predicate.builder == 'ci'", "size(predicate.steps) == 2"],
            }},
            {"digest": {}},
        ],
        "exceptions": [{
            "images": ["r.io/legacy/**", format!("r.io/team/old@{OTHER}")], "reason": "moves in autumn", "owner": "team-a",
            "expires": "2026-07-01T00:00:00Z",
        }],
    })
}

fn verdict_of(spec: Value, image: &str, now: &str) -> Verdict {
    let policy = rules(spec, &[]).policy.unwrap();
    let image: ImageReference = image.parse().unwrap();
    let now: Timestamp = now.parse().unwrap();
    policy.settled(&image, None, now).unwrap_or_else(|| policy.verdict(&image, &facts(), now)).verdict
}

const NOW: &str = "2026-06-01T13:00:00Z";

fn by_digest(repository: &str) -> String {
    format!("r.io/{repository}@{SUBJECT}")
}

#[test]
fn what_holds_is_admitted() {
    let verdict = verdict_of(strict(), &by_digest("team/app"), NOW);
    assert!(matches!(verdict, Verdict::Admit { .. }), "{verdict:?}");
}

/// Each line: which field, its other value, and the reason of the denial.
#[rstest]
#[case("/images", json!(["r.io/others/**"]), "NotListed")]
#[case("/require/0/signature/authorities", json!([pem("release", CI)]), "NotASignature")]
#[case("/require/0/signature/threshold", json!(2), "ThresholdNotMet")]
#[case("/require/0/signature/maxAge", json!("30m"), "TooOld")]
#[case("/require/0/signature/authorities/0/validUntil", json!("2026-06-01T12:30:00Z"), "AuthorityEnded")]
#[case("/require/1/attestation/authorities", json!([pem("ci", RELEASE)]), "Unattested")]
#[case("/require/1/attestation/threshold", json!(2), "ThresholdNotMet")]
#[case("/require/1/attestation/maxAge", json!("59m"), "TooOld")]
#[case("/require/1/attestation/authorities/0/validUntil", json!("2026-06-01T13:00:00Z"), "AuthorityEnded")]
#[case("/require/1/attestation/predicateType", json!("https://slsa.dev/provenance/v0.2"), "OtherPredicateType")]
#[case("/require/1/attestation/conditions/0", json!("predicate.builder == 'laptop'"), "ConditionNotMet")]
#[case("/require/1/attestation/conditions/1", json!("predicate.steps.all(s, s.image == 'a')"), "ConditionNotMet")]
#[case::no_such_field("/require/1/attestation/conditions/0", json!("predicate.signer == 'ci'"), "ConditionNotMet")]
#[case::no_boolean("/require/1/attestation/conditions/0", json!("predicate.builder"), "ConditionNotMet")]
fn every_field_can_refuse(#[case] field: &str, #[case] value: Value, #[case] reason: &str) {
    let mut spec = strict();
    let (parent, name) = field.rsplit_once('/').unwrap();
    // With one more authority a threshold of two can be written at all.
    if name == "threshold" {
        let authorities = &mut spec.pointer_mut(parent).unwrap()["authorities"];
        *authorities = json!([pem("release", RELEASE), pem("ci", CI)]);
    }
    match spec.pointer_mut(parent).unwrap() {
        Value::Array(list) => list[name.parse::<usize>().unwrap()] = value,
        object => object[name] = value,
    }
    let verdict = verdict_of(spec, &by_digest("team/app"), NOW);
    assert_eq!(verdict.reason(), reason, "{verdict:?}");
}

/// Images by name, with and without a list of all that may run.
#[rstest]
#[case::tag("r.io/team/app:v1", "Deny", "NotNamedByDigest")]
#[case::listed(&by_digest("team/app"), "Deny", "Admitted")]
#[case::not_listed(&by_digest("teams/app"), "Deny", "NotListed")]
#[case::elsewhere("docker.io/library/alpine", "Deny", "NotListed")]
#[case::not_ours("docker.io/library/alpine", "Allow", "Admitted")]
fn names(#[case] image: &str, #[case] unmatched: &str, #[case] reason: &str) {
    let mut spec = strict();
    spec["unmatched"] = unmatched.into();
    assert_eq!(verdict_of(spec, image, NOW).reason(), reason);
}

/// An exception is for the images that it names, until its day, and for nothing else.
#[rstest]
#[case::named("r.io/legacy/app:v1", "2026-06-30T23:59:59Z", "Excepted")]
#[case::over("r.io/legacy/app:v1", "2026-07-01T00:00:00Z", "NotListed")]
#[case::other_name("r.io/legacy2/app:v1", NOW, "NotListed")]
#[case::its_digest(&format!("r.io/team/old@{OTHER}"), NOW, "Excepted")]
#[case::its_digest_is_over(&format!("r.io/team/old@{OTHER}"), "2026-07-01T00:00:00Z", "CouldNotCheck")]
#[case::other_digest(&by_digest("team/old"), NOW, "Admitted")]
#[case::digest_elsewhere(&format!("r.io/others/old@{OTHER}"), NOW, "NotListed")]
fn exceptions(#[case] image: &str, #[case] now: &str, #[case] reason: &str) {
    let verdict = verdict_of(strict(), image, now);
    let said =
        if matches!(verdict, Verdict::CouldNotCheck { .. }) { "CouldNotCheck" } else { verdict.reason() };
    assert_eq!(said, reason, "{verdict:?}");
}

/// Nobody looks at a signature to say which registries are allowed.
#[test]
fn a_list_of_registries_needs_no_evidence() {
    let spec = json!({"mode": "Enforce", "images": ["r.io/**", "docker.io/library/*"], "unmatched": "Deny"});
    let rules = rules(spec, &[]);
    let policy = rules.policy.unwrap();
    for (image, reason) in [("r.io/a/b:v1", "Admitted"), ("alpine", "Admitted"), ("ghcr.io/a/b", "NotListed")]
    {
        let image: ImageReference = image.parse().unwrap();
        let judgement = policy.settled(&image, None, NOW.parse().unwrap()).unwrap();
        assert_eq!(judgement.verdict.reason(), reason);
        assert!(
            rules.images.iter().any(|pattern| pattern.matches(&image.name())),
            "the webhook asks about {image}"
        );
    }
}

/// The time at which a verdict may change is known: nobody relies on it longer.
#[test]
fn verdicts_end_when_a_field_says_so() {
    let policy = rules(strict(), &[]).policy.unwrap();
    let image: ImageReference = by_digest("team/app").parse().unwrap();
    let judgement = policy.verdict(&image, &facts(), NOW.parse().unwrap());
    assert_eq!(judgement.until.unwrap().to_string(), "2026-06-02T12:00:00Z");
    let excepted: ImageReference = "r.io/legacy/app:v1".parse().unwrap();
    let judgement = policy.settled(&excepted, None, NOW.parse().unwrap()).unwrap();
    assert_eq!(judgement.until.unwrap().to_string(), "2026-07-01T00:00:00Z");
}

/// Fields that are written and make no sense: the path of the field, and a stable reason.
#[rstest]
#[case("/require", json!([{}]), "spec.require[0]")]
#[case("/require", json!([{"signature": {"authorities": [pem("a", RELEASE)]}, "digest": {}}]), "spec.require[0]")]
#[case("/require/0/signature/maxAge", json!("soon"), "spec.require[0].signature.maxAge")]
#[case("/require/1/attestation/maxAge", json!("1w"), "spec.require[1].attestation.maxAge")]
#[case("/require/1/attestation/predicateType", json!(""), "spec.require[1].attestation.predicateType")]
#[case("/require/1/attestation/authorities", json!([]), "spec.require[1].attestation")]
#[case("/require/1/attestation/threshold", json!(2), "spec.require[1].attestation")]
#[case("/require/1/attestation/conditions", json!(["predicate."]), "spec.require[1].attestation.conditions[0]")]
#[case("/require/1/attestation/conditions", json!(["true", "env.HOME == ''"]), "spec.require[1].attestation.conditions[1]")]
#[case("/exceptions/0/images", json!([]), "spec.exceptions[0].images")]
#[case("/exceptions/0/images", json!(["r.io/app:v1"]), "spec.exceptions[0].images[0]")]
#[case("/exceptions/0/images", json!(["r.io/**", "legacy"]), "spec.exceptions[0].images[1]")]
#[case("/exceptions/0/images", json!(["r.io/app@sha256:short"]), "spec.exceptions[0].images[0]")]
#[case("/exceptions/0/owner", json!(" "), "spec.exceptions[0].owner")]
#[case("/exceptions/0/reason", json!(""), "spec.exceptions[0].reason")]
fn nonsense_is_named(#[case] field: &str, #[case] value: Value, #[case] path: &str) {
    let mut spec = strict();
    *spec.pointer_mut(field).unwrap() = value;
    let error = rules(spec, &[]).policy.unwrap_err();
    assert_eq!(error.reason(), "SpecInvalid");
    assert!(error.to_string().starts_with(&format!("{path}: ")), "{error}");
}

/// What must be written is: an exception without an end, or without anybody to ask, is none.
#[rstest]
#[case("/exceptions/0", "expires")]
#[case("/exceptions/0", "owner")]
#[case("/exceptions/0", "reason")]
#[case("/exceptions/0", "images")]
#[case("/require/1/attestation", "predicateType")]
#[case("/require/1/attestation", "authorities")]
fn required_fields(#[case] at: &str, #[case] field: &str) {
    let mut spec = strict();
    spec.pointer_mut(at).unwrap().as_object_mut().unwrap().remove(field).unwrap();
    let error = serde_json::from_value::<ImagePolicySpec>(spec).unwrap_err().to_string();
    assert!(error.contains(&format!("missing field `{field}`")), "{error}");
}

#[rstest]
#[case("/exceptions/0", "until")]
#[case("/require/1/attestation", "condition")]
#[case("/require/2/digest", "algorithm")]
fn unknown_fields(#[case] at: &str, #[case] field: &str) {
    let mut spec = strict();
    spec.pointer_mut(at).unwrap()[field] = json!("x");
    let error = serde_json::from_value::<ImagePolicySpec>(spec).unwrap_err().to_string();
    assert!(error.contains(&format!("unknown field `{field}`")), "{error}");
}

/// Names of hosts in exceptions are those of images, however they are written.
#[rstest]
#[case("R.io/legacy/app:v1")]
#[case("r.io:443/legacy/app:v1")]
fn exceptions_meet_normalised_names(#[case] image: &str) {
    let mut spec = strict();
    spec["exceptions"][0]["images"] = json!(["R.IO:443/legacy/**"]);
    assert_eq!(verdict_of(spec, image, NOW).reason(), "Excepted");
}

/// Policies stand beside each other: an image runs if every one admits it. What a tenant writes into a policy, exceptions
/// and mild modes included, loosens none that binds the namespace already.
#[rstest]
#[case::same(strict(), true)]
#[case::stricter(json!({"mode": "Enforce", "images": ["q.io/**"], "unmatched": "Deny"}), false)]
#[case::other_key(json!({"mode": "Enforce", "images": ["**"], "require": [{"signature": {"authorities": [pem("a", CI)]}}]}), false)]
fn a_tenant_can_tighten(#[case] tenant: Value, #[case] admitted: bool) {
    let image = by_digest("team/app");
    let all = [strict(), tenant].into_iter().all(|spec| verdict_of(spec, &image, NOW).is_admitted());
    assert_eq!(all, admitted);
}

#[rstest]
#[case::exception(json!({"mode": "Enforce", "images": ["**"], "require": [{"digest": {}}],
    "exceptions": [{"images": ["**"], "reason": "r", "owner": "o", "expires": "2030-01-01T00:00:00Z"}]}))]
#[case::allows_all(json!({"mode": "Enforce", "images": ["**"], "unmatched": "Deny"}))]
#[case::speaks_of_others(json!({"mode": "Warn", "images": ["q.io/**"], "require": [{"digest": {}}]}))]
fn a_tenant_cannot_loosen(#[case] tenant: Value) {
    let unlisted = "ghcr.io/evil/app:v1";
    assert!(verdict_of(tenant, unlisted, NOW).is_admitted());
    assert!(!verdict_of(strict(), unlisted, NOW).is_admitted());
}
