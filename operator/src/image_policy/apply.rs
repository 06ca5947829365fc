//! Fourth verb: writes the webhook configuration, if it is not yet as it is to be.

use berth_operator_core::{objects, webhook_configuration::NAME};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::{
    Api,
    api::{Patch, PatchParams},
};

use crate::{Context, field_managers, metrics::Controller};

/// Brings the configuration from `live` to `desired`. An installation without policies gets none.
pub(super) async fn configuration(
    context: &Context,
    live: Option<&ValidatingWebhookConfiguration>,
    desired: &ValidatingWebhookConfiguration,
) -> Result<(), kube::Error> {
    let is_as_desired = match live {
        Some(live) => objects::is_as_desired(live, desired),
        None => desired.webhooks.is_none(),
    };
    if is_as_desired {
        return Ok(());
    }
    let api = Api::<ValidatingWebhookConfiguration>::all(context.client.clone());
    let parameters = PatchParams::apply(field_managers::IMAGE_POLICY).force();
    api.patch(NAME, &parameters, &Patch::Apply(objects::sealed(desired))).await?;
    let entries = desired.webhooks.as_ref().map_or(0, Vec::len);
    context.metrics.writes.get_or_create(&Controller { controller: super::NAME.to_owned() }).inc();
    tracing::info!(name = NAME, entries, "webhook configuration applied");
    Ok(())
}
