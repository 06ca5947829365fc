//! First verb: the world as this controller sees it. All policies together, because the webhook configuration is made
//! from the whole set, and a policy that was deleted has no object any more that could ask for its removal.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use berth_crds::ImagePolicy;
use berth_operator_core::webhook_configuration;
use k8s_openapi::api::{admissionregistration::v1::ValidatingWebhookConfiguration, core::v1::Pod};
use kube::{Api, Client, ResourceExt, api::ListParams, runtime::reflector::Store};
use tokio::time::{sleep, timeout};

use crate::{Context, certs::Bundle, stores::Guarded, uninstall::PODS};

/// A roll-out of the operator is waited for so long, and looked at so often.
const ROLL_OUT: Duration = Duration::from_mins(2);
const LOOK: Duration = Duration::from_secs(2);

/// Every `ImagePolicy` by namespace and name, those that do not parse included.
pub(super) type Policies = BTreeMap<(String, String), Arc<Guarded<ImagePolicy>>>;

/// What the configuration depends on, and the configuration as it is.
pub(super) struct World {
    /// The whole set.
    pub(super) policies: Policies,
    /// What the webhook is trusted by.
    pub(super) bundle: Bundle,
    /// As the API server has it.
    pub(super) configuration: Option<ValidatingWebhookConfiguration>,
}

/// Reads the world; `None` while it is not complete: a configuration made from half of the policies would be a hole.
pub(super) async fn fetch(context: &Context) -> Result<Option<World>, kube::Error> {
    context.stores.wait_until_filled().await;
    let Some(bundle) = context.bundle.borrow().clone() else { return Ok(None) };
    let api = Api::<ValidatingWebhookConfiguration>::all(context.client.clone());
    let configuration = api.get_opt(webhook_configuration::NAME).await?;
    let namespace = &context.settings.namespace;
    if configuration.as_ref().is_some_and(|live| webhook_configuration::is_of_before(live, namespace)) {
        // They would refuse what they do not understand. What is in force stays in force meanwhile. One that never ends
        // is not waited for.
        let _ = timeout(ROLL_OUT, until_alike(&context.client, namespace)).await;
    }
    Ok(Some(World { policies: policies(&context.stores.image_policies), bundle, configuration }))
}

/// Returns once all servers were made from one template, so that none is of an older release.
async fn until_alike(client: &Client, namespace: &str) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let ours = ListParams::default().labels(PODS);
    loop {
        if let Ok(pods) = pods.list_metadata(&ours).await {
            let templates: BTreeSet<_> =
                pods.iter().filter_map(|pod| pod.labels().get("pod-template-hash")).collect();
            if templates.len() <= 1 {
                return;
            }
        }
        sleep(LOOK).await;
    }
}

fn policies(store: &Store<Guarded<ImagePolicy>>) -> Policies {
    let named = |policy: Arc<Guarded<ImagePolicy>>| {
        ((policy.namespace().unwrap_or_default(), policy.name_any()), policy)
    };
    store.state().into_iter().map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A server of the release before does not know the path that namespaces are called for at (R-OPR-8).
    #[tokio::test(start_paused = true)]
    async fn an_older_release_is_outlasted() {
        let looks = Arc::new(AtomicUsize::new(0));
        let counted = looks.clone();
        let server = tower::service_fn(move |request: Request<Body>| {
            assert_eq!(request.uri().path(), "/api/v1/namespaces/berth-system/pods");
            let old = if counted.fetch_add(1, Ordering::Relaxed) < 3 { "old" } else { "new" };
            let pod = |hash: &str| json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": hash, "labels": {"pod-template-hash": hash}}});
            let list = json!({
                "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {},
                "items": [pod("new"), pod(old)],
            });
            let body = Body::from(list.to_string().into_bytes());
            futures::future::ready(Ok::<_, kube::Error>(Response::new(body)))
        });
        until_alike(&Client::new(server, "default"), "berth-system").await;
        assert_eq!(looks.load(Ordering::Relaxed), 4);
    }
}
