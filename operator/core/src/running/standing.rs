//! From what a registry showed of an image to how the image stands with a policy: what is said of it now, until when, and
//! when it will be refused though nothing moves but the clock.

use berth_registry_core::ImageReference;
use berth_trust::{Policy, Verdict};
use jiff::{SignedDuration, Timestamp};

use crate::{admission::Finding, decision::Look};

/// So far ahead is looked.
const HORIZON: SignedDuration = SignedDuration::from_hours(366 * 24);

/// Instants at which another verdict is possible, and that are tried. One image rarely has more than two.
const STEPS: usize = 16;

/// How an image stands with a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What the policy says now.
    pub finding: Finding,
    /// The first instant at which it may say something else of the same facts.
    pub until: Option<Timestamp>,
    /// When it will refuse what it admits now, and what it will say.
    pub end: Option<(Timestamp, Finding)>,
}

impl Standing {
    /// How an image stands of which this was seen. An image that is settled by its name alone has an end only if it was
    /// looked at all the same.
    pub fn of(look: &Look, policy: &Policy, image: &ImageReference, now: Timestamp) -> Self {
        let (finding, until) = look.finding(policy, image, now);
        let end = finding.verdict.is_admitted().then(|| end(look, policy, image, now, until)).flatten();
        Self { finding, until, end }
    }

    /// Nobody can say.
    pub fn unknown(finding: Finding) -> Self {
        Self { finding, until: None, end: None }
    }
}

/// The first refusal within the horizon. That evidence is missing for a while refuses nothing for good.
fn end(
    look: &Look,
    policy: &Policy,
    image: &ImageReference,
    now: Timestamp,
    mut next: Option<Timestamp>,
) -> Option<(Timestamp, Finding)> {
    let horizon = now.saturating_add(HORIZON).unwrap_or(Timestamp::MAX);
    for _ in 0..STEPS {
        let at = next.filter(|at| *at <= horizon)?;
        let (finding, until) = look.finding(policy, image, at);
        if matches!(finding.verdict, Verdict::Deny { .. } | Verdict::CouldNotCheck { transient: false, .. }) {
            return Some((at, finding));
        }
        next = until;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_policy::Rules;
    use berth_registry_core::Digest;
    use berth_trust::{Anchors, Bounds, Evidence, Facts};
    use rstest::rstest;
    use serde_json::{Value, json};

    const NOW: &str = "2026-06-01T00:00:00Z";

    const KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEVBiFo/TiNcGHDnMC5qcTrn2s8zZ0
cJQ2C9XkKAyPvZXIivQxaTPRXQAodApL2oI/Vo+bK979KcWrzEn/f0B/bg==
-----END PUBLIC KEY-----
";

    fn facts() -> Facts {
        let evidence = Evidence {
            subject: Digest::sha256(b"web"),
            described: None,
            artifacts: Vec::new(),
            indexes: Vec::new(),
        };
        Facts::establish(&evidence, &Anchors::default(), &Bounds::default()).unwrap()
    }

    fn policy(exceptions: &[(&str, &str)]) -> Policy {
        let exceptions: Vec<Value> = exceptions
            .iter()
            .map(|(images, expires)| json!({"images": [images], "owner": "o", "reason": "r", "expires": expires}))
            .collect();
        let spec = json!({"mode": "Enforce", "images": ["r.io/**"], "require": [{"digest": {}}], "exceptions": exceptions});
        Rules::new(&serde_json::from_value(spec).unwrap(), &[].into()).policy.unwrap()
    }

    fn unseen(transient: bool) -> Look {
        Look::Unseen { reason: "Unreachable".into(), message: "it is down".into(), transient }
    }

    /// R-SIG-5: the end of an exception is known before it comes; a second one beside it is waited for, too.
    #[rstest]
    #[case::no_end(&[], None)]
    #[case::one(&[("r.io/web", "2026-07-01T00:00:00Z")], Some("2026-07-01T00:00:00Z"))]
    #[case::the_longest(&[("r.io/web", "2026-07-01T00:00:00Z"), ("r.io/*", "2026-09-01T00:00:00Z")], Some("2026-09-01T00:00:00Z"))]
    #[case::over(&[("r.io/web", "2026-05-01T00:00:00Z")], None)]
    #[case::in_years(&[("r.io/web", "2028-01-01T00:00:00Z")], None)]
    #[case::of_another(&[("r.io/other", "2026-07-01T00:00:00Z")], None)]
    fn ends_are_found(#[case] exceptions: &[(&str, &str)], #[case] expected: Option<&str>) {
        let now = NOW.parse().unwrap();
        let policy = policy(exceptions);
        let standing = Standing::of(&Look::Seen(facts()), &policy, &"r.io/web:1".parse().unwrap(), now);
        let end = standing.end.as_ref().map(|(at, _)| *at);
        assert_eq!(end, expected.map(|at| at.parse().unwrap()));
        if let Some((_, finding)) = standing.end {
            assert_eq!(finding.verdict.reason(), "NotNamedByDigest");
        }
    }

    /// What cannot be looked at for a while is not foretold; what can never be, is.
    #[rstest]
    #[case(true, false)]
    #[case(false, true)]
    fn an_exception_that_hides_an_outage(#[case] transient: bool, #[case] ends: bool) {
        let exceptions =
            json!([{"images": ["r.io/web"], "owner": "o", "reason": "r", "expires": "2026-07-01T00:00:00Z"}]);
        let authorities = json!([{"name": "a", "key": {"pem": KEY}}]);
        let spec = json!({"mode": "Enforce", "images": ["r.io/**"], "require": [{"signature": {"authorities": authorities}}], "exceptions": exceptions});
        let policy = Rules::new(&serde_json::from_value(spec).unwrap(), &[].into()).policy.unwrap();
        let image = "r.io/web:1".parse().unwrap();
        let standing = Standing::of(&unseen(transient), &policy, &image, NOW.parse().unwrap());
        assert_eq!((standing.finding.verdict.reason(), standing.end.is_some()), ("Excepted", ends));
        let after =
            Standing::of(&unseen(transient), &policy, &image, "2026-08-01T00:00:00Z".parse().unwrap());
        assert_eq!((after.finding.verdict.reason(), after.end), ("Unreachable", None));
    }
}
