//! What the chart's pre-delete hook runs: the webhook goes before its servers do, else every Pod that a policy speaks
//! about would be refused by a webhook that nobody answers.

use std::time::Duration;

use berth_operator_core::webhook_configuration;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::{Api, Client, Resource, api::DeleteParams, runtime::wait};
use serde::de::DeserializeOwned;

use crate::{OperatorError, token_review};

/// Removes the webhook configuration, waits until it is gone, and removes the cluster role and its binding.
pub(crate) async fn run(client: &Client) -> Result<(), OperatorError> {
    let name = webhook_configuration::NAME;
    delete::<ValidatingWebhookConfiguration>(client, name).await?;
    let configurations: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let gone =
        wait::await_condition(configurations, name, |object: Option<&ValidatingWebhookConfiguration>| {
            object.is_none()
        });
    match tokio::time::timeout(Duration::from_secs(60), gone).await {
        Ok(Ok(_)) => {}
        Ok(Err(_)) | Err(_) => return Err(OperatorError::StillThere(name)),
    }
    token_review::remove(client).await?;
    tracing::info!(
        "the cluster can go on without the operator; Registries, their content and their Secrets stay"
    );
    Ok(())
}

/// Deletes a cluster-wide object if it exists.
pub(crate) async fn delete<K>(client: &Client, name: &str) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    match Api::<K>::all(client.clone()).delete(name, &DeleteParams::default()).await {
        Ok(_) => {
            tracing::info!(kind = %K::kind(&()), name, "removed");
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}
