//! Fifth verb: how far the replication is. `sourceChangedAt` belongs to whoever receives the events; it is read here and
//! never written.

use berth_crds::{ReplicationPolicy, ReplicationPolicyStatus};
use berth_operator_core::{
    conditions::{self, State},
    replication::{Due, Pass, behind_since, last_sync},
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

use crate::{
    Context, events, field_managers,
    replication::{build::newest_ended, validate::Obstacle},
};

/// What is known at the end of a reconciliation.
pub(super) struct Outcome<'a> {
    /// What is in the way, if anything is.
    pub(super) obstacle: Option<&'a Obstacle>,
    /// The passes that were found.
    pub(super) passes: &'a [Pass],
    /// When the next one is due.
    pub(super) due: Option<Due>,
    /// A Registry that is waited for.
    pub(super) not_ready: Option<&'a str>,
}

fn state(policy: &ReplicationPolicy, outcome: &Outcome<'_>) -> State {
    if let Some(obstacle) = outcome.obstacle {
        return obstacle.state();
    }
    let Some(end) = newest_ended(outcome.passes).and_then(|pass| pass.end.as_ref()) else {
        return if policy.spec.paused {
            State::Ready { reason: "Paused", message: "no pass begins while spec.paused is true".to_owned() }
        } else if let Some(registry) = outcome.not_ready {
            let message = format!("waits for the Registry {registry}, which is not ready");
            State::Progressing { reason: "RegistryNotReady".to_owned(), message }
        } else {
            State::Progressing {
                reason: "Syncing".to_owned(),
                message: "the first pass is under way".to_owned(),
            }
        };
    };
    match &end.failure {
        Some(failure) => {
            let next = if policy.spec.paused {
                "no further pass begins while spec.paused is true"
            } else {
                "it is tried again"
            };
            State::Progressing { reason: "SyncFailed".to_owned(), message: format!("{failure}; {next}") }
        }
        None if policy.spec.paused => {
            State::Ready { reason: "Paused", message: "no pass begins while spec.paused is true".to_owned() }
        }
        None => State::Ready {
            reason: "Synced",
            message: "the destination has what was selected at the source".to_owned(),
        },
    }
}

fn desired(
    policy: &ReplicationPolicy,
    outcome: &Outcome<'_>,
    now: &Time,
) -> (State, ReplicationPolicyStatus) {
    let before = policy.status.clone().unwrap_or_default();
    let state = state(policy, outcome);
    let ended = newest_ended(outcome.passes);
    let report = ended.and_then(|pass| pass.end.as_ref()).and_then(|end| end.report.as_ref());
    let changed = before.source_changed_at.as_ref().map(|time| time.0);
    let known = before.behind_since.as_ref().map(|time| time.0);
    // Without a pass to look at, what was known stays known.
    let behind = if ended.is_none() && before.last_sync.is_some() {
        known
    } else {
        behind_since(known, ended, changed)
    };
    let next = match outcome.due {
        Some(Due::At(next)) if !policy.spec.paused => Some(Time(next)),
        _ => None,
    };
    let status = ReplicationPolicyStatus {
        observed_generation: policy.metadata.generation,
        conditions: state.conditions(policy.metadata.generation, &before.conditions, now),
        // A pass that ended without a report tells nothing new; the last one that did stays.
        last_sync: report.map(last_sync).or(before.last_sync),
        source_changed_at: before.source_changed_at,
        behind_since: behind.map(Time),
        next_sync: next,
    };
    (state, status)
}

/// Writes the status if it differs from the one that the policy has.
pub(super) async fn write(
    context: &Context,
    policy: &ReplicationPolicy,
    outcome: &Outcome<'_>,
) -> Result<(), kube::Error> {
    let (state, status) = desired(policy, outcome, &Time(Timestamp::now()));
    if to_the_second(policy.status.as_ref()) == to_the_second(Some(&status)) {
        return Ok(());
    }
    let (namespace, name) = (policy.namespace().unwrap_or_default(), policy.name_any());
    let written = ReplicationPolicyStatus { source_changed_at: None, ..status };
    let patch = json!({"apiVersion": "berth.dev/v1alpha1", "kind": "ReplicationPolicy", "status": written});
    let parameters = PatchParams::apply(field_managers::STATUS).force();
    let api = Api::<DeserializeGuard<ReplicationPolicy>>::namespaced(context.client.clone(), &namespace);
    match api.patch_status(&name, &parameters, &Patch::Apply(patch)).await {
        // Deleted meanwhile: nothing left to say.
        Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
        answer => answer?,
    };
    let before = policy.status.as_ref().and_then(|status| conditions::ready(&status.conditions));
    if before.map(|condition| condition.reason.as_str()) != Some(state.reason()) {
        let type_ = match state.reason() {
            "SyncFailed" => EventType::Warning,
            _ if matches!(state, State::Stalled { .. }) => EventType::Warning,
            _ => EventType::Normal,
        };
        events::publish(context, policy, type_, state.reason(), state.message()).await;
    }
    Ok(())
}

/// Times are stored in whole seconds, so they are compared as stored.
fn to_the_second(status: Option<&ReplicationPolicyStatus>) -> Option<serde_json::Value> {
    status.and_then(|status| serde_json::to_value(status).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_operator_core::replication::End;
    use berth_registry_core::job::ReplicationReport;
    use rstest::rstest;
    use serde_json::Value;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn policy(status: &Value, paused: bool) -> ReplicationPolicy {
        serde_json::from_value(json!({
            "apiVersion": "berth.dev/v1alpha1", "kind": "ReplicationPolicy",
            "metadata": {"name": "mirror", "namespace": "team-a", "generation": 2},
            "spec": {"source": {"registry": "a"}, "destination": {"registry": "b"}, "paused": paused},
            "status": status,
        }))
        .unwrap()
    }

    fn pass(number: u64, end: Option<Result<(), &str>>) -> Pass {
        let report = ReplicationReport {
            started: at(1),
            finished: at(9),
            copied: 2,
            unchanged: 1,
            failed: 0,
            bytes: 70,
            errors: Vec::new(),
        };
        let end = end.map(|end| End {
            at: at(10),
            report: end.is_ok().then_some(report),
            failure: end.err().map(str::to_owned),
        });
        Pass { number, generation: 2, failures: 0, created: at(0), end }
    }

    fn outcome(passes: &[Pass]) -> Outcome<'_> {
        Outcome { obstacle: None, passes, due: Some(Due::At(at(900))), not_ready: None }
    }

    #[rstest]
    #[case::first(&[pass(1, None)], false, "Syncing", "False")]
    #[case::synced(&[pass(1, Some(Ok(())))], false, "Synced", "True")]
    #[case::synced_and_again(&[pass(1, Some(Ok(()))), pass(2, None)], false, "Synced", "True")]
    #[case::failed(&[pass(1, Some(Ok(()))), pass(2, Some(Err("no route")))], false, "SyncFailed", "False")]
    #[case::failed_and_again(&[pass(2, Some(Err("no route"))), pass(3, None)], false, "SyncFailed", "False")]
    #[case::healed(&[pass(2, Some(Err("no route"))), pass(3, Some(Ok(())))], false, "Synced", "True")]
    #[case::paused(&[pass(1, Some(Ok(())))], true, "Paused", "True")]
    #[case::paused_from_the_start(&[], true, "Paused", "True")]
    #[case::paused_after_failure(&[pass(1, Some(Err("no route")))], true, "SyncFailed", "False")]
    fn states(#[case] passes: &[Pass], #[case] paused: bool, #[case] reason: &str, #[case] ready: &str) {
        let (_, status) = desired(&policy(&Value::Null, paused), &outcome(passes), &Time(at(20)));
        let condition = conditions::ready(&status.conditions).unwrap();
        assert_eq!((condition.reason.as_str(), condition.status.as_str()), (reason, ready));
        assert_eq!(condition.observed_generation, Some(2));
    }

    #[test]
    fn a_registry_is_waited_for_only_by_the_first_pass() {
        let waiting = |passes: &[Pass]| {
            let outcome = Outcome { not_ready: Some("a"), ..outcome(passes) };
            let (_, status) = desired(&policy(&Value::Null, false), &outcome, &Time(at(20)));
            conditions::ready(&status.conditions).unwrap().reason.clone()
        };
        assert_eq!(waiting(&[]), "RegistryNotReady");
        assert_eq!(waiting(&[pass(1, Some(Ok(())))]), "Synced");
    }

    #[test]
    fn an_obstacle_is_told_and_the_last_sync_stays() {
        let (_, before) =
            desired(&policy(&Value::Null, false), &outcome(&[pass(1, Some(Ok(())))]), &Time(at(20)));
        let policy = policy(&serde_json::to_value(before).unwrap(), false);
        let obstacle = Obstacle::SecretNotFound { path: "spec.destination.ca".into(), name: "ca".into() };
        let outcome = Outcome { obstacle: Some(&obstacle), passes: &[], due: None, not_ready: None };
        let (_, status) = desired(&policy, &outcome, &Time(at(30)));
        assert_eq!(status.last_sync.unwrap().copied, 2);
        assert_eq!(conditions::ready(&status.conditions).unwrap().reason, "SecretNotFound");
        assert!(status.conditions.iter().any(|condition| condition.type_ == "Stalled"));
    }

    /// A second look writes nothing.
    #[test]
    fn an_unchanged_world_is_an_unchanged_status() {
        let passes = [pass(1, Some(Ok(())))];
        let (_, first) = desired(&policy(&Value::Null, false), &outcome(&passes), &Time(at(20)));
        let policy = policy(&serde_json::to_value(&first).unwrap(), false);
        let (_, second) = desired(&policy, &outcome(&passes), &Time(at(30)));
        assert_eq!(to_the_second(Some(&first)), to_the_second(Some(&second)));
    }

    #[test]
    fn lag_is_shown_from_a_push_to_the_pass_after_it() {
        let pushed = policy(&json!({"sourceChangedAt": Time(at(5))}), false);
        let (_, behind) = desired(&pushed, &outcome(&[pass(1, Some(Ok(())))]), &Time(at(20)));
        assert_eq!((behind.behind_since, behind.next_sync), (Some(Time(at(5))), Some(Time(at(900)))));
        let later = Pass { created: at(6), ..pass(2, Some(Ok(()))) };
        let (_, synced) = desired(&pushed, &outcome(&[later]), &Time(at(20)));
        assert_eq!((synced.behind_since, synced.source_changed_at), (None, Some(Time(at(5)))));
    }
}
