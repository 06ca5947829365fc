//! `POST /events`: a registry tells that its content changed. What is remembered of the repositories is forgotten at once,
//! and what will soon be asked about is looked at. Replication policies that read from the registry are marked; the
//! replication controller, on whichever replica leads, sees the mark. So is the Registry itself, when a server tells that
//! its store refuses writes or takes them again. Lost events cost time, not images: passes run at every interval all the
//! same, and what is old is looked at again.

use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
};
use berth_crds::{Registry, ReplicationPolicy};
use berth_operator_core::registry::host;
use berth_registry_core::{
    Digest,
    event::{CONTENT_CHANGED, Changes, ContentChanged, EVENTS_AUDIENCE, MAX_IMAGES, MAX_REPOSITORIES},
};
use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    api::authentication::v1::{TokenReview, TokenReviewSpec},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
    core::DeserializeGuard,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{field_managers, webhook::warm::Warmer};

/// The longest event that is read.
pub const MAX_EVENT: usize = 64 * 1024;

/// Why an event was not taken.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// No bearer token.
    #[error("send a ServiceAccount token for the audience {EVENTS_AUDIENCE}")]
    NoToken,
    /// The API server does not know the token, or it is for another audience.
    #[error("the token is not valid for the audience {EVENTS_AUDIENCE}")]
    UnknownToken,
    /// The body is no event that we know.
    #[error("the body is no {CONTENT_CHANGED} event: {0}")]
    NotAnEvent(String),
    /// A Registry speaks for another.
    #[error("{caller} must not report changes of {registry}: only its own ServiceAccount may")]
    NotItsOwn {
        /// Who called.
        caller: String,
        /// `NAMESPACE/NAME` in the event.
        registry: String,
    },
    /// The API server could not be asked.
    #[error("the API server could not be asked: {0}")]
    Kubernetes(#[from] kube::Error),
}

impl EventError {
    /// Stable name for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoToken => "NoToken",
            Self::UnknownToken => "UnknownToken",
            Self::NotAnEvent(_) => "NotAnEvent",
            Self::NotItsOwn { .. } => "NotItsOwn",
            Self::Kubernetes(_) => "ApiServerFailed",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::NoToken | Self::UnknownToken => StatusCode::UNAUTHORIZED,
            Self::NotAnEvent(_) => StatusCode::BAD_REQUEST,
            Self::NotItsOwn { .. } => StatusCode::FORBIDDEN,
            Self::Kubernetes(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// A token that was good is not reviewed again for so long.
const GOOD_FOR: Duration = Duration::from_mins(1);

/// Tokens that are known to be good, at most.
const MAX_CALLERS: usize = 1024;

/// Takes events.
pub(super) struct Events {
    client: Client,
    warmer: Arc<Warmer>,
    /// Who a token belongs to, and when that was asked, by the token's hash.
    callers: Mutex<HashMap<Digest, (String, Instant)>>,
}

/// Takes an event: 202 when the policies are marked, whether there are any or not.
pub(super) async fn take(
    State(events): State<Arc<Events>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    match events.heed(&headers, &body).await {
        Ok(()) => (StatusCode::ACCEPTED, String::new()),
        Err(error) => {
            tracing::warn!(reason = error.reason(), %error, "an event was not taken");
            (error.status(), error.to_string())
        }
    }
}

impl Events {
    /// Marks through `client`, forgets and looks through `warmer`.
    pub(super) fn new(client: Client, warmer: Arc<Warmer>) -> Self {
        Self { client, warmer, callers: Mutex::default() }
    }

    async fn heed(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), EventError> {
        let caller = self.authenticate(headers).await?;
        let (namespace, registry, changes) = read(body)?;
        if caller != format!("system:serviceaccount:{namespace}:{registry}") {
            return Err(EventError::NotItsOwn { caller, registry: format!("{namespace}/{registry}") });
        }
        // First of all: from here on no review rests on what was seen before.
        self.warmer.heed(&host(&namespace, &registry), &changes);
        if changes.store {
            let now = Time(Timestamp::now());
            mark::<Registry>(&self.client, &namespace, &registry, &json!({"storeChangedAt": now})).await?;
        }
        if changes.more || !changes.repositories.is_empty() {
            mark_policies(&self.client, &namespace, &registry).await?;
        }
        Ok(())
    }

    async fn authenticate(&self, headers: &HeaderMap) -> Result<String, EventError> {
        let token = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
            .filter(|token| !token.is_empty())
            .ok_or(EventError::NoToken)?;
        let hash = Digest::sha256(token.as_bytes());
        let callers = || self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((caller, asked)) = callers().get(&hash)
            && asked.elapsed() < GOOD_FOR
        {
            return Ok(caller.clone());
        }
        let caller = review(&self.client, token).await?;
        let mut callers = callers();
        if callers.len() >= MAX_CALLERS {
            callers.retain(|_, (_, asked)| asked.elapsed() < GOOD_FOR);
        }
        if callers.len() < MAX_CALLERS {
            callers.insert(hash, (caller.clone(), Instant::now()));
        }
        Ok(caller)
    }
}

async fn mark_policies(client: &Client, namespace: &str, registry: &str) -> Result<(), EventError> {
    let now = Timestamp::now();
    let api = Api::<DeserializeGuard<ReplicationPolicy>>::namespaced(client.clone(), namespace);
    for policy in api.list(&ListParams::default()).await?.items.into_iter().filter_map(|item| item.0.ok()) {
        if policy.spec.source.registry.as_deref() == Some(registry) && !marked_this_second(&policy, now) {
            let status = json!({"sourceChangedAt": Time(now)});
            mark::<ReplicationPolicy>(client, namespace, &policy.name_any(), &status).await?;
        }
    }
    Ok(())
}

async fn review(client: &Client, token: &str) -> Result<String, EventError> {
    let audiences = vec![EVENTS_AUDIENCE.to_owned()];
    let review = TokenReview {
        spec: TokenReviewSpec { audiences: Some(audiences), token: token.to_owned() },
        ..TokenReview::default()
    };
    let review = Api::<TokenReview>::all(client.clone()).create(&PostParams::default(), &review).await?;
    caller(review).ok_or(EventError::UnknownToken)
}

/// The user of a token that was accepted for our audience. An API server that does not know audiences says none.
fn caller(review: TokenReview) -> Option<String> {
    let status = review.status?;
    let ours = status.audiences.unwrap_or_default().iter().any(|audience| audience == EVENTS_AUDIENCE);
    (status.authenticated == Some(true) && ours).then_some(status.user?.username?)
}

/// Namespace and name of the Registry, and what changed in it.
fn read(body: &[u8]) -> Result<(String, String, Changes), EventError> {
    let invalid = |cause: String| EventError::NotAnEvent(cause);
    let event: ContentChanged = serde_json::from_slice(body).map_err(|error| invalid(error.to_string()))?;
    if (event.specversion.as_str(), event.event_type.as_str()) != ("1.0", CONTENT_CHANGED) {
        return Err(invalid(format!("it is {:?} of version {:?}", event.event_type, event.specversion)));
    }
    let (namespace, registry) = event
        .source
        .split_once('/')
        .ok_or_else(|| invalid(format!("its source {:?} is not NAMESPACE/NAME", event.source)))?;
    if event.data.repositories.len() > MAX_REPOSITORIES || event.data.images.len() > MAX_IMAGES {
        return Err(invalid(format!(
            "it names more than {MAX_REPOSITORIES} repositories or {MAX_IMAGES} images"
        )));
    }
    Ok((namespace.to_owned(), registry.to_owned(), event.data))
}

/// Marks are kept to the second, so a second one within it says nothing new.
fn marked_this_second(policy: &ReplicationPolicy, now: Timestamp) -> bool {
    let marked = policy.status.as_ref().and_then(|status| status.source_changed_at.as_ref());
    marked.is_some_and(|time| time.0.as_second() >= now.as_second())
}

/// Changes one field of a status. What was deleted in between needs no mark.
async fn mark<K>(client: &Client, namespace: &str, name: &str, status: &Value) -> Result<(), EventError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let api = Api::<DeserializeGuard<K>>::namespaced(client.clone(), namespace);
    let patch = Patch::Merge(json!({"status": status}));
    let params =
        PatchParams { field_manager: Some(field_managers::EVENTS.to_owned()), ..PatchParams::default() };
    match api.patch_status(name, &params, &patch).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        answer => answer.map(drop).map_err(EventError::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn event(change: &Value) -> Vec<u8> {
        let mut event = json!({
            "specversion": "1.0", "type": CONTENT_CHANGED, "source": "team-a/registry", "id": "1",
            "time": "2026-01-01T00:00:00Z", "data": {"repositories": ["app"]},
        });
        for (key, value) in change.as_object().unwrap() {
            event[key] = value.clone();
        }
        event.to_string().into_bytes()
    }

    #[test]
    fn the_source_names_the_registry() {
        let (namespace, registry, changes) = read(&event(&json!({}))).unwrap();
        assert_eq!((namespace.as_str(), registry.as_str()), ("team-a", "registry"));
        assert_eq!(changes, Changes { repositories: vec!["app".to_owned()], ..Changes::default() });
        assert!(read(&event(&json!({"subject": "unknown attributes are fine"}))).is_ok());
    }

    #[rstest]
    #[case(json!({"specversion": "0.3"}))]
    #[case(json!({"type": "dev.example.other"}))]
    #[case(json!({"source": "registry"}))]
    #[case(json!({"data": null}))]
    #[case(json!({"time": "yesterday"}))]
    #[case(json!({"data": {"repositories": vec!["app"; MAX_REPOSITORIES + 1]}}))]
    fn other_events_are_refused(#[case] change: Value) {
        assert_eq!(read(&event(&change)).unwrap_err().reason(), "NotAnEvent");
    }

    #[rstest]
    #[case::good(json!({"authenticated": true, "audiences": ["berth-events"], "user": {"username": "u"}}), Some("u"))]
    #[case::refused(json!({"authenticated": false, "audiences": ["berth-events"], "user": {"username": "u"}}), None)]
    #[case::silent(json!({"audiences": ["berth-events"], "user": {"username": "u"}}), None)]
    #[case::other_audience(json!({"authenticated": true, "audiences": ["https://kubernetes"], "user": {"username": "u"}}), None)]
    #[case::no_audience(json!({"authenticated": true, "user": {"username": "u"}}), None)]
    #[case::nobody(json!({"authenticated": true, "audiences": ["berth-events"]}), None)]
    fn who_calls(#[case] status: Value, #[case] expected: Option<&str>) {
        let review: TokenReview = serde_json::from_value(json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {}, "status": status,
        }))
        .unwrap();
        assert_eq!(caller(review).as_deref(), expected);
    }

    #[rstest]
    #[case(None, false)]
    #[case(Some("2026-01-01T00:00:00Z"), true)]
    #[case(Some("2025-12-31T23:59:59Z"), false)]
    fn one_mark_a_second(#[case] marked: Option<&str>, #[case] expected: bool) {
        let policy: ReplicationPolicy = serde_json::from_value(json!({
            "apiVersion": "berth.dev/v1alpha1", "kind": "ReplicationPolicy", "metadata": {"name": "p"},
            "spec": {"source": {"registry": "a"}, "destination": {"registry": "b"}},
            "status": {"sourceChangedAt": marked},
        }))
        .unwrap();
        assert_eq!(marked_this_second(&policy, "2026-01-01T00:00:00.9Z".parse().unwrap()), expected);
    }
}
