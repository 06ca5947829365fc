//! First verb: the world as this controller sees it. All policies together, because the webhook configuration is made
//! from the whole set, and a policy that was deleted has no object any more that could ask for its removal.

use std::{collections::BTreeMap, sync::Arc};

use berth_crds::ImagePolicy;
use berth_operator_core::webhook_configuration;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::{Api, ResourceExt, runtime::reflector::Store};

use crate::{Context, certs::Bundle, stores::Guarded};

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
    Ok(Some(World { policies: policies(&context.stores.image_policies), bundle, configuration }))
}

fn policies(store: &Store<Guarded<ImagePolicy>>) -> Policies {
    let named = |policy: Arc<Guarded<ImagePolicy>>| {
        ((policy.namespace().unwrap_or_default(), policy.name_any()), policy)
    };
    store.state().into_iter().map(named).collect()
}
