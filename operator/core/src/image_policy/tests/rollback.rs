//! A tag that somebody puts back to an image that was signed long ago: what `maxAge` makes of it, and what goes on without it
//! (R-SIG-5; CVE-2024-23332).

use berth_registry_core::Digest;
use berth_trust::Facts;
use jiff::Timestamp;

use super::*;

const NOW: &str = "2026-06-01T00:00:00Z";
/// When the image that is outdated by now was signed.
const OLD: Option<&str> = Some("2026-01-01T00:00:00Z");
/// When the one that took its place was.
const NEW: Option<&str> = Some("2026-05-01T00:00:00Z");

/// The tag stands for an image that the release key signed at that time, if it said one.
fn facts(signed: Option<&str>) -> Facts {
    let key = berth_trust::PublicKey::from_pem(RELEASE).unwrap();
    let id = key.id();
    let subject = Digest::sha256(signed.unwrap_or_default().as_bytes());
    let mut statement = json!({
        "at": {"manifest": subject}, "form": "bundle", "about": subject, "by": {"key": id}, "says": "signature",
    });
    if let Some(signed) = signed {
        statement["claimed"] = signed.into();
    }
    let facts = json!({"subject": subject, "anchors": [id], "refusals": [], "statements": [statement]});
    serde_json::from_value(facts).unwrap()
}

/// Each line: the age that the policy bears, when what the tag stands for was signed, the reason, and until when that holds.
#[rstest]
#[case::current(Some("60d"), NEW, "Admitted", Some("2026-06-30T00:00:00Z"))]
#[case::rolled_back(Some("60d"), OLD, "TooOld", None)]
#[case::rolled_back_in_time(Some("180d"), OLD, "Admitted", Some("2026-06-30T00:00:00Z"))]
#[case::who_can_tell(Some("60d"), None, "NoSigningTime", None)]
#[case::any_age_will_do(None, OLD, "Admitted", None)]
fn a_tag_that_is_rolled_back(
    #[case] max_age: Option<&str>,
    #[case] signed: Option<&str>,
    #[case] reason: &str,
    #[case] until: Option<&str>,
) {
    let mut spec = policy_with(&json!([pem("release", RELEASE)]), None);
    if let Some(max_age) = max_age {
        spec["require"][0]["signature"]["maxAge"] = max_age.into();
    }
    let policy = rules(spec, &[]).policy.unwrap();
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let judgement = policy.verdict(&"r.io/app:v1".parse().unwrap(), &facts(signed), at(NOW));
    assert_eq!((judgement.verdict.reason(), judgement.until), (reason, until.map(at)));
}
