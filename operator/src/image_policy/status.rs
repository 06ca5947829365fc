//! Fifth verb: says in the policy's own status whether it is in force, and if not, what to do. Written only when it
//! changes.

use berth_crds::{ImagePolicy, ImagePolicyStatus, image_policy::Scope};
use berth_operator_core::{
    admission::Mode,
    conditions::State,
    image_policy::{InvalidPolicy, Rules},
    running::Assessment,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
    core::DeserializeGuard,
    runtime::events::EventType,
};
use serde_json::json;

use crate::{Context, events, field_managers};

/// Whether the API server calls for a policy.
pub(super) enum Called<'a> {
    /// It does.
    Yes,
    /// The webhook configuration could not be written. What it says of the policy, if anything, is from before.
    NotYet(&'a kube::Error),
    /// The webhook configuration has no room for the policy.
    Never,
}

/// What became of a policy whose rules are these. `summary` says what it asks for.
pub(super) fn state(summary: String, rules: &Rules, called: &Called<'_>) -> State {
    match (&rules.policy, called) {
        (_, Called::Never) => State::Stalled {
            reason: "TooManyPolicies".to_owned(),
            message: "not in force: the webhook configuration is full, and what is in force in it stays. Each policy of \
                      the operator's namespace takes an entry: delete some, or write them in the namespaces that they \
                      are for, where all of them together take one"
                .to_owned(),
        },
        (Err(error), _) => {
            let meanwhile = match rules.mode {
                Mode::Enforce => "is refused",
                Mode::Warn => "is warned of",
                Mode::Audit => "is recorded as one that does not hold",
            };
            let reason = error.reason().to_owned();
            let message = format!("{error}; until then every image that this policy governs {meanwhile}");
            match error {
                // The API server failed, nobody else.
                InvalidPolicy::SecretUnreadable { .. } => State::Progressing { reason, message },
                _ => State::Stalled { reason, message },
            }
        }
        (Ok(_), Called::NotYet(error)) => State::Progressing {
            reason: "WebhookNotConfigured".to_owned(),
            message: format!("the webhook configuration could not be written: {error}"),
        },
        (Ok(_), Called::Yes) => {
            let reason = match rules.mode {
                Mode::Enforce => "Enforcing",
                Mode::Warn => "Warning",
                Mode::Audit => "Auditing",
            };
            State::Ready { reason, message: summary }
        }
    }
}

/// The status that says so, and what the policy says about what runs. As long as nobody has looked yet, what was said of
/// that before stays.
fn desired(
    policy: &ImagePolicy,
    state: &State,
    assessment: Option<&Assessment>,
    operator_namespace: &str,
    now: &Time,
) -> ImagePolicyStatus {
    let (images, forecast) = match (assessment, &policy.status) {
        (Some(assessment), _) => (Some(assessment.images), assessment.forecast.clone()),
        (None, Some(status)) => (status.images, status.forecast.clone()),
        (None, None) => (None, Vec::new()),
    };
    let cluster = policy.metadata.namespace.as_deref() == Some(operator_namespace);
    let before = policy.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    ImagePolicyStatus {
        observed_generation: policy.metadata.generation,
        conditions: state.conditions(policy.metadata.generation, before, now),
        scope: Some(if cluster { Scope::Cluster } else { Scope::Namespace }),
        images,
        forecast,
    }
}

/// Writes the status if it differs from the one that the policy has.
pub(super) async fn write(
    context: &Context,
    policy: &ImagePolicy,
    state: &State,
    assessment: Option<&Assessment>,
) -> Result<(), kube::Error> {
    let status = desired(policy, state, assessment, &context.settings.namespace, &Time(Timestamp::now()));
    if policy.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let (namespace, name) = (policy.namespace().unwrap_or_default(), policy.name_any());
    let patch = json!({"apiVersion": "berth.dev/v1alpha1", "kind": "ImagePolicy", "status": status});
    let parameters = PatchParams::apply(field_managers::STATUS).force();
    let api = Api::<DeserializeGuard<ImagePolicy>>::namespaced(context.client.clone(), &namespace);
    match api.patch_status(&name, &parameters, &Patch::Apply(patch)).await {
        // Deleted meanwhile: nothing left to say.
        Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
        answer => answer?,
    };
    let before =
        policy.status.as_ref().and_then(|status| berth_operator_core::conditions::ready(&status.conditions));
    if before.map(|condition| condition.reason.as_str()) != Some(state.reason()) {
        let type_ = if matches!(state, State::Ready { .. }) { EventType::Normal } else { EventType::Warning };
        events::publish(context, policy, type_, state.reason(), state.message()).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_crds::image_policy::RunningImages;
    use berth_operator_core::image_policy::{Material, PUBLIC_KEY, summary};
    use rstest::rstest;

    fn policy(mode: &str) -> ImagePolicy {
        serde_json::from_value(json!({
            "apiVersion": "berth.dev/v1alpha1", "kind": "ImagePolicy",
            "metadata": {"name": "signed", "namespace": "team-a", "generation": 3},
            "spec": {"mode": mode, "images": ["r.io/**"], "require": [{"signature": {"authorities": [{"name": "a", "key": {"secretName": "cosign"}}]}}]},
        }))
        .unwrap()
    }

    const KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEVBiFo/TiNcGHDnMC5qcTrn2s8zZ0
cJQ2C9XkKAyPvZXIivQxaTPRXQAodApL2oI/Vo+bK979KcWrzEn/f0B/bg==
-----END PUBLIC KEY-----
";

    fn found(value: &str) -> Material {
        Material::Found([(PUBLIC_KEY.to_owned(), value.to_owned())].into())
    }

    fn rules(policy: &ImagePolicy, secret: Material) -> Rules {
        Rules::new(&policy.spec, &[("cosign".to_owned(), secret)].into())
    }

    #[rstest]
    #[case::enforced("Enforce", found(KEY), false, "Enforcing")]
    #[case::warned("Warn", found(KEY), false, "Warning")]
    #[case::audited("Audit", found(KEY), false, "Auditing")]
    #[case::audited_in_vain("Audit", Material::NotFound, false, "SecretNotFound")]
    #[case::not_applied("Enforce", found(KEY), true, "WebhookNotConfigured")]
    #[case::no_secret("Enforce", Material::NotFound, false, "SecretNotFound")]
    #[case::no_key("Enforce", Material::Found([].into()), false, "KeyInvalid")]
    #[case::nonsense("Warn", found("x"), false, "KeyInvalid")]
    #[case::elsewhere("Enforce", Material::NotManaged, false, "NamespaceNotManaged")]
    #[case::unreadable("Enforce", Material::Unreadable("timed out".into()), false, "SecretUnreadable")]
    fn states(#[case] mode: &str, #[case] secret: Material, #[case] failed: bool, #[case] reason: &str) {
        let policy = policy(mode);
        let error = kube::Error::LinesCodecMaxLineLengthExceeded;
        let called = if failed { Called::NotYet(&error) } else { Called::Yes };
        let summary = summary(&policy.spec, false, Timestamp::UNIX_EPOCH);
        let state = state(summary, &rules(&policy, secret), &called);
        assert_eq!(state.reason(), reason);
        insta::assert_snapshot!(format!("state_{mode}_{reason}"), state.message());
    }

    /// An object that does not parse says what to do, and that nothing passes meanwhile (R-OPR-6).
    #[test]
    fn an_unreadable_policy_is_stalled() {
        let unreadable = InvalidPolicy::Unreadable("unknown field `requires`".to_owned());
        let state = state(String::new(), &Rules::broken(unreadable), &Called::Yes);
        assert!(matches!(&state, State::Stalled { reason, .. } if reason == "SpecInvalid"));
        insta::assert_snapshot!(state.message());
    }

    /// At the limit nobody is left in the belief that a policy holds, whatever else is the matter with it.
    #[rstest]
    #[case(found(KEY))]
    #[case(Material::NotFound)]
    fn a_policy_that_nobody_calls_for_is_stalled(#[case] secret: Material) {
        let rules = rules(&policy("Enforce"), secret);
        let state = state(String::new(), &rules, &Called::Never);
        assert!(matches!(&state, State::Stalled { reason, .. } if reason == "TooManyPolicies"));
        insta::assert_snapshot!("too_many_policies", state.message());
    }

    /// A second look writes nothing.
    #[test]
    fn an_unchanged_state_is_an_unchanged_status() {
        let mut policy = policy("Enforce");
        let state = State::Ready { reason: "Enforcing", message: "m".into() };
        let at = |second: i64| Time(Timestamp::from_second(second).unwrap());
        let first = desired(&policy, &state, None, "berth-system", &at(1));
        policy.status = Some(first.clone());
        assert_eq!(desired(&policy, &state, None, "berth-system", &at(2)), first);
    }

    /// R-OPR-7: what is known of what runs is shown, and stays until somebody has looked again.
    #[test]
    fn an_assessment_is_shown_and_kept() {
        let mut policy = policy("Enforce");
        let state = State::Ready { reason: "Enforcing", message: "m".into() };
        let desired = |policy: &ImagePolicy, assessment: Option<&Assessment>| {
            desired(policy, &state, assessment, "berth-system", &Time(Timestamp::UNIX_EPOCH))
        };
        let images = RunningImages { admitted: 3, denied: 1, ..RunningImages::default() };
        let assessment = Assessment { images, ..Assessment::default() };
        let shown = desired(&policy, Some(&assessment));
        assert_eq!(shown.images, Some(images));
        policy.status = Some(shown.clone());
        assert_eq!(desired(&policy, None), shown);
        assert_eq!(desired(&policy, Some(&Assessment::default())).images, Some(RunningImages::default()));
    }

    #[rstest]
    #[case("team-a", Scope::Cluster)]
    #[case("berth-system", Scope::Namespace)]
    fn the_scope_follows_the_namespace(#[case] operator: &str, #[case] scope: Scope) {
        let state = State::Ready { reason: "Enforcing", message: String::new() };
        let status = desired(&policy("Enforce"), &state, None, operator, &Time(Timestamp::UNIX_EPOCH));
        assert_eq!((status.scope, status.observed_generation), (Some(scope), Some(3)));
    }
}
