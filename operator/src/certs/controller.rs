//! Keeps the authority and the webhook's certificate, on the leader: at its start, each hour, and whenever one of the two
//! Secrets is touched. Each replica sees the change through its own watch and serves the new certificate without a
//! restart (`serving`).

use std::{collections::BTreeMap, time::Duration};

use berth_operator_core::{
    certificate::{AuthorityStep, service_names},
    objects::{self, MANAGED_BY},
    webhook_configuration::SERVICE,
};
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, ResourceExt as _,
    api::{PartialObjectMeta, Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::json;

use super::{AUTHORITY_SECRET, Authority, CertificateError, WEBHOOK_SECRET, ensure_leaf};
use crate::{Context, OperatorError, field_managers, metrics};

const EACH: Duration = Duration::from_hours(1);
const RETRY: Duration = Duration::from_secs(5);

/// Every key that Berth ever writes into one of its two Secrets.
const OURS: [&str; 5] = ["tls.crt", "tls.key", "ca.crt", "next.crt", "next.key"];

/// Runs until it is dropped.
pub async fn run(context: Context) {
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &context.settings.namespace);
    let metadata: Api<PartialObjectMeta<Secret>> =
        Api::namespaced(context.client.clone(), &context.settings.namespace);
    let watch = |name| {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        watcher(metadata.clone(), config).default_backoff().touched_objects().map(drop).boxed()
    };
    let mut touched = stream::select(watch(AUTHORITY_SECRET), watch(WEBHOOK_SECRET));
    loop {
        let pause = match ensure(&context, &secrets).await {
            Ok(()) => EACH,
            Err(error) => {
                tracing::error!(%error, reason = error.reason(), "certificates could not be kept");
                RETRY
            }
        };
        let _ = tokio::time::timeout(pause, touched.next()).await;
    }
}

async fn ensure(context: &Context, secrets: &Api<Secret>) -> Result<(), OperatorError> {
    let now = Timestamp::now();
    let authority = ensure_authority(secrets, now).await?;
    let stored = secrets.get_opt(WEBHOOK_SECRET).await?;
    let names = service_names(&context.settings.namespace, SERVICE);
    let (issued, renewal) = ensure_leaf(stored.as_ref(), &authority, &names, now)?;
    if let Some(renewal) = renewal {
        tracing::info!(?renewal, secret = WEBHOOK_SECRET, "issued the webhook's certificate");
    }
    write(secrets, stored.as_ref(), WEBHOOK_SECRET, issued.data(&authority)).await?;
    let days = |secret: &str, until: Timestamp| {
        let labels = metrics::Certificate { secret: secret.to_owned() };
        context.metrics.certificate_days.get_or_create(&labels).set(days_until(until, now));
    };
    days(WEBHOOK_SECRET, issued.validity.not_after);
    if let Some(validity) = authority.validity() {
        days(AUTHORITY_SECRET, validity.not_after);
    }
    Ok(())
}

/// Days from `now` to `until`, for metrics.
pub fn days_until(until: Timestamp, now: Timestamp) -> f64 {
    until.duration_since(now).as_secs_f64() / 86_400.0
}

async fn ensure_authority(secrets: &Api<Secret>, now: Timestamp) -> Result<Authority, OperatorError> {
    let stored = secrets.get_opt(AUTHORITY_SECRET).await?;
    // A Secret that cannot be read is not overwritten: it may hold the only copy of a key that clients trust.
    let current = stored.as_ref().map(Authority::read).transpose()?;
    let (authority, step) = Authority::advance(current, now)?;
    if step != AuthorityStep::Keep {
        tracing::info!(?step, "the certificate authority advances");
    }
    write(secrets, stored.as_ref(), AUTHORITY_SECRET, authority.data()).await?;
    Ok(authority)
}

/// The authority as it is in the cluster.
pub async fn read_authority(context: &Context) -> Result<Result<Authority, CertificateError>, kube::Error> {
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &context.settings.namespace);
    let secret = secrets.get_opt(AUTHORITY_SECRET).await?;
    let missing = CertificateError::Secret { secret: AUTHORITY_SECRET.to_owned(), key: "tls.crt" };
    Ok(secret.ok_or(missing).and_then(|secret| Authority::read(&secret)))
}

/// Writes the Secret if it differs. Keys that are somebody else's stay.
async fn write(
    secrets: &Api<Secret>,
    stored: Option<&Secret>,
    name: &str,
    data: BTreeMap<String, ByteString>,
) -> Result<(), kube::Error> {
    let held = stored.and_then(|stored| stored.data.clone()).unwrap_or_default();
    let over: BTreeMap<_, _> = OURS
        .into_iter()
        .filter(|key| held.contains_key(*key) && !data.contains_key(*key))
        .map(|key| (key, None::<ByteString>))
        .collect();
    if data.iter().any(|(key, value)| held.get(key) != Some(value)) {
        apply(secrets, stored, name, data).await?;
    }
    if !over.is_empty() {
        // Server-side apply leaves what somebody else has put there: who restored the Secret owns all of its keys.
        let patch = Patch::Merge(json!({"data": over}));
        secrets.patch_metadata(name, &PatchParams::default(), &patch).await?;
    }
    Ok(())
}

async fn apply(
    secrets: &Api<Secret>,
    stored: Option<&Secret>,
    name: &str,
    data: BTreeMap<String, ByteString>,
) -> Result<(), kube::Error> {
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(objects::labels(&[MANAGED_BY, ("app.kubernetes.io/part-of", "berth")])),
            // Two writers cannot both win: whoever read an older one is refused.
            resource_version: stored.and_then(Secret::resource_version),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(data),
        ..Secret::default()
    };
    let parameters = PatchParams::apply(field_managers::CERTIFICATES).force();
    secrets.patch(name, &parameters, &Patch::Apply(&secret)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use kube::{Client, client::Body};
    use serde_json::Value;
    use std::sync::{Arc, Mutex};

    fn data(keys: &[(&str, &str)]) -> BTreeMap<String, ByteString> {
        keys.iter().map(|(key, value)| ((*key).to_owned(), ByteString((*value).into()))).collect()
    }

    /// What is sent to bring a Secret that holds `held` to `wanted`.
    async fn sent(held: &[(&str, &str)], wanted: &[(&str, &str)]) -> Vec<(String, Value)> {
        let requests: Arc<Mutex<Vec<_>>> = Arc::default();
        let seen = requests.clone();
        let server = tower::service_fn(move |request: Request<Body>| {
            let seen = seen.clone();
            async move {
                let kind = request.headers()["content-type"].to_str().unwrap().to_owned();
                let body = request.into_body().collect_bytes().await.unwrap();
                seen.lock().unwrap().push((kind, serde_json::from_slice(&body).unwrap()));
                let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "berth-ca"}});
                Ok::<_, kube::Error>(Response::new(Body::from(secret.to_string().into_bytes())))
            }
        });
        let secrets = Api::namespaced(Client::new(server, "default"), "berth-system");
        let stored = Secret { data: Some(data(held)), ..Secret::default() };
        write(&secrets, Some(&stored), "berth-ca", data(wanted)).await.unwrap();
        requests.lock().unwrap().clone()
    }

    const SIGNING: [(&str, &str); 3] = [("tls.crt", "b"), ("tls.key", "b"), ("ca.crt", "ba")];

    /// What was announced goes with its promotion, whoever has written it.
    #[tokio::test]
    async fn what_is_over_is_removed_from_a_restored_secret() {
        let held = [SIGNING.as_slice(), &[("next.crt", "b"), ("next.key", "b"), ("note", "mine")]].concat();
        let merge = json!({"data": {"next.crt": null, "next.key": null}});
        assert_eq!(sent(&held, &SIGNING).await, [("application/merge-patch+json".to_owned(), merge)]);
    }

    #[tokio::test]
    async fn a_secret_that_holds_what_it_should_is_not_written() {
        let held = [SIGNING.as_slice(), &[("note", "mine")]].concat();
        assert_eq!(sent(&held, &SIGNING).await, []);
        let kinds = sent(&held[..2], &SIGNING).await;
        assert_eq!(kinds.len(), 1);
        assert_eq!(kinds[0].0, "application/apply-patch+yaml");
    }
}
