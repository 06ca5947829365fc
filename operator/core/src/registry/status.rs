//! What became of a Registry, from the Deployment and the Pods that are not ready, as conditions that kubectl wait,
//! Argo CD and Flux understand. Ready means: every server is of the current spec and may be called.

use berth_crds::{
    RegistryStatus,
    registry::{CertificateStatus, LifecycleStatus, StorageStatus},
};
use jiff::Timestamp;
use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};

use super::{
    RegistryError, endpoint,
    workload::{CONFIG_HASH, server_selector},
};
use crate::{conditions::State, objects::Owner};

/// Why a server says that it is not ready: the body of its `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct Unready {
    /// A stable word in `PascalCase`.
    pub reason: String,
    /// For people.
    #[serde(default)]
    pub message: String,
}

/// The reason of a Registry that serves pulls and whose store refuses writes.
pub const STORE_READ_ONLY: &str = "StoreReadOnly";

/// Reasons of `/readyz` that do not go away by waiting.
const NEEDS_SOMEBODY: [&str; 4] = ["BucketNotFound", "CredentialsRefused", "StoreInvalid", "StoreUnsafe"];

/// What was seen of the servers.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The Deployment, if it exists.
    pub deployment: Option<Deployment>,
    /// The servers' Pods; only needed while the Deployment is not complete.
    pub pods: Vec<Pod>,
    /// What Pods that run and are not ready say.
    pub unready: Vec<Unready>,
    /// Pods that run an older configuration than they are to; only looked for when the Deployment is complete.
    pub outdated: Vec<String>,
    /// Why the store refuses writes, if a server says so; only asked when all of them are ready.
    pub refusal: Option<Unready>,
}

/// The Pods of the newest servers: what those say that are about to go is of no interest.
pub fn current(deployment: Option<&Deployment>, pods: Vec<Pod>) -> Vec<Pod> {
    let hash = |meta: Option<&ObjectMeta>| meta?.annotations.as_ref()?.get(CONFIG_HASH).cloned();
    let template = deployment.and_then(|deployment| Some(&deployment.spec.as_ref()?.template));
    let wanted = hash(template.and_then(|template| template.metadata.as_ref()));
    pods.into_iter().filter(|pod| hash(Some(&pod.metadata)) == wanted).collect()
}

/// The state of a Registry whose children were applied.
pub fn state(replicas: i32, paused: bool, observed: &Observed) -> State {
    let state = servers(replicas, observed);
    match state {
        State::Ready { message, .. } if paused => State::Ready {
            reason: "Paused",
            message: format!("{message}; nothing is changed while spec.paused is true"),
        },
        state => state,
    }
}

/// The state of a Registry that cannot be built.
pub fn refused(error: &RegistryError) -> State {
    State::Stalled { reason: error.reason().to_owned(), message: error.to_string() }
}

fn servers(replicas: i32, observed: &Observed) -> State {
    let Some(deployment) = &observed.deployment else {
        return progressing("Creating", "the servers are being created");
    };
    let status = deployment.status.clone().unwrap_or_default();
    let count = |number: Option<i32>| number.unwrap_or_default();
    let (updated, available) = (count(status.updated_replicas), count(status.available_replicas));
    let others = count(status.replicas) - updated;
    let current = status.observed_generation >= deployment.metadata.generation;
    if current && updated == replicas && available == replicas && others == 0 {
        if !observed.outdated.is_empty() {
            let message = format!(
                "the changed configuration is on its way to {} of {replicas} servers",
                observed.outdated.len()
            );
            return progressing("Configuring", &message);
        }
        if let Some(Unready { message, .. }) = &observed.refusal {
            return State::Stalled { reason: STORE_READ_ONLY.to_owned(), message: message.clone() };
        }
        return match replicas {
            0 => State::Ready { reason: "ScaledToZero", message: "no server is asked for".to_owned() },
            1 => State::Ready { reason: "Available", message: "the server is ready".to_owned() },
            n => State::Ready { reason: "Available", message: format!("all {n} servers are ready") },
        };
    }
    if let Some(problem) = problem(deployment, observed) {
        return problem;
    }
    let message = format!("{updated} of {replicas} servers are current, {available} are ready");
    progressing("RollingOut", &message)
}

/// The most telling of the reasons why servers are not ready.
fn problem(deployment: &Deployment, observed: &Observed) -> Option<State> {
    if let Some(unready) = observed.unready.iter().find(|u| NEEDS_SOMEBODY.contains(&u.reason.as_str())) {
        return Some(State::Stalled { reason: unready.reason.clone(), message: unready.message.clone() });
    }
    let pods = observed.pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    if let Some(stuck) = pods.clone().find_map(waiting) {
        return Some(stuck);
    }
    let refused = deployment
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True");
    if let Some(condition) = refused {
        let message = condition.message.clone().unwrap_or_default();
        return Some(State::Stalled { reason: "PodsRefused".to_owned(), message });
    }
    let unready = observed.unready.first()?;
    Some(progressing(&unready.reason, &unready.message))
}

/// A Pod that does not get to run.
fn waiting(pod: &Pod) -> Option<State> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.as_ref()?;
    let unschedulable = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled" && condition.reason.as_deref() == Some("Unschedulable")
    });
    if let Some(condition) = unschedulable {
        let why = condition.message.as_deref().unwrap_or_default();
        return Some(progressing("Unschedulable", &format!("pod {name} finds no node: {why}")));
    }
    let container = status.container_statuses.as_ref()?.first()?;
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let why = waiting.message.as_deref().unwrap_or_default();
    let reason = match waiting.reason.as_deref()? {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" => "ImagePullFailed",
        "CreateContainerConfigError" | "CreateContainerError" => "ContainerRefused",
        "CrashLoopBackOff" => {
            let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
            let said = last.and_then(|last| last.message.as_deref()).unwrap_or("see its log");
            return Some(progressing("ServerCrashes", &format!("the server in pod {name} ends: {said}")));
        }
        _ => return None,
    };
    Some(progressing(reason, &format!("pod {name}: {why}")))
}

fn progressing(reason: &str, message: &str) -> State {
    State::Progressing { reason: reason.to_owned(), message: message.to_owned() }
}

/// What is written beside the conditions.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The configuration that all servers run; unknown if not all of them run the same.
    pub configuration: Option<String>,
    /// When the certificate ends.
    pub certificate_until: Option<Timestamp>,
    /// The last run of the lifecycle rules that is known.
    pub lifecycle: Option<LifecycleStatus>,
    /// What the content takes, if it was asked for.
    pub storage: Option<StorageStatus>,
}

/// The whole status. `before` is what stands in the object now: what is not known at the moment is kept.
pub fn status(
    owner: &Owner,
    generation: Option<i64>,
    before: &RegistryStatus,
    state: &State,
    deployment: Option<&Deployment>,
    facts: Facts,
    now: &Time,
) -> RegistryStatus {
    let counts = deployment.and_then(|deployment| deployment.status.clone()).unwrap_or_default();
    let labels = server_selector(owner);
    let selector: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let newer =
        |new: &LifecycleStatus| before.lifecycle.as_ref().is_none_or(|old| old.last_run.0 < new.last_run.0);
    // The same once more is nothing to write.
    let differs = |new: &StorageStatus| {
        let as_of = |old: &StorageStatus| StorageStatus { as_of: new.as_of.clone(), ..old.clone() };
        before.storage.as_ref().map(as_of).as_ref() != Some(new)
    };
    RegistryStatus {
        observed_generation: generation,
        endpoint: Some(endpoint(&owner.namespace, &owner.name)),
        conditions: state.conditions(generation, &before.conditions, now),
        replicas: Some(counts.replicas.unwrap_or_default()),
        ready_replicas: Some(counts.ready_replicas.unwrap_or_default()),
        selector: Some(selector.join(",")),
        certificate: facts
            .certificate_until
            .map(|until| CertificateStatus { not_after: Time(until) })
            .or_else(|| before.certificate.clone()),
        configuration: facts.configuration.or_else(|| before.configuration.clone()),
        lifecycle: facts.lifecycle.filter(newer).or_else(|| before.lifecycle.clone()),
        storage: facts.storage.filter(differs).or_else(|| before.storage.clone()),
        store_changed_at: before.store_changed_at.clone(),
    }
}
